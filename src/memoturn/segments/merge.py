"""Merging sources of pages: of each page the newest version, in order, holding one entry per source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge
from operator import itemgetter
from typing import TypeVar

from memoturn.base.txids import PageNo

T = TypeVar("T")

_page = itemgetter(0)


def merge_newest(sources: Iterable[Iterable[tuple[PageNo, T]]], commit: int) -> Iterator[tuple[PageNo, T]]:
    """The first version of each page up to page `commit`, ascending.

    `sources` go from the newest to the oldest and each ascends by page. What comes with a page is passed
    on as it is: its bytes, its frame, or a function that fetches it.
    """
    last = 0
    # The merge is stable: of equal pages, that of the earlier source comes first.
    for entry in merge(*sources, key=_page):
        pgno = entry[0]
        if pgno > commit:
            return
        if pgno != last:
            last = pgno
            yield entry
