"""What tests of several rooms share: a clock of their own, whole views, plain SQLite to compare with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from memoturn.base.clock import SystemClock
from memoturn.base.txids import LOCK_PAGE, PageNo, UnixMs
from memoturn.database.branch import Branch
from memoturn.faces.embedded.client import Database, Memoturn
from memoturn.pages.vfs import ReaderFile, connect
from memoturn.pages.view import Source
from memoturn.segments.checksum import CHECKSUM_FLAG, combine, page_checksum

START_MS = 1_800_000_000_000
"""When a `ManualClock` begins: 2027-01-15T08:00:00Z."""


class ManualClock(SystemClock):
    """A wall clock that moves when it is told to. Waiting is real."""

    def __init__(self, ms: int = START_MS) -> None:
        self.ms = ms

    def now_ms(self) -> UnixMs:
        return UnixMs(self.ms)

    def advance(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


def open_files(below: Path) -> int:
    """How many descriptors this process has of files in a directory, removed ones too."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # That of the listing itself is gone.
            found += os.readlink(f"/proc/self/fd/{name}").startswith(f"{below}/")
    return found


def branch_of(db: Database) -> Branch:
    """The open branch behind a handle."""
    return db._engine.branch(db._address.database, db._address.branch)


def engine_of(mt: Memoturn) -> Any:
    return mt._engine


@contextlib.contextmanager
def plain_connection(view: Source) -> Iterator[apsw.Connection]:
    """A fresh SQLite connection on a view, with nothing cached and no guard."""
    connection = connect(ReaderFile(view))
    try:
        yield connection
    finally:
        connection.close(True)


def assert_view_is_whole(view: Source) -> None:
    """The rolling checksum is that of the pages, every page is there, and SQLite finds nothing wrong."""
    checksum = CHECKSUM_FLAG
    for number in range(1, view.page_count + 1):
        page = view.page(PageNo(number))
        if number == LOCK_PAGE:
            assert page == b""
            continue
        assert len(page) == 4096, f"page {number} of {view.page_count} at txid {view.txid}: {len(page)} bytes"
        checksum = combine(checksum, page_checksum(PageNo(number), page))
    assert checksum == view.checksum, f"checksum at txid {view.txid}"
    assert view.page(PageNo(view.page_count + 1)) == b""
    with plain_connection(view) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def assert_whole(db: Database, positions: Iterable[int] | None = None) -> None:
    """Every position of the branch, or those given, is a whole view; so is the one that is read from the bucket."""
    branch = branch_of(db)
    for txid in positions if positions is not None else range(branch.head().txid + 1):
        assert_view_is_whole(branch.view_at(txid))  # type: ignore[arg-type]
    branch.settle_head()
    branch.forget()
    assert_view_is_whole(branch.head())


def content(connection: apsw.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """The schema and every row, for comparison."""
    schema = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall()
    tables = [row[1] for row in schema if row[0] == "table" and "VIRTUAL" not in (row[2] or "").upper()]
    found: dict[str, list[tuple[Any, ...]]] = {"": schema}
    for table in tables:
        rows = connection.execute(f'SELECT * FROM "{table}"').fetchall()
        found[table] = sorted(rows, key=repr)
    return found


def content_of_file(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return content(connection)
    finally:
        connection.close(True)


def plain_content(statements: Sequence[str]) -> dict[str, list[tuple[Any, ...]]]:
    """What plain SQLite makes of the statements."""
    connection = apsw.Connection(":memory:")
    try:
        for statement in statements:
            connection.execute(statement).fetchall()
        return content(connection)
    finally:
        connection.close(True)


def values(db: Database, sql: str = "SELECT v FROM t ORDER BY rowid") -> list[Any]:
    """The first column of an answer."""
    return [next(iter(row.values())) for row in db.sql(sql)]
