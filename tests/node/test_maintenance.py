"""Background work: what is due is done, within bounds, and nothing that goes wrong there is noticed in front."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from memoturn import Memoturn, Settings
from memoturn.base.errors import UnavailableError
from memoturn.base.ids import Ids
from memoturn.base.names import parse_address
from memoturn.base.settings import HistorySettings, MaintenanceSettings
from memoturn.base.txids import UnixMs
from memoturn.bucket.memory import MemoryBucket
from memoturn.database.neighbours import NoNeighbours
from memoturn.database.shipper import Shippable
from memoturn.history.budget import Stopped
from memoturn.history.planning import MOST_PACKS
from memoturn.manifest.watch import AloneWatch
from memoturn.models.guard import protect
from memoturn.models.reserved import ask
from memoturn.node import chores, drills
from memoturn.node.engine import Engine, Surroundings
from memoturn.node.maintenance import Maintenance
from memoturn.node.notes import Note, Notes
from memoturn.operations import branches, databases, kv
from memoturn.operations import sql as statements
from tests.bucket.faulty import StoppedClock
from tests.conftest import Opener
from tests.support import assert_view_is_whole, branch_of, engine_of

X = parse_address("x")
BUSY = Settings(
    history=HistorySettings(work_share=1.0, work_bytes_per_second=1 << 40),
    maintenance=MaintenanceSettings(idle_secs=0.2),
)


class ByHand:
    """Ships when it is told to."""

    def notice(self, branch: Shippable) -> None:
        return None

    def close(self) -> None:
        return None


class Life:
    """An engine in memory whose time passes only by what is done here, background work included."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.clock = StoppedClock()
        self.bucket = MemoryBucket(self.clock)
        around = Surroundings("n", self.bucket, AloneWatch(), NoNeighbours(), ByHand(), maintained=True)
        self.engine = Engine(
            "memory:", settings, prepare=protect, clock=self.clock, ids=Ids(), surroundings=around
        )
        assert self.engine.maintenance is not None
        self.work = self.engine.maintenance
        databases.create(self.engine, "x")
        self.sql("CREATE TABLE t(v)")

    def sql(self, text: str, *params: Any) -> None:
        statements.sql(self.engine, X, text, params)
        self.engine.branch("x").ship()

    def until(self, seconds: float) -> None:
        """Let background work have all the time it wants until then."""
        while (wait := self.work.step(self.engine)) is not None and self.clock.seconds + wait <= seconds:
            self.clock.sleep(wait)
        self.clock.seconds = max(self.clock.seconds, seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What it returns once that is true; only how long a failing test takes depends on the time."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return found


# By a clock of its own.


def test_segments_stay_bounded_while_writes_go_on_and_every_position_stays_whole() -> None:
    life = Life()
    most = 0
    for second in range(600):
        life.sql("INSERT INTO t VALUES (?)", bytes([second % 251]) * 500)
        life.until(second * 2.0)
        most = max(most, len(life.branch("x").manifest().segments))
    assert MOST_PACKS / 2 < most <= MOST_PACKS + 20
    assert life.env.written.compacted > 0
    branch = life.branch("x")
    for txid in (1, 2, 100, 300, 599, 601):
        assert_view_is_whole(branch.view_at(txid))  # type: ignore[arg-type]
    assert life.work.work().failures == 0


def test_a_branch_that_comes_to_rest_is_folded_and_what_it_leaves_is_collected() -> None:
    life = Life(Settings(history=HistorySettings(gc_grace_secs=100)))
    for _ in range(30):
        life.sql("INSERT INTO t VALUES (?)", b"x" * 500)
        life.until(life.clock.seconds + 1)
    assert len(life.branch("x").manifest().segments) == 31
    life.until(life.clock.seconds + 50)
    assert len(life.branch("x").manifest().segments) == 31
    life.until(life.clock.seconds + 15)
    assert any("base/" in name for name in life.branch("x").manifest().segments)
    note = life.work.notes.read(life.branch("x").db_uuid).last("fold", "main")
    assert note is not None
    assert note.error is None
    assert "1 steps" in note.what


def test_what_was_deleted_goes_without_anybody_asking() -> None:
    life = Life(Settings(history=HistorySettings(gc_grace_secs=100)))
    branches.create(life.engine, "x", "burner", ttl=50)
    statements.sql(life.engine, parse_address("x@burner"), "INSERT INTO t VALUES (1)")
    life.engine.branch("x", "burner").ship()
    incarnation = life.engine.branch("x", "burner").incarnation
    databases.create(life.engine, "y")
    statements.sql(life.engine, parse_address("y"), "CREATE TABLE t(v)")
    life.engine.branch("y").ship()
    uuid = life.engine.entry("y").db_uuid
    databases.delete(life.engine, "y")
    life.until(3000)
    keys = [info.key for info in life.bucket.list("")]
    assert not any(incarnation in key for key in keys)
    assert not any(uuid in key for key in keys)
    life.until(40_000)
    assert [job for job in life.work.due() if job.db_uuid == uuid] == [], "nothing is left to look after"


def test_the_window_in_which_every_txid_can_be_restored_moves_on() -> None:
    life = Life(Settings(history=HistorySettings(pitr_retention_secs=3600, gc_grace_secs=100)))
    for hour in range(60):
        life.until(hour * 1800.0)
        life.sql("INSERT INTO t VALUES (?)", hour)
    branch = life.branch("x")
    manifest = branch.manifest()
    assert 30 < manifest.exact_txid < manifest.head_txid
    assert len(manifest.segments) < 30, "what is below has been unlinked"
    note = life.work.notes.read(branch.db_uuid).last("collect")
    assert note is not None
    assert note.error is None
    assert life.work.work().failures == 0


def test_databases_that_somebody_else_has_deleted_are_looked_for() -> None:
    life = Life(Settings(history=HistorySettings(gc_grace_secs=100)))
    databases.create(life.engine, "y", ttl=1000)
    uuid = life.engine.entry("y").db_uuid
    life.until(60_000)
    assert not any(uuid in info.key for info in life.bucket.list("db/"))


def test_a_deleted_database_goes_when_its_name_was_taken_again_at_once() -> None:
    life = Life(Settings(history=HistorySettings(gc_grace_secs=100)))
    former = life.engine.entry("x").db_uuid
    databases.delete(life.engine, "x")
    databases.create(life.engine, "x")
    life.sql("CREATE TABLE t(v)")
    now = life.engine.entry("x").db_uuid
    life.until(60_000)
    keys = [info.key for info in life.bucket.list("db/")]
    assert not any(former in key for key in keys)
    assert any(now in key for key in keys)
    life.sql("INSERT INTO t VALUES (1)")


def test_expired_keys_are_swept_where_the_branch_is_written_here() -> None:
    life = Life()
    for number in range(600):
        kv.put(life.engine, X, "n", f"k{number}", b"v", ttl=30)
    life.branch("x").ship()
    life.until(29)
    size = "SELECT count(*) FROM __memoturn_kv"
    view = life.branch("x").head()
    with life.branch("x").readers.on(view) as connection:
        assert ask(connection, size, ()) == [(600,)]
    life.until(200)
    with life.branch("x").readers.on(life.branch("x").head()) as connection:
        assert ask(connection, size, ()) == [(0,)]


def test_a_cold_branch_is_not_woken_to_be_swept() -> None:
    life = Life()
    kv.put(life.engine, X, "n", "k", b"v", ttl=30)
    life.branch("x").ship()
    for branch in life.engine.open_branches():
        life.engine._branches.pop((branch.db_uuid, branch.branch_id)).rest()
    life.until(5000)
    assert life.engine.open_branches() == []


def test_a_little_is_restored_all_the_time_and_damage_is_told_until_it_is_repaired(
    caplog: pytest.LogCaptureFixture,
) -> None:
    life = Life(Settings(maintenance=MaintenanceSettings(idle_secs=1e9)))
    for number in range(4):
        life.sql("INSERT INTO t VALUES (?)", number)
    uuid = life.branch("x").db_uuid
    life.until(300)
    notes = life.work.notes
    assert notes.read(uuid).last("drill", "main").error is None  # type: ignore[union-attr]
    packs = [info.key for info in life.bucket.list("db/") if "/ltx/" in info.key]
    bodies = {key: life.bucket.get(key)[0] for key in packs}
    for key, body in bodies.items():
        life.bucket.put(key, body[:120] + bytes([body[120] ^ 1]) + body[121:])
    with caplog.at_level(logging.ERROR, "memoturn"):
        life.until(1200)
    damage = notes.read(uuid).last("damage", "main")
    assert damage is not None
    assert any(key in str(damage.error) for key in packs)
    assert "`memoturn verify`" in caplog.text
    for key, body in bodies.items():
        life.bucket.put(key, body)
    life.until(1400)
    assert notes.read(uuid).last("damage", "main") is None


def test_damage_is_told_no_longer_than_its_position_is_declared() -> None:
    history = HistorySettings(pitr_retention_secs=3600, pitr_snapshot_retention_secs=7200)
    life = Life(Settings(history=history, maintenance=MaintenanceSettings(idle_secs=1e9)))
    for number in range(4):
        life.sql("INSERT INTO t VALUES (?)", number)
    uuid, notes = life.branch("x").db_uuid, life.work.notes
    (key,) = [info.key for info in life.bucket.list("db/") if "/2-2-" in info.key]
    body = life.bucket.get(key)[0]
    life.bucket.put(key, body[:120] + bytes([body[120] ^ 1]) + body[121:])
    notes.add(uuid, Note("damage", "main", UnixMs(0), 0.0, "a drill has found it", key, txid=2))
    for hour in range(1, 12):
        life.sql("INSERT INTO t VALUES (?)", hour)
        life.until(hour * 3600.0)
    assert life.branch("x").manifest().floor_txid > 2
    assert notes.read(uuid).last("damage", "main") is None
    assert notes.read(uuid).last("drill", "main").error is None  # type: ignore[union-attr]
    assert life.work.work().failures == 0


def test_what_was_noted_of_branches_that_are_gone_is_forgotten() -> None:
    life = Life(Settings(maintenance=MaintenanceSettings(idle_secs=1.0)))
    uuid, notes = life.branch("x").db_uuid, life.work.notes
    branches.create(life.engine, "x", "burner", ttl=500)
    statements.sql(life.engine, parse_address("x@burner"), "INSERT INTO t VALUES (1)")
    life.engine.branch("x", "burner").ship()
    life.until(100)
    assert notes.read(uuid).last("fold", "burner") is not None
    life.until(4000)
    assert {note.branch for note in notes.read(uuid).notes.values()} == {"", "main"}


def test_damage_of_one_branch_keeps_nothing_else_from_being_retained_and_collected() -> None:
    history = HistorySettings(pitr_retention_secs=0, gc_grace_secs=100)
    life = Life(
        Settings(history=history, maintenance=MaintenanceSettings(idle_secs=1e9, drill_bytes_per_minute=0))
    )
    for name in ("damaged", "dead", "last"):
        branches.create(life.engine, "x", name)
        statements.sql(life.engine, parse_address(f"x@{name}"), "INSERT INTO t VALUES (1)")
        life.engine.branch("x", name).ship()
    dead, last = (life.engine.branch("x", name) for name in ("dead", "last"))
    incarnation = life.engine.branch("x", "damaged").incarnation
    (key,) = [i.key for i in life.bucket.list("db/") if incarnation in i.key and "/ltx/" in i.key]
    body = life.bucket.get(key)[0]
    life.bucket.put(key, body[:120] + bytes([body[120] ^ 1]) + body[121:])
    life.engine.env.store._pages.clear()
    branches.delete(life.engine, "x", "dead")
    life.until(4000)
    assert last.manifest().exact_txid == 2
    assert not any(dead.incarnation in info.key for info in life.bucket.list("db/"))
    note = life.work.notes.read(last.db_uuid).last("collect")
    assert note is not None
    assert key in str(note.error), "it is told"


def test_a_large_database_is_restored_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drills, "WHOLE", 1 << 20)
    life = Life(Settings(maintenance=MaintenanceSettings(drill_bytes_per_minute=1 << 20)))
    life.sql("INSERT INTO t SELECT randomblob(6 << 20)")
    uuid = life.branch("x").db_uuid
    read = []
    seen = 0
    while (note := life.work.notes.read(uuid).last("drill", "main")) is None or (note.txid or 0) < 2:
        life.until(life.clock.seconds + 60)
        now = life.work.work().bytes
        read.append(now - seen)
        seen = now
        assert len(read) < 100
    assert note.error is None
    assert len([size for size in read if size]) >= 5, "it took its time"
    assert "pages" in note.what


