"""A writer that was overtaken acknowledges nothing and touches nothing, whatever it had begun."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from memoturn import Memoturn
from memoturn.base.errors import (
    BranchNotFoundError,
    BusyError,
    ConflictError,
    FencedError,
    NotFoundError,
    UnavailableError,
)
from memoturn.base.settings import CommitSettings, Settings
from memoturn.operations import branches
from memoturn.segments.ltx import Ltx, decode_ltx
from memoturn.segments.pack import PackIndex, parse_pack_tail
from tests.database.faulty import FaultyBucket, House, Process, StepClock
from tests.database.kill_child import DB, Op, Task, check, open_store, value
from tests.database.stories import create_table, insert, rows_of, verify_branch
from tests.database.test_kill import Child

# Two machines and one bucket.


class Machines:
    """Two machines that share a bucket and nothing else; `old` is overtaken by `new`."""

    def __init__(self, root: Path) -> None:
        self.clock = StepClock()
        self.bucket = FaultyBucket(self.clock)
        self.house = House(root / "old")
        self.old = Process(self.house, self.bucket, self.clock, "old", remote=True)
        self.new = Process(House(root / "new"), self.bucket, self.clock, "new", remote=True)
        create_table().do(self.old.create("db"))
        insert(1).do(self.old.db("db"))
        self.old.db("db").sync()

    def objects(self) -> dict[str, bytes]:
        """Everything in the bucket."""
        return {info.key: self.bucket.inner.get(info.key)[0] for info in self.bucket.inner.list("")}

    def later(self) -> None:
        """Let what was read grow old."""
        self.clock.sleep(1)


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    return Machines(tmp_path)


def transactions(path: Path) -> list[Ltx]:
    """The transactions of a file that was set aside, decoded and verified."""
    content = path.read_bytes()
    index = parse_pack_tail(content, len(content))
    assert isinstance(index, PackIndex)
    return [decode_ltx(content[t.offset : t.offset + t.length]) for t in index.transactions()]


def named_file(message: str) -> Path:
    """The file that a message names."""
    found = re.search(r"set aside in (\S+)", message)
    assert found, f"no file is named in: {message}"
    return Path(found[1])


@pytest.mark.parametrize("unshipped", [1, 3])
def test_overtaken_writer_sets_its_tail_aside(machines: Machines, unshipped: int) -> None:
    old, new = machines.old.db("db"), machines.new.db("db")
    for key in range(10, 10 + unshipped):
        insert(key).do(old)
    machines.later()
    insert(2).do(new)
    new.sync()
    before = machines.objects()
    with pytest.raises(FencedError) as caught:
        old.sync()
    after = machines.objects()
    assert {key: after[key] for key in before} == before, "the zombie changed an object"
    aside = transactions(named_file(str(caught.value)))
    assert [ltx.header.max_txid for ltx in aside] == [3 + n for n in range(unshipped)]
    machines.later()
    assert rows_of(old) == ((1, 10), (2, 10))
    assert rows_of(new) == ((1, 10), (2, 10))
    # A writer hears of it, whoever else did; after that it may take the branch over like anybody else.
    with pytest.raises(FencedError, match="set aside"):
        insert(3).do(old)
    insert(3).do(old)
    assert rows_of(old) == ((1, 10), (2, 10), (3, 10))


def test_overtaken_writer_acknowledges_no_durable_commit(tmp_path: Path) -> None:
    machines = Machines(tmp_path)
    durable = Process(
        House(tmp_path / "third"), machines.bucket, machines.clock, "third", "durable", remote=True
    )
    insert(2).do(durable.db("db"))
    insert(3).do(machines.new.db("db"))
    with pytest.raises(FencedError, match="set aside"):
        insert(4).do(durable.db("db"))
    machines.later()
    assert rows_of(durable.db("db")) == ((1, 10), (2, 10))
    machines.new.db("db").sync()
    machines.later()
    assert rows_of(durable.db("db")) == ((1, 10), (2, 10), (3, 10))


def test_writer_that_was_stopped_acknowledges_nothing_before_it_has_looked(machines: Machines) -> None:
    old, new = machines.old.db("db"), machines.new.db("db")
    insert(10).do(old)
    machines.clock.sleep(6)  # It is stopped, with a commit unshipped; meanwhile it is taken for dead.
    insert(2).do(new)
    new.sync()
    with pytest.raises(FencedError, match="set aside"):
        insert(11).do(old)
    assert rows_of(old) == rows_of(new) == ((1, 10), (2, 10))


def test_writer_that_was_stopped_between_log_and_answer_acknowledges_nothing(machines: Machines) -> None:
    old, new = machines.old.db("db"), machines.new.db("db")
    insert(10).do(old)

    def stopped() -> None:
        machines.old.directory.on_sync = lambda: None
        machines.clock.sleep(6)
        insert(2).do(new)

    machines.old.directory.on_sync = stopped
    with pytest.raises(FencedError, match="set aside"):
        insert(11).do(old)


def test_reader_of_a_branch_that_was_taken_over_sees_it_in_time(machines: Machines) -> None:
    old, new = machines.old.db("db"), machines.new.db("db")
    insert(2).do(new)
    new.sync()
    machines.clock.sleep(6)
    assert rows_of(old) == rows_of(new) == ((1, 10), (2, 10))


def test_overtaken_writer_is_not_revived_by_a_failed_sync(machines: Machines) -> None:
    """Raising the epoch after a failed sync must not mean taking the new owner's epoch for one's own."""
    old, new = machines.old.db("db"), machines.new.db("db")
    insert(10).do(old)
    machines.later()
    insert(2).do(new)  # Visible there, and not yet in the bucket.
    machines.old.directory.fail("sync", machines.old.directory.calls["sync"] + 1, OSError(5, "injected"))
    with pytest.raises(UnavailableError):
        insert(11).do(old)
    with pytest.raises(FencedError, match="set aside"):
        insert(12).do(old)
    new.sync()
    machines.later()
    assert rows_of(old) == rows_of(new) == ((1, 10), (2, 10))


@pytest.mark.parametrize("call", ["checkpoint", "rewind", "delete", "fork"])
def test_overtaken_writer_changes_no_manifest(machines: Machines, call: str) -> None:
    old, new = machines.old, machines.new.db("db")
    insert(10).do(old.db("db"))
    machines.later()
    insert(2).do(new)
    new.sync()
    before = machines.objects()
    work: dict[str, Callable[[], object]] = {
        "checkpoint": lambda: old.db("db").branch.checkpoint("mine"),
        "rewind": lambda: old.db("db").branch.rewind(1),
        "delete": lambda: old.db("db@main").branch.delete(),
        "fork": lambda: old.db("db").branch.create("mine"),
    }
    with pytest.raises((FencedError, ConflictError)):
        work[call]()
    after = machines.objects()
    assert {key: after[key] for key in before} == before
    assert not any("mine" in key for key in after)


def test_zombie_restarted_on_its_machine_sets_its_log_aside(
    machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    insert(10).do(machines.old.db("db"))
    insert(11).do(machines.old.db("db"))
    machines.old.kill()
    machines.later()
    insert(2).do(machines.new.db("db"))
    machines.new.db("db").sync()
    before = machines.objects()
    again = Process(machines.house, machines.bucket, machines.clock, "again", remote=True)
    assert machines.objects() == before
    aside = transactions(named_file(caplog.text))
    assert [ltx.header.max_txid for ltx in aside] == [3, 4]
    assert rows_of(again.db("db")) == ((1, 10), (2, 10))
    assert "old" not in machines.house.logs, "the dead node's log is kept for ever"


def test_restart_ships_what_nobody_has_overtaken(
    machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    insert(10).do(machines.old.db("db"))
    machines.old.kill()
    machines.later()
    again = Process(machines.house, machines.bucket, machines.clock, "again", remote=True)
    machines.later()
    assert rows_of(machines.new.db("db")) == rows_of(again.db("db")) == ((1, 10), (10, 10))
    assert "set aside" not in caplog.text


def test_restart_while_the_store_is_away_forgets_nothing(machines: Machines) -> None:
    insert(10).do(machines.old.db("db"))
    machines.old.kill()

    def away(verb: str, key: str) -> None:
        raise UnavailableError("the store does not answer")

    machines.bucket.fault = away
    Process(machines.house, machines.bucket, machines.clock, "early", remote=True).kill()
    assert "old" in machines.house.logs, "the log was removed though nothing of it was shipped"
    machines.bucket.fault = lambda _verb, _key: None
    again = Process(machines.house, machines.bucket, machines.clock, "again", remote=True)
    assert rows_of(again.db("db")) == ((1, 10), (10, 10))


def test_restarted_zombie_that_loses_the_race_overwrites_no_pack(machines: Machines) -> None:
    """It has put its pack; the manifest is taken by another, who then writes txids of the same numbers."""
    insert(10).do(machines.old.db("db"))
    machines.old.kill()
    machines.later()
    armed = True

    def take_over_first(verb: str, key: str) -> None:
        nonlocal armed
        if armed and verb == "replace":
            armed = False
            insert(2).do(machines.new.db("db"))
            machines.new.db("db").sync()  # FaultyBucket refuses to put another content under a key.

    machines.bucket.fault = take_over_first
    again = Process(machines.house, machines.bucket, machines.clock, "again", remote=True)
    machines.bucket.fault = lambda _verb, _key: None
    machines.later()
    assert not armed
    assert rows_of(machines.new.db("db")) == rows_of(again.db("db")) == ((1, 10), (2, 10))
    verify_branch(machines.new.branch("db"))


def test_branch_deleted_and_created_again_elsewhere_is_another_one(machines: Machines) -> None:
    branches.create(machines.new.engine, "db", "work")
    old, new = machines.old.db("db@work"), machines.new.db("db@work")
    insert(2).do(old)
    old.sync()
    insert(10).do(old)  # Not shipped.
    machines.later()
    new.branch.delete()
    branches.create(machines.new.engine, "db", "work")
    insert(3).do(new)
    new.sync()
    before = machines.objects()
    with pytest.raises((FencedError, BranchNotFoundError)):
        old.sync()
    after = machines.objects()
    assert {key: after[key] for key in before} == before
    (path,) = (machines.house.set_aside or Path()).glob("*.ltx")
    assert len(transactions(path)) == 1
    machines.later()
    assert rows_of(old) == rows_of(new) == ((1, 10), (3, 10))


def test_full_disk_at_the_fence_keeps_the_tail_in_the_log(
    machines: Machines, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "old").write_text("a file where the directory should be")
    insert(10).do(machines.old.db("db"))
    machines.later()
    insert(2).do(machines.new.db("db"))
    with pytest.raises(FencedError, match="could not be set aside"):
        machines.old.db("db").sync()
    machines.old.kill()
    (tmp_path / "old").unlink()
    Process(machines.house, machines.bucket, machines.clock, "again", remote=True)
    assert [ltx.header.max_txid for ltx in transactions(named_file(caplog.text))] == [3]


def test_commit_that_was_fenced_while_it_was_synced_is_not_shown(machines: Machines) -> None:
    """The fence comes between the log and the view: the commit must not appear above the new owner's head."""
    old, new = machines.old, machines.new.db("db")
    machines.later()

    def overtake() -> None:
        old.directory.on_sync = lambda: None
        insert(2).do(new)
        new.sync()
        machines.later()
        old.branch("db").look_again()

    old.directory.on_sync = overtake
    with pytest.raises(FencedError):
        insert(10).do(old.db("db"))
    assert rows_of(old.db("db")) == rows_of(new) == ((1, 10), (2, 10))
    verify_branch(old.branch("db"))


