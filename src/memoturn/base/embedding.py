"""What makes vectors of texts, as the engine sees it. Users name one, or bring vectors of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Embedder(Protocol):
    """Makes vectors that can be compared by their cosine. Threads may share it."""

    @property
    def name(self) -> str:
        """The name of the model, which is kept with each vector: those of different names are never compared."""

    def embed(self, texts: Sequence[str]) -> Sequence[Any]:
        """A vector for each text, as a list of numbers or an array. Raises `MemoturnError` when it cannot."""
