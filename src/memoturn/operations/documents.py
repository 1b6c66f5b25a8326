"""Documents: insert, find, update, delete, and the indexes of a collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from memoturn.base import json_text
from memoturn.base.errors import AlreadyExistsError, InvalidRequestError
from memoturn.base.names import Address
from memoturn.base.results.documents import DocDelete, DocExplain, DocIndex, DocInsert, Documents, DocUpdate
from memoturn.base.txids import TXID
from memoturn.models import documents as model
from memoturn.models import updates
from memoturn.models.filters import compile_filter, compile_sort
from memoturn.models.paths import parse
from memoturn.node.engine import Engine
from memoturn.operations.positions import writable
from memoturn.operations.reading import clamped, read

MAX_BATCH: Final = 10_000


def insert(
    engine: Engine, address: Address, collection: str, documents: dict[str, Any] | Sequence[dict[str, Any]]
) -> DocInsert:
    """Add one document or several, all or none; those without `_id` are given one.

    Raises `AlreadyExistsError` if an `_id` is taken, `InvalidRequestError` and `PayloadTooLargeError`.
    """
    table = model.table_of(collection)
    many = [documents] if isinstance(documents, dict) else documents
    if type(many) not in (list, tuple) or not 1 <= len(many) <= MAX_BATCH:
        raise InvalidRequestError(
            f"give a document, which is a dict, or a list of 1 to {MAX_BATCH:,}, not {json_text.shown(documents)}"
        )
    now = engine.clock.now_ms()
    encoded = [model.encode(document, engine.ids.ulid(now)) for document in many]
    try:
        _, txid = writable(engine, address).write(lambda connection: model.insert(connection, table, encoded))
    except model.TakenError as taken:
        raise AlreadyExistsError(
            f"collection {collection!r} has a document with _id {taken.args[0]!r} already; nothing was inserted"
        ) from None
    return DocInsert([id_ for id_, _ in encoded], txid)


def get(engine: Engine, address: Address, collection: str, id_: str) -> tuple[dict[str, Any] | None, TXID]:
    """The document of an id, or None; and the position that was read."""
    table, id_ = model.table_of(collection), model.check_id(id_)
    return read(engine, address, lambda connection: model.get(connection, table, id_))


def find(
    engine: Engine,
    address: Address,
    collection: str,
    filter_: dict[str, Any] | None = None,
    sort: dict[str, int] | None = None,
    limit: int = 100,
    skip: int = 0,
) -> Documents:
    """The documents that fit a filter, at most `limit` of them. Raises `InvalidRequestError`."""
    table, where, order = model.table_of(collection), compile_filter(filter_), compile_sort(sort)
    most = clamped("limit", limit)
    if type(skip) is not int or not 0 <= skip < 1 << 53:
        raise InvalidRequestError(f"skip {json_text.shown(skip)} is no whole number from 0 up")
    found, txid = read(
        engine, address, lambda connection: model.find(connection, table, where, order, most + 1, skip)
    )
    return Documents(found[:most], len(found) > most, txid)


def count(
    engine: Engine, address: Address, collection: str, filter_: dict[str, Any] | None = None
) -> tuple[int, TXID]:
    """How many documents fit a filter; and the position that was read."""
    table, where = model.table_of(collection), compile_filter(filter_)
    return read(engine, address, lambda connection: model.count(connection, table, where))


def update(
    engine: Engine, address: Address, collection: str, filter_: dict[str, Any] | None, update: dict[str, Any]
) -> DocUpdate:
    """Change every document that fits, all or none. Raises `InvalidRequestError` and `PayloadTooLargeError`."""
    table, where, changes = model.table_of(collection), compile_filter(filter_), updates.parse_update(update)
    (matched, modified), txid = writable(engine, address).write(
        lambda connection: model.update(connection, table, where, changes)
    )
    return DocUpdate(matched, modified, txid)


def delete(engine: Engine, address: Address, collection: str, filter_: dict[str, Any] | None) -> DocDelete:
    """Remove every document that fits; an empty filter fits all. Raises `InvalidRequestError`."""
    table, where = model.table_of(collection), compile_filter(filter_)
    if filter_ is None:
        raise InvalidRequestError("say which documents to delete; the filter {} fits all of them")
    deleted, txid = writable(engine, address).write(lambda connection: model.delete(connection, table, where))
    return DocDelete(deleted, txid)


def create_index(engine: Engine, address: Address, collection: str, path: str) -> DocIndex:
    """Index a path of a collection; if it is already, nothing happens. Raises `InvalidRequestError`."""
    table, path = model.table_of(collection), _indexable(path)
    created, txid = writable(engine, address).write(
        lambda connection: model.create_index(connection, table, path)
    )
    return DocIndex(path, created, txid)


def drop_index(engine: Engine, address: Address, collection: str, path: str) -> DocIndex:
    """Forget an index of a collection; `changed` says whether there was one."""
    table, path = model.table_of(collection), _indexable(path)
    dropped, txid = writable(engine, address).write(
        lambda connection: model.drop_index(connection, table, path)
    )
    return DocIndex(path, dropped, txid)


def indexes(engine: Engine, address: Address, collection: str) -> tuple[list[str], TXID]:
    """The paths of a collection that are indexed; and the position that was read."""
    table = model.table_of(collection)
    return read(engine, address, lambda connection: model.indexes(connection, table))


def explain(
    engine: Engine,
    address: Address,
    collection: str,
    filter_: dict[str, Any] | None = None,
    sort: dict[str, int] | None = None,
) -> DocExplain:
    """How `find` would find: which indexes it uses, and SQLite's plan."""
    table, where, order = model.table_of(collection), compile_filter(filter_), compile_sort(sort)
    (plan, known), txid = read(
        engine,
        address,
        lambda connection: (model.plan(connection, table, where, order), model.indexes(connection, table)),
    )
    return DocExplain(model.indexes_in(plan, table, known), plan, txid)


def collections(engine: Engine, address: Address) -> tuple[list[str], TXID]:
    """The names of the collections; and the position that was read."""
    return read(engine, address, model.collections)


def _indexable(path: str) -> str:
    if path == "_id":
        raise InvalidRequestError("_id is what a collection is ordered by, and needs no index")
    parse(path)
    return path