# Processes on one machine.


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    with open_store(str(root)) as opened:
        opened.databases.create(DB)
        opened.db(DB).sql("CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)")
        opened.db(DB).branch.create("work")
    return root


@pytest.fixture
def child() -> Iterator[Child]:
    started = Child()
    yield started
    os.kill(started.pid, signal.SIGKILL)
    started.end()


def impatient(root: Path) -> Memoturn:
    return Memoturn(f"file:{root}", settings=Settings(commit=CommitSettings(busy_timeout=0.3)))


def begin(child: Child, root: Path, branch: str) -> None:
    with open_store(str(root)) as opened:
        known = check(opened)
    child.begin(
        Task("write", str(root), writers=((branch,),), known=known, first_key=1000, inserts_only=True)
    )


def test_stopped_writer_keeps_its_branch_and_goes_on(store: Path, child: Child) -> None:
    """It holds the lock: others are told who it is, can read, and write other branches."""
    begin(child, store, "work")
    child.listen(until=20)
    os.kill(child.pid, signal.SIGSTOP)
    with impatient(store) as opened:
        with pytest.raises(BusyError, match=str(child.pid)):
            opened.db(f"{DB}@work").sql("INSERT INTO t VALUES(1, x'')")
        opened.db(f"{DB}@main").sql("INSERT INTO t VALUES(1, ?)", (value(1),))
        seen = {row["k"] for row in opened.db(f"{DB}@work").sql("SELECT k FROM t")}
        assert {key for op, _ in child.acknowledged for key in op.keys} <= seen
        os.kill(child.pid, signal.SIGCONT)
        child.listen(until=len(child.acknowledged) + 20)
    os.kill(child.pid, signal.SIGSTOP)
    os.kill(child.pid, signal.SIGKILL)
    child.listen()
    with open_store(str(store)) as opened:
        found = check(opened)["work"]
        assert {key for op, _ in child.acknowledged for key in op.keys} <= set(found.keys)


