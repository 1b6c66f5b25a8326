"""Databases in and out: import of a SQLite file, export to one, and shipping by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from memoturn.base.errors import AlreadyExistsError, DatabaseNotFoundError
from memoturn.base.names import Address, check_name
from memoturn.base.new_file import new_file
from memoturn.base.results.databases import ExportResult, ImportResult
from memoturn.base.txids import LOCK_PAGE, PAGE_SIZE, TXID, PageNo
from memoturn.database.publish import Upload
from memoturn.database.sqlite_file import SqliteFile, open_sqlite_file
from memoturn.manifest import keys, rules
from memoturn.manifest.segment_name import SegmentName
from memoturn.models.foreign import check_schema
from memoturn.node.engine import Engine
from memoturn.operations import databases
from memoturn.operations.positions import see, view_of
from memoturn.pages.upper import UpperPages
from memoturn.pages.view import Source
from memoturn.segments.base_write import BaseWriter

Progress = Callable[[int, int], None]
_REPORT_PAGES = 256


def txid(engine: Engine, address: Address) -> TXID:
    """The txid that the address stands for now."""
    return view_of(engine, address)[1].txid


def sync(engine: Engine, address: Address) -> TXID:
    """Ship what was committed on the branch; returns the head. Raises `UnavailableError`."""
    return engine.branch(address.database, address.branch).settle_head()


def import_file(
    engine: Engine, name: str, path: str, progress: Progress | None = None, scratch: Path | None = None
) -> ImportResult:
    """Create a database from a SQLite file of any page size, in WAL mode or not, larger than memory or not.

    If the file has to be copied first, that is done in `scratch`, or where temporary files lie here.

    The whole database becomes one base, at txid 1. Raises `InvalidRequestError` for what is no intact SQLite
    database, or mentions reserved names, before anything is created, and `AlreadyExistsError`.
    """
    check_name("database", name)
    try:
        engine.entry(name)
    except DatabaseNotFoundError:
        pass
    else:
        raise AlreadyExistsError(f"database {name!r} exists already; choose another name, or delete it first")
    with closing(open_sqlite_file(Path(path), engine.look, scratch)) as source:
        check_schema(path, source.schema)
        now = engine.clock.now_ms()
        db_uuid, incarnation = f"d_{engine.ids.ulid(now)}", f"b_{engine.ids.ulid(now)}"
        first = rules.root(databases.MAIN, incarnation, now)
        upload = Upload(engine.clock, "")
        if source.page_count:
            base = SegmentName.base(TXID(1), 1)
            key = keys.segment_key(db_uuid, incarnation, str(base))
            pages = _with_progress(source, progress)
            writer = BaseWriter(TXID(1), source.page_count, now, pages, copies=UpperPages())
            engine.bucket.put(key, upload.chunks(iter(writer)))
            engine.bucket.put(keys.base_index_key(key), writer.index_object)
            first = rules.imported(first, base)
        databases.create_as(engine, name, db_uuid, first, now, began=engine.clock.monotonic() - upload.age())
        return ImportResult(name, first.head_txid, source.page_count, source.page_count * PAGE_SIZE)


def _with_progress(source: SqliteFile, progress: Progress | None) -> Iterator[tuple[PageNo, bytes]]:
    total = source.page_count * PAGE_SIZE
    for page_no, page in source.pages():
        yield page_no, page
        if progress is not None and (page_no % _REPORT_PAGES == 0 or page_no == source.page_count):
            progress(page_no * PAGE_SIZE, total)


class Export(NamedTuple):
    """A database as the bytes of a SQLite file, piece by piece, each read when it is asked for."""

    txid: TXID
    size: int
    exact: bool
    pieces: Iterator[bytes]


def export_pieces(engine: Engine, address: Address) -> Export:
    """The database at the address as a plain SQLite file. The pieces raise `UnavailableError` and `CorruptError`."""
    _, view, exact = see(engine, address)
    return Export(view.txid, view.page_count * PAGE_SIZE, exact, _pieces(view))


def _pieces(view: Source) -> Iterator[bytes]:
    for first in range(1, view.page_count + 1, _REPORT_PAGES):
        numbers = range(first, min(first + _REPORT_PAGES, view.page_count + 1))
        yield b"".join(bytes(PAGE_SIZE) if n == LOCK_PAGE else view.page(PageNo(n)) for n in numbers)


def export(engine: Engine, address: Address, path: str, progress: Progress | None = None) -> ExportResult:
    """Write the database at the address as a plain SQLite file.

    The file appears whole or not at all. Raises `AlreadyExistsError` if there is one, and `UnavailableError`
    if it cannot be written.
    """
    _, view, exact = see(engine, address)
    total = view.page_count * PAGE_SIZE
    with new_file(path) as file:
        for number in range(1, view.page_count + 1):
            if number == LOCK_PAGE:
                file.seek(PAGE_SIZE, os.SEEK_CUR)
            else:
                file.write(view.page(PageNo(number)))
            if progress is not None and (number % _REPORT_PAGES == 0 or number == view.page_count):
                progress(number * PAGE_SIZE, total)
        file.truncate(total)
    return ExportResult(path, view.txid, view.page_count, total, exact)
