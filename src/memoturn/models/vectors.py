"""Vectors: a table for each collection, of ids, 32-bit floats and JSON, searched exactly.

    __memoturn_vectors               collection, dimension, generation
    __memoturn_vectors_<collection>  n, id, data (JSONB), vector

The generation is drawn anew with each change of the collection, so it stands for one content of it, on whatever
branch and at whatever position: what is derived from a content may be kept by its generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from memoturn.base import json_text
from memoturn.base.errors import InvalidRequestError
from memoturn.models import embedding, stored_json
from memoturn.models.collections import check_collection, escaped, identifier
from memoturn.models.distances import FUNCTIONS, Metric, ask_distances
from memoturn.models.filters import Condition
from memoturn.models.reserved import Connection, Rows, ask, transact

PREFIX: Final = "__memoturn_vectors_"
MAX_META: Final = 1 << 20
MAX_ID: Final = 512
GENERATION_BITS: Final = 62

_REGISTRY: Final = """
CREATE TABLE IF NOT EXISTS __memoturn_vectors (
  collection TEXT NOT NULL PRIMARY KEY, dimension INTEGER NOT NULL, generation INTEGER NOT NULL
) WITHOUT ROWID
"""
_LOOK: Final = "SELECT dimension, generation FROM __memoturn_vectors WHERE collection = ?"
_LIST: Final = "SELECT collection, dimension FROM __memoturn_vectors ORDER BY collection"
_BEGIN: Final = "INSERT INTO __memoturn_vectors (collection, dimension, generation) VALUES (?1, ?2, ?3)"
_CHANGED: Final = "UPDATE __memoturn_vectors SET generation = ?2 WHERE collection = ?1"


class Table(NamedTuple):
    """The table of one collection, and the statements on it that are always the same."""

    collection: str
    schema: str
    upsert: str
    get: str
    delete: str
    size: str
    last: str
    all: str
    nearest: str


class Item(NamedTuple):
    """A vector to keep, as it is kept: its metadata as JSON text."""

    id: str
    meta: str | None
    vector: bytes


class Standing(NamedTuple):
    """What all vectors of a collection have in common, and which content of it this is."""

    dimension: int
    generation: int


class Hit(NamedTuple):
    """A vector that was found."""

    id: str
    distance: float
    meta: dict[str, Any] | None


def table_of(collection: object) -> Table:
    """The table of a collection, there or not. Raises `InvalidRequestError` for what cannot be its name."""
    return _table_of(collection) if type(collection) is str else _table_of(check_collection(collection))


@lru_cache(1024)
def _table_of(collection: str) -> Table:
    table = identifier(PREFIX + escaped(check_collection(collection)))
    return Table(
        collection,
        f"CREATE TABLE IF NOT EXISTS {table} "
        "(n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, data BLOB, vector BLOB NOT NULL)",
        f"INSERT INTO {table} (id, data, vector) VALUES (?1, jsonb(?2), ?3) "
        "ON CONFLICT (id) DO UPDATE SET data = jsonb(?2), vector = ?3",
        f"SELECT id, vector, json(data) FROM {table} WHERE id = ?",
        f"DELETE FROM {table} WHERE id = ?",
        f"SELECT count(*) FROM {table}",
        f"SELECT max(n) FROM {table}",
        f"SELECT n, vector FROM {table} ORDER BY n",
        "SELECT f.id, f.distance, json(t.data) FROM "
        f"(SELECT n, id, {{distance}}(vector, ?) AS distance FROM {table} WHERE {{where}} "
        f"ORDER BY distance, id LIMIT ?) f JOIN {table} t ON t.n = f.n ORDER BY f.distance, f.id",
    )


def check_id(id_: object) -> str:
    """`id_` itself, if a vector may have it. Raises `InvalidRequestError`."""
    if type(id_) is not str or not id_ or len(json_text.encode("an id", id_)) - 2 > MAX_ID:
        raise InvalidRequestError(
            f"the id of a vector is a text of 1 to {MAX_ID} bytes, not {json_text.shown(id_)}"
        )
    return id_


def item(id_: object, vector: Any, meta: object = None) -> Item:
    """A vector to keep. Raises `InvalidRequestError` and `PayloadTooLargeError`."""
    text = None if meta is None else stored_json.kept("the metadata", meta, MAX_META)
    return Item(check_id(id_), text, embedding.encode(vector))


# Reading.


def standing(connection: Connection, table: Table) -> Standing | None:
    """Where a collection stands; None if there is none."""
    for row in ask(connection, _LOOK, (table.collection,)):
        return Standing(*row)
    return None


def get(connection: Connection, table: Table, id_: str) -> tuple[list[float], dict[str, Any] | None] | None:
    """A vector and its metadata."""
    for _, vector, meta in ask(connection, table.get, (id_,)):
        return embedding.decode(vector), _meta(meta)
    return None


def nearest(
    connection: Connection, table: Table, vector: bytes, k: int, where: Condition, metric: Metric
) -> list[Hit]:
    """The nearest of the vectors that fit, the nearest first; of equals the one whose id comes first."""
    sql = table.nearest.format(distance=FUNCTIONS[metric], where=where.sql)
    rows = ask_distances(connection, sql, (vector, *where.params, k))
    return [Hit(id_, distance, _meta(meta)) for id_, distance, meta in rows]


def nearest_among(
    connection: Connection, table: Table, vector: bytes, k: int, numbers: list[int]
) -> list[Hit]:
    """The nearest by their angle of some vectors, which are given by their `n`."""
    among = Condition("n IN (SELECT value FROM json_each(?))", [json_text.encode("n", numbers).decode()])
    return nearest(connection, table, vector, k, among, "cosine")


def size_at_most(connection: Connection, table: Table) -> int:
    """A number of vectors that the collection does not exceed, known without counting them."""
    return sum(last or 0 for (last,) in ask(connection, table.last))


def all_vectors(connection: Connection, table: Table) -> list[tuple[int, bytes]]:
    """Every vector with its `n`."""
    return ask(connection, table.all)


def collections(connection: Connection) -> list[tuple[str, int, int]]:
    """Each collection with its dimension and how many vectors it has."""
    return [
        (name, dimension, ask(connection, table_of(name).size)[0][0])
        for name, dimension in ask(connection, _LIST)
    ]


def _meta(text: str | None) -> dict[str, Any] | None:
    return None if text is None else stored_json.given(text)


# Writing. Each is one transaction.


def upsert(connection: Connection, table: Table, items: Sequence[Item], generation: int) -> None:
    """Keep vectors, each in place of the one of its id. Raises `InvalidRequestError` for a wrong dimension."""

    def work() -> None:
        execute = connection.execute
        rows: Rows = execute(_LOOK, (table.collection,)).fetchall()
        dimension = rows[0][0] if rows else embedding.dimension(items[0].vector)
        for each in items:
            embedding.check_dimension(each.vector, dimension, f"collection {table.collection!r}")
        if rows:
            execute(_CHANGED, (table.collection, generation))
        else:
            execute(table.schema)
            execute(_BEGIN, (table.collection, dimension, generation))
        for each in items:
            execute(table.upsert, each)

    transact(connection, _REGISTRY, work)


def delete(connection: Connection, table: Table, id_: str, generation: int) -> bool:
    """Remove a vector; returns whether there was one."""
    if not ask(connection, table.get, (id_,)):
        return False

    def work() -> None:
        connection.execute(table.delete, (id_,))
        connection.execute(_CHANGED, (table.collection, generation))

    transact(connection, None, work)
    return True
