"""Diffs against a comparison in plain Python, over random statements on two branches."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memoturn.base.errors import MemoturnError
from memoturn.base.names import parse_address
from memoturn.base.results.diffs import Diff
from memoturn.faces.embedded.client import Database, Memoturn
from memoturn.operations.diff import diff
from tests.support import branch_of, plain_connection

_SCHEMA = {
    "t": "CREATE TABLE t(id INTEGER PRIMARY KEY, v, w, len INT AS (length(v)), twice AS (v || v) STORED)",
    "s": "CREATE TABLE s(v, k TEXT PRIMARY KEY, w)",
    "r": "CREATE TABLE r(v, w)",
    "p": (
        "CREATE TABLE p(v, k TEXT COLLATE NOCASE, n, w, PRIMARY KEY(n DESC, k COLLATE RTRIM)) WITHOUT ROWID"
    ),
    "f": "CREATE VIRTUAL TABLE f USING fts5(v, w)",
}
_KEYS = {"t": ("id",), "s": ("k",), "p": ("n", "k")}
_INDEXES = ("CREATE INDEX by_v ON t(v)", "CREATE INDEX by_w ON p(w)")

_REFUSED = ("no such", "already exists", "duplicate", "constraint", "cannot", "error in", "has no column")

_numbers = st.integers(0, 60)
_values = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 2.5]),
    st.sampled_from(["", "a", "ä", "x'", "1"]),
    st.binary(max_size=3),
    st.tuples(st.sampled_from(["abc", "q"]), st.integers(1, 9000)).map(lambda p: p[0] * p[1]),
    st.tuples(st.binary(min_size=1, max_size=2), st.integers(1, 6000)).map(lambda p: p[0] * p[1]),
)
_step = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("tsrpf"), _numbers, _values, _values),
    st.tuples(st.just("many"), st.sampled_from("tsrpf"), _numbers, st.integers(50, 400), _values),
    st.tuples(st.just("set"), st.sampled_from("tsrpf"), _numbers, _numbers, _values),
    st.tuples(st.just("end"), st.sampled_from("tsrpf"), _numbers, st.sampled_from("yz"), st.none()),
    st.tuples(st.just("delete"), st.sampled_from("tsrpf"), _numbers, _numbers, st.none()),
    st.tuples(st.just("clear"), st.sampled_from("tsrpf"), st.none(), st.none(), st.none()),
    st.tuples(st.just("alter"), st.sampled_from("tsrp"), st.integers(0, 4), _numbers, st.none()),
    st.tuples(st.just("drop"), st.sampled_from("tsrpf"), st.none(), st.none(), st.none()),
    st.tuples(st.just("create"), st.sampled_from("tsrpf"), st.booleans(), st.none(), st.none()),
    st.tuples(st.just("vacuum"), st.none(), st.none(), st.none(), st.none()),
)


def _statements(step: tuple[Any, ...]) -> list[tuple[str, list[Any]]]:
    what, table, a, b, c = step
    where = {"t": "id", "s": "v", "r": "rowid", "p": "n", "f": "rowid"}.get(table)
    key = {"t": "id, v, w", "s": "k, v, w", "r": "rowid, v, w", "p": "n, k, v, w", "f": "rowid, v, w"}.get(
        table
    )
    if what == "put":
        first = {"t": "?1", "s": "iif(?1 = 7, NULL, ?1)", "r": "?1", "p": "?1 % 9, ?1", "f": "?1"}[table]
        verb = "INSERT" if table == "f" else "REPLACE"
        return [(f"{verb} INTO {table}({key}) VALUES ({first}, ?2, ?3)", [a, b, c])]
    if what == "many":
        first = {"t": "i", "s": "i", "r": "i", "p": "i % 9, i", "f": "i"}[table]
        return [
            (
                f"INSERT OR IGNORE INTO {table}({key}) WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 "
                f"FROM n WHERE i < ?1 + ?2) SELECT {first}, i % 7, ?3 FROM n",
                [a, b, c if not isinstance(c, str | bytes) else c[:500]],
            )
        ]
    if what == "set":
        return [(f"UPDATE {table} SET w = ? WHERE {where} BETWEEN ? AND ?", [c, a, a + b % 4])]
    if what == "end":
        # The same length, another end: of a long value, only the last page of its chain changes.
        return [
            (
                f"UPDATE {table} SET w = substr(w, 1, length(w) - 1) || ? WHERE typeof(w) = 'text' AND {where} = ?",
                [b, a],
            )
        ]
    if what == "delete":
        return [(f"DELETE FROM {table} WHERE {where} BETWEEN ? AND ?", [a, a + b])]
    if what == "clear":
        return [(f"DELETE FROM {table}", [])]
    if what == "alter":
        return [
            [(f"ALTER TABLE {table} ADD COLUMN c{b} DEFAULT {b % 3}", [])],
            [
                (f"ALTER TABLE {table} ADD COLUMN d TEXT DEFAULT 5", []),
                (f"UPDATE {table} SET d = 'x' WHERE v = 1", []),
            ],
            [(f"ALTER TABLE {table} RENAME COLUMN w TO w2", [])],
            [(f"ALTER TABLE {table} RENAME COLUMN w2 TO w", [])],
            [(f"ALTER TABLE {table} DROP COLUMN d", [])],
        ][a]
    if what == "drop":
        return [(f"DROP TABLE {table}", [])]
    if what == "create":
        sql = _SCHEMA[table]
        if table == "p" and a:
            sql = sql.replace("n DESC", "n")
        return [(sql, [])]
    return [("VACUUM", [])]


def _apply(db: Database, steps: list[tuple[Any, ...]]) -> None:
    for step in steps:
        for sql, params in _statements(step):
            try:
                db.sql(sql, params)
            except MemoturnError as error:
                text = str(error)
                known = (
                    "no such",
                    "already exists",
                    "duplicate",
                    "constraint",
                    "cannot",
                    "error in",
                    "has no column",
                )
                assert any(word in text for word in known), text


class Plain:
    """What a view has, read whole."""

    def __init__(self, db: Database) -> None:
        self.tables: dict[str, dict[Any, dict[str, Any]]] = {}
        self.columns: dict[str, list[tuple[str, int, str | None]]] = {}
        self.sql: dict[str, str] = {}
        with plain_connection(branch_of(db).head()) as connection:
            schema = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall()
            self.sql = {str(name): str(sql) for name, sql in schema if name in _SCHEMA}
            for name in self.sql:
                info = connection.execute(f"PRAGMA table_xinfo({name})").fetchall()
                self.columns[name] = [(str(c[1]), c[0], c[4]) for c in info if c[6] == 0]  # type: ignore[misc]
                names = [c[0] for c in self.columns[name]]
                rowid = "n" if name == "p" else "rowid"
                rows = connection.execute(f"SELECT {rowid}, {', '.join(names)} FROM {name}").fetchall()
                found: dict[Any, dict[str, Any]] = {}
                for first, *values in rows:
                    row = dict(zip(names, values, strict=True))
                    key = tuple(row[k] for k in _KEYS.get(name, ()))
                    if name == "p":
                        key = (key[0], key[1].rstrip(" "))
                    found[key if key and None not in key else (None, first)] = row
                self.tables[name] = found


def _expected(one: Plain, other: Plain) -> dict[str, tuple[int, int, int]]:
    found = {}
    for name in one.tables.keys() | other.tables.keys():
        mine, theirs = one.tables.get(name, {}), other.tables.get(name, {})
        added = len(theirs.keys() - mine.keys())
        removed = len(mine.keys() - theirs.keys())
        changed = sum(
            not _same(mine[key], theirs[key], one.columns[name], other.columns[name])
            for key in mine.keys() & theirs.keys()
        )
        if added or removed or changed:
            found[name] = (added, removed, changed)
    return found


def _same(one: dict[str, Any], other: dict[str, Any], mine: list[Any], theirs: list[Any]) -> bool:
    pairs = [(name, name) for name, _, _ in mine if name in other]
    left = [c for c in mine if c[0] not in other]
    right = [c for c in theirs if c[0] not in one]
    for a in list(left):
        for b in list(right):
            if a[1] == b[1]:
                pairs.append((a[0], b[0]))
                left.remove(a)
                right.remove(b)
    return (
        all(type(one[a]) is type(other[b]) and one[a] == other[b] for a, b in pairs)
        and all(_is_default(one[name], default) for name, _, default in left)
        and all(_is_default(other[name], default) for name, _, default in right)
    )


def _is_default(value: Any, default: str | None) -> bool:
    return value is None if default is None else str(value) == default


def _told(found: Diff) -> dict[str, tuple[int, int, int]]:
    return {table.name: (table.added, table.removed, table.changed) for table in found.tables}


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    before=st.lists(_step, max_size=12),
    mine=st.lists(_step, max_size=6),
    theirs=st.lists(_step, max_size=6),
    indexed=st.booleans(),
)
def test_counts_are_those_of_a_comparison_of_all_rows(
    before: list[Any], mine: list[Any], theirs: list[Any], indexed: bool
) -> None:
    with Memoturn("memory:") as mt:
        mt.databases.create("x")
        main = mt.db("x")
        main.batch([*_SCHEMA.values(), *(_INDEXES if indexed else ())])
        _apply(main, before)
        fork = main.branch.create("fork")
        _apply(main, mine)
        _apply(fork, theirs)
        one, other = Plain(main), Plain(fork)
        engine = main._engine
        found = diff(engine, parse_address("x"), parse_address("x@fork"), limit=5)
        assert _told(found) == _expected(one, other)
        back = diff(engine, parse_address("x@fork"), parse_address("x"), limit=5)
        assert _told(back) == _expected(other, one)
        for table in found.tables:
            assert len(table.rows) == min(5, table.added + table.removed + table.changed)
