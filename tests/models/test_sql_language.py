"""Ordinary SQL all works: every kind of statement of SQLite's language pages, with the answers of plain SQLite."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoturn import AlreadyExistsError, Database, InvalidRequestError, Memoturn, SqlError
from memoturn.models.bounded import replace_functions
from memoturn.models.guard import protect
from tests.support import assert_whole, branch_of, values

# https://sqlite.org/lang.html, page by page.
LANGUAGE: dict[str, list[str]] = {
    "create table": [
        "CREATE TABLE a(id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'x' COLLATE NOCASE, n REAL CHECK (n > 0), "
        "up GENERATED ALWAYS AS (upper(name)) VIRTUAL, low TEXT AS (lower(name)) STORED, UNIQUE (name, n))",
        "INSERT INTO a(name, n) VALUES ('Ann', 1), ('Bob', 2.5)",
        "SELECT id, name, n, up, low FROM a",
        "CREATE TABLE b(k TEXT PRIMARY KEY, v ANY) STRICT, WITHOUT ROWID",
        "INSERT INTO b VALUES ('k', 1)",
        "CREATE TABLE IF NOT EXISTS b(k)",
        "CREATE TABLE c AS SELECT * FROM a",
        "SELECT * FROM c",
        "CREATE TABLE d(id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT DEFAULT CURRENT_DATE)",
        "INSERT INTO d DEFAULT VALUES",
        "SELECT id, at IS NOT NULL FROM d",
        "SELECT * FROM sqlite_sequence",
        "DELETE FROM sqlite_sequence WHERE name = 'd'",
    ],
    "alter, drop": [
        "CREATE TABLE a(x, y)",
        "INSERT INTO a VALUES (1, 2)",
        "CREATE VIEW w AS SELECT x FROM a",
        "CREATE TRIGGER g AFTER INSERT ON a BEGIN UPDATE a SET y = y + 1; END",
        "ALTER TABLE a RENAME TO b",
        "ALTER TABLE b RENAME COLUMN x TO z",
        "ALTER TABLE b ADD COLUMN q TEXT DEFAULT 'q'",
        "ALTER TABLE b DROP COLUMN q",
        "INSERT INTO b VALUES (3, 4)",
        "SELECT * FROM b",
        "SELECT * FROM w",
        "SELECT sql FROM sqlite_schema ORDER BY name",
        "DROP TRIGGER g",
        "DROP VIEW w",
        "DROP TABLE b",
        "DROP TABLE IF EXISTS b",
        "DROP INDEX IF EXISTS b",
    ],
    "create index, reindex, analyze, explain": [
        "CREATE TABLE a(x, y)",
        "CREATE INDEX i ON a(x)",
        "CREATE UNIQUE INDEX IF NOT EXISTS j ON a(x DESC, lower(y)) WHERE y IS NOT NULL",
        "CREATE INDEX k ON a(instr(y, 'b'), replace(y, 'a', 'b'), trim(y, 'x'))",
        "INSERT INTO a VALUES (1, 'ab'), (2, 'xbx')",
        "SELECT x FROM a INDEXED BY k WHERE instr(y, 'b') = 2",
        "SELECT x FROM a NOT INDEXED WHERE x = 2",
        "ANALYZE",
        "ANALYZE a",
        "SELECT * FROM sqlite_stat1 ORDER BY idx",
        "REINDEX",
        "REINDEX i",
        "REINDEX NOCASE",
        "EXPLAIN QUERY PLAN SELECT * FROM a WHERE x = 1",
        "DROP INDEX j",
    ],
    "views and triggers": [
        "CREATE TABLE a(x)",
        "CREATE TABLE log(what)",
        "CREATE VIEW w(x, double) AS SELECT x, x * 2 FROM a",
        "CREATE TRIGGER g1 BEFORE INSERT ON a WHEN new.x > 10 BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TRIGGER g2 AFTER UPDATE OF x ON a FOR EACH ROW BEGIN INSERT INTO log VALUES (old.x || '>' || new.x); END",  # noqa: E501
        "CREATE TRIGGER g3 INSTEAD OF INSERT ON w BEGIN INSERT INTO a VALUES (new.x); END",
        "CREATE TRIGGER g4 INSTEAD OF DELETE ON w BEGIN DELETE FROM a WHERE x = old.x; END",
        "INSERT INTO w(x) VALUES (1), (2), (99)",
        "UPDATE a SET x = x + 1",
        "DELETE FROM w WHERE x = 2",
        "SELECT * FROM w",
        "SELECT * FROM log",
    ],
    "insert, upsert, returning, replace": [
        "CREATE TABLE a(k PRIMARY KEY, n DEFAULT 0)",
        "INSERT INTO a(k) VALUES ('a'), ('b') RETURNING *",
        "INSERT INTO a VALUES ('a', 5) ON CONFLICT(k) DO UPDATE SET n = excluded.n + 1 WHERE n < 9 RETURNING k, n AS m",  # noqa: E501
        "INSERT INTO a VALUES ('a', 5) ON CONFLICT DO NOTHING",
        "INSERT OR IGNORE INTO a VALUES ('b', 1)",
        "INSERT OR REPLACE INTO a VALUES ('b', 2)",
        "REPLACE INTO a SELECT k || k, n FROM a",
        "WITH c(k) AS (VALUES ('z')) INSERT INTO a(k) SELECT k FROM c",
        "SELECT * FROM a ORDER BY k",
    ],
    "update, delete": [
        "CREATE TABLE a(k, n)",
        "CREATE TABLE b(k, n)",
        "INSERT INTO a VALUES (1, 1), (2, 2), (3, 3)",
        "INSERT INTO b VALUES (1, 10), (2, 20)",
        "UPDATE a SET (k, n) = (SELECT 7, 8) WHERE k = 3 RETURNING *",
        "UPDATE a SET n = b.n FROM b WHERE a.k = b.k",
        "UPDATE OR REPLACE a SET n = n + 1 WHERE k IN (SELECT k FROM b)",
        "WITH c AS (SELECT 2 AS k) DELETE FROM a WHERE k IN (SELECT k FROM c) RETURNING n",
        "SELECT * FROM a",
        "DELETE FROM a",
    ],
    "select": [
        "CREATE TABLE a(x, y)",
        "INSERT INTO a VALUES (1, 'p'), (2, 'q'), (3, 'p'), (NULL, 'r')",
        "SELECT DISTINCT y FROM a ORDER BY y DESC LIMIT 2 OFFSET 1",
        "SELECT y, count(*) AS n, sum(x), avg(x), min(x), max(x), total(x), group_concat(x, '-') FROM a GROUP BY y "
        "HAVING n > 0 ORDER BY 1",
        "SELECT string_agg(x, ',' ORDER BY x DESC) FROM a",
        "SELECT a.x, b.x FROM a LEFT JOIN a AS b ON a.x < b.x ORDER BY 1, 2 NULLS LAST",
        "SELECT count(*) FROM a FULL OUTER JOIN (SELECT 9 AS x) USING (x)",
        "SELECT count(*) FROM a RIGHT JOIN (SELECT 3 AS x) AS b ON a.x = b.x",
        "SELECT count(*) FROM a CROSS JOIN a AS b NATURAL JOIN a AS c",
        "SELECT x FROM a UNION SELECT 9 EXCEPT SELECT 1 INTERSECT SELECT 9",
        "VALUES (1, 2), (3, 4)",
        "SELECT CASE x WHEN 1 THEN 'one' ELSE 'more' END FROM a",
        "SELECT x BETWEEN 1 AND 2, x IN (1, 2), x IS NOT NULL, y LIKE 'P', y GLOB 'p', (x, y) = (1, 'p') FROM a",
        "SELECT y LIKE 'a\\%' ESCAPE '\\', y NOT LIKE 'p%', CAST(x AS TEXT), x COLLATE NOCASE, EXISTS (SELECT 1) FROM a",  # noqa: E501
        "SELECT 1 + 2 * 3 % 4 - 5 / 2, 1 << 3, 6 & 3 | 8, ~1, 'a' || 'b', NOT 1, 1 IS DISTINCT FROM 2, 0x10, 1_000, 'it''s'",  # noqa: E501
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5) SELECT sum(n) FROM c",
        "WITH c AS MATERIALIZED (SELECT 1 AS a), d AS NOT MATERIALIZED (SELECT * FROM c) SELECT * FROM d",
        "SELECT * FROM a, (SELECT 1 AS z) ORDER BY x LIMIT 1",
        "SELECT *, rowid FROM main.a WHERE rowid = 1 -- a comment",
    ],
    "window functions": [
        "CREATE TABLE a(g, n)",
        "INSERT INTO a VALUES ('x', 1), ('x', 3), ('y', 2), ('y', 2)",
        "SELECT row_number() OVER w, rank() OVER w, dense_rank() OVER w, percent_rank() OVER w, cume_dist() OVER w, "
        "ntile(2) OVER w, lag(n) OVER w, lead(n, 1, 0) OVER w, first_value(n) OVER w, last_value(n) OVER w, "
        "nth_value(n, 2) OVER w FROM a WINDOW w AS (PARTITION BY g ORDER BY n)",
        "SELECT sum(n) OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM a",
        "SELECT sum(n) FILTER (WHERE n > 1) OVER (ORDER BY n RANGE UNBOUNDED PRECEDING) FROM a",
        "SELECT median(n) OVER (ORDER BY n ROWS 1 PRECEDING), percentile(n, 25) OVER () FROM a",
        "SELECT group_concat(g) OVER (ORDER BY n GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM a",
    ],
    "functions": [
        "SELECT abs(-1), char(65, 66), coalesce(NULL, 1), concat('a', 1), concat_ws('-', 'a', 'b'), format('%05.1f', 2), "  # noqa: E501
        "hex('a'), ifnull(NULL, 2), iif(1, 2, 3), instr('abc', 'b'), length('é'), likelihood(1, 0.5), likely(1), "
        "lower('A'), ltrim(' a'), max(1, 2), min(1, 2), nullif(1, 1), octet_length('é'), printf('%s', 'x')",
        "SELECT quote('a'), replace('abc', 'b', 'x'), round(1.25, 1), rtrim('a '), sign(-2), substr('abc', 2), "
        "substring('abc', 1, 2), trim('xax', 'x'), typeof(1), unhex('41'), unicode('a'), unlikely(1), upper('a'), "
        "zeroblob(2), sqlite_version(), unistr('\\0041'), unistr_quote('a')",
        "SELECT length(randomblob(4)), typeof(random()), changes() >= 0, total_changes() >= 0, last_insert_rowid() >= 0, "  # noqa: E501
        "length(sqlite_source_id()) > 9, sqlite_compileoption_used('ENABLE_FTS5'), subtype(json('1'))",
        "SELECT date('2024-02-29', '+1 year'), time('12:00', 'utc'), datetime(0, 'unixepoch'), julianday('2024-01-01'), "  # noqa: E501
        "strftime('%Y-%j', '2024-03-01'), unixepoch('2024-01-01'), timediff('2024-02-01', '2024-01-01')",
        "SELECT acos(1), acosh(1), asin(0), asinh(0), atan(0), atan2(0, 1), atanh(0), ceil(1.2), ceiling(1.2), cos(0), "  # noqa: E501
        "cosh(0), degrees(pi()), exp(0), floor(1.7), ln(1), log(10), log(2, 8), log10(10), log2(8), mod(5, 3), "
        "pow(2, 3), power(2, 3), radians(180), sin(0), sinh(0), sqrt(4), tan(0), tanh(0), trunc(1.9)",
        "SELECT median(column1), percentile(column1, 50), percentile_cont(column1, 0.25), "
        "percentile_disc(column1, 0.25) FROM (VALUES (1), (2), (4), (NULL))",
        "SELECT current_date > '2000', length(current_time), length(current_timestamp)",
    ],
    "json": [
        "CREATE TABLE a(j)",
        'INSERT INTO a VALUES (\'{"a": [1, {"b": 2}], "c": null}\')',
        "SELECT j -> '$.a', j ->> '$.a[1].b', json_extract(j, '$.a[0]', '$.c'), json_type(j, '$.a'), json_valid(j) FROM a",  # noqa: E501
        "SELECT json_set(j, '$.d', json('[1]')), json_insert(j, '$.d', 1), json_replace(j, '$.c', 1), "
        "json_remove(j, '$.a'), json_array_length(j, '$.a'), json_quote('x'), json_error_position('{') FROM a",
        "SELECT json_object('p', json_patch(j, '{\"c\": 1}')), json_pretty(j), json_array(1, 'a'), json(j) FROM a",
        "SELECT key, value, type, fullkey FROM a, json_each(a.j, '$.a')",
        "SELECT fullkey, atom FROM a, json_tree(a.j) WHERE atom IS NOT NULL",
        'SELECT json_group_array(value), json_group_object(key, value) FROM json_each(\'{"x": 1, "y": 2}\')',
        "SELECT json(jsonb_set(jsonb(j), '$.a', 1)), json(jsonb_patch(j, '{}')), hex(jsonb('[1]')) FROM a",
        "SELECT * FROM json_each('[3, 4]') WHERE value > 3",
    ],
    "fts5": [
        "CREATE VIRTUAL TABLE f USING fts5(title, body, tokenize = 'porter unicode61', prefix = '2 3')",
        "INSERT INTO f(title, body) VALUES ('one', 'the quick brown fox'), ('two', 'lazy dogs run'), ('fox', 'running')",  # noqa: E501
        "SELECT rowid, title FROM f WHERE f MATCH 'fox' ORDER BY rank",
        "SELECT title FROM f('run* NOT lazy')",
        "SELECT title FROM f WHERE f = 'title: fox OR body: quick + brown'",
        "SELECT highlight(f, 1, '<', '>'), snippet(f, 1, '', '', '…', 3), bm25(f, 2.0, 1.0) FROM f('quick')",
        "UPDATE f SET body = 'slow' WHERE rowid = 1",
        "DELETE FROM f WHERE rowid = 2",
        "INSERT INTO f(f, rank) VALUES ('rank', 'bm25(10.0, 5.0)')",
        "INSERT INTO f(f) VALUES ('optimize')",
        "INSERT INTO f(f) VALUES ('rebuild')",
        "INSERT INTO f(f) VALUES ('integrity-check')",
        "CREATE VIRTUAL TABLE words USING fts5vocab('f', 'row')",
        "SELECT * FROM words",
        "CREATE TABLE doc(id INTEGER PRIMARY KEY, body)",
        "CREATE VIRTUAL TABLE x USING fts5(body, content = 'doc', content_rowid = 'id')",
        "CREATE TRIGGER di AFTER INSERT ON doc BEGIN INSERT INTO x(rowid, body) VALUES (new.id, new.body); END",
        "CREATE TRIGGER dd AFTER DELETE ON doc BEGIN INSERT INTO x(x, rowid, body) VALUES ('delete', old.id, old.body); END",  # noqa: E501
        "INSERT INTO doc(body) VALUES ('alpha beta'), ('gamma')",
        "DELETE FROM doc WHERE id = 2",
        "SELECT doc.* FROM x JOIN doc ON doc.id = x.rowid WHERE x MATCH 'beta'",
        "CREATE VIRTUAL TABLE none USING fts5(body, content = '', contentless_delete = 1)",
        "INSERT INTO none(rowid, body) VALUES (1, 'a b')",
        "SELECT rowid FROM none('b')",
        "CREATE VIRTUAL TABLE tri USING fts5(s, tokenize = 'trigram')",
        "INSERT INTO tri VALUES ('abcdef')",
        "SELECT s FROM tri WHERE s LIKE '%cde%'",
        "ALTER TABLE tri RENAME TO tri2",
        "DROP TABLE f",
        "PRAGMA integrity_check",
    ],
    "fts4, rtree, geopoly": [
        "CREATE VIRTUAL TABLE f USING fts4(a, b)",
        "INSERT INTO f VALUES ('one two', 'three'), ('two', 'four')",
        "SELECT a, snippet(f), offsets(f), hex(matchinfo(f)) FROM f WHERE f MATCH 'two'",
        "INSERT INTO f(f) VALUES ('optimize')",
        "CREATE VIRTUAL TABLE r USING rtree(id, x1, x2, y1, y2, +label)",
        "INSERT INTO r VALUES (1, 0, 1, 0, 1, 'a'), (2, 5, 6, 5, 6, 'b')",
        "SELECT id, label FROM r WHERE x1 >= 4 AND y2 <= 7",
        "UPDATE r SET label = 'c' WHERE id = 1",
        "DELETE FROM r WHERE id = 2",
        "SELECT rtreecheck('r')",
        "CREATE VIRTUAL TABLE g USING geopoly(name)",
        "INSERT INTO g(name, _shape) VALUES ('sq', '[[0,0],[1,0],[1,1],[0,1],[0,0]]')",
        "SELECT name, geopoly_area(_shape), geopoly_json(_shape) FROM g WHERE geopoly_overlap(_shape, '[[0,0],[2,0],[2,2],[0,0]]')",  # noqa: E501
        "DROP TABLE r",
    ],
    "pragmas and maintenance": [
        "CREATE TABLE a(x INTEGER PRIMARY KEY, y REFERENCES a(x))",
        "CREATE INDEX i ON a(y)",
        "PRAGMA table_info(a)",
        "PRAGMA table_xinfo('a')",
        "PRAGMA index_list(a)",
        "PRAGMA index_info(i)",
        "PRAGMA index_xinfo(i)",
        "PRAGMA foreign_key_list(a)",
        "PRAGMA foreign_key_check",
        "PRAGMA integrity_check",
        "PRAGMA quick_check(a)",
        "PRAGMA user_version=7",
        "PRAGMA user_version",
        "PRAGMA application_id=9",
        "PRAGMA application_id",
        "PRAGMA encoding",
        "PRAGMA foreign_keys=ON",
        "PRAGMA collation_list",
        "PRAGMA optimize",
        "SELECT name FROM pragma_table_info('a')",
        "SELECT s.name, x.name FROM sqlite_schema AS s, pragma_table_xinfo(s.name) AS x WHERE s.type = 'table'",
        "SELECT m.name, count(*) FROM sqlite_master AS m JOIN pragma_index_list(m.name) GROUP BY 1",
        "VACUUM",
        "/* again */ VACUUM main",
    ],
}


def plain() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


@pytest.mark.parametrize("page", LANGUAGE)
def test_it_answers_what_plain_sqlite_answers(mt: Memoturn, page: str) -> None:
    mt.databases.create("x")
    db = mt.db("x")
    peer = plain()
    for text in LANGUAGE[page]:
        rows = db.sql(text)
        assert [tuple(row.values()) for row in rows] == peer.execute(text).fetchall(), text
        assert db.sql(text.replace("\n", " ")) is not None if text.startswith("SELECT") else True
    assert_whole(db)


@pytest.mark.parametrize("page", [page for page in LANGUAGE if page != "pragmas and maintenance"])
def test_it_answers_the_same_in_a_batch(mt: Memoturn, page: str) -> None:
    mt.databases.create("x")
    db = mt.db("x")
    peer = plain()
    done = db.batch(LANGUAGE[page])
    for text, rows in zip(LANGUAGE[page], done.results, strict=True):
        assert [tuple(row.values()) for row in rows] == peer.execute(text).fetchall(), text
    assert db.txid == (1 if page != "functions" else 0)
    assert_whole(db)


def test_no_table_function_or_module_is_missing_from_the_lists(db: Database) -> None:
    """Each function that this SQLite has works, or is refused on purpose."""
    refused = {
        "fts3_tokenizer",
        "fts5",
        "fts5_insttoken",
        "geopoly_debug",
        "load_extension",
        "rtreedepth",
        "rtreenode",
        "sqlite_log",
    }
    missing = set()
    for row in db.sql("SELECT DISTINCT name, narg FROM pragma_function_list"):
        for arguments in (row["narg"],) if row["narg"] >= 0 else (1, 2, 3):
            try:
                db.sql(f'EXPLAIN SELECT "{row["name"]}"({", ".join(["v"] * arguments)}) FROM t')
            except InvalidRequestError as error:
                if "is not allowed" in str(error):
                    missing.add(row["name"])
    assert missing == refused


# The functions that are written anew.

_scalars = st.one_of(
    st.none(),
    st.text("ab é🦊-41", max_size=8),
    st.binary(max_size=0),
    st.sampled_from([b"ab", b"a", "é".encode(), 0, 1, -12, 1.5, 1e100, 0.1, 1 / 3, float("inf"), 41]),
)


def _answer(connection: apsw.Connection, text: str, params: tuple[Any, ...]) -> Any:
    try:
        return connection.execute(text, params).fetchall()
    except apsw.Error as error:
        return type(error), str(error)


@settings(deadline=None)
@given(_scalars, _scalars, _scalars)
def test_functions_that_are_bounded_give_sqlites_answers(x: Any, y: Any, z: Any) -> None:
    ours, theirs = apsw.Connection(":memory:"), apsw.Connection(":memory:")
    replace_functions(ours, 1 << 25)
    for call, params in [
        ("instr(?, ?)", (x, y)),
        ("replace(?, ?, ?)", (x, y, z)),
        ("trim(?, ?)", (x, y)),
        ("ltrim(?, ?)", (x, y)),
        ("rtrim(?, ?)", (x, y)),
        ("unhex(?, ?)", (x, y)),
    ]:
        text = f"SELECT {call}"
        assert _answer(ours, text, params) == _answer(theirs, text, params), (text, params)


_numbers = st.lists(
    st.one_of(st.none(), st.integers(-9, 9), st.floats(-9, 9), st.sampled_from(["1", float("inf"), b"1"])),
    max_size=6,
)


@given(_numbers, st.sampled_from([0, 0.25, 0.5, 1, 50, 100, 101, -1, "0.5", "x", None, b"1"]))
def test_percentiles_give_sqlites_answers(numbers: list[Any], part: Any) -> None:
    ours, theirs = apsw.Connection(":memory:"), apsw.Connection(":memory:")
    replace_functions(ours, 1 << 25)
    for connection in (ours, theirs):
        connection.execute("CREATE TABLE t(n)")
        connection.executemany("INSERT INTO t VALUES (?)", [(n,) for n in numbers])
    for call in ("median(n)", "percentile(n, ?)", "percentile_cont(n, ?)", "percentile_disc(n, ?)"):
        for over in ("", " OVER (ORDER BY rowid ROWS 1 PRECEDING)"):
            text, params = f"SELECT {call}{over} FROM t", (part,) if "?" in call else ()
            got, wanted = _answer(ours, text, params), _answer(theirs, text, params)
            assert got == wanted, (text, numbers, part)


# Foreign keys.


@pytest.fixture
def family(db: Database) -> Database:
    """Parents and children, with a child of parent 1."""
    db.batch(
        [
            "CREATE TABLE parent(id INTEGER PRIMARY KEY)",
            "CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES parent(id) ON DELETE CASCADE)",
            "INSERT INTO parent VALUES (1), (2)",
            "INSERT INTO child VALUES (1, 1)",
        ]
    )
    return db


def test_foreign_keys_are_enforced(family: Database) -> None:
    before = family.txid
    for attempt in (family.sql, lambda text: family.batch(["INSERT INTO t VALUES (1)", text])):
        with pytest.raises(SqlError, match="FOREIGN KEY constraint failed"):
            attempt("INSERT INTO child VALUES (2, 9)")
    assert family.txid == before
    family.sql("DELETE FROM parent WHERE id = 1")
    assert values(family, "SELECT count(*) FROM child") == [0]


def test_a_batch_may_put_foreign_keys_off_until_its_end(family: Database) -> None:
    before = family.txid
    with pytest.raises(SqlError, match="FOREIGN KEY"):
        family.batch(["PRAGMA defer_foreign_keys=ON", "INSERT INTO child VALUES (3, 9)"])
    assert family.txid == before
    family.batch(
        ["PRAGMA defer_foreign_keys=ON", "INSERT INTO child VALUES (3, 9)", "INSERT INTO parent VALUES (9)"]
    )
    with pytest.raises(SqlError, match="FOREIGN KEY"):
        family.sql("INSERT INTO child VALUES (4, 10)")
    family.sql("PRAGMA defer_foreign_keys=ON")
    with pytest.raises(SqlError, match="FOREIGN KEY"):
        family.sql("INSERT INTO child VALUES (4, 10)")


MIGRATION = [
    "CREATE TABLE new_parent(id INTEGER PRIMARY KEY, name)",
    "INSERT INTO new_parent(id) SELECT id FROM parent",
    "DROP TABLE parent",
    "ALTER TABLE new_parent RENAME TO parent",
]


@pytest.mark.parametrize(
    "off", ["PRAGMA foreign_keys=OFF", "pragma foreign_keys ( 0 );", " PRAGMA main.foreign_keys = no"]
)
def test_a_batch_that_begins_with_it_has_no_foreign_keys(family: Database, off: str) -> None:
    """SQLite's own way to change a table: without this, dropping the parent would delete the children."""
    done = family.batch([off, *MIGRATION, "PRAGMA foreign_key_check"])
    assert [list(rows) for rows in done.results] == [[]] * 6
    assert values(family, "SELECT p FROM child") == [1]
    with pytest.raises(SqlError, match="FOREIGN KEY"):
        family.sql("INSERT INTO child VALUES (2, 77)")
    with pytest.raises(SqlError, match="statement 3 of 3"):
        family.batch([off, "INSERT INTO child VALUES (2, 77)", "SELECT * FROM nowhere"])
    with pytest.raises(SqlError, match="FOREIGN KEY"):
        family.sql("INSERT INTO child VALUES (2, 77)")
    assert values(family, "SELECT count(*) FROM child") == [1]
    assert_whole(family)


