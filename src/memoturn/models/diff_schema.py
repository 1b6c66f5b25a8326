"""What stands in the schemas of two views, and how a table of one goes together with that of the other.

Rows are told apart by their primary key, or by their rowid where there is none. They are compared in what is stored
of them: a generated column is not looked at, as it follows from the others. Columns go together by name; those that
are left over go together by their place, as a renaming leaves them.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import apsw

from memoturn.base.errors import InvalidRequestError
from memoturn.base.txids import PageNo
from memoturn.models.allowed import is_reserved, is_shadow_name
from memoturn.models.btree import Order, has_collation
from memoturn.models.collections import identifier
from memoturn.models.guard import trusted

ONE: Final = "main"
OTHER: Final = "other"
_ROWIDS: Final = ("rowid", "_rowid_", "oid")
_MODULE: Final = re.compile(
    r"\s*CREATE\s+VIRTUAL\s+TABLE\b.*?\bUSING\s+(\w+)", re.IGNORECASE | re.DOTALL
).match
_NO_CONTENT: Final = re.compile(r"\bcontent\s*=\s*(?:''|\"\")", re.IGNORECASE).search
_FULL_TEXT: Final = ("fts3", "fts4", "fts5")


class Item(NamedTuple):
    """A table, an index, a view or a trigger."""

    type: str
    name: str
    root: PageNo
    sql: str | None

    @property
    def module(self) -> str | None:
        """What a virtual table is made by; None for anything else."""
        found = _MODULE(self.sql or "") if self.type == "table" and not self.root else None
        return found[1].lower() if found else None


class Column(NamedTuple):
    """A column that is stored. `place` counts all columns of the table."""

    name: str
    place: int
    default: str | None
    is_generated: bool


class Shape(NamedTuple):
    """A table in one of the views. `key` is empty if rows are told apart by their rowid.

    `rowid` is SQL for it, and None in a table WITHOUT ROWID; `alias` is the column that is the rowid, if one is.
    """

    schema: str
    name: str
    root: PageNo
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    collations: tuple[str, ...]
    descending: tuple[bool, ...]
    rowid: str | None
    alias: str | None

    @property
    def source(self) -> str:
        """The table as SQL has it."""
        return f"{self.schema}.{identifier(self.name)}"

    def order(self, encoding: str) -> Order | None:
        """How its tree is sorted; None for a tree of rowids."""
        return None if self.rowid else Order(self.collations, self.descending, encoding)


class Fit(NamedTuple):
    """How the columns of two shapes go together: the pairs, and what only one of them has."""

    pairs: tuple[tuple[Column, Column], ...]
    only_one: tuple[Column, ...]
    only_other: tuple[Column, ...]

    def turned(self) -> Fit:
        """The same, seen from the other side."""
        return Fit(tuple((b, a) for a, b in self.pairs), self.only_other, self.only_one)


def items(connection: apsw.Connection, schema: str) -> dict[str, Item]:
    """What the schema of a view holds, by name."""
    with trusted(connection):
        rows: list[Any] = connection.execute(
            f"SELECT type, name, rootpage, sql FROM {schema}.sqlite_schema"
        ).fetchall()
    return {row[1]: Item(*row) for row in rows}


def index_order(connection: apsw.Connection, schema: str, item: Item, encoding: str) -> Order | None:
    """How the tree of an index is sorted; None if that is not known here."""
    with trusted(connection):
        parts: list[Any] = connection.execute(
            f"PRAGMA {schema}.index_xinfo({identifier(item.name)})"
        ).fetchall()
    collations = tuple(str(part[4]).upper() for part in parts)
    if not all(map(has_collation, collations)):
        return None
    return Order(collations, tuple(bool(part[3]) for part in parts), encoding)


def shadows(there: dict[str, Item]) -> dict[str, str]:
    """The tables in which virtual ones keep their content, and whose they are."""
    virtual = {name.lower(): name for name, item in there.items() if item.module}
    found = {}
    for name, item in there.items():
        match = is_shadow_name(name)
        if match is not None and item.root and match[1].lower() in virtual:
            found[name] = virtual[match[1].lower()]
    return found


def content_table(item: Item, there: dict[str, Item]) -> str | None:
    """Of a full-text index, the table that has a row for each of its own; None if there is none."""
    if item.module not in _FULL_TEXT:
        return None
    lower = {name.lower(): name for name in there}
    content = lower.get(f"{item.name}_content".lower())
    if content is None and _NO_CONTENT(item.sql or ""):
        return lower.get(f"{item.name}_docsize".lower())
    return content


def describe(connection: apsw.Connection, schema: str, item: Item, unique: tuple[str, ...] = ()) -> Shape:
    """A table with its columns and its key; `unique` names columns that are to be taken for the key."""
    name = identifier(item.name)
    with trusted(connection):
        rows: list[Any] = connection.execute(f"PRAGMA {schema}.table_xinfo({name})").fetchall()
        indexes: list[Any] = connection.execute(f"PRAGMA {schema}.index_list({name})").fetchall()
        primary = [
            connection.execute(f"PRAGMA {schema}.index_xinfo({identifier(index)})").fetchall()
            for _, index, _, origin, *_ in indexes
            if origin == "pk"
        ]
    columns = tuple(
        Column(column, place, default, hidden == 3)
        for place, column, _, _, default, _, hidden in rows
        if hidden in (0, 3)
    )
    parts: list[tuple[Any, ...]] = primary[0] if primary else []
    key = [part for part in parts if part[5]]
    without_rowid = bool(parts) and all(part[1] != -1 for part in parts)
    taken = {str(row[1]).lower() for row in rows}
    rowid = alias = None
    if not without_rowid:
        alias = next((str(row[1]) for row in rows if row[5]), None) if not primary else None
        names = [name for name in _ROWIDS if name not in taken] if alias is None else [alias]
        if not names:
            raise InvalidRequestError(f"the rows of {item.name} cannot be told apart: it hides their rowid")
        rowid = identifier(names[0])
    shape = Shape(schema, item.name, item.root, columns, (), (), (), rowid, alias)
    if unique:
        count = len(unique)
        return shape._replace(key=unique, collations=("BINARY",) * count, descending=(False,) * count)
    return shape._replace(
        key=tuple(part[2] for part in key),
        collations=tuple(part[4].upper() for part in key),
        descending=tuple(bool(part[3]) for part in key),
    )


def fit(one: Shape, other: Shape) -> Fit:
    """Pair the columns, the generated ones apart, which follow from the others."""
    mine = [column for column in one.columns if not column.is_generated]
    theirs = [column for column in other.columns if not column.is_generated]
    named = {column.name.lower(): column for column in theirs}
    pairs = [(column, named.pop(column.name.lower())) for column in mine if column.name.lower() in named]
    paired = {column for column, _ in pairs}
    placed = {column.place: column for column in named.values()}
    for column in mine:
        if column not in paired and column.place in placed:
            pairs.append((column, placed.pop(column.place)))
            paired.add(column)
    return Fit(tuple(pairs), tuple(column for column in mine if column not in paired), tuple(placed.values()))


def can_be_told_apart_alike(one: Shape, other: Shape, how: Fit) -> bool:
    """Whether the key of one is the key of the other, so that their rows can be compared."""
    renamed = {a.name.lower(): b.name.lower() for a, b in how.pairs}
    return (
        (one.rowid is None) == (other.rowid is None)
        and [renamed.get(name.lower()) for name in one.key] == [name.lower() for name in other.key]
        and one.collations == other.collations
        and all(map(has_collation, one.collations))
    )


def by_rowid(shape: Shape) -> Shape:
    """The table with its rows told apart by their rowid, although it has another key."""
    return shape._replace(key=(), collations=(), descending=())


def is_internal(name: str) -> bool:
    """Whether something holds one of our models, or what SQLite keeps for itself."""
    return is_reserved(name) or name.startswith("sqlite_")
