"""Tables as columns of little-endian numbers, so that opening one costs no step per entry.

On a little-endian machine a column is a cast of the bytes that were read, without a copy.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, Literal

_SMALL: Final = 512
"""Bytes of a table up to which its numbers are read one by one."""

_SWAP: Final = sys.byteorder == "big"

Code = Literal["H", "I", "Q"]
U16: Final[Code] = "H"
U32: Final[Code] = "I"
U64: Final[Code] = "Q"
WIDTH: Final[dict[Code, int]] = {"H": 2, "I": 4, "Q": 8}
assert all(array(code).itemsize == width for code, width in WIDTH.items())


def pack_column(code: Code, numbers: Iterable[int]) -> bytes:
    """Numbers as one column; raises `OverflowError` for one that does not fit."""
    column = numbers if isinstance(numbers, array) and numbers.typecode == code else array(code, numbers)
    if _SWAP:
        column = column[:]
        column.byteswap()
    return column.tobytes()


def split_columns(table: memoryview, layout: Sequence[tuple[Code, int]]) -> list[Sequence[int]]:
    """The columns of a table, each given as its width code and its number of entries."""
    if len(table) <= _SMALL:
        return _small_columns(table, tuple(layout))
    columns: list[Sequence[int]] = []
    at = 0
    for code, count in layout:
        end = at + WIDTH[code] * count
        columns.append(_column(table[at:end], code))
        at = end
    return columns


def _small_columns(table: memoryview, layout: tuple[tuple[Code, int], ...]) -> list[Sequence[int]]:
    """All numbers at once: for a few of them, that is faster than a cast for each column."""
    numbers = _whole(layout).unpack_from(table)
    columns: list[Sequence[int]] = []
    at = 0
    for _, count in layout:
        columns.append(numbers[at : at + count])
        at += count
    return columns


@lru_cache(maxsize=256)
def _whole(layout: tuple[tuple[Code, int], ...]) -> struct.Struct:
    return struct.Struct("<" + "".join(f"{count}{code}" for code, count in layout))


def _column(part: memoryview, code: Code) -> Sequence[int]:
    if not _SWAP:
        return part.cast("B").cast(code)
    column = array(code, part.tobytes())
    column.byteswap()
    return column
