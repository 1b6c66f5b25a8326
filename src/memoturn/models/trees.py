"""Where the trees of two views differ: the keys of the rows that may differ, found in the pages that do.

A changed page does not say which tree it belongs to, so its first key is looked for in each tree that it may be part
of: that reads the interior pages on one path. An interior page that changed tells which children came and went. So
what is read is what differs, and the paths that lead there.

Keys that are found may still be the same in both; but a row that differs is always found, with one exception. SQLite
overwrites a long value in place, and then only pages of its overflow chain have changed, which nothing leads back
from. `rows_of_chains` looks for the rows that such pages belong to, where they are likely to be first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from memoturn.base.errors import CorruptError
from memoturn.base.txids import PAGE_SIZE, PageNo
from memoturn.models.btree import (
    KINDS,
    LEAVES,
    TABLE_KINDS,
    Cell,
    Field,
    Node,
    Order,
    child_of_rowid,
    fields,
    format_of,
)
from memoturn.pages.difference import commit_of
from memoturn.pages.view import Source

_DEEPEST: Final = 64
Key = int | tuple[Field, ...]
"""A rowid, or the fields of a key."""


class Side:
    """One of the two views: its pages, and which of those that differ belong to no tree that was looked at yet.

    `look` is called with every page, and raises if the work is to stop.
    """

    def __init__(self, view: Source, changed: Iterable[PageNo], look: Callable[[], None]) -> None:
        self.view = view
        self._look = look
        self.format = format_of(view.page(PageNo(1)).ljust(PAGE_SIZE, b"\0"))
        self.changed = frozenset(page_no for page_no in changed if page_no <= view.page_count)
        self.astray: dict[bool, set[PageNo]] = {True: set(), False: set()}
        self.chained: set[PageNo] = set()
        """Those that may go on with a long value, until it is known whose it is."""
        for page_no in self.changed:
            kind = self.kind(page_no)
            if kind in KINDS:
                self.astray[kind in TABLE_KINDS].add(page_no)
            elif kind == 0:
                self.chained.add(page_no)

    def kind(self, page_no: PageNo) -> int:
        """The first byte of a page, which tells what it is."""
        self._look()
        page = self.view.page(page_no)
        return page[100 if page_no == 1 else 0] if page else -1

    def node(self, page_no: PageNo) -> Node:
        """A page of a tree. Raises `CorruptError`."""
        self._look()
        return Node(page_no, self.view.page(page_no), self.format.usable)

    def record(self, cell: Cell, length: int | None = None) -> bytes:
        """The record of a cell, with what of it lies in other pages."""
        parts, missing = [cell.local], cell.size - len(cell.local)
        for page_no in self.chain(cell) if missing else ():
            part = self.view.page(page_no)[4 : self.format.usable][:missing]
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def chain(self, cell: Cell) -> Iterator[PageNo]:
        """The pages in which a record goes on."""
        # No chain is longer than the database, whatever a page says that only looks like one of a tree.
        page_no, left = cell.overflow, min(cell.size, self.view.page_count * PAGE_SIZE) - len(cell.local)
        while page_no and left > 0:
            yield page_no
            left -= self.format.usable - 4
            page_no = PageNo(int.from_bytes(self.view.page(page_no)[:4]))

    def free_pages(self) -> set[PageNo]:
        """The pages that hold nothing."""
        free: set[PageNo] = set()
        trunk = self.format.freelist
        while trunk and trunk not in free:
            page = self.view.page(trunk)
            count = int.from_bytes(page[4:8])
            free.add(trunk)
            free.update(PageNo(int.from_bytes(page[at : at + 4])) for at in range(8, 8 + 4 * count, 4))
            trunk = PageNo(int.from_bytes(page[:4]))
        return free


class Tree:
    """A tree in one of the views. `order` is how an index tree is sorted; a table tree has none."""

    def __init__(self, side: Side, root: PageNo, order: Order | None) -> None:
        self.side = side
        self.root = root
        self.order = order
        self._interior: dict[PageNo, Node] = {}
        self._leaf_depth = _DEEPEST

    def node(self, page_no: PageNo) -> Node:
        """A page of the tree; interior ones are remembered."""
        node = self._interior.get(page_no)
        if node is None:
            node = self.side.node(page_no)
            if node.is_table != (self.order is None):
                raise CorruptError(f"page {page_no} is of another kind than the tree at page {self.root}")
            if not node.is_leaf:
                self._interior[page_no] = node
        return node

    def children(self, page_no: PageNo) -> list[PageNo]:
        """The pages below a page of the tree."""
        return [] if self.side.kind(page_no) in LEAVES else self.node(page_no).children

    def key(self, cell: Cell) -> Key:
        """The key of a cell."""
        if self.order is None:
            return cell.key
        return tuple(fields(self.side.record(cell), len(self.order.collations)))

    def claim(self) -> list[PageNo]:
        """The changed pages that belong to this tree; they are not astray any more."""
        astray = self.side.astray[self.order is None]
        mine = [page_no for page_no in sorted(astray) if self._leads_to(page_no)]
        astray.difference_update(mine)
        return mine

    def claim_all(self) -> None:
        """See that no other tree is searched for the changed pages of this one, all of whose rows are told."""
        astray = self.side.astray[self.order is None]
        if astray:
            astray.difference_update(self.pages())

    def _leads_to(self, target: PageNo) -> bool:
        """Whether the place of a page's first key, or of the page itself, is in this tree."""
        if target == self.root:
            return True
        try:
            node = self.side.node(target)
            if not node.count:
                return False
            key = self.key(node.cell(0))
        except CorruptError:
            return False  # A page on the free list may hold anything.
        page_no = self.root
        for depth in range(_DEEPEST):
            if page_no == target:
                return True
            if depth >= self._leaf_depth:
                return False
            node = self.node(page_no)
            if node.is_leaf:
                self._leaf_depth = depth
                return False
            child = self._child(node, key)
            if child is None:
                return False
            page_no = child
        raise CorruptError(f"the tree at page {self.root} is deeper than {_DEEPEST} pages")

    def _child(self, node: Node, key: Key) -> PageNo | None:
        """Where to look further for a key; None if it is in the page itself."""
        if isinstance(key, int):
            return child_of_rowid(node, key)
        assert self.order is not None
        low, high = 0, node.count
        while low < high:
            middle = (low + high) // 2
            there = self.key(node.cell(middle))
            assert not isinstance(there, int)
            found = self.order.compare(key, there)
            if found == 0:
                return None
            if found < 0:
                high = middle
            else:
                low = middle + 1
        return node.child(low)

    def pages(self) -> Iterator[PageNo]:
        """All pages of the tree, for which the interior ones are read."""
        stack = [self.root]
        while stack:
            page_no = stack.pop()
            yield page_no
            children = self.children(page_no)
            if children and self.side.kind(children[0]) in LEAVES:
                yield from children
            else:
                stack += children


