"""What operations on vectors answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct


class VectorUpsert(Struct, frozen=True):
    """How many vectors were kept, and the head after it."""

    upserted: int
    txid: int


class VectorEntry(Struct, frozen=True):
    """A vector as it is kept, in 32-bit floats, and what is kept with it."""

    id: str
    vector: list[float]
    meta: dict[str, Any] | None


class VectorHit(Struct, frozen=True):
    """A vector that was found; the smaller its distance the nearer it is."""

    id: str
    distance: float
    meta: dict[str, Any] | None


class VectorHits(list[VectorHit]):
    """The nearest vectors at position `txid`, the nearest first."""

    __slots__ = ("txid",)

    def __init__(self, hits: Sequence[VectorHit], txid: int) -> None:
        super().__init__(hits)
        self.txid = txid


class VectorDelete(Struct, frozen=True):
    """Whether there was a vector to delete, and the head after it."""

    deleted: bool
    txid: int


class VectorCollection(Struct, frozen=True):
    """A collection of vectors, all of one dimension."""

    name: str
    dimension: int
    vectors: int
