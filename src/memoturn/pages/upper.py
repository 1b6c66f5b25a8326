"""The pages of a SQLite database that nearly every query passes through: its schema, and the inside of its trees.

They are few, some thousandth of the database, and a base's index carries a copy of them, so that waking a branch on
a store with slow requests fetches no tree level by level. Which pages are chosen is a matter of speed alone.
Page layout: https://www.sqlite.org/fileformat2.html#b_tree_pages
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from memoturn.base.txids import PageNo
from memoturn.segments.copies import encode_copy

COPIED_BYTES: Final = 2 << 20
"""Copies that an index gets, at most; the trees of 1 GiB of rows have less."""

KEPT_BYTES: Final = 16 << 20
"""Copies that are kept while the pages pass by, at most."""

_FILE_HEADER: Final = 100
_INTERIOR: Final = frozenset((0x02, 0x05))
_HEADER: Final = 12


class _Kept(NamedTuple):
    first_child: int
    copy: bytes


class UpperPages:
    """Chooses, of the pages of one database, those that are worth a copy (see `Copies` of `segments.base_write`).

    The schema goes first; then those with children that have children; then those with leaves below them, in the
    order of the file.
    """

    def __init__(self, copied_bytes: int = COPIED_BYTES, kept_bytes: int = KEPT_BYTES) -> None:
        self._copied_bytes: Final = copied_bytes
        self._kept_bytes: Final = kept_bytes
        self._schema: dict[int, bytes] = {}
        self._schema_children: set[int] = set()
        self._interior: set[int] = set()
        self._kept: dict[int, _Kept] = {}
        self._bytes = 0
        self._dropped_at = 0

    def offer(self, pgno: PageNo, page: bytes) -> None:
        """Look at a page."""
        start = _FILE_HEADER if pgno == 1 else 0
        interior = page[start] in _INTERIOR
        of_schema = pgno == 1 or pgno in self._schema_children
        if not interior and not of_schema:
            return
        copy = encode_copy(pgno, page)
        if self._bytes + len(copy) > self._kept_bytes:
            self._drop_lower(pgno)
        room = self._bytes + len(copy) <= self._kept_bytes
        if of_schema and room:
            self._schema[pgno] = copy
            if interior:
                self._schema_children.update(_children(page, start))
        elif interior:
            self._interior.add(pgno)
            if room:
                self._kept[pgno] = _Kept(next(_children(page, start)), copy)
        self._bytes += len(copy) if room else 0

    def chosen(self) -> Iterator[bytes]:
        """The copies, as far as there is room."""
        room = self._copied_bytes
        upper = {pgno for pgno, kept in self._kept.items() if kept.first_child in self._interior}
        inside = [self._kept[pgno].copy for pgno in sorted(upper)]
        lower = [kept.copy for pgno, kept in self._kept.items() if pgno not in upper]
        for copy in (*self._schema.values(), *inside, *lower):
            if len(copy) <= room:
                room -= len(copy)
                yield copy

    def _drop_lower(self, passed: int) -> None:
        """Let go of pages with leaves below them, as far as that can be told: their first child has passed by."""
        if passed < self._dropped_at:
            return
        self._dropped_at = passed + passed // 8
        for pgno, (first_child, copy) in list(self._kept.items()):
            if first_child <= passed and first_child not in self._interior:
                del self._kept[pgno]
                self._bytes -= len(copy)


def _children(page: bytes, start: int) -> Iterator[int]:
    """The pages below a page inside a tree; any numbers at all if it only looks like one."""
    cells = int.from_bytes(page[start + 3 : start + 5], "big")
    for at in range(start + _HEADER, min(start + _HEADER + 2 * cells, len(page) - 1), 2):
        cell = int.from_bytes(page[at : at + 2], "big")
        yield int.from_bytes(page[cell : cell + 4], "big")
    yield int.from_bytes(page[start + 8 : start + 12], "big")