class Suspects(NamedTuple):
    """The pages of two trees in which rows lie that may differ."""

    one: list[PageNo]
    other: list[PageNo]

    def __bool__(self) -> bool:
        return bool(self.one or self.other)


def suspects(one: Tree, other: Tree) -> Suspects:
    """Where two trees of one table may differ."""
    trees = (one, other)
    known: list[dict[PageNo, bool]] = [{}, {}]
    """The pages that are known to be in each tree, and whether their children are."""
    for tree, pages in zip(trees, known, strict=True):
        pages[tree.root] = False
        for page_no in tree.claim():
            pages[page_no] = True
            pages.update({child: pages.get(child, False) for child in tree.children(page_no)})
    grows = True
    while grows:
        grows = False
        for i, tree in enumerate(trees):
            mine, theirs = known[i], known[1 - i]
            for page_no in [n for n, open_ in mine.items() if not open_ and n not in theirs]:
                mine[page_no] = True
                children = tree.children(page_no)
                mine.update({child: mine.get(child, False) for child in children})
                grows = grows or bool(children)
    return Suspects(*(_with_rows(tree, known[i], known[1 - i]) for i, tree in enumerate(trees)))


def _with_rows(tree: Tree, mine: dict[PageNo, bool], theirs: dict[PageNo, bool]) -> list[PageNo]:
    changed = tree.side.changed
    found = sorted(page_no for page_no in mine if page_no in changed or page_no not in theirs)
    return [page_no for page_no in found if tree.order is not None or tree.side.kind(page_no) in LEAVES]


def keys(tree: Tree, pages: Iterable[PageNo], twin: Tree, twins: Sequence[PageNo]) -> Iterator[list[Key]]:
    """The keys in some pages of a tree, a page at a time, without those whose cells are the same in the twin's."""
    there = set(twins)
    side = tree.side
    for page_no in pages:
        cells = tree.node(page_no).cells
        if page_no in there:
            same = {cell.raw for cell in twin.node(page_no).cells}
            cells = [cell for cell in cells if cell.raw not in same]
        if side.chained:
            for cell in cells:
                side.chained.difference_update(side.chain(cell))
        if cells:
            yield [tree.key(cell) for cell in cells]


def loose_ends(one: Side, other: Side, told: Iterable[Tree]) -> set[PageNo]:
    """The changed pages in both views that may go on with a value in a row which itself has not changed.

    `told` are the trees all of whose rows are told.
    """
    loose = one.chained & other.chained
    if loose:
        loose -= one.free_pages()
        loose -= other.free_pages()
    for tree in told:
        for page_no in tree.pages() if loose else ():
            for cell in tree.node(page_no).cells:
                loose.difference_update(tree.side.chain(cell))
    return loose


def rows_of_chains(trees: Sequence[Tree], loose: set[PageNo]) -> Iterator[tuple[int, Key]]:
    """The rows to which these pages belong: the number of the tree, and the key.

    A chain is written in one commit with the leaf that leads to it, and beside it if there is room. So the leaves of
    that commit are looked at first, then those of others, of either the nearest first.
    """
    if not loose:
        return
    ends = sorted(loose)
    commits = {commit_of(trees[0].side.view, page_no) for page_no in ends} if trees else set()
    found = sorted(
        (
            commit_of(tree.side.view, page_no) not in commits,
            _distance(page_no, ends),
            number,
            page_no,
        )
        for number, tree in enumerate(trees)
        for page_no in tree.pages()
    )
    for _, _, number, page_no in found:
        tree = trees[number]
        for cell in tree.node(page_no).cells:
            if not loose:
                return
            if cell.overflow:  # Which no cell has in the interior pages of a table tree.
                mine = loose.intersection(tree.side.chain(cell))
                if mine:
                    loose -= mine
                    yield number, tree.key(cell)


def _distance(page_no: PageNo, ends: Sequence[PageNo]) -> int:
    place = bisect_left(ends, page_no)
    return min(abs(page_no - end) for end in ends[max(place - 1, 0) : place + 1])
