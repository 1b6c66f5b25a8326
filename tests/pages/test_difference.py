"""Which pages of two views differ, by where they lie."""

from __future__ import annotations

import pytest

from memoturn.base.errors import CorruptError
from memoturn.base.txids import TXID, Checksum, PageNo, UnixMs
from memoturn.pages.difference import differing
from memoturn.pages.view import Above, Trace
from memoturn.segments.checksum import CHECKSUM_FLAG, combine, page_checksum


class Position:
    """A view of pages that are filled with one byte each; a page's frame is told by `frames`, or is the byte."""

    def __init__(
        self, pages: str, base: str, frames: dict[int, int] | None = None, checksum: int = 0
    ) -> None:
        self.txid = TXID(len(pages))
        self.page_count = len(pages)
        self.time: UnixMs | None = None
        self.stretch = ("b", TXID(1), 0)
        self.reads: list[int] = []
        self.traces = 0
        self.checksum = Checksum(checksum or CHECKSUM_FLAG)
        self._pages = pages
        self._base = base
        self._frames = frames or {}
        if not checksum:
            for number in range(1, len(pages) + 1):
                self.checksum = combine(self.checksum, page_checksum(PageNo(number), self._page(number)))

    def _page(self, page_no: int) -> bytes:
        return self._pages[page_no - 1].encode() * 4096 if page_no <= len(self._pages) else b""

    def page(self, page_no: PageNo) -> bytes:
        self.reads.append(page_no)
        return self._page(page_no)

    def is_in_memory(self, page_no: PageNo) -> bool:
        return True

    def trace(self, page_no: PageNo) -> Trace:
        self.traces += 1
        return Trace(
            (self._base, None, page_no), (7, self._frames.get(page_no, ord(self._pages[page_no - 1])))
        )

    def above(self) -> Above:
        return Above(self._base, {})


def test_frames_that_are_alike_are_not_read() -> None:
    one, other = Position("abcde", "first"), Position("abXde", "second")
    assert differing(one, other) == {3}
    assert {*one.reads, *other.reads} == {3}


def test_views_on_one_base_without_packs_are_the_same_without_a_look() -> None:
    one, other = Position("abc", "first"), Position("abc", "first")
    assert differing(one, other) == set()
    assert (one.reads, one.traces) == ([], 0)


def test_pages_that_only_one_has_differ() -> None:
    one, other = Position("abc", "first"), Position("abcde", "second")
    assert differing(one, other) == differing(other, one) == {4, 5}


def test_pages_whose_frames_are_alike_by_accident_are_found_by_the_checksums() -> None:
    one, other = Position("abcde", "first"), Position("aXcde", "second", frames={2: ord("b")})
    assert differing(one, other) == {2}
    assert sorted(set(one.reads)) == [1, 2, 3, 4, 5]


def test_checksums_that_nothing_explains_are_damage() -> None:
    one, other = Position("abc", "first"), Position("abc", "second", checksum=CHECKSUM_FLAG | 5)
    with pytest.raises(CorruptError, match="do not account for"):
        differing(one, other)
