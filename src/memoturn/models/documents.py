"""Documents: a table for each collection, of ids and JSONB, and indexes on what is at a path.

A table of its own, and not one for all, because an index then holds the documents of its collection only, and SQLite
needs no statistics to prefer it. `_id` is the key of the table and not kept in the JSON a second time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

from memoturn.base import json_text
from memoturn.base.errors import InvalidRequestError
from memoturn.base.settings import MIB
from memoturn.models import paths, updates
from memoturn.models.collections import check_collection, escaped, identifier, names_after
from memoturn.models.filters import Condition
from memoturn.models.reserved import Connection, amend, ask, ask_trusted, tell, transact
from memoturn.models.stored_json import given, kept
from memoturn.models.updates import Change

PREFIX: Final = "__memoturn_docs_"
MAX_DOCUMENT: Final = 24 * MIB
MAX_ID: Final = 512
MAX_INDEXES: Final = 64


class Table(NamedTuple):
    """The table of one collection, and the statements on it that are always the same."""

    name: str
    schema: str
    insert: str
    get: str
    replace: str


class TakenError(InvalidRequestError):
    """There is a document of that `_id` already."""


def table_of(collection: object) -> Table:
    """The table of a collection, there or not. Raises `InvalidRequestError` for what cannot be its name."""
    return _table_of(collection) if type(collection) is str else _table_of(check_collection(collection))


@lru_cache(1024)
def _table_of(collection: str) -> Table:
    name = PREFIX + escaped(check_collection(collection))
    table = identifier(name)
    return Table(
        name,
        f"CREATE TABLE IF NOT EXISTS {table} (id TEXT NOT NULL PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID",
        f"INSERT INTO {table} (id, data) VALUES (?, jsonb(?)) ON CONFLICT DO NOTHING",
        f"SELECT id, json(data) FROM {table} WHERE id = ?",
        f"UPDATE {table} SET data = jsonb(?) WHERE id = ?",
    )


def check_id(id_: object) -> str:
    """`id_` itself, if a document may have it. Raises `InvalidRequestError`."""
    if type(id_) is not str or not id_ or len(json_text.encode("_id", id_)) - 2 > MAX_ID:
        raise InvalidRequestError(f"an _id is a text of 1 to {MAX_ID} bytes, not {json_text.shown(id_)}")
    return id_


def encode(document: object, new_id: str) -> tuple[str, str]:
    """The id of a document, which is `new_id` if it has none, and the rest of it as JSON.

    Raises `InvalidRequestError` and `PayloadTooLargeError`.
    """
    if type(document) is dict and "_id" in document:
        new_id = check_id(document["_id"])
        document = {name: value for name, value in document.items() if name != "_id"}
    return new_id, kept("a document", document, MAX_DOCUMENT)


def decode(id_: str, text: str) -> dict[str, Any]:
    """A document as it was given, its id first."""
    return {"_id": id_, **given(text)}


# Reading.


def get(connection: Connection, table: Table, id_: str) -> dict[str, Any] | None:
    """The document of an id."""
    for row in ask(connection, table.get, (id_,)):
        return decode(*row)
    return None


def find(
    connection: Connection, table: Table, where: Condition, order: str, limit: int, skip: int
) -> list[dict[str, Any]]:
    """The documents that fit, in order."""
    rows = ask_trusted(connection, _select(table, where, order), (*where.params, limit, skip))
    return [decode(id_, text) for id_, text in rows]


def count(connection: Connection, table: Table, where: Condition) -> int:
    """How many documents fit."""
    sql = f"SELECT count(*) FROM {identifier(table.name)} WHERE {where.sql}"
    return sum(n for (n,) in ask_trusted(connection, sql, where.params))


def plan(connection: Connection, table: Table, where: Condition, order: str) -> list[str]:
    """How SQLite would find them, a line for each step; nothing if there is no such collection."""
    sql = "EXPLAIN QUERY PLAN " + _select(table, where, order)
    return [row[3] for row in ask(connection, sql, (*where.params, 1, 0))]


def indexes(connection: Connection, table: Table) -> list[str]:
    """The paths that are indexed."""
    return names_after(connection, "index", _index_name(table, ""))


def indexes_in(plan: list[str], table: Table, known: list[str]) -> list[str]:
    """Which of the collection's indexes a plan uses; `_id` is the table's own."""
    lines = [line.partition(" USING INDEX ")[2] for line in plan]
    names = [(path, _index_name(table, escaped(path))) for path in known]
    used = [
        path for path, name in names if any(line == name or line.startswith(f"{name} (") for line in lines)
    ]
    return used + (["_id"] if any(" USING PRIMARY KEY " in line for line in plan) else [])


def collections(connection: Connection) -> list[str]:
    """The collections that there are."""
    return names_after(connection, "table", PREFIX)


def _select(table: Table, where: Condition, order: str) -> str:
    return f"SELECT id, json(data) FROM {identifier(table.name)} WHERE {where.sql} ORDER BY {order} LIMIT ? OFFSET ?"


# Writing. Each is one transaction.


def insert(connection: Connection, table: Table, encoded: list[tuple[str, str]]) -> None:
    """Add documents, all or none. Raises `TakenError`, whose argument is the id."""
    if len(encoded) == 1:
        if not tell(connection, table.schema, table.insert, encoded[0]):
            raise TakenError(encoded[0][0])
        return

    def work() -> None:
        for each in encoded:
            connection.execute(table.insert, each)
            if not connection.changes():
                raise TakenError(each[0])

    transact(connection, table.schema, work)


def update(connection: Connection, table: Table, where: Condition, changes: list[Change]) -> tuple[int, int]:
    """Change every document that fits; returns how many did, and how many are not what they were.

    Raises `InvalidRequestError` if one of them cannot be changed so, and then changes none.
    """
    sql = f"SELECT id, json(data) FROM {identifier(table.name)} WHERE {where.sql}"
    found = ask_trusted(connection, sql, where.params)
    changed = []
    for id_, before in found:
        document = given(before)
        try:
            updates.apply(document, changes)
            after = kept("the document", document, MAX_DOCUMENT)
        except InvalidRequestError as error:
            error.args = (f"document {id_!r}: {error}; nothing was changed",)
            raise
        if after != before:
            changed.append((after, id_))

    def work() -> None:
        for each in changed:
            connection.execute(table.replace, each)

    if changed:
        transact(connection, None, work)
    return len(found), len(changed)


def delete(connection: Connection, table: Table, where: Condition) -> int:
    """Remove every document that fits; returns how many did."""
    return amend(connection, f"DELETE FROM {identifier(table.name)} WHERE {where.sql}", where.params)


def create_index(connection: Connection, table: Table, path: str) -> bool:
    """Index what is at a path, from now on and of all that is there; returns whether it was not already.

    Raises `InvalidRequestError`.
    """
    known = indexes(connection, table)
    if path in known:
        return False
    if len(known) >= MAX_INDEXES:
        raise InvalidRequestError(f"a collection may have {MAX_INDEXES} indexes; drop one first")
    name = identifier(_index_name(table, escaped(path)))
    sql = f"CREATE INDEX {name} ON {identifier(table.name)} ({paths.parse(path).value})"
    transact(connection, None, lambda: [connection.execute(text) for text in (table.schema, sql)])
    return True


def drop_index(connection: Connection, table: Table, path: str) -> bool:
    """Forget an index; returns whether there was one."""
    if path not in indexes(connection, table):
        return False
    name = identifier(_index_name(table, escaped(path)))
    transact(connection, None, lambda: connection.execute(f"DROP INDEX {name}"))
    return True


def _index_name(table: Table, escaped_path: str) -> str:
    return f"{table.name}/{escaped_path}"
