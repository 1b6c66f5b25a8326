"""What SQL may do, what it answers, and how its errors are told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memoturn import CheckpointNotFoundError, Database, InvalidRequestError, Memoturn, SqlError
from memoturn.base.errors import CorruptError
from memoturn.base.txids import PageNo
from memoturn.pages.view import View
from tests.support import assert_whole, branch_of, values

# Refused.

REACHING_OUT = [
    "ATTACH '{dir}/other.db' AS other",
    "ATTACH ':memory:' AS other",
    "ATTACH '' AS other",
    "DETACH main",
    "VACUUM INTO '{dir}/other.db'",
    "VACUUM main INTO '{dir}/other.db'",
    "SELECT load_extension('{dir}/evil.so')",
    "SELECT count(*) FROM t WHERE load_extension('{dir}/evil.so')",
    "SELECT fts3_tokenizer('simple')",
    "EXPLAIN ATTACH '{dir}/other.db' AS other",
]

TRANSACTIONS = [
    "BEGIN",
    "begin immediate",
    "/* x */ BEGIN EXCLUSIVE TRANSACTION",
    "COMMIT",
    "END",
    "ROLLBACK",
    "SAVEPOINT s",
    "RELEASE s",
    "ROLLBACK TO s",
]

TEMPORARY = [
    "CREATE TEMP TABLE x(v)",
    "CREATE TABLE temp.x(v)",
    "CREATE TEMPORARY TABLE x AS SELECT 1 AS v",
    "CREATE TEMP VIEW x AS SELECT 1",
    "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END",
    "CREATE VIEW temp.x AS SELECT 1",
    "CREATE VIRTUAL TABLE temp.x USING fts5(v)",
]


@pytest.mark.parametrize("text", [*REACHING_OUT, *TRANSACTIONS, *TEMPORARY])
def test_what_would_leave_the_database_is_refused(db: Database, tmp_path: Path, text: str) -> None:
    text = text.format(dir=tmp_path)
    db.sql("INSERT INTO t VALUES (1)")
    for handle in (db, db.at(1)):
        with pytest.raises(InvalidRequestError) as refused:
            handle.sql(text)
        assert refused.value.code == "invalid_request"
        with pytest.raises(InvalidRequestError):
            handle.batch(["SELECT 1", text])
    with pytest.raises(InvalidRequestError):
        db.batch(["INSERT INTO t VALUES (2)", text, "INSERT INTO t VALUES (3)"])
    assert values(db) == [1]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "/* a */ SELECT 1 /* b */; DROP TABLE t /* c */",
        "SELECT 1; /* a */ DROP TABLE t /* b */",
        "SELECT 1; /* a */ BEGIN; /* b */",
        "SELECT 1; -- a\nDROP TABLE t",
        "SELECT 1; SELECT 2",
        "SELECT 1;;SELECT 2",
        "INSERT INTO t VALUES (1); DROP TABLE t",
        "SELECT 1; x",
    ],
)
def test_one_call_is_one_statement(db: Database, text: str) -> None:
    with pytest.raises(InvalidRequestError, match="one statement"):
        db.sql(text)
    with pytest.raises(InvalidRequestError, match="one statement"):
        db.batch([text])
    assert values(db) == []


@pytest.mark.parametrize("text", ["", "  \n", ";", "-- nothing", "/* nothing */", "-- a\n;/* b */ ;"])
def test_no_statement_is_no_request(db: Database, text: str) -> None:
    with pytest.raises(InvalidRequestError, match="no SQL statement"):
        db.sql(text)


@pytest.mark.parametrize(
    "text",
    ["SELECT 1 AS n;", "SELECT 1 AS n ; -- done", "/* a */ SELECT 1 AS n /* b */;;", "SELECT 1 AS n /* open"],
)
def test_what_is_no_statement_may_follow_one(db: Database, text: str) -> None:
    assert db.sql(text) == [{"n": 1}]
    assert db.batch([text]).results == [[{"n": 1}]]


@pytest.mark.parametrize("text", [None, 7, b"SELECT 1", ["SELECT 1"], "SELECT 1\0", "SELECT '\ud800'"])
def test_sql_is_text(db: Database, text: object) -> None:
    with pytest.raises(InvalidRequestError):
        db.sql(text)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError):
        db.batch([(text, None)])  # type: ignore[list-item]


@pytest.mark.parametrize("item", [7, None, ("SELECT 1", [], 3), {"q": "SELECT 1"}])
def test_a_batch_is_made_of_texts_and_pairs(db: Database, item: object) -> None:
    with pytest.raises(InvalidRequestError):
        db.batch([item])  # type: ignore[list-item]


def test_the_schema_cannot_be_written_by_hand(db: Database) -> None:
    for text in (
        "UPDATE sqlite_schema SET sql = 'x'",
        "DELETE FROM sqlite_master",
        "INSERT INTO sqlite_schema VALUES ('table', 'x', 'x', 2, 'CREATE TABLE x(v)')",
    ):
        with pytest.raises(SqlError, match="may not be modified"):
            db.sql(text)


def test_a_text_that_was_learned_on_one_database_is_guarded_on_another(mt: Memoturn, db: Database) -> None:
    mt.databases.create("y")
    other = mt.db("y")
    text = "SELECT * FROM t"
    db.sql(text)
    with pytest.raises(SqlError, match="no such table"):
        other.sql(text)
    other.sql("CREATE VIEW t AS SELECT load_extension('x') AS v")
    with pytest.raises(InvalidRequestError, match="load_extension"):
        other.sql(text)


@pytest.mark.parametrize(
    ("text", "make", "left"),
    [
        ("DROP TRIGGER IF EXISTS x", "CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END", 0),
        ("DROP TABLE IF EXISTS x", "CREATE TABLE x(v)", 0),
        ("DROP VIEW IF EXISTS x", "CREATE VIEW x AS SELECT 1", 0),
        ("DROP INDEX IF EXISTS x", "CREATE INDEX x ON t(v)", 0),
        ("REINDEX", "CREATE INDEX x ON t(v)", 1),
        ("PRAGMA optimize", "CREATE INDEX x ON t(v)", 1),
    ],
)
def test_what_had_nothing_to_do_once_does_it_when_there_is_something(
    db: Database, text: str, make: str, left: int
) -> None:
    assert db.sql(text).txid == 1
    db.sql(make)
    db.sql(text)
    assert len(values(db, "SELECT name FROM sqlite_schema WHERE name = 'x'")) == left


def test_a_trigger_that_was_there_once_is_made_again(db: Database) -> None:
    text = "CREATE TRIGGER IF NOT EXISTS x AFTER INSERT ON t BEGIN UPDATE t SET v = -v; END"
    for _ in range(2):
        db.sql("CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END")
        db.sql(text)
        db.sql("DROP TRIGGER x")
        db.sql(text)
        db.sql("INSERT INTO t VALUES (1)")
        assert values(db)[-1] == -1
        db.sql("DROP TRIGGER x")


def test_a_trigger_does_not_reach_further_than_its_author(db: Database) -> None:
    db.sql("CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT load_extension('x'); END")
    with pytest.raises(InvalidRequestError):
        db.sql("INSERT INTO t VALUES (1)")
    db.sql("DROP TRIGGER x")
    db.sql("INSERT INTO t VALUES (1)")
    assert values(db) == [1]


# Answers.


def test_values_come_back_as_they_went_in(db: Database) -> None:
    given = [None, 0, -(2**63), 2**63 - 1, 1.5, float("inf"), "", "ünï 🦊 \0 nul", b"", b"\0\xff", True]
    for value in given:
        db.sql("INSERT INTO t VALUES (?)", [value])
    assert values(db) == given
    assert values(db, "SELECT typeof(v) FROM t") == (
        ["null", "integer", "integer", "integer", "real", "real", "text", "text", "blob", "blob", "integer"]
    )


def test_parameters_are_a_sequence_or_a_mapping(db: Database) -> None:
    assert db.sql("SELECT ? + ? AS n", (1, 2)) == [{"n": 3}]
    assert db.sql("SELECT :a + $b + @c AS n", {"a": 1, "b": 2, "c": 3}) == [{"n": 6}]
    assert db.sql("SELECT ?2 || ?1 AS s", ["a", "b"]) == [{"s": "ba"}]


@pytest.mark.parametrize("params", [[], [1], [1, 2, 3], [object(), 1], [1, 2**64], [1, "\ud800"], 7, "ab c"])
def test_parameters_that_do_not_fit_are_refused(db: Database, params: object) -> None:
    db.sql("CREATE TABLE u(a, b)")
    for text in ("INSERT INTO u VALUES (?, ?)", "SELECT ?, ?"):
        with pytest.raises(InvalidRequestError):
            db.sql(text, params)  # type: ignore[arg-type]
    assert values(db, "SELECT count(*) FROM u") == [0]


def test_columns_are_told_with_the_types_they_were_declared_as(db: Database) -> None:
    db.sql("CREATE TABLE typed(id INTEGER PRIMARY KEY, name VARCHAR(20), price DECIMAL(5, 2), plain)")
    text = "SELECT id, name AS n, price, plain, count(*) AS c FROM typed"
    types = ("INTEGER", "VARCHAR(20)", "DECIMAL(5, 2)", None, None)
    for _ in range(2):
        assert db.sql(text).types == db.batch([text]).results[0].types == types
    assert db.sql(f"{text} WHERE id > 7 GROUP BY id").types == types
    assert db.sql("DELETE FROM typed").types == ()
    db.batch(["DROP TABLE typed", "CREATE TABLE typed(id TEXT, name, price, plain)"])
    assert db.sql(text).types == ("TEXT", None, None, None, None)


def test_columns_are_told_even_without_rows(db: Database) -> None:
    rows = db.sql("SELECT rowid AS id, v FROM t WHERE v = ?", [1])
    assert (rows, rows.columns, rows.txid) == ([], ("id", "v"), 1)
    assert db.sql("INSERT INTO t VALUES (1)").columns == ()
    assert db.sql("SELECT 1 AS a, 2 AS a") == [{"a": 1, "a:1": 2}]


def test_text_that_is_not_utf8_is_told_and_leaves_the_reader_usable(db: Database) -> None:
    db.sql("INSERT INTO t VALUES ('fine'), (CAST(x'ff' AS TEXT))")
    with pytest.raises(InvalidRequestError, match="CAST") as refused:
        db.sql("SELECT v FROM t")
    assert refused.value.__traceback__ is not None, "as long as the error is at hand, so are its frames"
    assert values(db, "SELECT CAST(v AS BLOB) FROM t") == [b"fine", b"\xff"]
    db.sql("DELETE FROM t")
    assert values(db) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELECT w FROM t", "no such column: w"),
        ("INSERT INTO t VALUES (1, 2)", "1 columns but 2 values"),
        ("SELECT nonesuch()", "no such function"),
        ("SELECT abs(-9223372036854775808)", "overflow"),
    ],
)
def test_what_sqlite_refuses_is_told_in_its_words(db: Database, text: str, message: str) -> None:
    with pytest.raises(SqlError, match=message):
        db.sql(text)
    with pytest.raises(SqlError, match=message):
        db.batch([text])


@pytest.mark.parametrize(
    "text",
    [
        "PRAGMA table_info(t)",
        "PRAGMA integrity_check",
        "PRAGMA user_version",
        "SELECT * FROM pragma_table_info('t')",
        "EXPLAIN SELECT * FROM t",
        "EXPLAIN QUERY PLAN SELECT * FROM t",
        "WITH x AS (SELECT 1 AS a) SELECT * FROM x",
        "VALUES (1), (2)",
        "SELECT json_extract('{\"a\": [1, 2]}', '$.a[1]')",
        "SELECT row_number() OVER (ORDER BY v) FROM t",
        "PRAGMA foreign_key_check",
    ],
)
def test_reading_makes_no_txid(db: Database, text: str) -> None:
    assert db.sql(text).txid == 1
    assert db.batch([text, text]).txid == 1
    db.at(1).sql(text)
    assert db.txid == 1


def test_writing_that_changes_nothing_makes_no_txid(db: Database) -> None:
    assert db.sql("DELETE FROM t").txid == 1
    assert db.sql("UPDATE t SET v = 1 WHERE v = 2").txid == 1
    assert db.sql("CREATE TABLE IF NOT EXISTS t(v)").txid == 1
    assert db.batch(["INSERT INTO t VALUES (1)", "DELETE FROM t"]).txid <= 2
    assert values(db) == []
    assert_whole(db)


# Batches.


def test_a_batch_is_one_transaction_with_one_txid(db: Database) -> None:
    done = db.batch(
        [
            ("INSERT INTO t VALUES (?) RETURNING v", [1]),
            "INSERT INTO t VALUES (2)",
            "SELECT sum(v) AS s FROM t",
        ]
    )
    assert done.txid == 2
    assert [list(rows) for rows in done.results] == [[{"v": 1}], [], [{"s": 3}]]
    assert {rows.txid for rows in done.results} == {2}


@pytest.mark.parametrize(
    "failing",
    [
        "INSERT INTO u VALUES (1)",
        "INSERT OR FAIL INTO u VALUES (2), (1)",
        "INSERT OR ROLLBACK INTO u VALUES (1)",
        "SELECT * FROM nowhere",
        "VACUUM",
        "ROLLBACK",
        "PRAGMA journal_mode=DELETE",
        "SELECT abs(-9223372036854775808)",
        "ATTACH 'x' AS x",
    ],
)
def test_a_batch_is_kept_whole_or_not_at_all(db: Database, failing: str) -> None:
    db.batch(["CREATE TABLE u(v UNIQUE)", "INSERT INTO u VALUES (1)"])
    txid = db.txid
    with pytest.raises(InvalidRequestError):
        db.batch(
            [
                "INSERT INTO t VALUES ('before')",
                "CREATE TABLE w(v)",
                failing,
                "INSERT INTO t VALUES ('after')",
            ]
        )
    assert db.txid == txid
    assert values(db) == []
    assert values(db, "SELECT name FROM sqlite_schema WHERE name = 'w'") == []
    db.sql("INSERT INTO t VALUES ('next')")
    assert values(db) == ["next"]
    assert_whole(db)


def test_an_error_says_which_statement_of_a_batch_it_was(db: Database) -> None:
    with pytest.raises(SqlError, match=r"statement 2 of 3: no such table: nowhere; nothing of the batch"):
        db.batch(["INSERT INTO t VALUES (1)", "INSERT INTO nowhere VALUES (1)", "SELECT 1"])


def test_a_batch_uses_what_it_creates(db: Database) -> None:
    done = db.batch(
        [
            "CREATE TABLE u(a, b)",
            "CREATE TRIGGER x AFTER INSERT ON u BEGIN INSERT INTO t VALUES (new.a + new.b); END",
            ("INSERT INTO u VALUES (?, ?)", [1, 2]),
            "ALTER TABLE u RENAME COLUMN b TO c",
            "SELECT a, c FROM u",
            "DROP TABLE u",
        ]
    )
    assert done.results[4] == [{"a": 1, "c": 2}]
    assert values(db) == [3]
    assert done.txid == 2


def test_an_empty_batch_does_nothing(db: Database) -> None:
    assert db.batch([]).txid == 1
    assert db.batch([]).results == []


def test_a_batch_at_a_position_reads_there(db: Database) -> None:
    db.sql("INSERT INTO t VALUES (1)")
    assert db.at(1).batch(["SELECT count(*) AS n FROM t"]).results == [[{"n": 0}]]
    with pytest.raises(CheckpointNotFoundError):
        db.at("nowhere").batch(["SELECT 1"])


def test_or_fail_keeps_what_it_had_done_as_sqlite_does(db: Database) -> None:
    db.sql("CREATE UNIQUE INDEX i ON t(v)")
    with pytest.raises(SqlError, match="UNIQUE"):
        db.sql("INSERT OR FAIL INTO t VALUES (1), (2), (1), (3)")
    assert values(db) == [1, 2]
    assert_whole(db)


# Damage below.


@pytest.mark.parametrize("shipped", ["once", "twice"])
def test_a_damaged_page_is_an_error_and_never_wrong_rows(db: Database, shipped: str) -> None:
    for i in range(200):
        db.sql("INSERT INTO t VALUES (?)", [f"{i}" * 100])
        if shipped == "twice" and i == 100:
            db.sync()
    db.sync()
    branch = branch_of(db)
    bucket, store = branch._env.bucket, branch._env.store
    view = branch.head()
    assert isinstance(view, View)
    spot = view.spot(PageNo(view.page_count))
    assert spot is not None
    body = bytearray(bucket.get(spot.key)[0])
    body[spot.offset + spot.length // 2] ^= 1
    bucket.put(spot.key, bytes(body))
    store._pages.clear()
    store._buffers.clear()
    branch.forget()
    for _ in range(2):
        with pytest.raises(CorruptError, match="do not match their checksum, twice"):
            db.sql("SELECT v FROM t")
    assert values(db, "SELECT v FROM t WHERE rowid = 1") == ["0" * 100], "what is not damaged can be read"
    body[spot.offset + spot.length // 2] ^= 1
    bucket.put(spot.key, bytes(body))
    assert len(values(db)) == 200


def test_columns_of_one_name_are_told_apart_and_none_is_lost(db: Database) -> None:
    db.sql("INSERT INTO t VALUES (7)")
    rows = db.sql("SELECT a.v, b.v, c.v FROM t a JOIN t b JOIN t c LIMIT 1")
    assert rows.columns == ("v", "v:1", "v:2")
    assert rows == [{"v": 7, "v:1": 7, "v:2": 7}]


def test_a_parameter_that_is_missing_is_named(db: Database) -> None:
    with pytest.raises(InvalidRequestError, match="'wanted'"):
        db.sql("SELECT :wanted", {"other": 1})
