"""Writing a base: the database at one txid, streamed from a view. Memory holds its index, never its pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from memoturn.base.errors import CorruptError, InternalError
from memoturn.base.txids import LOCK_PAGE, PAGE_SIZE, TXID, PageNo
from memoturn.database.environment import Environment
from memoturn.database.publish import Upload
from memoturn.history.budget import Budget
from memoturn.manifest import keys, rules
from memoturn.manifest.model import Manifest
from memoturn.manifest.segment_name import SegmentName
from memoturn.pages.store import Version
from memoturn.pages.upper import UpperPages
from memoturn.pages.view import View, open_view
from memoturn.segments.base import BaseIndex, parse_base_tail
from memoturn.segments.base_write import BaseWriter

_PIECE: Final = 2
"""Pages after which the work may pause. A commit that wants the interpreter waits for the end of a piece: with so few
of them it is some tens of microseconds."""

_KEPT: Final = 64
"""Pages that are kept under another name at a time."""


class _Made(NamedTuple):
    """A base that was put, and its bytes with those of its index."""

    name: SegmentName
    key: str
    bytes: int


def write_base(
    env: Environment, db_uuid: str, manifest: Manifest, txid: TXID, budget: Budget
) -> tuple[Manifest, int]:
    """Write a base of a branch at `txid` and link it; returns the manifest after that and the bytes written.

    Its pages are checked against the database's checksum at that txid. Raises `TxidNotRetainedError`, `CorruptError`
    and `Stopped`, and then the manifest is as it was.
    """
    budget.begin()
    view = open_view(env.store.aside(), db_uuid, manifest, txid, env.manifest_of)
    if view.time is None:
        raise InternalError(f"branch {manifest.branch_id!r} is empty at txid {txid} and cannot have a base")
    time = view.time
    budget.expect(view.page_count * PAGE_SIZE)
    cached: dict[PageNo, Version] = {}

    def put(upload: Upload) -> _Made:
        name = SegmentName.base(txid, manifest.epoch, upload.mark)
        key = keys.segment_key(db_uuid, manifest.incarnation, str(name))
        cached.clear()
        writer = BaseWriter(
            txid, view.page_count, time, _pages(env, view, cached, budget), view.checksum, UpperPages()
        )
        env.bucket.put(key, upload.chunks(writer))
        index = writer.index_object
        env.bucket.put(keys.base_index_key(key), index)
        parsed = parse_base_tail(index, len(index))
        if not isinstance(parsed, BaseIndex):
            raise CorruptError(f"the index of {key} cannot be read back")
        env.store.keep_index(key, parsed)
        return _Made(name, key, writer.snapshot_length + len(index))

    def link(current: Manifest, made: _Made) -> Manifest:
        rules.check_incarnation(current, manifest.incarnation)
        return rules.add_base(current, made.name)

    made, after = env.publisher.publish(keys.manifest_key(db_uuid, manifest.branch_id), put, link)
    env.written.compacted += made.bytes
    for number, (page_no, version) in enumerate(cached.items()):
        if number % _KEPT == 0:
            budget.spend()
        page = env.store.cached(version)
        if page is not None:
            env.store.keep((made.key, None, page_no), page)
    budget.spend()
    return after, made.bytes


def _pages(
    env: Environment, view: View, cached: dict[PageNo, Version], budget: Budget
) -> Iterator[tuple[PageNo, bytes]]:
    """All pages in order. What readers have in the cache goes into `cached`, so that they find it in the base too."""
    for number in range(1, view.page_count + 1):
        if number != LOCK_PAGE:
            page_no = PageNo(number)
            version = view.version(page_no)
            page = env.store.cached(version)
            if page is None:
                page = view.page(page_no)
            else:
                cached[page_no] = version
            yield page_no, page
        if number % _PIECE == 0:
            budget.spend(_PIECE * PAGE_SIZE)
