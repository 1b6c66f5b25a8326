"""What differs between two views of a database: first their pages, then the rows of what lies in those that differ.

A table whose pages are the same is never read. Reserved tables are told in the terms of their models, a full-text
index by its content; what else they keep for themselves follows from that, and is not told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from types import MappingProxyType
from typing import Final, NamedTuple

import apsw

from memoturn.base.errors import InvalidRequestError
from memoturn.base.results.diffs import (
    DocsDiff,
    KvDiff,
    MemoriesDiff,
    SchemaChange,
    TableDiff,
    TurnsDiff,
    VectorsDiff,
)
from memoturn.base.txids import PageNo, UnixMs
from memoturn.models import documents, vectors
from memoturn.models.btree import Order, format_of
from memoturn.models.collections import identifier, unescaped
from memoturn.models.diff_rows import Change, Row, Rows, Shown, stream
from memoturn.models.diff_schema import (
    ONE,
    OTHER,
    Fit,
    Item,
    by_rowid,
    can_be_told_apart_alike,
    content_table,
    describe,
    fit,
    index_order,
    is_internal,
    items,
    shadows,
)
from memoturn.models.diff_tally import (
    DocsTally,
    KvTally,
    MemoriesTally,
    Sink,
    TableTally,
    TurnsTally,
    VectorsTally,
)
from memoturn.models.trees import Side, Tree, keys, loose_ends, rows_of_chains, suspects
from memoturn.pages.difference import differing
from memoturn.pages.vfs import ReaderFile, attach, connect
from memoturn.pages.view import Source

_DERIVED: Final = frozenset(("fts5vocab", "fts4aux"))
_SCHEMA_ROOT: Final = PageNo(1)
_AS_KEPT: Final[Shown] = MappingProxyType({})
_JSON: Final[Shown] = {"data": "json({})"}
_COLUMN: Final = re.compile("c([0-9]+)").match
"""Of the content of a full-text index `c0` is the first column, or `c0title`."""


class Content(NamedTuple):
    """What differs, in terms of tables and of the models."""

    pages: int
    schema: list[SchemaChange]
    tables: list[TableDiff]
    kv: list[KvDiff]
    docs: list[DocsDiff]
    vectors: list[VectorsDiff]
    memories: MemoriesDiff | None
    turns: list[TurnsDiff]


class Ours(NamedTuple):
    """How a reserved table is read: what takes its rows, what tells them apart, and what is shown otherwise."""

    sink: Sink
    unique: tuple[str, ...] = ()
    shown: Shown = _AS_KEPT


def compare(
    one: Source,
    other: Source,
    prepare: Callable[[apsw.Connection], None],
    limit: int,
    table: str | None = None,
    look: Callable[[], None] = lambda: None,
) -> Content:
    """What differs, with at most `limit` examples of each table; of one table alone if it is named.

    Raises `InvalidRequestError` if neither view has that table, and what `look` raises, which is called all the time.
    """
    pages = differing(one, other)
    connection = connect(ReaderFile(one))
    with closing(connection):
        # SQLite attaches what has the same encoding, which it knows once it has looked; an empty file may have any.
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        if not one.page_count and other.page_count:
            encoding = format_of(other.page(PageNo(1))).encoding.replace("-le", "le").replace("-be", "be")
            connection.execute(f"PRAGMA encoding='{encoding}'").fetchall()
        attach(connection, ReaderFile(other), OTHER)
        connection.execute("PRAGMA temp_store=MEMORY; PRAGMA query_only=ON; BEGIN").fetchall()
        prepare(connection)
        return _Comparison(connection, one, other, pages, limit, look).run(table)


class _Common(NamedTuple):
    """A table that both views have: its trees, its rows as the first has them, and who takes those that differ."""

    one: Tree
    rows: Rows
    sink: Sink


class _Comparison:
    """One comparison, from the schemas to the rows."""

    def __init__(
        self,
        connection: apsw.Connection,
        one: Source,
        other: Source,
        pages: set[PageNo],
        limit: int,
        look: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._pages = pages
        self._one = Side(one, pages, look)
        self._other = Side(other, pages, look)
        self._whole_trees: list[Tree] = []
        self._limit = limit
        self._items = (items(connection, ONE), items(connection, OTHER))
        self._shadows = (shadows(self._items[0]), shadows(self._items[1]))
        self._tables: dict[str, TableTally] = {}
        # What had expired by then was swept, and what had not was removed; whenever it is asked.
        then = other.time or UnixMs(0)
        self._kv = KvTally(limit, then)
        self._docs: dict[str, DocsTally] = {}
        self._vectors: dict[str, VectorsTally] = {}
        self._memories = MemoriesTally(limit, then)
        self._turns = TurnsTally(limit)

    def run(self, table: str | None) -> Content:
        one, other = self._items
        if table is not None and not any(
            item.type == "table" and name.lower() == table.lower() and not is_internal(name)
            for name, item in (*one.items(), *other.items())
        ):
            raise InvalidRequestError(f"there is no table {table!r} at either position")
        if self._pages:
            self._compare(table)
        tables = [tally.result() for _, tally in sorted(self._tables.items()) if tally.rows]
        return Content(
            len(self._pages),
            list(self._schema(table)),
            tables,
            list(self._kv.results()),
            [diff for _, tally in sorted(self._docs.items()) for diff in tally.results()],
            [diff for _, tally in sorted(self._vectors.items()) for diff in tally.results()],
            self._memories.result(),
            list(self._turns.results()),
        )

    # Schemas.

    def _schema(self, table: str | None) -> Iterator[SchemaChange]:
        one, other = self._items
        hidden = {*self._shadows[0], *self._shadows[1]}
        for name in sorted(one.keys() | other.keys()):
            before, after = one.get(name), other.get(name)
            if is_internal(name) or name in hidden or (table is not None and name.lower() != table.lower()):
                continue
            if before is not None and after is not None and before.type == after.type:
                if before.sql != after.sql:
                    yield SchemaChange(after.type, name, "changed", before.sql, after.sql)
                continue
            if before is not None:
                yield SchemaChange(before.type, name, "removed", before.sql, None)
            if after is not None:
                yield SchemaChange(after.type, name, "added", None, after.sql)

    # Tables.

    def _compare(self, only: str | None) -> None:
        one, other = self._items
        stored: list[tuple[str, str, Ours]] = []  # The table that is read, the one that is told, and how.
        virtual: list[str] = []
        for name in one.keys() | other.keys():
            item = one.get(name) or other[name]
            if item.type != "table" or (only is not None and name.lower() != only.lower()):
                continue
            if name in self._shadows[0] or name in self._shadows[1]:
                continue
            if is_internal(name):
                ours = self._ours(name)
                if ours is not None and only is None:
                    stored.append((name, name, ours))
            elif item.module is None:
                stored.append((name, name, Ours(self._tally(name))))
            elif item.module not in _DERIVED:
                virtual.append(name)
        for name in virtual:
            content = self._content_of(name)
            if content is not None:
                stored.append((content, name, Ours(_Renamed(self._tally(name), self._columns_of(name)))))
        self._compare_stored(stored)
        for name in virtual:
            if self._content_of(name) is None:
                self._compare_virtual(name)

    def _compare_stored(self, stored: list[tuple[str, str, Ours]]) -> None:
        one, other = self._items
        for side in (self._one, self._other):
            if side.view.page_count:
                Tree(side, _SCHEMA_ROOT, None).claim_all()
        common: list[tuple[Item, Item, Ours]] = []
        for name, _, ours in stored:
            before, after = one.get(name), other.get(name)
            if before is None or after is None or not (before.root and after.root):
                if before is not None and before.root:
                    self._whole(ONE, before, ours, gone=True)
                if after is not None and after.root:
                    self._whole(OTHER, after, ours, gone=False)
            else:
                common.append((before, after, ours))
        # What is known to have changed comes first: once no changed page is left, no other table is looked at.
        common.sort(key=lambda table: (table[0].root not in self._pages, table[0].name))
        later: list[tuple[Item, Item, Ours]] = []
        compared: list[_Common] = []
        for before, after, ours in common:
            if self._may_differ(before, after):
                compared += self._table(before, after, ours)
            else:
                later.append((before, after, ours))
        if not loose_ends(self._one, self._other, self._whole_trees):
            return
        for before, after, ours in later:
            compared += self._table(before, after, ours)
        told = {table.one.root for table in compared}
        untold = list(self._untold(told))
        loose = loose_ends(self._one, self._other, self._whole_trees)
        for number, key in rows_of_chains([*(table.one for table in compared), *untold], loose):
            if number < len(compared):
                for change in compared[number].rows.compared([[key]]):
                    compared[number].sink.add(change)

    def _untold(self, told: set[PageNo]) -> Iterator[Tree]:
        """The trees of indexes and of what only follows from others: what differs in them is known from then on."""
        for name, before in self._items[0].items():
            after = self._items[1].get(name)
            if after is None or not (before.root and after.root) or before.root in told:
                continue
            orders: list[Order | None] = []
            for schema, item, side in ((ONE, before, self._one), (OTHER, after, self._other)):
                encoding = side.format.encoding
                if item.type == "table":
                    orders.append(describe(self._connection, schema, item).order(encoding))
                else:
                    orders.append(index_order(self._connection, schema, item, encoding))
            if item.type == "index" and None in orders:
                continue
            trees = Tree(self._one, before.root, orders[0]), Tree(self._other, after.root, orders[1])
            found = suspects(*trees)
            for _ in keys(trees[0], found.one, trees[1], found.other):
                pass
            for _ in keys(trees[1], found.other, trees[0], found.one):
                pass
            if item.type == "table":
                yield trees[0]

    def _may_differ(self, before: Item, after: Item) -> bool:
        astray = (self._one.astray, self._other.astray)
        return before.root != after.root or any(side[kind] for side in astray for kind in side)

    def _table(self, before: Item, after: Item, ours: Ours) -> list[_Common]:
        """Compare a table that both views have; returns it, if its rows can be compared."""
        mine = describe(self._connection, ONE, before, ours.unique)
        theirs = describe(self._connection, OTHER, after, ours.unique)
        how = fit(mine, theirs)
        if not can_be_told_apart_alike(mine, theirs, how):
            if mine.rowid is None or theirs.rowid is None:
                self._whole(ONE, before, ours, gone=True)
                self._whole(OTHER, after, ours, gone=False)
                return []
            mine, theirs = by_rowid(mine), by_rowid(theirs)
        one = Tree(self._one, before.root, mine.order(self._one.format.encoding))
        other = Tree(self._other, after.root, theirs.order(self._other.format.encoding))
        rows = Rows(self._connection, mine, theirs, how, ours.shown)
        found = suspects(one, other)
        for change in rows.compared(keys(one, found.one, other, found.other)):
            ours.sink.add(change)
        back = Rows(self._connection, theirs, mine, how.turned(), ours.shown)
        for change in back.missing(keys(other, found.other, one, found.one)):
            ours.sink.add(change)
        return [_Common(one, rows, ours.sink)]

    def _whole(self, schema: str, item: Item, ours: Ours, gone: bool) -> None:
        """Take all rows of a table that only one of the views has, or has with another key."""
        shape = describe(self._connection, schema, item, ours.unique)
        side = self._one if schema == ONE else self._other
        tree = Tree(side, shape.root, shape.order(side.format.encoding))
        tree.claim_all()
        self._whole_trees.append(tree)
        rows = Rows(self._connection, shape, shape, Fit((), (), ()), ours.shown)
        for taken, change in enumerate(rows.all()):
            if taken == self._limit and isinstance(ours.sink, TableTally):
                ours.sink.rows.count(change.turned().kind if gone else change.kind, rows.count() - taken)
                return
            ours.sink.add(change.turned() if gone else change)

    # Virtual tables.

    def _content_of(self, name: str) -> str | None:
        for there in self._items:
            if name in there and (found := content_table(there[name], there)) is not None:
                return found
        return None

    def _columns_of(self, name: str) -> list[str]:
        schema = OTHER if name in self._items[1] else ONE
        return [
            row[1]
            for row in stream(self._connection, f"PRAGMA {schema}.table_xinfo({identifier(name)})")
            if row[6] == 0
        ]

    def _compare_virtual(self, name: str) -> None:
        """Compare a virtual table that keeps its rows in a way of its own: all of them."""
        mine = [self._rows_of(schema, name) for schema in (ONE, OTHER)]
        tally = self._tally(name)
        before, after = next(mine[0], None), next(mine[1], None)
        while before is not None or after is not None:
            if after is None or (before is not None and before[0] < after[0]):
                assert before is not None
                tally.add(Change({"rowid": before[0]}, before[1], None))
                before = next(mine[0], None)
            elif before is None or after[0] < before[0]:
                tally.add(Change({"rowid": after[0]}, None, after[1]))
                after = next(mine[1], None)
            else:
                if before[1] != after[1]:
                    tally.add(Change({"rowid": after[0]}, before[1], after[1]))
                before, after = next(mine[0], None), next(mine[1], None)

    def _rows_of(self, schema: str, name: str) -> Iterator[tuple[int, Row]]:
        if name not in self._items[0 if schema == ONE else 1]:
            return
        columns = self._columns_of(name)
        terms = ", ".join(["rowid", *map(identifier, columns)])
        for row in stream(
            self._connection, f"SELECT {terms} FROM {schema}.{identifier(name)} ORDER BY rowid"
        ):
            yield row[0], dict(zip(columns, row[1:], strict=True))

    # What takes the rows.

    def _tally(self, name: str) -> TableTally:
        return self._tables.setdefault(name, TableTally(name, self._limit))

    def _ours(self, name: str) -> Ours | None:
        """How a reserved table is told; None for what only follows from others."""
        if name == "__memoturn_kv":
            return Ours(self._kv)
        if name == "__memoturn_memories":
            return Ours(self._memories, ("id",))
        if name == "__memoturn_turns":
            return Ours(self._turns, ("session", "seq", "created_at"))
        if name.startswith(documents.PREFIX):
            collection = unescaped(name[len(documents.PREFIX) :])
            docs = self._docs.setdefault(collection, DocsTally(collection, self._limit))
            return Ours(docs, (), _JSON)
        if name.startswith(vectors.PREFIX):
            collection = unescaped(name[len(vectors.PREFIX) :])
            found = self._vectors.setdefault(collection, VectorsTally(collection, self._limit))
            return Ours(found, ("id",), _JSON)
        return None


class _Renamed:
    """Takes the rows of the table in which a full-text index keeps its content, and passes them on as the index's."""

    def __init__(self, tally: TableTally, columns: list[str]) -> None:
        self._tally = tally
        self._columns = columns

    def add(self, change: Change) -> None:
        key = {"rowid": next(iter(change.key.values()))}
        self._tally.add(Change(key, self._named(change.before), self._named(change.after)))

    def _named(self, row: Row | None) -> Row | None:
        if row is None:
            return None
        numbered = [(_COLUMN(name), value) for name, value in row.items()]
        return {self._columns[int(found[1])]: value for found, value in numbered if found is not None}
