"""SQLite's B-tree pages, as far as comparing needs them: cells, children, keys, and the order of keys.

https://sqlite.org/fileformat2.html#b_tree_pages. A *table tree* holds rows by rowid, in its leaves; an *index tree*
holds records in the order of their first fields, in its interior pages too. The rows of a table WITHOUT ROWID are
an index tree.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from memoturn.base.errors import CorruptError
from memoturn.base.txids import PAGE_SIZE, PageNo

INDEX_INTERIOR: Final = 2
TABLE_INTERIOR: Final = 5
INDEX_LEAF: Final = 10
TABLE_LEAF: Final = 13
KINDS: Final = frozenset((INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF))
TABLE_KINDS: Final = frozenset((TABLE_INTERIOR, TABLE_LEAF))
LEAVES: Final = frozenset((TABLE_LEAF, INDEX_LEAF))

_ENCODINGS: Final = {1: "utf-8", 2: "utf-16-le", 3: "utf-16-be"}
_INTEGERS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_u32 = struct.Struct(">I").unpack_from
_f64 = struct.Struct(">d").unpack_from

Field = tuple[str, Any]
"""A value of a record: its type, and of a text its bytes as they are kept."""


class Format(NamedTuple):
    """What page 1 says of all pages."""

    usable: int
    encoding: str
    freelist: PageNo


def format_of(page_one: bytes) -> Format:
    """What to know before reading other pages."""
    encoding = _ENCODINGS.get(_u32(page_one, 56)[0], "utf-8")
    return Format(PAGE_SIZE - page_one[20], encoding, PageNo(_u32(page_one, 32)[0]))


class Cell(NamedTuple):
    """An entry of a page. `raw` is all that lies there of it, but for the child on its left.

    `key` is the rowid in a table tree and 0 in an index tree; `size` the length of the whole record, of which `local`
    is on this page and the rest in the chain of pages that begins with `overflow`.
    """

    key: int
    size: int
    local: bytes
    overflow: PageNo
    raw: bytes


class Node:
    """One page of a tree. An interior page has one child more than it has cells.

    A cell is read when it is asked for: whoever looks for one key meets few of them.
    """

    __slots__ = ("_page", "_page_no", "_pointers", "_usable", "is_leaf", "is_table")

    def __init__(self, page_no: PageNo, page: bytes, usable: int) -> None:
        start = 100 if page_no == 1 else 0
        kind = page[start] if page else 0
        if kind not in KINDS:
            raise CorruptError(f"page {page_no} was taken for a part of a tree, but its kind is {kind}")
        self.is_leaf = kind in LEAVES
        self.is_table = kind in TABLE_KINDS
        self._page, self._page_no, self._usable = page, page_no, usable
        count = int.from_bytes(page[start + 3 : start + 5])
        try:
            self._pointers = struct.unpack_from(f">{count}H", page, start + (8 if self.is_leaf else 12))
        except struct.error:
            raise self._too_short() from None

    @property
    def count(self) -> int:
        """How many cells there are."""
        return len(self._pointers)

    @property
    def cells(self) -> list[Cell]:
        """All of them. Raises `CorruptError`, as does whatever reads one."""
        return [self.cell(number) for number in range(self.count)]

    @property
    def children(self) -> list[PageNo]:
        """The pages below."""
        return [] if self.is_leaf else [self.child(number) for number in range(self.count + 1)]

    def cell(self, number: int) -> Cell:
        """One cell; the first is number 0."""
        try:
            return self._cell(self._page, self._pointers[number], self._usable)
        except (IndexError, struct.error):
            raise self._too_short() from None

    def child(self, number: int) -> PageNo:
        """The page on the left of a cell, or, behind the last cell, on its right."""
        start = 100 if self._page_no == 1 else 0
        at = self._pointers[number] if number < self.count else start + 8
        try:
            return PageNo(_u32(self._page, at)[0])
        except struct.error:
            raise self._too_short() from None

    def _too_short(self) -> CorruptError:
        return CorruptError(f"page {self._page_no} has a cell that reaches beyond its end")

    def _cell(self, page: bytes, at: int, usable: int) -> Cell:
        if not self.is_leaf:
            at += 4
        if self.is_table and not self.is_leaf:
            key, end = _varint(page, at)
            return Cell(_signed(key), 0, b"", PageNo(0), page[at:end])
        size, body = _varint(page, at)
        key = 0
        if self.is_table:
            key, body = _varint(page, body)
        kept = _kept_on_page(size, usable, self.is_table)
        end = body + kept
        overflow = 0
        if kept < size:
            (overflow,) = _u32(page, end)
            end += 4
        return Cell(_signed(key), size, page[body : body + kept], PageNo(overflow), page[at:end])


def _kept_on_page(size: int, usable: int, is_table: bool) -> int:
    most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (usable - 12) * 32 // 255 - 23
    kept = least + (size - least) % (usable - 4)
    return kept if kept <= most else least


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, and where it ends."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value = byte & 0x7F
    for n in range(1, 8):
        byte = data[at + n]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + n + 1
    return value << 8 | data[at + 8], at + 9


def _signed(key: int) -> int:
    return key - (1 << 64) if key >= 1 << 63 else key


def fields(record: bytes, count: int) -> list[Field]:
    """The first fields of a record. Raises `CorruptError`."""
    try:
        return _fields(record, count)
    except (IndexError, struct.error):
        raise CorruptError("a record ends before its fields do") from None


def _fields(record: bytes, count: int) -> list[Field]:
    size, at = _varint(record, 0)
    body = size
    found: list[Field] = []
    while len(found) < count and at < size:
        kind, at = _varint(record, at)
        length = _INTEGERS.get(kind, 0) if kind < 7 else 8 if kind == 7 else max(kind - 12, 0) // 2
        found.append(_field(kind, record[body : body + length]))
        body += length
    return found


def _field(kind: int, data: bytes) -> Field:
    if kind == 0:
        return "null", None
    if kind <= 6:
        return "number", int.from_bytes(data, signed=True)
    if kind == 7:
        return "number", _f64(data)[0]
    if kind <= 9:
        return "number", kind - 8
    return ("text", data) if kind % 2 else ("blob", data)


class Order(NamedTuple):
    """How an index tree is sorted: for each field of the key its collation, and whether it descends."""

    collations: tuple[str, ...]
    descending: tuple[bool, ...]
    encoding: str

    def compare(self, one: Sequence[Field], other: Sequence[Field]) -> int:
        """Below zero, zero or above zero, as `one` comes before `other`, is equal, or comes after it."""
        for first, second, collation, down in zip(one, other, self.collations, self.descending, strict=False):
            found = self._values(first, second, collation)
            if found:
                return -found if down else found
        return 0

    def _values(self, one: Field, other: Field, collation: str) -> int:
        kind, value = one
        if kind != other[0]:
            return _RANKS[kind] - _RANKS[other[0]]
        if kind == "text":
            return _COLLATIONS[collation](value, other[1], self.encoding)
        return _sign(value, other[1]) if kind != "null" else 0


_RANKS: Final = {"null": 0, "number": 1, "text": 2, "blob": 3}


def _sign(one: Any, other: Any) -> int:
    return int(one > other) - int(one < other)


def _utf8(text: bytes, encoding: str) -> bytes:
    return text if encoding == "utf-8" else text.decode(encoding, "replace").encode()


def _binary(one: bytes, other: bytes, _encoding: str) -> int:
    return _sign(one, other)


def _nocase(one: bytes, other: bytes, encoding: str) -> int:
    one, other = _utf8(one, encoding), _utf8(other, encoding)
    length = min(len(one), len(other))
    first, second = one[:length].lower(), other[:length].lower()
    end = first.find(0) + 1  # SQLite looks at nothing behind a NUL, but at the length.
    if end:
        first, second = first[:end], second[:end]
    return _sign(first, second) or len(one) - len(other)


def _rtrim(one: bytes, other: bytes, encoding: str) -> int:
    return _sign(_utf8(one, encoding).rstrip(b" "), _utf8(other, encoding).rstrip(b" "))


_COLLATIONS: Final[dict[str, Callable[[bytes, bytes, str], int]]] = {
    "BINARY": _binary,
    "NOCASE": _nocase,
    "RTRIM": _rtrim,
}


def has_collation(name: str) -> bool:
    """Whether `Order` knows a collation."""
    return name.upper() in _COLLATIONS


def child_of_rowid(node: Node, rowid: int) -> PageNo:
    """Below which child of an interior page of a table tree a rowid has its place."""
    return node.child(bisect_left(range(node.count), rowid, key=lambda number: node.cell(number).key))
