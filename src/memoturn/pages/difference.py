"""Which pages two views do not have in common, found from where their pages lie, and from bytes only in doubt.

What both views look through is left aside: a page that is in none of the other packs is the same. Of the rest, one
version is one content. Two versions whose frames have one length and one CRC-32 are taken for the same content, as
after compaction a base holds again what packs held; the checksums of the two databases tell if that was ever wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Protocol, runtime_checkable

from memoturn.base.errors import CorruptError
from memoturn.base.txids import LOCK_PAGE, PageNo
from memoturn.pages.view import Above, Source, Trace
from memoturn.segments.checksum import CHECKSUM_FLAG, combine, page_checksum


@runtime_checkable
class Mapped(Protocol):
    """A position that knows where its pages lie."""

    def trace(self, page_no: PageNo) -> Trace:
        """Which version a page is."""

    def above(self) -> Above:
        """What the position is made of."""


def differing(one: Source, other: Source) -> set[PageNo]:
    """The pages that differ, those that only one of the views has among them."""
    found: set[PageNo] = set()
    alike: list[PageNo] = []
    shorter, longer = sorted((one.page_count, other.page_count))
    for page_no in _suspects(one, other, shorter):
        first, second = _trace(one, page_no), _trace(other, page_no)
        if first is not None and second is not None:
            if first.version == second.version:
                continue
            if first.frame is not None and first.frame == second.frame:
                alike.append(page_no)
                continue
        if one.page(page_no) != other.page(page_no):
            found.add(page_no)
    found.update(map(PageNo, range(shorter + 1, longer + 1)))
    found.discard(LOCK_PAGE)
    if alike and not _explains(one, other, found):
        found.update(page_no for page_no in alike if one.page(page_no) != other.page(page_no))
        if not _explains(one, other, found):
            raise CorruptError(
                f"the pages at txid {one.txid} and at txid {other.txid} do not account for their checksums; "
                "verify the database"
            )
    return found


def commit_of(view: Source, page_no: PageNo) -> Hashable:
    """Something that stands for the commit which wrote a page, or for the base that has it."""
    found = _trace(view, page_no)
    return None if found is None else found.version[:2]


def _trace(view: Source, page_no: PageNo) -> Trace | None:
    return view.trace(page_no) if isinstance(view, Mapped) else None


def _suspects(one: Source, other: Source, count: int) -> Iterable[PageNo]:
    """The pages up to `count` that may differ."""
    if isinstance(one, Mapped) and isinstance(other, Mapped):
        first, second = one.above(), other.above()
        if first.base == second.base:
            parts = {**first.parts, **second.parts}
            apart = first.parts.keys() ^ second.parts.keys()
            return {page_no for part in apart for page_no in parts[part]() if page_no <= count}
    return (PageNo(page_no) for page_no in range(1, count + 1) if page_no != LOCK_PAGE)


def _explains(one: Source, other: Source, found: set[PageNo]) -> bool:
    """Whether these pages are all that makes the checksums of the databases different."""
    checksum = combine(one.checksum, other.checksum)
    for page_no in found:
        for view in (one, other):
            if page := view.page(page_no):
                checksum = combine(checksum, page_checksum(page_no, page))
    return checksum == CHECKSUM_FLAG
