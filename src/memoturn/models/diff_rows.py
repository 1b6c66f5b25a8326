"""The rows of a table that differ between two views, one by one, from the keys of those that may.

Both views are on one connection, `main` and `other`, so that SQLite itself finds the row that goes with another. What
decides is whether the values are equal, and of the same type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import apsw
import msgspec

from memoturn.base.results.diffs import Kind
from memoturn.base.results.rows import Value
from memoturn.models.collections import identifier
from memoturn.models.diff_schema import Fit, Shape
from memoturn.models.guard import trusted
from memoturn.models.sql import explain_on
from memoturn.models.trees import Key

Row = dict[str, Value]
Shown = Mapping[str, str]
"""Columns that are not shown as they are kept: SQL for their values, with `{}` for the column."""

_BATCH: Final = 256


class Change(NamedTuple):
    """A row that differs, before and after; None where it is not there. `key` is what tells it apart."""

    key: Row
    before: Row | None
    after: Row | None

    @property
    def kind(self) -> Kind:
        """What has become of it."""
        return "added" if self.before is None else "removed" if self.after is None else "changed"

    def turned(self) -> Change:
        """What the other way round is."""
        return Change(self.key, self.after, self.before)


class _NotText(bytes):
    """A text that is none, byte by byte."""


class Rows:
    """The rows of one table in one of the views, and those that go with them in the other."""

    def __init__(
        self, connection: apsw.Connection, mine: Shape, theirs: Shape, how: Fit, shown: Shown | None = None
    ) -> None:
        self._connection = connection
        self._mine = mine
        self._theirs = theirs
        self._shown = shown or {}
        self._same = [(_place(mine, a.name), _place(theirs, b.name)) for a, b in how.pairs]
        added, dropped = how.only_other, how.only_one
        self._flags = [self._is_default("b", theirs, column.name, column.default) for column in added]
        self._flags += [self._is_default("a", mine, column.name, column.default) for column in dropped]

    def compared(self, keys: Iterable[Sequence[Key]]) -> Iterator[Change]:
        """The rows of these keys that the other view has not, or has with other values."""
        width = len(self._mine.columns)
        for values in self._look_up(keys, only_missing=False):
            present, rowid, *rest = values
            flags = rest[: len(self._flags)]
            mine, theirs = rest[len(flags) : len(flags) + width], rest[len(flags) + width :]
            if present and all(flags) and all(_equal(mine[a], theirs[b]) for a, b in self._same):
                continue
            before = _row(self._mine, mine)
            yield Change(self._key(before, rowid), before, _row(self._theirs, theirs) if present else None)

    def missing(self, keys: Iterable[Sequence[Key]]) -> Iterator[Change]:
        """The rows of these keys that the other view has not, as they are here: as if they had been added."""
        width = len(self._mine.columns)
        for values in self._look_up(keys, only_missing=True):
            row = _row(self._mine, values[2 : 2 + width])
            yield Change(self._key(row, values[1]), None, row)

    def all(self) -> Iterator[Change]:
        """Every row, as if it had been added."""
        columns = self._columns("a", self._mine)
        rowid = f"a.{self._mine.rowid}" if self._mine.rowid else "NULL"
        tail = f"FROM {self._mine.source} AS a"
        done = 0
        try:
            for values in stream(self._connection, f"SELECT {', '.join([rowid, *columns])} {tail}"):
                row = _row(self._mine, values[1:])
                yield Change(self._key(row, values[0]), None, row)
                done += 1
        except UnicodeDecodeError:
            typed = stream(self._connection, f"SELECT {_typed([rowid, *columns])} {tail}")
            for values in islice(typed, done, None):
                row = _row(self._mine, tuple(map(_undecoded, values[2::2], values[3::2])))
                yield Change(self._key(row, values[1]), None, row)

    def count(self) -> int:
        """How many rows there are."""
        with trusted(self._connection):
            return int(self._connection.execute(f"SELECT count(*) FROM {self._mine.source}").get)

    # Statements.

    def _look_up(self, keys: Iterable[Sequence[Key]], only_missing: bool) -> Iterator[tuple[Any, ...]]:
        tail = f" LEFT JOIN {self._theirs.source} AS b ON {self._goes_with()}"
        where = f" AND NOT {self._present()}" if only_missing else ""
        columns = self._columns("a", self._mine)
        if only_missing:
            head = ["0", self._rowid(), *columns]
        else:
            head = [self._present(), self._rowid(), *self._flags, *columns, *self._columns("b", self._theirs)]
        for some in keys:
            if self._mine.rowid is not None:
                sql = (
                    f"FROM json_each(?) AS k CROSS JOIN {self._mine.source} AS a ON a.{self._mine.rowid} = k.value"
                    f"{tail} WHERE true{where}"
                )
                yield from self._fetch(head, sql, (msgspec.json.encode(some).decode(),))
                continue
            for key in some:
                bound = [_bound(name, *part) for name, part in zip(self._mine.key, key, strict=True)]  # type: ignore[arg-type]
                place = " AND ".join(
                    f"{sql} COLLATE {collation}"
                    for (sql, _), collation in zip(bound, self._mine.collations, strict=True)
                )
                sql = f"FROM {self._mine.source} AS a{tail} WHERE {place}{where}"
                yield from self._fetch(head, sql, tuple(value for _, value in bound))

    def _fetch(self, head: list[str], sql: str, params: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return _run(self._connection, f"SELECT {', '.join(head)} {sql}", params)
        except UnicodeDecodeError:
            rows = _run(self._connection, f"SELECT {_typed(head)} {sql}", params)
            return [tuple(map(_undecoded, values[::2], values[1::2])) for values in rows]

    def _columns(self, alias: str, shape: Shape) -> list[str]:
        terms = [f"{alias}.{identifier(column.name)}" for column in shape.columns]
        return [
            self._shown.get(column.name, "{}").replace("{}", term)
            for column, term in zip(shape.columns, terms, strict=True)
        ]

    def _goes_with(self) -> str:
        mine, theirs = self._mine, self._theirs
        if not mine.key:
            return f"b.{theirs.rowid} = a.{mine.rowid}"
        alias = "b" if mine.rowid is None else "c"
        pairs = [
            (f"a.{identifier(a)}", f"{alias}.{identifier(b)}")
            for a, b in zip(mine.key, theirs.key, strict=True)
        ]
        same = " AND ".join(
            f"{b} = {a} COLLATE {collation}" for (a, b), collation in zip(pairs, mine.collations, strict=True)
        )
        if mine.rowid is None:
            return same
        # A primary key may hold NULLs, which equal nothing, in a table that has rowids. An OR would scan the table.
        null = " OR ".join(f"{a} IS NULL" for a, _ in pairs)
        null_too = " OR ".join(f"{b} IS NULL" for _, b in pairs)
        found = f"SELECT c.{theirs.rowid} FROM {theirs.source} AS c WHERE"
        return (
            f"b.{theirs.rowid} = CASE WHEN {null} THEN ({found} c.{theirs.rowid} = a.{mine.rowid} AND ({null_too})) "
            f"ELSE ({found} {same}) END"
        )

    def _present(self) -> str:
        # A primary key holds no NULL in a table WITHOUT ROWID.
        return f"(b.{self._theirs.rowid or identifier(self._theirs.key[0])} IS NOT NULL)"

    def _rowid(self) -> str:
        return f"a.{self._mine.rowid}" if self._mine.rowid else "NULL"

    def _is_default(self, alias: str, shape: Shape, name: str, default: str | None) -> str:
        """Whether a column that only one view has is as it is in rows from before there was such a column."""
        column = f"{alias}.{identifier(name)}"
        missing = f"{alias}.{shape.rowid or identifier(shape.key[0])} IS NULL OR"
        term = f"({missing} {column} IS ({default or 'NULL'}))"
        try:
            with trusted(self._connection):
                self._connection.execute(f"SELECT {term} FROM {shape.source} AS {alias} LIMIT 0").fetchall()
        except (apsw.Error, UnicodeDecodeError):
            return f"({missing} {column} IS NULL)"
        return term

    def _key(self, row: Row, rowid: int | None) -> Row:
        if not self._mine.key or any(row[name] is None for name in self._mine.key):
            return {self._mine.alias or "rowid": rowid}
        return {name: row[name] for name in self._mine.key}


def stream(connection: apsw.Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement, some at a time: each time is a piece of work for the connection's budget."""
    cursor: Any = None
    while True:
        with trusted(connection):
            try:
                cursor = connection.execute(sql) if cursor is None else cursor
                rows = list(islice(cursor, _BATCH))
            except apsw.Error as error:
                raise explain_on(connection, error) from error
        yield from rows
        if len(rows) < _BATCH:
            return


def _run(connection: apsw.Connection, sql: str, params: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    with trusted(connection):
        try:
            return connection.execute(sql, params).fetchall()
        except apsw.Error as error:
            raise explain_on(connection, error) from error


def _bound(name: str, kind: str, value: Any) -> tuple[str, Any]:
    """A part of a key as a statement takes it. A text goes as its bytes, which need not be Unicode."""
    place = "+CAST(? AS TEXT)" if kind == "text" else "?"
    return f"a.{identifier(name)} = {place}", value


def _typed(terms: list[str]) -> str:
    """The same, each after its type, and texts as their bytes: for when one is not Unicode."""
    return ", ".join(
        f"typeof({term}), CASE typeof({term}) WHEN 'text' THEN CAST({term} AS BLOB) ELSE {term} END"
        for term in terms
    )


def _undecoded(kind: str, value: Any) -> Any:
    if kind != "text":
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _NotText(value)


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _place(shape: Shape, name: str) -> int:
    return next(n for n, column in enumerate(shape.columns) if column.name == name)


def _row(shape: Shape, values: Sequence[Any]) -> Row:
    return {
        column.name: bytes(value) if isinstance(value, _NotText) else value
        for column, value in zip(shape.columns, values, strict=True)
    }
