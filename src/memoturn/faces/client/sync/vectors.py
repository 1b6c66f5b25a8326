# Made from ../aio/vectors.py by tools/generate_sync.py; change that, and `make client`.

"""`db.vectors`: collections of vectors on a branch, or at a position in its past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from memoturn.base.names import Address
from memoturn.faces.client.calls import vectors as calls
from memoturn.faces.client.sync.transport import Transport
from memoturn.faces.wire import VectorCollection, VectorDelete, VectorEntry, VectorHits, VectorUpsert


class Vectors:
    """Vectors by id, in collections whose dimension the first vector fixes. They are kept as 32-bit floats."""

    __slots__ = ("_address", "_transport")

    def __init__(self, transport: Transport, address: Address) -> None:
        self._transport = transport
        self._address = address

    def upsert(
        self,
        collection: str,
        id: str,  # noqa: A002
        vector: Sequence[float],
        meta: dict[str, Any] | None = None,
    ) -> VectorUpsert:
        """Keep a vector, with a JSON object if wanted, in place of the one of this id; returns `.txid`."""
        return self._transport.send(
            calls.upsert(self._address, collection, [{"id": id, "vector": vector, "meta": meta}])
        )

    def upsert_many(self, collection: str, items: Sequence[Mapping[str, Any]]) -> VectorUpsert:
        """Keep vectors as one transaction; each item has `id`, `vector` and perhaps `meta`."""
        return self._transport.send(calls.upsert(self._address, collection, items))

    def get(self, collection: str, id: str) -> VectorEntry | None:  # noqa: A002
        """The vector and its metadata, or None."""
        return self._transport.send(calls.get(self._address, collection, id))

    def delete(self, collection: str, id: str) -> VectorDelete:  # noqa: A002
        """Remove a vector; returns `.deleted` and `.txid`."""
        return self._transport.send(calls.delete(self._address, collection, id))

    def search(
        self,
        collection: str,
        vector: Sequence[float],
        k: int = 10,
        filter: dict[str, Any] | None = None,  # noqa: A002
        *,
        metric: Literal["cosine", "l2"] = "cosine",
    ) -> VectorHits:
        """The `k` nearest (up to 1,000) of the vectors whose metadata fits: hits with `.id`, `.distance`, `.meta`.

        The search is exact, and a filter, which is one of `db.docs`, is applied before the cut. Of equals the smaller
        id comes first.
        """
        return self._transport.send(calls.search(self._address, collection, vector, k, filter, metric))

    def collections(self) -> list[VectorCollection]:
        """The collections with their dimensions and numbers of vectors."""
        return self._transport.send(calls.collections(self._address))
