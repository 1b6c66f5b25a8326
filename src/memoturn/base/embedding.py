"""What makes vectors of texts, as the engine sees it. Users name one, or bring vectors of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from memoturn.base.errors import InvalidRequestError


class Embedder(Protocol):
    """Makes vectors that can be compared by their cosine. Threads may share it."""

    @property
    def name(self) -> str:
        """The name of the model, which is kept with each vector: those of different names are never compared."""

    def embed(self, texts: Sequence[str]) -> Sequence[Any]:
        """A vector for each text, as a list of numbers or an array. Raises `MemoturnError` when it cannot."""


def check_embedder(embedder: Embedder | None) -> Embedder | None:
    """`embedder` itself, if it can be one. Raises `InvalidRequestError`."""
    name = getattr(embedder, "name", None)
    if embedder is not None and not (
        isinstance(name, str) and name and callable(getattr(embedder, "embed", None))
    ):
        raise InvalidRequestError(
            f"{embedder!r} is no embedder; it has the name of its model as `name`, and `embed(texts)` gives a vector "
            "for each text, as LocalEmbedder and OpenAIEmbedder do"
        )
    return embedder
