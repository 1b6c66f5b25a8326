"""Vectors: upsert, get, delete, and the exact search, which a matrix in memory makes faster and never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from memoturn.base.errors import InvalidRequestError
from memoturn.base.json_text import shown
from memoturn.base.names import Address
from memoturn.base.results.vectors import (
    VectorCollection,
    VectorDelete,
    VectorEntry,
    VectorHit,
    VectorHits,
    VectorUpsert,
)
from memoturn.base.settings import MIB
from memoturn.base.txids import TXID
from memoturn.models import embedding
from memoturn.models import matrix as hot
from memoturn.models import vectors as model
from memoturn.models.distances import Metric, check_metric
from memoturn.models.filters import compile_filter
from memoturn.models.reserved import Connection
from memoturn.node.engine import Engine
from memoturn.operations.positions import writable
from memoturn.operations.reading import clamped, read

MAX_BATCH: Final = 10_000
_LARGEST: Final = 128 * MIB
_FIELDS: Final = frozenset(("id", "vector", "meta"))


def upsert(
    engine: Engine, address: Address, collection: str, items: Sequence[Mapping[str, Any]]
) -> VectorUpsert:
    """Keep vectors, each with `id`, `vector` and perhaps `meta`, in place of those of their ids, all or none.

    Raises `InvalidRequestError`, also for a vector of another dimension than the first, and `PayloadTooLargeError`.
    """
    table = model.table_of(collection)
    if type(items) not in (list, tuple) or not 1 <= len(items) <= MAX_BATCH:
        raise InvalidRequestError(f"give a list of 1 to {MAX_BATCH:,} vectors, not {shown(items)}")
    checked = [_item(one) for one in items]
    generation = engine.ids.number(model.GENERATION_BITS)
    _, txid = writable(engine, address).write(
        lambda connection: model.upsert(connection, table, checked, generation)
    )
    return VectorUpsert(len(checked), txid)


def _item(given: Mapping[str, Any]) -> model.Item:
    if not isinstance(given, Mapping) or not given.keys() <= _FIELDS or not {"id", "vector"} <= given.keys():
        raise InvalidRequestError(f"give an object of id, vector and perhaps meta, not {shown(given)}")
    return model.item(given["id"], given["vector"], given.get("meta"))


def get(engine: Engine, address: Address, collection: str, id_: str) -> tuple[VectorEntry | None, TXID]:
    """The vector of an id, or None; and the position that was read."""
    table, id_ = model.table_of(collection), model.check_id(id_)
    found, txid = read(engine, address, lambda connection: model.get(connection, table, id_))
    return None if found is None else VectorEntry(id_, *found), txid


def delete(engine: Engine, address: Address, collection: str, id_: str) -> VectorDelete:
    """Remove the vector of an id."""
    table, id_ = model.table_of(collection), model.check_id(id_)
    generation = engine.ids.number(model.GENERATION_BITS)
    deleted, txid = writable(engine, address).write(
        lambda connection: model.delete(connection, table, id_, generation)
    )
    return VectorDelete(deleted, txid)


def search(
    engine: Engine,
    address: Address,
    collection: str,
    vector: Any,
    k: int = 10,
    filter_: dict[str, Any] | None = None,
    metric: Metric = "cosine",
) -> VectorHits:
    """The nearest vectors of those whose metadata fits the filter, at most `k`. Raises `InvalidRequestError`."""
    table, where, metric = model.table_of(collection), compile_filter(filter_), check_metric(metric)
    blob, most = embedding.encode(vector), clamped("k", k)

    def work(connection: Connection) -> list[model.Hit]:
        standing = model.standing(connection, table)
        if standing is None:
            return []
        embedding.check_dimension(blob, standing.dimension, f"collection {collection!r}")
        if filter_ is None and metric == "cosine":
            matrix = _matrix(engine, connection, table, standing)
            among = None if matrix is None else hot.candidates(matrix, blob, most)
            if among is not None:
                return model.nearest_among(connection, table, blob, most, among)
        return model.nearest(connection, table, blob, most, where, metric)

    found, txid = read(engine, address, work)
    return VectorHits([VectorHit(*hit) for hit in found], txid)


def _matrix(
    engine: Engine, connection: Connection, table: model.Table, standing: model.Standing
) -> hot.Matrix | None:
    """The matrix of this very content of a collection, made when it is searched for the second time."""
    place = (table.collection, standing.generation)
    kept = engine.derived.get(place)
    if isinstance(kept, hot.Matrix):
        return kept
    if kept is None:
        engine.derived.put(place, hot.SearchedOnce())
        return None
    size = model.size_at_most(connection, table)
    if size < hot.MIN_VECTORS or size * standing.dimension * 4 > _LARGEST:
        return None
    vectors = model.all_vectors(connection, table)
    if not vectors:
        return None
    matrix = hot.matrix(vectors)
    engine.derived.put(place, matrix)
    return matrix


def collections(engine: Engine, address: Address) -> tuple[list[VectorCollection], TXID]:
    """The collections, with their dimensions and numbers of vectors; and the position that was read."""
    found, txid = read(engine, address, model.collections)
    return [VectorCollection(*one) for one in found], txid