def test_foreign_keys_go_off_nowhere_else(family: Database) -> None:
    for attempt in (
        lambda: family.sql("PRAGMA foreign_keys=OFF"),
        lambda: family.batch(["SELECT 1", "PRAGMA foreign_keys=OFF"]),
        lambda: family.at(family.txid).batch(["PRAGMA foreign_keys=OFF"]),
    ):
        with pytest.raises(InvalidRequestError, match="in a batch only, whose first statement"):
            attempt()


# What an error leaves.


def test_an_error_tells_what_was_kept(db: Database) -> None:
    db.sql("CREATE UNIQUE INDEX i ON t(v)")
    with pytest.raises(SqlError, match=r"UNIQUE.*the 2 rows before it were kept, as OR FAIL asks for"):
        db.sql("INSERT OR FAIL INTO t VALUES (1), (2), (1), (3)")
    assert values(db) == [1, 2]
    for conflict in ("", "OR ABORT", "OR ROLLBACK"):
        with pytest.raises(SqlError) as refused:
            db.sql(f"INSERT {conflict} INTO t VALUES (8), (9), (1)")
        assert "kept" not in str(refused.value)
    for conflict in ("OR FAIL", "OR ABORT", "OR ROLLBACK", "OR IGNORE"):
        with pytest.raises(SqlError, match="nothing of the batch was kept"):
            db.batch([f"INSERT {conflict} INTO t VALUES (8), (9), (1)", "INSERT INTO t VALUES (1)"])
    assert values(db) == [1, 2]
    assert_whole(db)


