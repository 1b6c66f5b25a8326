"""Merging sources of pages: of each page the newest version, in order, holding one entry per source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge
from operator import itemgetter
from typing import TypeVar

from memoturn.base.txids import PageNo

T = TypeVar("T")

_by_page_and_rank = itemgetter(0, 1)


def merge_newest(sources: Iterable[Iterable[tuple[PageNo, T]]], commit: int) -> Iterator[tuple[PageNo, T]]:
    """The first version of each page up to `commit`, ascending.

    `sources` go from the newest to the oldest and each ascends by page. What comes with a page is passed
    on as it is: its bytes, its frame, or a function that fetches it.
    """
    last = 0
    ranked = [_ranked(rank, source) for rank, source in enumerate(sources)]
    for pgno, _, version in merge(*ranked, key=_by_page_and_rank):
        if pgno > commit:
            return
        if pgno != last:
            last = pgno
            yield pgno, version


def _ranked(rank: int, source: Iterable[tuple[PageNo, T]]) -> Iterator[tuple[PageNo, int, T]]:
    for pgno, version in source:
        yield pgno, rank, version
