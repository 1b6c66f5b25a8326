"""Several processes on one `file:` store, as people use SQLite."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from memoturn import BranchNotFoundError, BusyError, ConflictError, Memoturn
from memoturn.base.errors import UnavailableError
from memoturn.base.settings import CommitSettings, Settings
from tests.database.programs import Program, ProgramError
from tests.support import assert_view_is_whole, branch_of, values

PATIENT = Settings(commit=CommitSettings(busy_timeout=20.0, ship_interval_ms=60_000))
HASTY = Settings(commit=CommitSettings(busy_timeout=0.3, ship_interval_ms=60_000))
"""Nothing ships by itself within a test, so what others see they see in the log."""

Opener = Callable[..., Memoturn]


@pytest.fixture
def mt(open_store: Opener, file_url: str) -> Memoturn:
    """A store in files with a database `x` and a table `t(v)`."""
    store = open_store(file_url, settings=PATIENT, clock=None)
    store.databases.create("x")
    store.db("x").sql("CREATE TABLE t(v)")
    return store


def is_whole(mt: Memoturn) -> None:
    assert_view_is_whole(branch_of(mt.db("x")).head())


def test_two_writers_that_alternate_hand_over_and_lose_nothing(mt: Memoturn, file_url: str) -> None:
    db = mt.db("x")
    with Program(file_url) as other:
        for i in range(15):
            db.sql("INSERT INTO t VALUES (?)", [2 * i])
            other.sql("x", "INSERT INTO t VALUES (?)", [2 * i + 1])
            assert values(db, "SELECT count(*) FROM t") == [2 * i + 2]
        assert values(db) == list(range(30))
        assert other.sql("x", "SELECT count(*) AS n FROM t") == [{"n": 30}]
    is_whole(mt)


def test_two_writers_at_once_lose_nothing(mt: Memoturn, file_url: str) -> None:
    db = mt.db("x")
    with Program(file_url) as one, Program(file_url) as two:
        one.start("insert", "x", 1000, 40)
        two.start("insert", "x", 2000, 40)
        for i in range(40):
            db.sql("INSERT INTO t VALUES (?)", [i])
        one.finish()
        two.finish()
        expected = [*range(40), *range(1000, 1040), *range(2000, 2040)]
        assert sorted(values(db)) == expected
        # Each writer's own commits are in the order in which it made them.
        for low in (0, 1000, 2000):
            mine = [v for v in values(db) if low <= v < low + 40]
            assert mine == sorted(mine)
        assert db.txid == 1 + 120
    is_whole(mt)


def test_a_reader_sees_the_commits_of_another_process_at_once(mt: Memoturn, file_url: str) -> None:
    db = mt.db("x")
    with Program(file_url) as writer:
        for i in range(50):
            writer.sql("x", "INSERT INTO t VALUES (?)", [i])
            rows = db.sql("SELECT max(v) AS m FROM t")
            assert rows == [{"m": i}]
            assert rows.txid == 2 + i
        branch = branch_of(db)
        assert branch.manifest().head_txid == 1, "nothing of it has shipped"
        assert_view_is_whole(branch.head())
        assert values(db.at(20)) == list(range(19))
        writer.do("sync")
        assert values(db) == list(range(50))
        assert branch.manifest().head_txid == 51


def test_a_reader_keeps_up_with_a_writer_that_never_pauses(mt: Memoturn, file_url: str) -> None:
    db = mt.db("x")
    with Program(file_url, ship_interval_ms=20) as writer:
        writer.start("insert", "x", 0, 400)
        seen = 0
        while seen < 400:
            rows = db.sql("SELECT count(*) AS n, max(v) AS m FROM t")
            n = rows[0]["n"]
            assert isinstance(n, int)
            assert n >= seen, "a reader goes back in time"
            assert n == 0 or rows[0]["m"] == n - 1
            assert rows.txid == n + 1
            seen = n
        writer.finish()
    is_whole(mt)


def test_a_stopped_writer_is_named_and_goes_on_when_it_may(mt: Memoturn, file_url: str) -> None:
    hasty = Memoturn(file_url, settings=HASTY)
    db = hasty.db("x")
    with Program(file_url) as holder:
        holder.sql("x", "INSERT INTO t VALUES (1)")
        holder.stop()
        assert values(db) == [1], "reading needs no lock"
        with pytest.raises(BusyError, match=rf"process {holder.pid} \(") as busy:
            db.sql("INSERT INTO t VALUES (2)")
        assert busy.value.code == "unavailable"
        with pytest.raises(BusyError):
            db.branch.rewind(1)
        holder.resume()
        assert holder.sql("x", "INSERT INTO t VALUES (3) RETURNING v") == [{"v": 3}]
        patient = mt.db("x")
        patient.sql("INSERT INTO t VALUES (4)")
        assert values(db) == [1, 3, 4]
        assert holder.sql("x", "SELECT count(*) AS n FROM t") == [{"n": 3}]
    hasty.close()
    is_whole(mt)


@pytest.mark.parametrize("how", ["write", "read", "fork", "rewind"])
def test_what_a_killed_process_acknowledged_is_there_for_whoever_comes_next(
    open_store: Opener, file_url: str, how: str
) -> None:
    with Program(file_url) as writer:
        writer.do("create", "x")
        writer.sql("x", "CREATE TABLE t(v)")
        writer.do("insert", "x", 0, 25)
        writer.kill()
    mt = open_store(file_url, settings=HASTY, clock=None)
    db = mt.db("x")
    if how == "write":
        db.sql("INSERT INTO t VALUES (25)")
    elif how == "fork":
        assert values(db.branch.create("f")) == list(range(25))
    elif how == "rewind":
        done = db.branch.rewind(10)
        assert values(db) == list(range(9))
        db.branch.undo(done.undo)
    assert values(db)[:25] == list(range(25))
    is_whole(mt)


def test_a_process_that_was_open_already_takes_over_from_one_that_was_killed(
    mt: Memoturn, file_url: str
) -> None:
    db = mt.db("x")
    with Program(file_url) as writer:
        writer.do("insert", "x", 0, 25)
        assert values(db) == list(range(25))
        writer.do("insert", "x", 25, 5)
        writer.kill()
    assert values(db) == list(range(30))
    db.sql("INSERT INTO t VALUES (30)")
    assert values(db) == list(range(31))
    is_whole(mt)


def test_processes_that_start_together_recover_the_same_log_once(file_url: str) -> None:
    with Program(file_url) as writer:
        writer.do("create", "x")
        writer.sql("x", "CREATE TABLE t(v)")
        writer.do("insert", "x", 0, 20)
        writer.kill()
    found: list[object] = []

    def start() -> None:
        with Program(file_url) as program:
            found.append(program.sql("x", "SELECT count(*) AS n, max(v) AS m FROM t"))
            program.sql("x", "INSERT INTO t VALUES ('started')")

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    with Memoturn(file_url) as mt:
        assert values(mt.db("x")) == [*range(20), *["started"] * 4]
        is_whole(mt)


def test_branch_operations_of_one_process_are_seen_by_another(mt: Memoturn, file_url: str) -> None:
    db = mt.db("x")
    with Program(file_url) as other:
        other.do("insert", "x", 0, 3)
        other.do("branch", "x", "checkpoint", "three")
        assert values(db.at("three")) == [0, 1, 2]
        db.sql("INSERT INTO t VALUES ('mine')")
        other.do("branch", "x", "rewind", "three")
        assert values(db) == [0, 1, 2]
        done = db.branch.rewind(2)
        assert other.sql("x", "SELECT v FROM t") == [{"v": 0}]
        other.do("branch", "x", "undo", done.undo)
        assert values(db) == [0, 1, 2]
        other.do("branch", "x", "create", "f")
        assert values(mt.db("x@f")) == [0, 1, 2]
        mt.db("x@f").sql("INSERT INTO t VALUES ('on f')")
        other.do("branch", "x@f", "promote")
        assert values(db) == [0, 1, 2, "on f"]
        other.do("branch", "x@main", "delete_checkpoint", "three")
        assert mt.db("x@main").branch.checkpoints() == []


def test_a_branch_that_another_process_deleted_cannot_be_written(mt: Memoturn, file_url: str) -> None:
    fork = mt.db("x").branch.create("f")
    fork.sql("INSERT INTO t VALUES (1)")
    with Program(file_url) as other:
        token = other.do("branch", "x@f", "delete")
        with pytest.raises(BranchNotFoundError):
            fork.sql("INSERT INTO t VALUES (2)")
        with pytest.raises(BranchNotFoundError):
            fork.sql("SELECT * FROM t")
        other.do("branch", "x", "create", "f")
        assert values(fork) == [], "the name stands for another branch now"
        fork.branch.delete()
        with pytest.raises(ConflictError):
            mt.db("x").branch.undo(token)


@pytest.mark.parametrize("what", ["branch", "database"])
def test_a_process_that_deleted_something_lets_others_write_it_when_they_take_that_back(
    mt: Memoturn, file_url: str, what: str
) -> None:
    """Deleting gives up the lock, as nobody could ask for it any more."""
    fork = mt.db("x").branch.create("f")
    with Program(file_url) as other:
        fork.sql("INSERT INTO t VALUES (1)")
        token = fork.branch.delete().undo if what == "branch" else mt.databases.delete("x").undo
        other.do("undo", "x", token)
        other.sql("x@f", "INSERT INTO t VALUES (2)")
        assert values(fork) == [1, 2]


def test_two_stores_in_one_process_are_like_two_processes(
    open_store: Opener, mt: Memoturn, file_url: str
) -> None:
    other = open_store(file_url, settings=PATIENT, clock=None)
    one, two = mt.db("x"), other.db("x")
    for i in range(10):
        one.sql("INSERT INTO t VALUES (?)", [2 * i])
        two.sql("INSERT INTO t VALUES (?)", [2 * i + 1])
    assert values(one) == values(two) == list(range(20))

    def write(db: object, low: int) -> None:
        for i in range(20):
            db.sql("INSERT INTO t VALUES (?)", [low + i])  # type: ignore[attr-defined]

    threads = [threading.Thread(target=write, args=(db, low)) for db, low in ((one, 100), (two, 200))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(values(two))[20:] == [*range(100, 120), *range(200, 220)]
    other.close()
    one.sql("INSERT INTO t VALUES ('after the other was closed')")
    is_whole(mt)


def test_a_long_write_on_one_branch_keeps_no_other_from_being_handed_over(
    open_store: Opener, mt: Memoturn, file_url: str
) -> None:
    one, two = mt.db("x"), mt.db("x").branch.create("f")
    two.sql("INSERT INTO t VALUES (1)")
    inside, leave = threading.Event(), threading.Event()

    def work(connection: apsw.Connection) -> None:
        inside.set()
        leave.wait()
        connection.execute("INSERT INTO t VALUES ('long')")

    writer = threading.Thread(target=lambda: branch_of(one).write(work))
    writer.start()
    inside.wait()
    other = open_store(file_url, settings=PATIENT, clock=None)
    try:
        with pytest.raises(BusyError):
            open_store(file_url, settings=HASTY, clock=None).db("x").sql("INSERT INTO t VALUES ('refused')")
        other.db("x@f").sql("INSERT INTO t VALUES (2)")
    finally:
        leave.set()
        writer.join()
    other.db("x").sql("INSERT INTO t VALUES ('after')")
    assert values(one) == ["long", "after"]
    assert values(two) == [1, 2]


class Interruption(BaseException):
    """What the handler of a signal raises."""


def test_a_signal_right_after_the_lock_was_taken_locks_nobody_out(
    open_store: Opener, mt: Memoturn, file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch = branch_of(mt.db("x"))
    branch.rest()
    machine = mt._engine._machine
    assert machine is not None
    real = machine.try_lock

    def interrupted(incarnation: str) -> bool:
        assert real(incarnation)
        raise Interruption

    monkeypatch.setattr(machine, "try_lock", interrupted)
    with pytest.raises(Interruption):
        mt.db("x").sql("INSERT INTO t VALUES (1)")
    monkeypatch.undo()
    open_store(file_url, settings=HASTY, clock=None).db("x").sql("INSERT INTO t VALUES (2)")
    assert values(mt.db("x")) == [2]


def test_a_hand_over_that_fails_for_no_foreseen_reason_is_told_and_tried_again(
    open_store: Opener,
    mt: Memoturn,
    file_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mt.db("x").sql("INSERT INTO t VALUES (1)")
    branch, faults = branch_of(mt.db("x")), ["no thread", "no reason"]
    start, hand_over = threading.Thread.start, branch.hand_over

    def failing_start(thread: threading.Thread) -> None:
        if thread.name == "memoturn-hand-over" and "no thread" in faults:
            raise RuntimeError(faults.pop(0))
        start(thread)

    def failing_hand_over() -> None:
        if faults:
            raise ZeroDivisionError(faults.pop(0))
        hand_over()

    monkeypatch.setattr(threading.Thread, "start", failing_start)
    monkeypatch.setattr(branch, "hand_over", failing_hand_over)
    open_store(file_url, clock=None).db("x").sql("INSERT INTO t VALUES (2)")
    assert values(mt.db("x")) == [1, 2]
    assert "no thread" in caplog.text
    assert "no reason" in caplog.text


def test_a_forked_child_is_told_to_open_its_own(file_url: str) -> None:
    code = f"""
