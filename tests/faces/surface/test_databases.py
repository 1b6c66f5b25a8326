"""Databases, SQL and the past: the same on a store and on a server."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memoturn import (
    AlreadyExistsError,
    BatchResult,
    BranchNotFoundError,
    CheckpointNotFoundError,
    DatabaseInfo,
    DatabaseNotFoundError,
    DeleteResult,
    InvalidRequestError,
    NotFoundError,
    Place,
    Rows,
    SqlError,
    TxidNotRetainedError,
)


def test_a_database_from_creation_to_undo(mt: Any) -> None:
    made = mt.databases.create("life")
    assert isinstance(made, DatabaseInfo)
    assert (made.name, made.default_branch, made.ttl_at) == ("life", "main", None)
    assert mt.databases.get("life") == made
    assert made in mt.databases.list()
    with pytest.raises(AlreadyExistsError, match="life"):
        mt.databases.create("life")
    gone = mt.databases.delete("life")
    assert isinstance(gone, DeleteResult)
    with pytest.raises(DatabaseNotFoundError, match="life"):
        mt.databases.get("life")
    assert mt.databases.undo("life", gone.undo).name == "life"
    assert mt.databases.get("life").db_uuid == made.db_uuid
    mt.databases.delete("life")


def test_a_database_may_expire(mt: Any) -> None:
    made = mt.databases.create("soon", ttl=3600)
    assert made.ttl_at is not None
    assert 3500 < (made.ttl_at - datetime.now(UTC)).total_seconds() < 3700
    mt.databases.delete("soon")


@pytest.mark.parametrize("bad", ["", "Upper", "a b", "../x", "a/b", "é", 7])
def test_a_name_that_cannot_be_is_refused(mt: Any, bad: Any) -> None:
    with pytest.raises(InvalidRequestError):
        mt.databases.create(bad)
    with pytest.raises(InvalidRequestError):
        mt.databases.get(bad)
    with pytest.raises(InvalidRequestError):
        mt.db(bad)


def test_handles_look_nothing_up_and_say_what_they_are(mt: Any) -> None:
    handle = mt.db("nowhere@branch:12")
    assert repr(handle) == "Database('nowhere@branch:12')"
    with pytest.raises(DatabaseNotFoundError):
        handle.sql("SELECT 1")
    assert repr(mt.memory("a", "b")) == "Profile('a--b')"


def test_every_value_of_sql_comes_back(db: Any) -> None:
    values = [
        None,
        0,
        1,
        -1,
        (1 << 63) - 1,
        -(1 << 63),
        0.1,
        -1e300,
        math.inf,
        -math.inf,
        "",
        "é\0🎷",
        b"",
        b"\0\xff",
    ]
    db.sql("CREATE TABLE t (n INTEGER PRIMARY KEY, v)")
    done = db.batch([("INSERT INTO t (v) VALUES (?)", [value]) for value in values])
    assert isinstance(done, BatchResult)
    assert len(done.results) == len(values)
    found = db.sql("SELECT v FROM t ORDER BY n")
    assert isinstance(found, Rows)
    assert (found.columns, found.txid, found.exact) == (("v",), done.txid, True)
    assert [row["v"] for row in found] == values
    assert [type(row["v"]) for row in found] == [type(value) for value in values]
    assert db.sql("SELECT :a AS a, :b AS b", {"a": bytearray(b"x"), "b": True}) == [{"a": b"x", "b": 1}]
    assert db.sql("SELECT ? AS nan", [math.nan]) == [{"nan": None}]


def test_columns_of_one_name_are_told_apart(db: Any) -> None:
    rows = db.sql("SELECT 1 AS a, 2 AS a")
    assert rows.columns == ("a", "a:1")
    assert rows == [{"a": 1, "a:1": 2}]
    assert db.sql("SELECT 1 AS a WHERE 0").columns == ("a",)
    db.sql("CREATE TABLE t (v TEXT)")
    assert db.sql("SELECT v, 1 AS a FROM t").types == ("TEXT", None)


def test_each_write_has_a_txid_and_reads_have_none(db: Any) -> None:
    assert db.txid == 0
    assert db.sql("CREATE TABLE t (v)").txid == 1
    assert db.batch(["INSERT INTO t VALUES (1)", ("INSERT INTO t VALUES (?)", (2,))]).txid == 2
    assert db.sql("SELECT count(*) AS n FROM t") == [{"n": 2}]
    assert (db.txid, db.where()) == (2, Place(2, True))
    assert isinstance(db.sync(), int)


def test_a_batch_is_all_or_nothing(db: Any) -> None:
    db.sql("CREATE TABLE t (v UNIQUE)")
    with pytest.raises(SqlError, match="statement 2 of 2"):
        db.batch(["INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)"])
    assert db.sql("SELECT * FROM t") == []


@pytest.mark.parametrize(
    ("kind", "sql", "params"),
    [
        (SqlError, "SELEC 1", None),
        (SqlError, "SELECT * FROM nothing", None),
        (InvalidRequestError, "ATTACH 'x' AS y", None),
        (InvalidRequestError, "SELECT * FROM __memoturn_kv", None),
        (InvalidRequestError, "SELECT 1; SELECT 2", None),
        (InvalidRequestError, "SELECT ?", []),
        (InvalidRequestError, "SELECT ?", [object()]),
        (InvalidRequestError, "SELECT ?", [1 << 64]),
        (InvalidRequestError, "SELECT '\ud800'", None),
        (InvalidRequestError, "SELECT ?", ["\ud800"]),
        (InvalidRequestError, b"SELECT 1", None),
        (InvalidRequestError, "SELECT ?", 7),
        (InvalidRequestError, "SELECT ?", "text"),
    ],
)
def test_bad_sql_is_refused(db: Any, kind: type[Exception], sql: Any, params: Any) -> None:
    with pytest.raises(kind):
        db.sql(sql, params)


@pytest.mark.parametrize("stmts", [[7], [("SELECT 1", [], 3)], [()]])
def test_a_bad_batch_is_refused(db: Any, stmts: Any) -> None:
    with pytest.raises(InvalidRequestError):
        db.batch(stmts)


def test_the_past_is_read_through_positions(mt: Any, db: Any, name: str) -> None:
    db.sql("CREATE TABLE t (v)")
    db.branch.checkpoint("empty")
    db.sql("INSERT INTO t VALUES (1)")
    for past in (db.at("empty"), db.at(1), mt.db(f"{name}@main:empty"), db.at(1, exact=True)):
        assert past.sql("SELECT count(*) AS n FROM t") == [{"n": 0}]
        assert past.txid == 1
        with pytest.raises(InvalidRequestError, match="past"):
            past.sql("INSERT INTO t VALUES (2)")
        with pytest.raises(InvalidRequestError, match="past"):
            past.kv.put("n", "k", b"v")
        with pytest.raises(InvalidRequestError, match="past"):
            past.branch.checkpoint("x")
    assert db.at(datetime.now(UTC)).txid == 2
    with pytest.raises(CheckpointNotFoundError, match="never"):
        db.at("never").sql("SELECT 1")
    with pytest.raises(TxidNotRetainedError) as caught:
        _ = db.at(99).txid
    assert caught.value.nearest == (2,)
    with pytest.raises(BranchNotFoundError, match="nowhere"):
        mt.db(f"{name}@nowhere").sql("SELECT 1")
    for bad in (-1, "a:b", "", 1.5):
        with pytest.raises(InvalidRequestError):
            db.at(bad)


def test_export_and_import_are_a_plain_file(mt: Any, db: Any, name: str, tmp_path: Path) -> None:
    db.sql("CREATE TABLE t (v)")
    db.sql("INSERT INTO t VALUES (randomblob(2000000))")
    db.sql("DELETE FROM t")
    seen: list[tuple[int, int]] = []
    done = db.at(2).export(tmp_path / "copy.sqlite", lambda *steps: seen.append(steps))
    assert (done.path, done.txid, done.exact) == (str(tmp_path / "copy.sqlite"), 2, True)
    assert done.bytes == done.pages * 4096 == (tmp_path / "copy.sqlite").stat().st_size
    assert seen[-1] == (done.bytes, done.bytes)
    assert seen == sorted(seen)
    with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as plain:
        assert plain.execute("SELECT length(v) FROM t").fetchall() == [(2_000_000,)]
    with pytest.raises(AlreadyExistsError, match="exists already"):
        db.export(tmp_path / "copy.sqlite")
    with pytest.raises(InvalidRequestError, match="no directory"):
        db.export(tmp_path / "nowhere" / "copy.sqlite")
    with pytest.raises(DatabaseNotFoundError):
        mt.db("nobody").export(tmp_path / "other.sqlite")
    assert [path.name for path in tmp_path.iterdir()] == ["copy.sqlite"]

    seen.clear()
    back = mt.databases.import_file(
        f"{name}-copy", tmp_path / "copy.sqlite", lambda *steps: seen.append(steps)
    )
    assert (back.name, back.txid, back.pages) == (f"{name}-copy", 1, done.pages)
    assert seen[-1] == (done.bytes, done.bytes)
    assert mt.db(f"{name}-copy").sql("SELECT length(v) AS n FROM t") == [{"n": 2_000_000}]
    with pytest.raises(AlreadyExistsError):
        mt.databases.import_file(f"{name}-copy", tmp_path / "copy.sqlite")


def test_what_lies_beside_a_file_is_imported_with_it(mt: Any, name: str, tmp_path: Path) -> None:
    wal, torn = tmp_path / "wal.sqlite", tmp_path / "torn.sqlite"
    with closing(sqlite3.connect(wal)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE t (v)")
        writer.execute("INSERT INTO t VALUES ('in the log')")
        writer.commit()
        before = sorted(
            (path.name, path.read_bytes()) for path in tmp_path.glob("wal.sqlite*") if "shm" not in path.name
        )
        mt.databases.import_file(f"{name}-wal", wal)
        assert before == sorted(
            (path.name, path.read_bytes()) for path in tmp_path.glob("wal.sqlite*") if "shm" not in path.name
        )
    assert mt.db(f"{name}-wal").sql("SELECT v FROM t") == [{"v": "in the log"}]
    with closing(sqlite3.connect(tmp_path / "live.sqlite")) as writer:
        writer.executescript("CREATE TABLE t (v); INSERT INTO t VALUES ('committed'); PRAGMA cache_size=1")
        writer.execute("BEGIN")
        writer.execute("UPDATE t SET v = 'not committed'")
        writer.execute("CREATE TABLE big AS SELECT randomblob(100000)")
        for ending in ("", "-journal"):
            torn.with_name(f"torn.sqlite{ending}").write_bytes(
                (tmp_path / f"live.sqlite{ending}").read_bytes()
            )
    mt.databases.import_file(f"{name}-torn", torn)
    assert mt.db(f"{name}-torn").sql("SELECT v FROM t") == [{"v": "committed"}]


def test_what_is_no_database_is_not_imported(mt: Any, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database" * 1000)
    with pytest.raises(InvalidRequestError):
        mt.databases.import_file("text", tmp_path / "text")
    with pytest.raises(NotFoundError):
        mt.databases.import_file("text", tmp_path / "missing")
    with pytest.raises(DatabaseNotFoundError):
        mt.databases.get("text")


def test_what_differs_is_told(db: Any, name: str) -> None:
    db.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    db.kv.put("n", "k", b"1")
    db.branch.checkpoint("before")
    db.batch([("INSERT INTO t VALUES (1, ?)", [b"\xff"]), "INSERT INTO t VALUES (2, 9e999)"])
    db.kv.put("n", "k", b"2")
    db.docs.insert("c", {"_id": "d", "a": 1})
    for handle, other in ((db.at("before"), name), (db.at("before"), f"{name}@main")):
        found = handle.diff(other)
        assert [(t.name, t.added) for t in found.tables] == [("t", 2)]
        assert [row.after for row in found.tables[0].rows] == [
            {"id": 1, "v": b"\xff"},
            {"id": 2, "v": math.inf},
        ]
        assert found.kv[0].keys[0].after == b"2"
        assert found.docs[0].documents[0].after == {"_id": "d", "a": 1}
        assert (found.before.branch, found.after.branch) == ("main", "main")
    assert db.diff(f"{name}@main").is_empty
    assert len(db.at("before").diff(name, limit=1).tables[0].rows) == 1
    assert db.at("before").diff(name, table="t").kv == []
    with pytest.raises(InvalidRequestError, match="two databases"):
        db.diff("other")


def test_everything_is_shipped_when_asked(mt: Any, db: Any) -> None:
    db.kv.put("n", "k", b"v")
    assert mt.sync() is None