def test_the_background_keeps_to_its_share_of_time_and_bytes() -> None:
    life = Life(Settings(history=HistorySettings(work_bytes_per_second=1 << 20)))
    life.sql("INSERT INTO t SELECT randomblob(20 << 20)")
    before = life.clock.seconds
    while life.work.step(life.engine) is not None and life.work.work().bytes < 15 << 20:
        life.clock.sleep(0.01)
    assert life.clock.seconds - before >= 14
    assert life.work.work().paused >= 14


def test_an_error_is_counted_and_logged_and_the_work_done_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life()
    real = chores.compact_branch
    tries: list[float] = []

    def failing(*args: Any) -> Any:
        tries.append(life.clock.seconds)
        if len(tries) <= 4:
            raise (
                UnavailableError("the store is away")
                if len(tries) != 2
                else ZeroDivisionError("a fault of ours")
            )
        return real(*args)

    monkeypatch.setattr(chores, "compact_branch", failing)
    life.sql("INSERT INTO t VALUES (1)")
    with caplog.at_level(logging.WARNING, "memoturn"):
        life.until(1.5)
        uuid = life.branch("x").db_uuid
        note = life.work.notes.read(uuid).last("compact", "main")
        assert note is not None
        assert (note.error, note.failures) == ("the store is away", 1)
        life.until(30)
    assert [b - a for a, b in pairwise(tries)][:4] == pytest.approx([1, 2, 4, 8])
    assert life.work.work().failures == 4
    assert "compact of branch main" in caplog.text
    assert "a fault of ours" in caplog.text


