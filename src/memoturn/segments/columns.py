"""Tables as columns of little-endian numbers, so that opening one costs no step per entry.

On a little-endian machine a column is a cast of the bytes that were read, without a copy.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Final, Literal

_SWAP: Final = sys.byteorder == "big"

Code = Literal["H", "I", "Q"]
U16: Final[Code] = "H"
U32: Final[Code] = "I"
U64: Final[Code] = "Q"
WIDTH: Final[dict[Code, int]] = {"H": 2, "I": 4, "Q": 8}
assert all(array(code).itemsize == width for code, width in WIDTH.items())


def pack_column(code: Code, numbers: Iterable[int]) -> bytes:
    """Numbers as one column; raises `OverflowError` for one that does not fit."""
    column = array(code, numbers)
    if _SWAP:
        column.byteswap()
    return column.tobytes()


def split_columns(table: memoryview, layout: Iterable[tuple[Code, int]]) -> list[Sequence[int]]:
    """The columns of a table, each given as its width code and its number of entries."""
    columns: list[Sequence[int]] = []
    at = 0
    for code, count in layout:
        end = at + WIDTH[code] * count
        columns.append(_column(table[at:end], code))
        at = end
    return columns


def _column(part: memoryview, code: Code) -> Sequence[int]:
    if not _SWAP:
        return part.cast("B").cast(code)
    column = array(code, part.tobytes())
    column.byteswap()
    return column
