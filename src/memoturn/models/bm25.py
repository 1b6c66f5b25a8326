"""BM25 (Robertson and others, 1994) over arrays: what a term is worth by how often it occurs, among how many."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]

_K1: Final = 1.2
B_ALONE: Final = 0.4
"""How much the length of one memory counts: what is said in passing is short, and no worse for it."""
B_NEARBY: Final = 0.75
B_SESSION: Final = 0.5


def scale(words: Singles, b: float) -> Singles:
    """The denominator without the count of the term, for texts of so many words; `b` is how much that counts."""
    # In 64 bits the sum of whole numbers does not depend on their order, which differs from process to process.
    mean = max(float(words.mean(dtype=np.float64)), 1.0) if len(words) else 1.0
    return words * np.float32(_K1 * b / mean) + np.float32(_K1 * (1 - b))


def rarity(size: int, having: int) -> np.float32:
    """What a term is worth at best that `having` of `size` texts have."""
    return np.float32(math.log(1 + (size - having + 0.5) / (having + 0.5)) * (_K1 + 1))


def worth(times: Singles, scale: Singles, rarity: np.float32) -> Singles:
    """What it is worth that a term occurs so many times: the more, the less each."""
    return times / (times + scale) * rarity
