"""From a transaction to the bucket: what a commit holds, and what becomes of one that is not durable."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memoturn import Database, Memoturn
from memoturn.base.errors import ClosedError, PayloadTooLargeError, UnavailableError
from memoturn.base.settings import CommitSettings, Settings
from memoturn.database import commit
from memoturn.database.group import LogFailedError
from tests.support import (
    ManualClock,
    assert_view_is_whole,
    assert_whole,
    branch_of,
    content_of_file,
    plain_content,
    values,
)

Opener = Callable[..., Memoturn]
SLOW = Settings(commit=CommitSettings(ship_interval_ms=60_000))


@pytest.fixture
def stored(open_store: Opener, file_url: str) -> Database:
    """A database in files, with nothing shipped by itself."""
    mt = open_store(file_url, settings=SLOW)
    mt.databases.create("x")
    db = mt.db("x")
    db.sql("CREATE TABLE t(v)")
    return db


@pytest.fixture
def failing_sync(stored: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """While the list is not empty, each sync of the log takes an error number from it and fails."""
    errors: list[int] = []
    log = branch_of(stored)._env.log
    assert log is not None
    directory = log._directory
    create = directory.create

    class Failing:
        def __init__(self, file: object) -> None:
            self._file = file

        def sync(self) -> None:
            if errors:
                raise OSError(errors.pop(0), "the disk is gone")
            self._file.sync()  # type: ignore[attr-defined]

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

    monkeypatch.setattr(directory, "create", lambda name, size: Failing(create(name, size)))
    active = log._active
    if active is not None:
        monkeypatch.setattr(active, "file", Failing(active.file))
    yield errors
    errors.clear()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_commit_that_is_not_durable_never_was(
    stored: Database, failing_sync: list[int], error: int
) -> None:
    branch = branch_of(stored)
    stored.sql("INSERT INTO t VALUES (1)")
    writer, epoch, txid = branch._writer, branch._epoch, stored.txid
    failing_sync.append(error)
    with pytest.raises(LogFailedError, match="the disk is gone") as failed:
        stored.sql("INSERT INTO t VALUES (2)")
    assert isinstance(failed.value, UnavailableError)
    assert branch._writer is not writer, "its connection believes what did not happen"
    assert (stored.txid, values(stored)) == (txid, [1])
    assert stored.sql("INSERT INTO t VALUES (3)").txid == txid + 1
    assert branch._epoch > epoch, "which makes the record void, if it reached the disk"
    assert values(stored) == [1, 3]
    stored.sync()
    assert values(stored) == [1, 3]
    assert_whole(stored)


def test_a_batch_that_is_not_durable_never_was(stored: Database, failing_sync: list[int]) -> None:
    failing_sync.append(errno.EIO)
    with pytest.raises(UnavailableError):
        stored.batch(["CREATE TABLE u(v)", "INSERT INTO u VALUES (1)"])
    assert values(stored, "SELECT count(*) FROM sqlite_schema") == [1]
    stored.batch(["CREATE TABLE u(v)", "INSERT INTO u VALUES (1)"])
    assert values(stored, "SELECT v FROM u") == [1]
    assert_whole(stored)


def test_what_failed_is_not_there_after_a_reopening(
    stored: Database, failing_sync: list[int], open_store: Opener, file_url: str
) -> None:
    stored.sql("INSERT INTO t VALUES (1)")
    failing_sync.append(errno.EIO)
    with pytest.raises(UnavailableError):
        stored.sql("INSERT INTO t VALUES (2)")
    stored.sql("INSERT INTO t VALUES (3)")
    stored._engine.close()
    with pytest.raises(ClosedError):
        stored.sql("SELECT 1")
    again = open_store(file_url).db("x")
    assert values(again) == [1, 3]
    assert_whole(again)


def test_reading_goes_on_while_the_log_cannot_be_written(stored: Database, failing_sync: list[int]) -> None:
    stored.sql("INSERT INTO t VALUES (1)")
    for _ in range(5):
        failing_sync.append(errno.EIO)
        with pytest.raises(UnavailableError):
            stored.sql("INSERT INTO t VALUES (2)")
        assert values(stored) == [1]
        assert values(stored.at(1)) == []
    failing_sync.clear()
    stored.sql("INSERT INTO t VALUES (3)")
    assert values(stored) == [1, 3]


@pytest.mark.parametrize("url", ["memory", "file"])
def test_a_commit_that_no_segment_could_hold_is_refused_before_it_is_logged(
    open_store: Opener, file_url: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mt = open_store("memory:" if url == "memory" else file_url, settings=SLOW)
    mt.databases.create("x")
    db = mt.db("x")
    txid = db.sql("CREATE TABLE t(v)").txid
    monkeypatch.setattr(commit, "_MOST_PAGES", 3)
    with pytest.raises(PayloadTooLargeError, match=f"transaction {txid + 1} changes 4 pages; 3 is the most"):
        db.sql("INSERT INTO t VALUES (zeroblob(12000))")
    assert (db.txid, values(db)) == (txid, [])
    assert db.sql("INSERT INTO t VALUES (1)").txid == txid + 1
    db.sync()
    assert values(db) == [1]
    assert_whole(db)


@pytest.mark.parametrize("url", ["memory", "file"])
def test_durable_means_in_the_bucket(open_store: Opener, file_url: str, url: str) -> None:
    mt = open_store("memory:" if url == "memory" else file_url, durability="durable", settings=SLOW)
    mt.databases.create("x")
    db = mt.db("x")
    for i in range(5):
        txid = db.sql("CREATE TABLE t(v)" if i == 0 else f"INSERT INTO t VALUES ({i})").txid
        assert branch_of(db).manifest().head_txid == txid
        assert branch_of(db).backlog == 0
    assert len(branch_of(db).manifest().segments) == 5
    assert_whole(db)


def test_standard_ships_in_one_pack_what_waits_together(stored: Database) -> None:
    for i in range(10):
        stored.sql("INSERT INTO t VALUES (?)", [i])
    branch = branch_of(stored)
    assert branch.manifest().head_txid == 0
    assert stored.sync() == 11
    assert branch.manifest().segments == ("ltx/0/1-11-1.ltx",)
    assert branch.backlog == 0
    assert stored.sync() == 11
    assert branch.manifest().segments == ("ltx/0/1-11-1.ltx",)


def test_a_fork_or_a_checkpoint_ships_what_it_names(stored: Database) -> None:
    branch = branch_of(stored)
    stored.sql("INSERT INTO t VALUES (1)")
    stored.branch.checkpoint("c")
    assert branch.manifest().head_txid == 2
    stored.sql("INSERT INTO t VALUES (2)")
    stored.branch.create("f")
    assert branch.manifest().head_txid == 3
    stored.sql("INSERT INTO t VALUES (3)")
    stored.branch.create("g", txid=4)
    assert branch.manifest().head_txid == 4


def test_a_commits_time_never_runs_backwards(stored: Database, clock: ManualClock) -> None:
    for step in (0, -5000, 10, -1):
        clock.ms += step
        stored.sql("INSERT INTO t VALUES (1)")
    times = [entry.time for entry in stored.branch.history()]
    assert times == sorted(times, reverse=True)


def test_a_commit_holds_the_pages_that_changed_and_no_other(stored: Database) -> None:
    stored.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
               "INSERT INTO t SELECT hex(zeroblob(100)) FROM n")  # fmt: skip
    stored.sql("UPDATE t SET v = 'x' WHERE rowid = 1000")
    last = next(iter(stored.branch.history()))
    assert last.pages <= 2
    txid = stored.txid
    assert stored.sql("UPDATE t SET v = 'x' WHERE rowid = 1000").txid == txid, "the same bytes are no commit"


# Histories: every view is whole, and the last one is what plain SQLite makes of the same statements.

HISTORIES = {
    "grow": ["CREATE TABLE t(v)"] + [f"INSERT INTO t VALUES (zeroblob({i * 500}))" for i in range(30)],
    "shrink": [
        "CREATE TABLE t(v)",
        "INSERT INTO t VALUES (zeroblob(300000))",
        "INSERT INTO t VALUES (zeroblob(300000))",
        "DELETE FROM t WHERE rowid = 1",
        "VACUUM",
        "INSERT INTO t VALUES (zeroblob(100000))",
        "DELETE FROM t",
        "VACUUM",
    ],
    "schema": [
        "CREATE TABLE a(v)",
        "CREATE INDEX i ON a(v)",
        "INSERT INTO a VALUES (1), (2)",
        "ALTER TABLE a ADD COLUMN w DEFAULT 7",
        "ALTER TABLE a RENAME TO b",
        "CREATE TABLE c AS SELECT * FROM b",
        "ALTER TABLE c DROP COLUMN w",
        "DROP TABLE b",
        "CREATE VIRTUAL TABLE f USING fts5(x, prefix='2 3')",
        "INSERT INTO f VALUES ('agents remember'), ('agents forget')",
        "DELETE FROM f WHERE f MATCH 'forget'",
        "DROP TABLE f",
    ],
    "churn": ["CREATE TABLE t(k INTEGER PRIMARY KEY, v)"]
    + [
        statement
        for i in range(12)
        for statement in (
            f"INSERT OR REPLACE INTO t SELECT value, printf('%0300d', value * {i}) FROM json_each('[1,2,3,5,8,13]')",
            f"DELETE FROM t WHERE k % 3 = {i % 3}",
            f"UPDATE t SET v = v || zeroblob({i * 3000})",
        )
    ],
}


@pytest.mark.parametrize("name", HISTORIES)
@pytest.mark.parametrize("ship", ["never", "always", "sometimes"])
def test_every_position_of_a_history_is_whole(
    open_store: Opener, file_url: str, tmp_path: Path, name: str, ship: str
) -> None:
    mt = open_store(file_url, settings=SLOW)
    mt.databases.create("x")
    db = mt.db("x")
    for number, statement in enumerate(HISTORIES[name]):
        db.sql(statement)
        assert_view_is_whole(branch_of(db).head())
        if ship == "always" or (ship == "sometimes" and number % 4 == 3):
            db.sync()
    assert_whole(db)
    db.export(tmp_path / "out.sqlite")
    assert content_of_file(tmp_path / "out.sqlite") == plain_content(HISTORIES[name])
    half = db.txid // 2
    fork = db.branch.create("f", txid=half)
    db.branch.rewind(half)
    for handle in (fork, db):
        handle.sql("CREATE TABLE afterwards(v)")
        handle.sql("INSERT INTO afterwards VALUES (zeroblob(50000))")
        assert_whole(handle)
    fork.export(tmp_path / "fork.sqlite")
    db.export(tmp_path / "rewound.sqlite")
    assert content_of_file(tmp_path / "fork.sqlite") == content_of_file(tmp_path / "rewound.sqlite")
    mt.close()
    again = open_store(file_url)
    assert_whole(again.db("x"))
    assert_whole(again.db("x@f"))


def test_commits_are_prepared_in_brief_pieces_and_shipped_as_they_were_prepared(stored: Database) -> None:
    branch = branch_of(stored)
    for number in range(30):
        stored.sql("INSERT INTO t VALUES (?)", [number])
    waiting = branch.unshipped()
    pieces = 0
    done = 0
    for _ in branch.prepare():
        pieces += 1
        packed = sum(commit.is_packed for commit in waiting)
        assert 0 < packed - done <= 4
        done = packed
    assert pieces >= 7
    assert all(commit.is_packed for commit in waiting)
    assert list(branch.prepare()) == []
    stored.sync()
    assert stored.sql("SELECT count(*) AS n FROM t") == [{"n": 30}]
    assert branch.unshipped() == []