@pytest.mark.parametrize("acknowledged", range(12))
def test_stopped_writer_of_a_branch_that_was_replaced_touches_nothing(
    store: Path, child: Child, acknowledged: int
) -> None:
    begin(child, store, "work")
    child.listen(until=acknowledged)
    os.kill(child.pid, signal.SIGSTOP)
    with impatient(store) as opened:
        try:
            opened.db(f"{DB}@work").branch.delete()
        except BusyError:
            # It has commits that only its owner may ship; deleting would lose them.
            os.kill(child.pid, signal.SIGCONT)
            child.listen(until=acknowledged + 1)
            with open_store(str(store)) as patient:
                patient.db(f"{DB}@work").branch.delete()
        deleted = {key for op, _ in child.acknowledged for key in op.keys}
        opened.db(DB).branch.create("work")
        with open_store(str(store)) as patient:  # The child may have it by now.
            patient.db(f"{DB}@work").sql("INSERT INTO t VALUES(7, x'')")
        os.kill(child.pid, signal.SIGCONT)
        heard = listen_to_the_end(child)
        # It learns of the deletion, or goes on with the new branch like any other process; keys tell which.
        rows = {row["k"] for row in opened.db(f"{DB}@work").sql("SELECT k FROM t")}
        assert 7 in rows
        verify_branch(opened._engine.branch(DB, "work"))
        mine = {key for op in heard for key in op.keys}
        assert rows <= {7} | mine
        assert not rows & deleted, "commits of the deleted branch are on the new one"