# Files that others wrote.


@pytest.mark.parametrize(
    "text",
    [
        "CREATE VIEW w AS SELECT * FROM __memoturn_kv",
        "CREATE TRIGGER w AFTER INSERT ON t BEGIN DELETE FROM __MEMOTURN_kv; END",
        "CREATE TRIGGER w AFTER INSERT ON __memoturn_kv BEGIN DELETE FROM t; END",
        "CREATE TABLE w(k REFERENCES __memoturn_kv(k))",
        "CREATE INDEX w ON __memoturn_kv(v)",
        "CREATE INDEX __memoturn_w ON t(v)",
        "CREATE VIRTUAL TABLE w USING fts5(v, content='__memoturn_kv')",
        "CREATE TABLE w(k CHECK (json_patch(k, k)))",
    ],
)
def test_a_file_that_reaches_for_what_is_reserved_is_not_imported(
    mt: Memoturn, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "x.db"
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("CREATE TABLE t(v); CREATE TABLE __memoturn_kv(k PRIMARY KEY, v)")
        connection.execute(text)
    with pytest.raises(InvalidRequestError, match=r"cannot be imported.*w'"):
        mt.databases.import_file("x", path)
    assert mt.databases.list() == []


def test_a_file_with_reserved_tables_comes_back_in(mt: Memoturn, db: Database, tmp_path: Path) -> None:
    db.kv.put("ns", "k", "v")
    path = tmp_path / "x.db"
    db.export(path)
    mt.databases.import_file("y", path)
    assert mt.db("y").kv.get("ns", "k") == b"v"
    with pytest.raises(AlreadyExistsError):
        mt.databases.import_file("y", path)


def test_protecting_a_connection_costs_little_and_holds(db: Database) -> None:
    branch = branch_of(db)
    with branch.readers.on(branch.head()) as connection:
        assert connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, -1) == 1
        assert connection.limit(apsw.SQLITE_LIMIT_ATTACHED) == 1
    fresh = apsw.Connection(":memory:")
    protect(fresh)
    assert fresh.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, -1) == 1
    assert fresh.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, -1) == 0