import os, sys
from memoturn import Memoturn
mt = Memoturn({file_url!r})
mt.databases.create("x")
db = mt.db("x")
db.sql("CREATE TABLE t(v)")
db.sql("INSERT INTO t VALUES (1)")
child = os.fork()
if child == 0:
    calls = [
        lambda: db.sql("SELECT 1"), lambda: db.sql("INSERT INTO t VALUES (2)"), lambda: mt.sync(),
        lambda: mt.databases.create("y"), lambda: list(mt.databases.list()), lambda: db.branch.checkpoint("c"),
        lambda: mt.databases.delete("x"), lambda: db.sync(), lambda: db.branch.create("f"),
    ]
    for number, call in enumerate(calls):
        try:
            call()
        except Exception as error:
            if "open a new one in the child" not in str(error):
                print(number, repr(error), flush=True)
                os._exit(1)
        else:
            print(number, "did not raise", flush=True)
            os._exit(1)
    mt.close()
    with Memoturn({file_url!r}) as own:
        own.db("x").sql("INSERT INTO t VALUES ('child')")
    os._exit(0)
_, status = os.waitpid(child, 0)
db.sql("INSERT INTO t VALUES ('parent')")
print(status, [row["v"] for row in db.sql("SELECT v FROM t")])
mt.close()
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
    )
    assert (done.stdout, done.stderr) == ("0 [1, 'child', 'parent']\n", "")


def test_a_closed_store_leaves_no_node_and_no_lock(file_url: str, tmp_path: Path) -> None:
    with Memoturn(file_url) as mt:
        mt.databases.create("x")
        mt.db("x").sql("CREATE TABLE t(v)")
    node = tmp_path / "store" / "node"
    assert list((node / "nodes").iterdir()) == []
    assert list((node / "locks").iterdir()) == []


@pytest.mark.parametrize("refused", ["alive", "changes"])
def test_a_store_that_cannot_be_opened_for_a_full_disk_leaves_no_node(
    file_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    Memoturn(file_url).close()
    (nodes,) = tmp_path.rglob("nodes")
    real, changes = os.posix_fallocate, (nodes.parent / "changes").stat()

    def full(fd: int, offset: int, length: int) -> None:
        if os.path.samestat(os.fstat(fd), changes) == (refused == "changes"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UnavailableError, match="free some space"):
        Memoturn(file_url)
    assert os.listdir(nodes) == []


def test_an_error_of_the_other_process_is_told(mt: Memoturn, file_url: str) -> None:
    with Program(file_url) as other, pytest.raises(ProgramError, match="DatabaseNotFoundError"):
        other.sql("nowhere", "SELECT 1")
