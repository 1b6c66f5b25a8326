"""A SQLite file as somebody else wrote it, read as the pages that Memoturn keeps.

Files of our page size are read as they are, under SQLite's own read lock; one with a write-ahead log is copied
page by page first, one of another page size is rewritten. Nothing is handed out before SQLite has found the
database intact.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw

from memoturn.base.errors import InvalidRequestError, UnavailableError
from memoturn.base.txids import LOCK_PAGE, PAGE_SIZE, PageNo

_MAGIC: Final = b"SQLite format 3\0"
_CHUNK_PAGES: Final = 256


class SqliteFile:
    """An intact database of 4,096-byte pages. `close` lets go of it, and of its copy if there is one."""

    def __init__(self, path: Path, connection: apsw.Connection | None, copy: Path | None) -> None:
        self._connection = connection
        self._copy = copy
        self._file = path.open("rb")
        size = os.fstat(self._file.fileno()).st_size
        self.page_count = size // PAGE_SIZE

    def pages(self) -> Iterator[tuple[PageNo, bytes]]:
        """All pages but the lock page, ascending; the header says that there is no write-ahead log."""
        number = 1
        while data := self._file.read(_CHUNK_PAGES * PAGE_SIZE):
            for start in range(0, len(data) - PAGE_SIZE + 1, PAGE_SIZE):
                if number == 1:
                    yield PageNo(1), data[:18] + b"\1\1" + data[20:PAGE_SIZE]
                elif number != LOCK_PAGE:
                    yield PageNo(number), data[start : start + PAGE_SIZE]
                number += 1

    def close(self) -> None:
        self._file.close()
        if self._connection is not None:
            self._connection.close(True)
        if self._copy is not None:
            self._copy.unlink(missing_ok=True)


def open_sqlite_file(path: Path) -> SqliteFile:
    """Open a SQLite file for reading, whatever its page size and journal mode.

    Raises `InvalidRequestError` if it is not there, not a SQLite database, or damaged.
    """
    header = _header_of(path)
    if not header:
        return SqliteFile(path, None, None)
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.Error as error:
        raise InvalidRequestError(f"{path} cannot be opened: {error}") from error
    try:
        connection.set_busy_timeout(5000)
        # The transaction keeps writers off the file, and the check and the copy on the same state of it.
        connection.execute("BEGIN")
        problems = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
        if problems != ["ok"]:
            raise InvalidRequestError(f"{path} is damaged: {'; '.join(map(str, problems))}")
        page_size = int.from_bytes(header[16:18], "big")
        if page_size != PAGE_SIZE:
            return _copied(path, connection, rewrite=True)
        if header[18] == 2 or _has_free_tail(path, connection):
            return _copied(path, connection, rewrite=False)
        return SqliteFile(path, connection, None)
    except apsw.BusyError as error:
        connection.close(True)
        raise UnavailableError(f"{path} is being written by another program: {error}") from error
    except apsw.Error as error:
        connection.close(True)
        raise InvalidRequestError(f"{path} is no intact SQLite database: {error}") from error
    except BaseException:
        connection.close(True)
        raise


def _header_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        raise InvalidRequestError(f"there is no file {path}") from None
    except OSError as error:
        raise InvalidRequestError(f"{path} cannot be read: {error.strerror}") from error
    if header and not header.startswith(_MAGIC):
        raise InvalidRequestError(f"{path} is not a SQLite database: it begins with {header[:16]!r}")
    return header


def _has_free_tail(path: Path, connection: apsw.Connection) -> bool:
    """Whether the file is longer than the database in it, or an interrupted write is still to be undone."""
    pages = connection.pragma("page_count")
    return bool(path.stat().st_size != pages * PAGE_SIZE)


def _copied(path: Path, source: apsw.Connection, rewrite: bool) -> SqliteFile:
    handle, name = tempfile.mkstemp(prefix="memoturn-import-", suffix=".sqlite")
    os.close(handle)
    copy = Path(name)
    try:
        if rewrite:
            source.execute("COMMIT")
            source.execute(f"PRAGMA page_size={PAGE_SIZE}")
            source.execute("VACUUM INTO ?", (name,))
        else:
            with (
                contextlib.closing(apsw.Connection(name)) as target,
                target.backup("main", source, "main") as backup,
            ):
                while not backup.done:
                    backup.step(1000)
        source.close(True)
        return SqliteFile(copy, None, copy)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
