"""Vectors as they are kept: 32-bit floats in the order of this machine's SQLite, little-endian, none of them NaN."""

from __future__ import annotations

import math
import sys
from array import array
from operator import mul
from typing import Any, Final

from memoturn.base.errors import InvalidRequestError
from memoturn.base.json_text import shown

MAX_DIMENSION: Final = 8192
_LONGEST: Final = 1e18
"""Squares of what is longer, or shorter than its reciprocal, do not fit into 32 bits."""


def encode(vector: Any) -> bytes:
    """A sequence of numbers, or an array of numpy, as bytes. Raises `InvalidRequestError`."""
    items = vector.tolist() if hasattr(vector, "tolist") else vector
    if isinstance(items, str | bytes | dict) or not hasattr(items, "__getitem__"):
        raise InvalidRequestError(f"a vector is a list of numbers, not {shown(vector)}")
    if not 1 <= len(items) <= MAX_DIMENSION:
        raise InvalidRequestError(f"a vector has 1 to {MAX_DIMENSION:,} numbers, not {len(items):,}")
    try:
        numbers = array("f", items)
        length = math.sqrt(sum(map(mul, numbers, numbers)))
    except (TypeError, ValueError, OverflowError):
        raise InvalidRequestError(f"a vector is a list of numbers, not {shown(vector)}") from None
    if not math.isfinite(length):
        raise InvalidRequestError("a vector has a number that is NaN, infinite, or too large for 32 bits")
    if not 1 / _LONGEST <= length <= _LONGEST:
        raise InvalidRequestError(
            "a vector of zeros has no direction to compare"
            if length == 0
            else f"a vector of length {length:.3g} cannot be compared; give one between 1e-18 and 1e18"
        )
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def decode(blob: bytes) -> list[float]:
    """The numbers that were kept, each the 32-bit float nearest to what was given."""
    numbers = array("f", blob)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def dimension(blob: bytes) -> int:
    """How many numbers a vector has."""
    return len(blob) // 4


def check_dimension(blob: bytes, wanted: int, of: str) -> None:
    """Raises `InvalidRequestError` unless the vector has as many numbers as those it is to be compared with."""
    if dimension(blob) != wanted:
        raise InvalidRequestError(
            f"the vector has {dimension(blob):,} numbers, and those of {of} have {wanted:,}; "
            "the first one that is kept decides"
        )
