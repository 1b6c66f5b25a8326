"""Diffs between positions, in terms of tables and of the models, and what they read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from memoturn.base.errors import (
    BranchNotFoundError,
    CheckpointNotFoundError,
    DatabaseNotFoundError,
    InvalidRequestError,
)
from memoturn.faces.embedded.client import Database, Memoturn
from memoturn.pages.view import View
from tests.support import ManualClock, branch_of

Reads = Callable[[], set[tuple[int, int]]]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """Which pages of shipped views are read here, by txid and number; background work reads in its own threads."""
    found: set[tuple[int, int]] = set()
    page, here = View.page, threading.get_ident()

    def counted(self: View, page_no: Any) -> bytes:
        if threading.get_ident() == here:
            found.add((self.txid, page_no))
        return page(self, page_no)

    monkeypatch.setattr(View, "page", counted)
    return found


def counts(db: Database, other: str, **options: Any) -> dict[str, tuple[int, int, int]]:
    found = db.diff(other, **options)
    return {table.name: (table.added, table.removed, table.changed) for table in found.tables}


def ship(db: Database) -> None:
    """Have the head read from the store, with nothing known of it."""
    branch = branch_of(db)
    branch.settle_head()
    branch.forget()


# Positions.


def test_a_branch_against_another_one(db: Database) -> None:
    db.sql("INSERT INTO t VALUES ('a'), ('b')")
    fork = db.branch.create("fork")
    fork.batch(["UPDATE t SET v = 'B' WHERE v = 'b'", "INSERT INTO t VALUES ('c')"])
    db.sql("DELETE FROM t WHERE v = 'a'")
    found = db.diff("x@fork")
    assert (found.before.branch, found.after.branch) == ("main", "fork")
    assert (found.before.txid, found.after.txid) == (3, 3)
    (table,) = found.tables
    assert (table.name, table.added, table.removed, table.changed) == ("t", 2, 0, 1)
    changed, first, second = table.rows
    assert (changed.kind, changed.key, changed.before, changed.after) == (
        "changed", {"rowid": 2}, {"v": "b"}, {"v": "B"},
    )  # fmt: skip
    assert [(row.kind, row.key, row.after) for row in (first, second)] == [
        ("added", {"rowid": 1}, {"v": "a"}),
        ("added", {"rowid": 3}, {"v": "c"}),
    ]


def test_positions_on_both_sides(db: Database, mt: Memoturn) -> None:
    db.sql("INSERT INTO t VALUES (1)")
    db.branch.checkpoint("one")
    db.sql("INSERT INTO t VALUES (2)")
    db.sql("INSERT INTO t VALUES (3)")
    assert counts(mt.db("x@main:one"), "x@main:3") == {"t": (1, 0, 0)}
    assert counts(mt.db("x@main:3"), "x@main:one") == {"t": (0, 1, 0)}
    assert counts(db.at("one"), "x") == {"t": (2, 0, 0)}
    assert counts(db, "x@main:one") == {"t": (0, 2, 0)}
    assert counts(db, "x@main:0") == {"t": (0, 3, 0)}
    assert db.diff("x@main:0").schema[0].kind == "removed"


@pytest.mark.parametrize("shipped", [True, False])
def test_a_position_has_no_difference_from_itself_nor_from_what_was_rewound_to_it(
    db: Database, shipped: bool
) -> None:
    db.sql("INSERT INTO t VALUES (1)")
    db.sql("DELETE FROM t")
    db.branch.rewind(2)
    if shipped:
        ship(db)
    for other in ("x", "x@main:2"):
        found = db.diff(other)
        assert found.is_empty
        assert found.pages == 0
    assert not db.diff("x@main:3").is_empty


def test_what_a_compaction_has_moved_is_no_difference_and_is_not_read(
    db: Database, mt: Memoturn, reads: set[tuple[int, int]]
) -> None:
    db.batch([("INSERT INTO t VALUES (?)", [f"{n} " * 300]) for n in range(300)])
    fork = db.branch.create("fork")
    for n in range(30):
        db.batch([("UPDATE t SET v = ? WHERE rowid = 77", [n]), ("UPDATE t SET v = ? WHERE rowid = 5", [n])])
    mt.maintenance.compact("x@main")
    ship(db)
    ship(fork)
    one, other = branch_of(fork).head(), branch_of(db).head()
    assert isinstance(one, View)
    assert isinstance(other, View)
    assert one.above().base != other.above().base
    reads.clear()
    found = fork.diff("x")
    assert found.pages <= 3
    assert counts(fork, "x") == {"t": (0, 0, 2)}
    assert len({page for _, page in reads}) <= 8


def test_of_what_is_not_there_it_is_said_so(db: Database, mt: Memoturn) -> None:
    mt.databases.create("y")
    with pytest.raises(InvalidRequestError, match="two databases"):
        db.diff("y")
    with pytest.raises(BranchNotFoundError):
        db.diff("x@nowhere")
    with pytest.raises(CheckpointNotFoundError):
        db.diff("x@main:nothing")
    with pytest.raises(DatabaseNotFoundError):
        mt.db("z").diff("z@main")
    with pytest.raises(InvalidRequestError, match="table is the name of one, not 7"):
        db.diff("x@main", table=7)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="no table 'nothing'"):
        db.diff("x@main:0", table="nothing")
    with pytest.raises(InvalidRequestError, match="limit"):
        db.diff("x", limit=0)


# Tables.


def test_counts_are_exact_and_rows_are_examples_of_each_kind(db: Database) -> None:
    db.batch([("INSERT INTO t VALUES (?)", [n]) for n in range(5000)])
    fork = db.branch.create("fork")
    fork.batch(
        [
            "DELETE FROM t WHERE rowid % 3 = 0",
            "UPDATE t SET v = 'new' WHERE rowid % 3 = 1",
            "INSERT INTO t SELECT 'more' FROM t LIMIT 777",
        ]
    )
    (table,) = db.diff("x@fork", limit=10).tables
    assert (table.added, table.removed, table.changed) == (777 + 1666 - 1666, 1666, 1667)
    kinds = [row.kind for row in table.rows]
    assert {kind: kinds.count(kind) for kind in kinds} == {"changed": 4, "added": 3, "removed": 3}


def test_one_table_alone(db: Database) -> None:
    db.sql("CREATE TABLE u(v)")
    db.kv.put("ns", "k", "v")
    db.sql("INSERT INTO u VALUES (1)")
    found = db.at(1).diff("x", table="U")
    assert [table.name for table in found.tables] == ["u"]
    assert [change.name for change in found.schema] == ["u"]
    assert not found.kv


def test_a_replaced_row_has_changed_although_its_rowid_is_another(db: Database) -> None:
    db.sql("CREATE TABLE s(k TEXT PRIMARY KEY, v)")
    db.sql("INSERT INTO s VALUES ('a', 1), ('b', 1), (NULL, 1), (NULL, 2)")
    fork = db.branch.create("fork")
    fork.sql("REPLACE INTO s VALUES ('a', 2)")
    fork.sql("UPDATE s SET v = 3 WHERE k IS NULL AND v = 2")
    (table,) = db.diff("x@fork").tables
    assert [(row.kind, row.key) for row in table.rows] == [
        ("changed", {"k": "a"}),
        ("changed", {"rowid": 4}),
    ]


def test_a_type_is_a_difference_and_what_is_no_text_is_shown_as_bytes(db: Database) -> None:
    db.sql("CREATE TABLE s(id INTEGER PRIMARY KEY, v)")
    db.sql("INSERT INTO s VALUES (1, 1), (2, CAST(x'ff41' AS TEXT)), (3, 'a')")
    fork = db.branch.create("fork")
    fork.sql("UPDATE s SET v = 1.0 WHERE id = 1")
    fork.sql("UPDATE s SET v = CAST(x'ff42' AS TEXT) WHERE id = 2")
    (table,) = db.diff("x@fork").tables
    assert [(row.before, row.after) for row in table.rows] == [
        ({"id": 1, "v": 1}, {"id": 1, "v": 1.0}),
        ({"id": 2, "v": b"\xffA"}, {"id": 2, "v": b"\xffB"}),
    ]
    assert counts(db.at(0), "x") == {"s": (3, 0, 0)}


def test_the_schema_has_its_own_differences(db: Database) -> None:
    db.sql("INSERT INTO t VALUES (1)")
    fork = db.branch.create("fork")
    fork.sql("ALTER TABLE t RENAME COLUMN v TO w")
    fork.sql("ALTER TABLE t ADD COLUMN n DEFAULT 7")
    fork.sql("CREATE INDEX i ON t(w)")
    fork.sql("CREATE VIEW shown AS SELECT w FROM t")
    found = db.diff("x@fork")
    assert [(change.type, change.name, change.kind) for change in found.schema] == [
        ("index", "i", "added"),
        ("view", "shown", "added"),
        ("table", "t", "changed"),
    ]
    assert not found.tables
    fork.sql("UPDATE t SET n = 8")
    assert counts(db, "x@fork") == {"t": (0, 0, 1)}


def test_full_text_is_told_by_its_content(db: Database) -> None:
    db.sql("CREATE VIRTUAL TABLE f USING fts5(title, body)")
    db.sql("CREATE VIRTUAL TABLE bare USING fts5(body, content='')")
    db.sql("INSERT INTO f VALUES ('one', 'tea'), ('two', 'coffee')")
    fork = db.branch.create("fork")
    fork.sql("UPDATE f SET body = 'water' WHERE title = 'two'")
    fork.sql("INSERT INTO bare(rowid, body) VALUES (7, 'milk')")
    bare, f = db.diff("x@fork").tables
    assert (f.name, f.rows[0].key, f.rows[0].before, f.rows[0].after) == (
        "f", {"rowid": 2}, {"title": "two", "body": "coffee"}, {"title": "two", "body": "water"},
    )  # fmt: skip
    assert (bare.name, bare.added, bare.rows[0].key) == ("bare", 1, {"rowid": 7})
    assert counts(db.at(1), "x@fork") == {"f": (2, 0, 0), "bare": (1, 0, 0)}


def test_a_virtual_table_that_keeps_its_rows_its_own_way(db: Database) -> None:
    db.sql("CREATE VIRTUAL TABLE boxes USING rtree(id, low, high)")
    db.batch([("INSERT INTO boxes VALUES (?, ?, ?)", [n, n, n + 1]) for n in range(100)])
    fork = db.branch.create("fork")
    fork.batch(["DELETE FROM boxes WHERE id = 5", "UPDATE boxes SET high = 99 WHERE id = 6"])
    fork.sql("INSERT INTO boxes VALUES (500, 0, 1)")
    assert counts(db, "x@fork") == {"boxes": (1, 1, 1)}


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("vacuum", ["NONE", "FULL", "INCREMENTAL"])
def test_imported_files_of_other_makes(mt: Memoturn, tmp_path: Path, encoding: str, vacuum: str) -> None:
    path = tmp_path / "made.sqlite"
    made = apsw.Connection(str(path))
    made.execute(
        f"PRAGMA encoding='{encoding}'; PRAGMA auto_vacuum={vacuum}; PRAGMA page_size=4096"
    ).fetchall()
    made.execute("BEGIN")
    made.execute("CREATE TABLE a(k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID")
    made.execute("CREATE TABLE b(id INTEGER PRIMARY KEY, v)")
    for n in range(700):
        made.execute("INSERT INTO a VALUES (?, ?)", (f"Kéy {n} " + "x" * (n % 3 * 700), "v" * n))
        made.execute("INSERT INTO b VALUES (?, ?)", (n, "v" * n * 20))
    made.execute("COMMIT")
    made.close()
    mt.databases.import_file("made", path)
    db = mt.db("made")
    fork = db.branch.create("fork")
    fork.sql("UPDATE a SET v = 'new' WHERE k = 'kéy 33 '")
    fork.sql("DELETE FROM a WHERE k LIKE 'Kéy 66_ %'")
    fork.sql("UPDATE b SET v = substr(v, 1, length(v) - 1) || 'w' WHERE id IN (5, 600)")
    fork.sql("DELETE FROM b WHERE id BETWEEN 100 AND 299")
    assert counts(db, "made@fork") == {"a": (0, 10, 1), "b": (0, 200, 2)}
    assert counts(fork, "made") == {"a": (10, 0, 1), "b": (200, 0, 2)}
    fork.sql("VACUUM")
    assert counts(db, "made@fork") == {"a": (0, 10, 1), "b": (0, 200, 2)}
    assert counts(db.at(0), "made") == {"a": (700, 0, 0), "b": (700, 0, 0)}
    assert counts(db, "made@main:0") == {"a": (0, 700, 0), "b": (0, 700, 0)}


@pytest.mark.parametrize("kind", [2, 5, 10, 13])
@pytest.mark.parametrize("filling", [0x00, 0x03, 0x7F, 0x81, 0xFF])
def test_what_lies_in_free_pages_is_nothing(mt: Memoturn, tmp_path: Path, kind: int, filling: int) -> None:
    path = tmp_path / "made.sqlite"
    made = apsw.Connection(str(path))
    made.execute("CREATE TABLE a(k PRIMARY KEY, v) WITHOUT ROWID; CREATE TABLE b(v); CREATE TABLE gone(v)")
    made.execute("INSERT INTO gone VALUES (zeroblob(100000))")
    made.execute("INSERT INTO a VALUES (1, 2); INSERT INTO b VALUES (1); DROP TABLE gone")
    trunk = path.read_bytes()[32:36]
    made.close()
    data = bytearray(path.read_bytes())
    start = (int.from_bytes(trunk) - 1) * 4096
    leaves = int.from_bytes(data[start + 4 : start + 8])
    assert leaves > 10
    for n in range(leaves):
        at = (int.from_bytes(data[start + 8 + 4 * n : start + 12 + 4 * n]) - 1) * 4096
        data[at : at + 4096] = bytes((kind,)) + bytes((filling,)) * 4095
    path.write_bytes(data)
    mt.databases.import_file("made", path)
    db = mt.db("made")
    fork = db.branch.create("fork")
    fork.batch([("INSERT INTO b VALUES (?)", ["x" * 1000]) for _ in range(50)])
    assert counts(db, "made@fork") == {"b": (50, 0, 0)}
    assert counts(fork, "made") == {"b": (0, 50, 0)}


# What is read.


def _large(db: Database) -> Database:
    """A table of some 40 MiB beside others; returns a fork."""
    db.sql("CREATE TABLE big(id INTEGER PRIMARY KEY, v)")
    db.sql("CREATE TABLE other(id INTEGER PRIMARY KEY, v)")
    db.sql("CREATE TABLE keyed(k TEXT PRIMARY KEY, v) WITHOUT ROWID")
    db.sql("CREATE TABLE named(k TEXT PRIMARY KEY, v)")
    fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
    db.sql(f"INSERT INTO big {fill} SELECT i, printf('%0400d', i) FROM n", [90_000])
    db.sql(f"INSERT INTO other {fill} SELECT i, printf('%0400d', i) FROM n", [10_000])
    db.sql(f"INSERT INTO keyed {fill} SELECT printf('key%08d', i), printf('%0200d', i) FROM n", [20_000])
    db.sql(f"INSERT INTO named {fill} SELECT printf('key%08d', i), printf('%0200d', i) FROM n", [20_000])
    fork = db.branch.create("fork")
    ship(db)
    return fork


def test_one_row_of_a_large_table_takes_a_handful_of_pages(db: Database, reads: set[tuple[int, int]]) -> None:
    fork = _large(db)
    fork.sql("UPDATE big SET v = 'new' WHERE id = 45678")
    ship(fork)
    reads.clear()
    assert counts(db, "x@fork") == {"big": (0, 0, 1)}
    # Of each view: page 1, the path to the leaf, the leaf, and the roots of the two other tables at most.
    assert len(reads) <= 10
    assert branch_of(db).head().page_count > 10_000


def test_one_row_without_rowid_takes_a_handful_of_pages(db: Database, reads: set[tuple[int, int]]) -> None:
    fork = _large(db)
    fork.sql("DELETE FROM keyed WHERE k = 'key00012345'")
    ship(fork)
    reads.clear()
    assert counts(db, "x@fork") == {"keyed": (0, 1, 0)}
    assert len(reads) <= 16


def test_one_row_of_a_key_that_is_no_number_takes_a_handful_of_pages(
    db: Database, reads: set[tuple[int, int]]
) -> None:
    fork = _large(db)
    fork.sql("REPLACE INTO named VALUES ('key00012345', 'new')")
    ship(fork)
    reads.clear()
    assert counts(db, "x@fork") == {"named": (0, 0, 1)}
    assert len(reads) <= 40


def test_a_table_whose_pages_are_the_same_is_not_read(db: Database, reads: set[tuple[int, int]]) -> None:
    fork = _large(db)
    fork.sql("INSERT INTO t VALUES (1)")
    ship(fork)
    reads.clear()
    found = db.diff("x@fork")
    assert [table.name for table in found.tables] == ["t"]
    assert found.pages <= 2
    assert {page for _, page in reads} <= {1, 2}


def test_a_long_value_that_changed_at_its_end_is_found_near_its_leaf(
    db: Database, reads: set[tuple[int, int]]
) -> None:
    fork = _large(db)
    fork.sql("UPDATE big SET v = v || printf('%09000d', 7) WHERE id = 45678")
    second = fork.branch.create("second")
    second.sql("UPDATE big SET v = substr(v, 1, length(v) - 1) || '8' WHERE id = 45678")
    ship(fork)
    ship(second)
    reads.clear()
    assert counts(fork, "x@second") == {"big": (0, 0, 1)}
    assert fork.diff("x@second").pages <= 2
    # The interior pages of all tables, to find the leaves that are near.
    assert len(reads) <= 400


def test_long_keys_of_an_index_do_not_have_every_leaf_read(db: Database, reads: set[tuple[int, int]]) -> None:
    _large(db)
    db.sql("CREATE TABLE notes(id INTEGER PRIMARY KEY, body)")
    db.sql("CREATE INDEX by_body ON notes(body)")
    db.batch([("INSERT INTO notes VALUES (?, ?)", [n, f"{n} " * 3000]) for n in range(50)])
    third = db.branch.create("third")
    ship(db)
    third.sql("UPDATE notes SET body = replace(body, '2', '3') WHERE id = 22")
    ship(third)
    reads.clear()
    assert counts(db, "x@third") == {"notes": (0, 0, 1)}
    assert len(reads) <= 100


@pytest.mark.parametrize(
    ("keyed", "expected"), [("", (0, 0, 1)), (" WITHOUT ROWID", (3, 3, 0))], ids=["rowid", "without rowid"]
)
def test_a_table_with_another_key_is_compared_by_its_rowids(
    db: Database, keyed: str, expected: tuple[int, int, int]
) -> None:
    db.sql(f"CREATE TABLE k(a, b, c, PRIMARY KEY (a)){keyed}")
    db.sql("INSERT INTO k VALUES (1, 30, 'x'), (2, 20, 'y'), (3, 10, 'z')")
    fork = db.branch.create("fork")
    fork.batch(
        [
            "ALTER TABLE k RENAME TO old",
            f"CREATE TABLE k(a, b, c, PRIMARY KEY (b)){keyed}",
            "INSERT INTO k SELECT * FROM old ORDER BY a",
            "UPDATE k SET c = 'other' WHERE a = 2",
            "DROP TABLE old",
        ]
    )
    assert counts(db, "x@fork") == {"k": expected}


# The models.


def test_keys_by_namespace(db: Database, clock: ManualClock) -> None:
    for key in ("kept", "gone", "again"):
        db.kv.put("scratch", key, f"1 {key}")
    db.kv.put("scratch", "short", "x", ttl=10)
    db.kv.put("other", "kept", "1")
    fork = db.branch.create("fork")
    fork.kv.put("scratch", "again", "2")
    fork.kv.put("scratch", "new", b"\x00")
    fork.kv.delete("scratch", "gone")
    clock.advance(11)
    fork.sql("INSERT INTO t VALUES (1)")
    branch_of(fork).write(lambda connection: _sweep(connection, clock.now_ms()))
    (kv,) = db.diff("x@fork").kv
    assert (kv.ns, kv.set, kv.deleted, kv.expired) == ("scratch", 2, 1, 1)
    assert {(k.key, k.kind, k.before, k.after) for k in kv.keys} == {
        ("again", "set", b"1 again", b"2"),
        ("new", "set", None, b"\x00"),
        ("gone", "deleted", b"1 gone", None),
        ("short", "expired", b"x", None),
    }


def test_what_was_removed_before_its_time_was_not_expired_whenever_it_is_asked(
    mt: Memoturn, clock: ManualClock
) -> None:
    alice = mt.memory("acme", "alice")
    task = alice.ingest([{"type": "task", "summary": "book a table", "ttl": 60}]).memories[0].id
    alice.db.kv.put("scratch", "plan", b"x", ttl=60)
    before = alice.db.txid
    clock.advance(10)
    alice.forget(task)
    alice.db.kv.delete("scratch", "plan")
    at_once = alice.db.at(before).diff("acme--alice@main")
    clock.advance(3600)
    later = alice.db.at(before).diff("acme--alice@main")
    assert later == at_once
    assert later.memories is not None
    assert (later.memories.forgotten, later.memories.expired) == (1, 0)
    assert [(keys.deleted, keys.expired) for keys in later.kv] == [(1, 0)]


def _sweep(connection: Any, now: int) -> int:
    from memoturn.models.kv import sweep

    return sweep(connection, now, 100)


def test_documents_by_collection_with_the_paths_that_changed(db: Database) -> None:
    db.docs.insert(
        "people", {"_id": "a", "name": "A", "tags": [1, 2], "address": {"city": "X", "zip": 1}, "ok": 1}
    )
    db.docs.insert("people", {"_id": "b"})
    fork = db.branch.create("fork")
    fork.docs.update(
        "people", {"_id": "a"}, {"$set": {"address.city": "Y", "age": 5, "ok": True}, "$push": {"tags": 3}}
    )
    fork.docs.delete("people", {"_id": "b"})
    fork.docs.insert("people", {"_id": "c"})
    fork.docs.insert("Fresh", {"_id": "d", "n": 1})
    fresh, people = db.diff("x@fork").docs
    assert (fresh.collection, fresh.added, fresh.documents[0].after) == ("Fresh", 1, {"_id": "d", "n": 1})
    assert (people.added, people.removed, people.changed) == (1, 1, 1)
    changed, added, removed = people.documents
    assert (changed.id, changed.paths) == ("a", ["address.city", "age", "ok", "tags"])
    assert (added.id, removed.id, removed.before) == ("c", "b", {"_id": "b"})


def test_vectors_by_collection(db: Database) -> None:
    db.vectors.upsert("c", "a", [1.0, 2.0], {"n": 1})
    db.vectors.upsert("c", "b", [1.0, 2.0])
    fork = db.branch.create("fork")
    fork.vectors.upsert("c", "a", [1.0, 3.0], {"n": 2})
    fork.vectors.delete("c", "b")
    fork.vectors.upsert("c", "z", [0.0, 1.0])
    found = db.diff("x@fork")
    (c,) = found.vectors
    assert (c.added, c.removed, c.changed) == (1, 1, 1)
    assert [(v.id, v.kind, v.before, v.after) for v in c.vectors] == [
        ("a", "changed", {"n": 1}, {"n": 2}),
        ("z", "added", None, None),
        ("b", "removed", None, None),
    ]
    assert not found.tables


def test_turns_by_session(db: Database) -> None:
    db.turns.append("s", "user", "hello")
    fork = db.branch.create("fork")
    db.turns.append("s", "user", "on main")
    fork.turns.append("s", "assistant", "on the fork")
    fork.turns.append("new", "user", "first")
    found = db.diff("x@fork")
    new, s = found.turns
    assert (new.session, new.appended, new.removed) == ("new", 1, 0)
    assert (s.appended, s.removed, s.turns[0].content, s.gone[0].content) == (
        1, 1, "on the fork", "on main",
    )  # fmt: skip
    assert not found.tables
    assert not found.schema


def test_memories_by_what_became_of_them(mt: Memoturn, clock: ManualClock) -> None:
    alice = mt.memory("acme", "alice")

    def fact(topic: str, summary: str) -> dict[str, Any]:
        return {"type": "fact", "topic_key": topic, "summary": summary}

    alice.ingest([fact("user.diet", "vegetarian"), fact("user.city", "Rome"), fact("user.city", "Oslo")])
    alice.ingest([{"type": "task", "summary": "buy milk", "ttl": 1}])
    alice.checkpoint("before")
    clock.advance(2)
    alice.ingest([{"type": "task", "summary": "buy milk", "ttl": 60}])
    alice.ingest([fact("user.diet", "vegan"), fact("user.city", "Rome")])
    alice.ingest([{"type": "event", "summary": "went to the sea"}])
    db = alice.db
    found = db.at("before").diff("acme--alice")
    assert found.memories is not None
    told = {(m.kind, m.summary) for m in found.memories.memories}
    assert told == {
        ("superseded", "vegetarian"),
        ("added", "vegan"),
        ("superseded", "Oslo"),
        ("revived", "Rome"),
        ("revived", "buy milk"),
        ("added", "went to the sea"),
    }
    assert (found.memories.added, found.memories.superseded, found.memories.revived) == (2, 2, 2)
    vegan = next(m for m in found.memories.memories if m.summary == "vegan")
    old = next(m for m in found.memories.memories if m.summary == "vegetarian")
    assert (old.superseded_by, old.topic_key) == (vegan.id, "user.diet")
    assert not found.tables
    assert not found.schema
    alice.forget(vegan.id)
    found = db.at("before").diff("acme--alice")
    assert found.memories is not None
    assert ("superseded", "vegetarian") in {(m.kind, m.summary) for m in found.memories.memories}
    back = db.diff("acme--alice@main:before")
    assert back.memories is not None
    assert ("forgotten", "went to the sea") in {(m.kind, m.summary) for m in back.memories.memories}


# Promotion.


def test_a_dry_run_shows_what_a_promotion_would_change(db: Database, mt: Memoturn) -> None:
    fork = db.branch.create("fork", ttl=3600)
    fork.sql("INSERT INTO t VALUES (1)")
    would = fork.branch.promote(dry_run=True)
    assert (would.default_branch, would.would_be) == ("main", "fork")
    assert [(table.name, table.added) for table in would.diff.tables] == [("t", 1)]
    assert mt.databases.get("x").default_branch == "main"
    assert fork.branch.get().ttl_at is not None
    fork.branch.promote()
    assert fork.branch.promote(dry_run=True).diff.is_empty