def listen_to_the_end(child: Child) -> list[Op]:
    """What the child has acknowledged or tried, until a call of it fails or fifty more have succeeded; kills it."""
    try:
        child.listen(until=len(child.acknowledged) + 50)
    except AssertionError as error:
        assert any(word in str(error) for word in ("deleted", "gone", "no branch", "taken over")), error  # noqa: PT017
    os.kill(child.pid, signal.SIGKILL)
    with contextlib.suppress(AssertionError):
        child.listen()
    return [op for op, _ in child.acknowledged] + list(child.tried.values())


def test_second_process_gets_the_branch_when_it_asks(store: Path) -> None:
    with open_store(str(store)) as one, open_store(str(store)) as two:
        for key in range(1, 21):
            (one if key % 2 else two).db(DB).sql("INSERT INTO t VALUES(?, x'')", (key,))
        expected = list(range(1, 21))
        for opened in (one, two):
            assert [row["k"] for row in opened.db(DB).sql("SELECT k FROM t ORDER BY k")] == expected
            verify_branch(opened._engine.branch(DB))
        epochs = one.db(DB).branch.get().epoch
        assert epochs >= 19, "every handover raises the epoch"


def test_forked_child_cannot_write_under_its_parents_lock(store: Path) -> None:
    """A child that inherited an open store must open its own."""
    program = (
        "import os, sys\n"
        "from memoturn import Memoturn\n"
        "store = Memoturn('file:' + sys.argv[1])\n"
        f"store.db({DB!r}).sql('INSERT INTO t VALUES(1, NULL)')\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        f"        store.db({DB!r}).sql('INSERT INTO t VALUES(2, NULL)')\n"
        "    except Exception as error:\n"
        "        os._exit(0 if 'fork' in str(error) else 2)\n"
        "    os._exit(1)\n"
        "code = os.waitstatus_to_exitcode(os.wait()[1])\n"
        f"store.db({DB!r}).sql('INSERT INTO t VALUES(3, NULL)')\n"
        "store.close()\n"
        "sys.exit(code)\n"
    )
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", program, str(store)], check=False)
    assert ended.returncode == 0
    with open_store(str(store)) as opened:
        assert [row["k"] for row in opened.db(DB).sql("SELECT k FROM t")] == [1, 3]


def test_unknown_writer_in_the_manifest_blocks_nobody(store: Path, tmp_path: Path) -> None:
    """An owner that never existed on this machine, as after the store was copied: it is overtaken."""
    with open_store(str(store)) as opened:
        opened.db(DB).sql("INSERT INTO t VALUES(1, x'')")
    (manifest,) = (store / "objects").rglob("main.json")
    content = msgspec.json.decode(manifest.read_bytes())
    content["owner"] = {"node_id": "n_elsewhere", "url": None}
    manifest.write_bytes(msgspec.json.encode(content))
    with open_store(str(store)) as opened:
        opened.db(DB).sql("INSERT INTO t VALUES(2, x'')")
        assert [row["k"] for row in opened.db(DB).sql("SELECT k FROM t ORDER BY k")] == [1, 2]
        with pytest.raises(NotFoundError):
            opened.db(f"{DB}@nowhere").sql("SELECT 1")
