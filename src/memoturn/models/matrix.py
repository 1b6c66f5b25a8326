"""A collection's vectors in memory, to choose from which of them the nearest can be. It never gives an answer.

The matrix computes cosines in another order of operations than SQL does, so its last digits differ. It therefore
gives every vector that may be among the nearest when both are wrong by as much as they can be, and SQL decides
between those: the answer is the same with or without it, digit for digit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from memoturn.models import embedding

if TYPE_CHECKING:
    import numpy as np

MIN_VECTORS: Final = 1000
"""Of fewer, SQL finds the nearest in less time than numpy takes to be imported."""
MAX_CANDIDATES: Final = 5000
_ROUNDING: Final = 2.0**-22
"""Of a sum of d products of 32-bit floats, d times this is more than can be lost, on both sides together."""


class SearchedOnce(NamedTuple):
    """Stands for a matrix that is worth its while if the same content is searched again."""

    weight: int = 200


class Matrix(NamedTuple):
    """Vectors of length 1 in rows, and the number of each."""

    numbers: np.ndarray
    rows: np.ndarray

    @property
    def weight(self) -> int:
        """Bytes in memory."""
        return int(self.numbers.nbytes + self.rows.nbytes)


def matrix(vectors: list[tuple[int, bytes]]) -> Matrix:
    """The matrix of some vectors of one dimension, given with their numbers; at least one."""
    import numpy as np

    numbers = np.array([number for number, _ in vectors], dtype=np.int64)
    rows = np.frombuffer(b"".join([blob for _, blob in vectors]), dtype="<f4").reshape(len(vectors), -1)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return Matrix(numbers, (rows / lengths[:, None]).astype(np.float32))


def candidates(among: Matrix, vector: bytes, k: int) -> list[int] | None:
    """The numbers of all vectors that can be among the `k` nearest by their angle; None if they are too many."""
    import numpy as np

    wanted = np.frombuffer(vector, dtype="<f4").astype(np.float64)
    # Not a product of matrices: BLAS spreads one over all cores, where it waits for every other thread there is.
    cosines = np.einsum("ij,j->i", among.rows, (wanted / np.sqrt(wanted.dot(wanted))).astype(np.float32))
    count = len(cosines)
    if k < count:
        slack = embedding.dimension(vector) * _ROUNDING + 1e-6
        kept = np.flatnonzero(cosines >= np.partition(cosines, count - k)[count - k] - 2 * slack)
    else:
        kept = np.arange(count)
    return None if len(kept) > MAX_CANDIDATES else among.numbers[kept].tolist()
