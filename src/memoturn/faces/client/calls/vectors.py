"""Vectors in collections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from memoturn.base.names import Address
from memoturn.base.results.vectors import (
    VectorCollection,
    VectorDelete,
    VectorEntry,
    VectorHits,
    VectorUpsert,
)
from memoturn.faces.client import json_of
from memoturn.faces.client.call import Call, as_type, data, field
from memoturn.faces.wire import answers, requests

_upserted = as_type(VectorUpsert)
_entry = as_type(VectorEntry)
_deleted = as_type(VectorDelete)
_hits = as_type(VectorHits)
_collections = field(answers.VectorCollections, "collections")


def upsert(address: Address, collection: str, items: Sequence[Mapping[str, Any]]) -> Call[VectorUpsert]:
    body = requests.UpsertVectors(json_of.items("vectors", items))
    return data("vectors.upsert", address, _upserted, {"collection": collection}, body=body)


def get(address: Address, collection: str, id_: str) -> Call[VectorEntry | None]:
    return data("vectors.get", address, _entry, {"collection": collection, "id": id_}, missing=True)


def delete(address: Address, collection: str, id_: str) -> Call[VectorDelete]:
    return data("vectors.delete", address, _deleted, {"collection": collection, "id": id_})


def search(
    address: Address,
    collection: str,
    vector: Sequence[float],
    k: int,
    filter_: dict[str, Any] | None,
    metric: Literal["cosine", "l2"],
) -> Call[VectorHits]:
    body = requests.SearchVectors(json_of.vector(vector), k, json_of.value("the filter", filter_), metric)
    return data("vectors.search", address, _hits, {"collection": collection}, body=body)


def collections(address: Address) -> Call[list[VectorCollection]]:
    return data("vectors.collections", address, _collections)
