"""Reserved tables: our own statements use them, and no text of a user does, whatever was prepared before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import pytest

from memoturn import Database, InvalidRequestError, Memoturn, SqlError
from memoturn.models.guard import guard_of, trusted
from tests.support import branch_of, values

RESERVED = "names that begin with __memoturn_ are reserved"


def ours(db: Database, *texts: str) -> list[Any]:
    """Run statements of our own in one transaction."""

    def work(connection: apsw.Connection) -> list[Any]:
        with trusted(connection):
            connection.execute("BEGIN IMMEDIATE")
            found = [connection.execute(text).fetchall() for text in texts]
            connection.execute("COMMIT")
            return found

    return branch_of(db).write(work)[0]


@pytest.fixture
def kept(db: Database) -> Database:
    """A database with a reserved table, an index on it and a row."""
    ours(
        db,
        "CREATE TABLE __memoturn_kv(k PRIMARY KEY, v)",
        "CREATE INDEX __memoturn_kv_v ON __memoturn_kv(v)",
        "INSERT INTO __memoturn_kv VALUES ('a', 'secret')",
    )
    return db


def test_our_own_statements_use_what_is_reserved(kept: Database) -> None:
    assert ours(kept, "SELECT v FROM __memoturn_kv") == [[("secret",)]]
    branch = branch_of(kept)
    with branch.readers.on(branch.head()) as connection, trusted(connection):
        assert connection.execute("SELECT v FROM __memoturn_kv").fetchall() == [("secret",)]


def test_trust_ends_with_its_block_also_when_it_fails(kept: Database) -> None:
    branch = branch_of(kept)
    with branch.readers.on(branch.head()) as connection:
        with pytest.raises(ValueError), trusted(connection), trusted(connection):
            raise ValueError
        assert not guard_of(connection).trusted
        with pytest.raises(apsw.AuthError):
            connection.execute("SELECT v FROM __memoturn_kv")


@pytest.mark.parametrize("text", ["SELECT v FROM __memoturn_kv", "DELETE FROM __memoturn_kv"])
def test_a_text_that_equals_one_of_ours_is_refused_though_ours_is_prepared(kept: Database, text: str) -> None:
    branch = branch_of(kept)
    for _ in range(3):
        with branch.readers.on(branch.head()) as connection, trusted(connection):
            connection.execute("SELECT v FROM __memoturn_kv").fetchall()
        ours(kept, text, "INSERT OR IGNORE INTO __memoturn_kv VALUES ('a', 'secret')")
        for attempt in (kept.sql, lambda text: kept.batch([text]), kept.at(kept.txid).sql):
            with pytest.raises(InvalidRequestError, match=RESERVED):
                attempt(text)
    assert ours(kept, "SELECT v FROM __memoturn_kv") == [[("secret",)]]


def test_a_text_that_was_harmless_when_it_was_learned_is_refused_where_it_is_not(
    mt: Memoturn, db: Database
) -> None:
    """Elsewhere the table is not there, so that there is nothing to refuse."""
    text = "DROP TABLE IF EXISTS __memoturn_kv"
    db.sql(text)
    ours(db, "CREATE TABLE __memoturn_kv(k)", "INSERT INTO __memoturn_kv VALUES (1)")
    for run in (db.sql, lambda text: db.batch(["INSERT INTO t VALUES (1)", text])):
        with pytest.raises(InvalidRequestError, match=RESERVED):
            run(text)
    assert ours(db, "SELECT k FROM __memoturn_kv") == [[(1,)]]
    assert values(db) == []


def test_a_view_of_another_database_shows_nothing_reserved_by_a_text_that_was_learned(
    mt: Memoturn, kept: Database
) -> None:
    mt.databases.create("y")
    other = mt.db("y")
    ours(other, "CREATE TABLE __memoturn_kv(k, v)", "CREATE VIEW t AS SELECT v FROM __memoturn_kv")
    text = "SELECT * FROM t"
    assert kept.sql(text) == []
    with pytest.raises(InvalidRequestError, match=RESERVED):
        other.sql(text)


def test_shadow_tables_are_judged_by_the_schema_of_the_moment(db: Database) -> None:
    texts: Sequence[str] = ("SELECT id FROM f_data", "INSERT INTO t SELECT id FROM f_data")
    make, take = "CREATE VIRTUAL TABLE f USING fts5(x)", "DROP TABLE f"
    for _ in range(2):
        db.sql("CREATE TABLE f_data(id)")
        for text in texts:
            db.sql(text)
        db.batch(["DROP TABLE f_data", make, "INSERT INTO f VALUES ('a b')"])
        for text in texts:
            with pytest.raises(InvalidRequestError, match="f_data is where the virtual table f keeps"):
                db.sql(text)
            with pytest.raises(InvalidRequestError, match="use f itself"):
                db.batch([text])
            with pytest.raises(SqlError, match="nowhere"):
                db.batch([take, "CREATE TABLE f_data(id)", text, "SELECT * FROM nowhere"])
            with pytest.raises(InvalidRequestError, match="f_data"):
                db.batch(["INSERT INTO t VALUES (1)", text])
        assert values(db, "SELECT x FROM f('a')") == ["a b"]
        db.sql(take)
    assert values(db) == []


@pytest.mark.parametrize(
    "text",
    [
        "PRAGMA integrity_check",
        "PRAGMA main.quick_check(9)",
        "VACUUM",
        "ANALYZE",
        "REINDEX",
        "PRAGMA optimize",
    ],
)
def test_what_goes_through_every_table_goes_through_ours(mt: Memoturn, text: str) -> None:
    """Also where full-text indexes of ours are, which read their own tables while they are looked through."""
    db = mt.memory("acme", "alice").db
    mt.memory("acme", "alice").ingest([{"type": "fact", "summary": "vegetarian", "embedding": [1, 2]}])
    db.turns.append("s", "user", "hello")
    db.kv.put("n", "k", b"secret", ttl=60)
    db.docs.insert("c", {"a": 1})
    db.docs.create_index("c", "a")
    db.sql("CREATE TABLE t(v)")
    for _ in range(2):
        found = db.sql(text)
        assert all("ok" in row.values() for row in found)
        for hostile in (
            f"{text}; SELECT * FROM __memoturn_kv",
            "SELECT * FROM __memoturn_kv",
            "PRAGMA integrity_check(__memoturn_kv)",
            "SELECT x.* FROM sqlite_schema AS s, pragma_table_xinfo(s.name) AS x",
            "SELECT i.*, x.* FROM pragma_integrity_check AS i, pragma_table_xinfo('__memoturn_kv') AS x",
        ):
            with pytest.raises(InvalidRequestError, match=f"{RESERVED}|one statement"):
                db.sql(hostile)
    for past in (db, db.at(db.txid)):
        assert past.batch(["PRAGMA quick_check", "SELECT 1"]).results[0] == [{"quick_check": "ok"}]
    assert mt.memory("acme", "alice").recall("vegetarian")[0].summary == "vegetarian"


def test_a_batch_that_writes_has_no_check_of_what_is_reserved(mt: Memoturn) -> None:
    mt.memory("acme", "alice").ingest([{"type": "fact", "summary": "vegetarian"}])
    db = mt.memory("acme", "alice").db
    with pytest.raises(InvalidRequestError, match=f"statement 2 of 2: {RESERVED}"):
        db.batch(["CREATE TABLE t(v)", "PRAGMA integrity_check"])


def test_a_check_opens_no_way_into_what_is_reserved(mt: Memoturn, db: Database) -> None:
    """A full-text index keeps what it has prepared, so what it read for a check it could read ever after."""
    ours(
        db,
        "CREATE TABLE __memoturn_kv(k PRIMARY KEY, v)",
        "INSERT INTO __memoturn_kv VALUES ('k', 'secret')",
        "CREATE VIRTUAL TABLE f USING fts5(v, content='__memoturn_kv')",
        "INSERT INTO f(f) VALUES ('rebuild')",
    )
    for check in ("PRAGMA integrity_check", "PRAGMA quick_check", "PRAGMA integrity_check(f)"):
        for where in (db, db.at(db.txid)):
            where.sql(check)
            with pytest.raises(InvalidRequestError, match=RESERVED):
                where.batch([check, "SELECT * FROM f"])
            for text in ("SELECT * FROM f", "SELECT v FROM f('secret')"):
                with pytest.raises(InvalidRequestError, match=RESERVED):
                    where.sql(text)


def test_a_check_looks_at_the_indexes_as_they_are_now(db: Database) -> None:
    """SQLite's own would go by what the connection remembers of an index, and call what has changed since damage."""
    db.sql('CREATE VIRTUAL TABLE "f""\'" USING fts5(x)')
    for word in ("one", "two", "three"):
        db.sql('INSERT INTO "f""\'" VALUES (?)', [word])
        assert db.sql("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        db.sql('DELETE FROM "f""\'"')
        assert db.sql("PRAGMA quick_check") == [{"quick_check": "ok"}]
        assert db.batch(["PRAGMA quick_check(2)"]).results == [[{"quick_check": "ok"}]]
        assert values(db, 'SELECT count(*) FROM "f""\'"') == [0]