def test_a_neighbour_s_pass_counts(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes")
    notes.add("d", Note("collect", "", 1000, 0.5, "nothing is dead"), shipped=10, written=3)  # type: ignore[arg-type]
    Notes(tmp_path / "notes").add("d", Note("drill", "main", 2000, 0.5), shipped=5)  # type: ignore[arg-type]
    read = notes.read("d")
    assert (read.shipped, read.written) == (15, 3)
    assert read.last("collect").at == 1000  # type: ignore[union-attr]
    notes.drop("d", "drill", "main")
    assert notes.read("d").last("drill", "main") is None
    (tmp_path / "notes" / "d.json").write_bytes(b"{")
    assert notes.read("d").last("collect") is None, "a note that cannot be read is none"
    notes.forget("d")
    notes.forget("d")


# With its thread.


_of_others: set[threading.Thread] = set()
"""Threads that were there before a test: a server that many tests share may have one."""


def threads() -> list[threading.Thread]:
    """Those of this test that work in the background."""
    return [t for t in threading.enumerate() if t.name == "memoturn-maintenance" and t not in _of_others]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    _of_others.update(threads())
    yield
    gc.collect()
    wait_for(lambda: not threads(), 30)


def test_nothing_begins_before_a_branch_is_used_and_everything_ends_with_the_engine(
    open_store: Opener, file_url: str
) -> None:
    for url in ("memory:", file_url):
        mt = open_store(url, settings=Settings())
        mt.databases.create("x")
        assert threads() == []
        mt.db("x").sql("CREATE TABLE t(v)")
        assert len(threads()) == 1
        mt.close()
        mt.close()
        assert threads() == []


def test_it_can_be_switched_off(open_store: Opener) -> None:
    mt = open_store()
    mt.databases.create("x")
    mt.db("x").sql("CREATE TABLE t(v)")
    mt.sync()
    assert engine_of(mt).maintenance is None
    assert threads() == []


def test_threads_use_the_engine_while_work_goes_on(open_store: Opener, file_url: str) -> None:
    mt = open_store(file_url, clock=None, settings=BUSY)
    mt.databases.create("x")
    mt.db("x").sql("CREATE TABLE t(v)")
    failures: list[BaseException] = []
    total = 60

    def write() -> None:
        try:
            for number in range(total):
                mt.db("x").sql("INSERT INTO t VALUES (?)", [bytes([number]) * 3000])
                mt.db("x").sync()
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for thread in writers:
        thread.start()
    while any(thread.is_alive() for thread in writers):
        rows = mt.db("x").sql("SELECT count(*) AS n, max(length(v)) AS most FROM t")
        assert rows[0]["most"] in (None, 3000)
    for thread in writers:
        thread.join()
    assert failures == []
    assert mt.db("x").sql("SELECT count(*) AS n FROM t") == [{"n": 3 * total}]
    branch = branch_of(mt.db("x"))
    wait_for(lambda: any("base/" in name for name in branch.look_again().segments))
    assert engine_of(mt).maintenance.work().failures == 0
    assert all(one.ok for one in mt.maintenance.verify("x", points=3))


def test_closing_waits_for_the_piece_in_hand_only(open_store: Opener) -> None:
    slow = Settings(
        history=HistorySettings(work_bytes_per_second=1 << 10), maintenance=MaintenanceSettings(idle_secs=0.1)
    )
    mt = open_store(clock=None, settings=slow)
    mt.databases.create("x")
    mt.db("x").sql("CREATE TABLE t(v)")
    mt.db("x").sql("INSERT INTO t SELECT randomblob(4 << 20)")
    mt.sync()
    work: Maintenance = engine_of(mt).maintenance
    wait_for(lambda: work.work().bytes)
    running = work.work().running
    assert running is not None
    assert running.kind in ("compact", "fold"), "at a KiB a second it has an hour to go"
    mt.close()
    assert threads() == []


def test_an_engine_that_nobody_holds_is_not_kept_alive_by_its_thread() -> None:
    mt = Memoturn("memory:")
    mt.databases.create("x")
    mt.db("x").sql("CREATE TABLE t(v)")
    mt.sync()
    assert len(threads()) == 1
    engine = weakref.ref(engine_of(mt))
    thread = threads()[0]
    engine_of(mt).shipper.close()
    for branch in engine_of(mt).open_branches():
        branch.rest()  # A connection of SQLite's is never found to be unreachable.
    del branch, mt
    gc.collect()
    assert engine() is None
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_no_thread_and_closes(tmp_path: Path) -> None:
    program = """
import os, sys, threading
from memoturn import Memoturn
mt = Memoturn(sys.argv[1])
mt.databases.create("x")
mt.db("x").sql("CREATE TABLE t(v)")
mt.sync()
assert any(t.name == "memoturn-maintenance" for t in threading.enumerate())
child = os.fork()
if child == 0:
    assert not any(t.name == "memoturn-maintenance" for t in threading.enumerate())
    mt.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
mt.db("x").sql("INSERT INTO t VALUES (1)")
mt.close()
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, f"file:{tmp_path}/s"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "done\n", done.stderr


def test_two_processes_share_the_work(tmp_path: Path) -> None:
    program = """
import sys, time
from memoturn import Memoturn, Settings
from memoturn.base.settings import CommitSettings, HistorySettings, MaintenanceSettings
settings = Settings(
    commit=CommitSettings(busy_timeout=60.0),
    history=HistorySettings(gc_grace_secs=60, work_share=1.0),
    maintenance=MaintenanceSettings(idle_secs=0.3),
)
with Memoturn(sys.argv[1], settings=settings) as mt:
    print("open", flush=True)
    for number in range(60):
        mt.db("x").sql("INSERT INTO t VALUES (?, ?)", [sys.argv[2], number])
        mt.db("x").sync()
    sys.stdin.readline()
    work = mt._engine.maintenance.work()
    print(work.failures)
"""
    url = f"file:{tmp_path}/s"
    with Memoturn(url) as mt:
        mt.databases.create("x")
        mt.db("x").sql("CREATE TABLE t(who, n)")
        both = [
            subprocess.Popen(
                [sys.executable, "-c", program, url, str(n)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for n in range(2)
        ]  # fmt: skip
        try:
            wait_for(lambda: mt.db("x").sql("SELECT count(*) AS n FROM t") == [{"n": 120}], 120)
            branch = branch_of(mt.db("x"))
            wait_for(lambda: any("base/" in name for name in branch.look_again().segments), 120)
            uuid = branch.db_uuid
            notes = Notes(tmp_path / "s" / "node" / "maintenance")
            wait_for(lambda: notes.read(uuid).last("collect"), 120)
        finally:
            told = [process.communicate("\n", timeout=120) for process in both]
        assert [out for out, _ in told] == ["open\n0\n"] * 2, told
        assert all(one.ok for one in mt.maintenance.verify("x", points=5))


def test_stopping_is_no_failure() -> None:
    life = Life()
    life.sql("INSERT INTO t SELECT randomblob(4 << 20)")
    life.work.step(life.engine)
    life.clock.sleep(10)
    life.work.stop()
    with pytest.raises(Stopped):
        life.work.step(life.engine)
    assert life.work.work().failures == 0
