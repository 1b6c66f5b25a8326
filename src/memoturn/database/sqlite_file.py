"""A SQLite file as somebody else wrote it, read as the pages that Memoturn keeps.

Files of our page size are read as they are, under SQLite's own read lock; one with a write-ahead log is copied
page by page first, one of another page size is rewritten. One whose last transaction was interrupted is copied
together with its rollback journal, and rolled back there. Nothing is handed out before SQLite has found the
database intact, and nothing is left beside the file. Whatever may take long asks from time to time whether to go on.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from memoturn.base.errors import (
    InternalError,
    InvalidRequestError,
    MemoturnError,
    NotFoundError,
    UnavailableError,
)
from memoturn.base.txids import LOCK_PAGE, PAGE_SIZE, PageNo

_MAGIC: Final = b"SQLite format 3\0"
_CHUNK_PAGES: Final = 256
_BUSY_MS: Final = 5000
_STEPS: Final = 20_000
"""Of SQLite's, between two looks whether to go on."""
_AT_ONCE: Final = 1 << 20

Look = Callable[[], None]
"""Raises if the work is to stop."""


class SqliteFile:
    """An intact database of 4,096-byte pages. `close` lets go of it, and of its copy if there is one.

    `schema` holds type, name, table and SQL of everything in it.
    """

    def __init__(
        self,
        path: Path,
        connection: apsw.Connection | None,
        copy: Path | None,
        schema: Sequence[tuple[Any, ...]] = (),
    ) -> None:
        self.schema = schema
        self._connection = connection
        self._copy = copy
        self._file = path.open("rb")
        size = os.fstat(self._file.fileno()).st_size
        self.page_count = size // PAGE_SIZE

    def pages(self) -> Iterator[tuple[PageNo, bytes]]:
        """All pages but the lock page, ascending."""
        number = 1
        while data := self._file.read(_CHUNK_PAGES * PAGE_SIZE):
            for start in range(0, len(data) - PAGE_SIZE + 1, PAGE_SIZE):
                if number == 1:
                    yield PageNo(1), self._page_one(data[:PAGE_SIZE])
                elif number != LOCK_PAGE:
                    yield PageNo(number), data[start : start + PAGE_SIZE]
                number += 1

    def _page_one(self, page: bytes) -> bytes:
        """The header says that there is no write-ahead log, and how large the database is.

        Releases of SQLite before 3.7.0 do not keep the size; newer ones see that at bytes 92-95, and ask the file.
        """
        size = self.page_count.to_bytes(4, "big")
        return page[:18] + b"\1\1" + page[20:28] + size + page[32:92] + page[24:28] + page[96:]

    def close(self) -> None:
        self._file.close()
        if self._connection is not None:
            self._connection.close(True)
        if self._copy is not None:
            self._copy.unlink(missing_ok=True)


def open_sqlite_file(path: Path, look: Look, scratch: Path | None = None) -> SqliteFile:
    """Open a SQLite file for reading, whatever its page size and journal mode. Copies are made in `scratch`.

    Raises `NotFoundError` if it is not there, `InvalidRequestError` if it is no SQLite database, or damaged, and
    whatever `look` raises.
    """
    opening = _Opening(path, look, scratch)
    header = _header_of(path)
    if not header:
        return SqliteFile(path, None, None)
    try:
        in_wal_mode = header[18:19] == b"\2"
        if in_wal_mode and not _beside(path, "-wal").exists():
            # Nobody has it open. Reading it in place would leave an empty log beside it.
            return opening.open_copy()
        try:
            return opening.open(path, copied=in_wal_mode)
        except apsw.ReadOnlyError:
            # Its last transaction was interrupted, and has to be rolled back first.
            return opening.open_copy()
    except apsw.InterruptError:
        look()
        raise
    except apsw.BusyError as error:
        raise UnavailableError(f"{path} is being written by another program: {error}") from error
    except apsw.Error as error:
        raise InvalidRequestError(f"{path} is no intact SQLite database: {error}") from error


class _Opening:
    """The way to an open file. `shown` is what errors call it, whichever copy of it is looked at."""

    def __init__(self, shown: Path, look: Look, scratch: Path | None) -> None:
        self._shown = shown
        self._look = look
        self._scratch = scratch

    def open(self, path: Path, copied: bool, how: str = "mode=ro") -> SqliteFile:
        """Open the file at `path`, or a copy of what it holds now."""
        connection = apsw.Connection(
            f"{path.absolute().as_uri()}?{how}", flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
        )
        try:
            connection.set_busy_timeout(_BUSY_MS)
            connection.set_progress_handler(self._is_over, _STEPS)
            # The transaction keeps writers off the file, and the check and the copy on the same state of it.
            connection.execute("BEGIN")
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
            self._look()  # What interrupts a check is one of its problems.
            if problems != ["ok"]:
                raise InvalidRequestError(f"{self._shown} is damaged: {'; '.join(map(str, problems))}")
            schema = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
            if connection.pragma("page_size") != PAGE_SIZE:
                return self._copied(connection, schema, rewrite=True)
            if copied or _has_free_tail(path, connection):
                return self._copied(connection, schema, rewrite=False)
            return SqliteFile(path, connection, None, schema)
        except BaseException:
            connection.close(True)
            raise

    def open_copy(self) -> SqliteFile:
        """Copy the file with its rollback journal, and let SQLite do to the copy whatever it would do to the file."""
        path, copy = self._shown, self._new_file()
        try:
            before = path.stat()
            self._copy(path, copy)
            with contextlib.suppress(FileNotFoundError):
                self._copy(_beside(path, "-journal"), _beside(copy, "-journal"))
            after = path.stat()
            same = (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
            if not same or _beside(path, "-wal").exists():
                raise UnavailableError(f"{path} was opened by another program while it was read; try again")
            return self.open(copy, copied=True, how="mode=rw")
        finally:
            for ending in ("", "-journal", "-wal", "-shm"):
                _beside(copy, ending).unlink(missing_ok=True)

    def _copied(
        self, source: apsw.Connection, schema: Sequence[tuple[Any, ...]], rewrite: bool
    ) -> SqliteFile:
        copy = self._new_file()
        try:
            if rewrite:
                source.execute("COMMIT")
                source.execute(f"PRAGMA page_size={PAGE_SIZE}")
                source.execute("VACUUM INTO ?", (str(copy),))
            else:
                with (
                    contextlib.closing(apsw.Connection(str(copy))) as target,
                    target.backup("main", source, "main") as backup,
                ):
                    while not backup.done:
                        self._look()
                        backup.step(1000)
            source.close(True)
            if int.from_bytes(_header_of(copy)[16:18], "big") != PAGE_SIZE:
                raise InternalError(f"SQLite left the pages of {copy} as they were")
            return SqliteFile(copy, None, copy, schema)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise

    def _new_file(self) -> Path:
        """An empty file, whose name begins with that of the original where it lies beside it."""
        prefix = "memoturn-import-" if self._scratch is None else f"{self._shown.name}-"
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".sqlite", dir=self._scratch)
        os.close(handle)
        return Path(name)

    def _copy(self, path: Path, to: Path) -> None:
        with path.open("rb") as source, to.open("wb") as target:
            while data := source.read(_AT_ONCE):
                self._look()
                target.write(data)

    def _is_over(self) -> bool:
        try:
            self._look()
        except MemoturnError:
            return True
        return False


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _header_of(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise InvalidRequestError(f"{path} is no file; name a SQLite database file")
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}") from None
    except OSError as error:
        raise InvalidRequestError(f"{path} cannot be read: {error.strerror}") from error
    if header and not header.startswith(_MAGIC):
        raise InvalidRequestError(f"{path} is not a SQLite database: it begins with {header[:16]!r}")
    return header


def _has_free_tail(path: Path, connection: apsw.Connection) -> bool:
    """Whether the file is longer than the database in it."""
    pages = connection.pragma("page_count")
    return bool(path.stat().st_size != pages * PAGE_SIZE)
