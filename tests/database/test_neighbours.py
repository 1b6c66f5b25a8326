"""Who lives on a machine, who may write a branch, how to ask for it, and what becomes of the dead."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from memoturn.base.clock import SystemClock
from memoturn.base.errors import CorruptError, UnavailableError
from memoturn.base.txids import TXID
from memoturn.database.log import CommitLog
from memoturn.database.logfile import DiskDirectory
from memoturn.database.neighbours import Machine
from memoturn.database.record import START
from tests.support import open_files

BRANCH = b"d/b/i"


class Neighbour:
    """A `Machine` with its log, and what it was asked for."""

    def __init__(self, root: Path, name: str) -> None:
        self.asked: queue.Queue[str] = queue.Queue()
        self.machine = Machine(root, name, self.asked.put)
        self.log = CommitLog(
            DiskDirectory(self.machine.home), SystemClock(), self.machine.publish, self.machine.publish_failed
        )
        self._open = True

    def commit(self, txid: int) -> None:
        self.log.commit(BRANCH, 1, TXID(txid), b"x" * 100)

    def close(self, keep_log: bool = False) -> None:
        if self._open:
            self._open = False
            self.log.close()
            self.machine.close(keep_log)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Neighbour, Neighbour]]:
    one, two = Neighbour(tmp_path, "one"), Neighbour(tmp_path, "two")
    yield one, two
    one.close()
    two.close()


Pair = tuple[Neighbour, Neighbour]


def seen(machine: Machine, node_id: str) -> list[int]:
    return sorted(record.txid for record in machine.records_of(node_id, BRANCH.decode()))


def test_one_holds_the_lock_at_a_time(pair: Pair) -> None:
    one, two = pair
    assert one.machine.try_lock("b_1")
    assert one.machine.try_lock("b_1"), "it has it already"
    assert not two.machine.try_lock("b_1")
    assert two.machine.try_lock("b_2")
    one.machine.unlock("b_1")
    assert two.machine.try_lock("b_1")
    assert not one.machine.try_lock("b_1")


def test_threads_that_race_for_locks_files_that_come_and_go_never_both_hold(pair: Pair) -> None:
    holding, errors = threading.Lock(), []

    def work(machine: Machine) -> None:
        for _ in range(300):
            if machine.try_lock("b_1"):
                if not holding.acquire(blocking=False):
                    errors.append("two hold the lock")
                    return
                holding.release()
                machine.unlock("b_1")

    threads = [threading.Thread(target=work, args=(one.machine,)) for one in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_asking_reaches_the_holder_and_says_who_it_is(pair: Pair) -> None:
    one, two = pair
    assert two.machine.ask("b_1") is None
    assert one.machine.try_lock("b_1")
    holder = two.machine.ask("b_1")
    assert holder is not None
    assert (holder.node_id, holder.pid) == ("one", os.getpid())
    assert str(os.getpid()) in str(holder)
    assert one.asked.get(timeout=20) == "b_1"


def test_asking_a_holder_that_does_not_listen_never_blocks(tmp_path: Path) -> None:
    """Its pipe fills up; more questions change nothing."""
    heard = threading.Event()

    def answer(_incarnation: str) -> None:
        heard.wait(20)

    deaf = Machine(tmp_path, "deaf", answer)
    other = Neighbour(tmp_path, "other")
    assert deaf.try_lock("b_1")
    for _ in range(20_000):
        assert other.machine.ask("b_1") is not None
    heard.set()
    deaf.close(keep_log=False)
    other.close()


def test_living_node_is_alive_and_a_closed_one_is_gone(pair: Pair, tmp_path: Path) -> None:
    one, two = pair
    assert two.machine.is_alive("one")
    assert two.machine.dead() == []
    one.close()
    assert not two.machine.is_alive("one")
    assert two.machine.dead() == []
    assert [path.name for path in (tmp_path / "nodes").iterdir()] == ["two"]


def test_node_that_kept_its_log_is_dead_until_it_is_buried(pair: Pair, tmp_path: Path) -> None:
    one, two = pair
    one.commit(1)
    assert seen(two.machine, "one") == [1]
    one.commit(2)
    assert seen(two.machine, "one") == [1, 2]
    one.close(keep_log=True)
    assert two.machine.dead() == ["one"]
    assert two.machine.branches_of("one") == {BRANCH.decode()}
    assert seen(two.machine, "one") == [1, 2]
    two.machine.bury("one")
    two.machine.bury("one")
    assert two.machine.dead() == []
    assert seen(two.machine, "one") == []
    assert [path.name for path in (tmp_path / "nodes").iterdir()] == ["two"]


def test_locks_of_a_killed_process_are_free_and_its_log_is_there(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.database.test_neighbours import Neighbour\n"
        "one = Neighbour(Path(sys.argv[1]), 'one')\n"
        "assert one.machine.try_lock('b_1')\n"
        "one.commit(1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=Path(__file__).parents[2], check=False
    )
    assert ended.returncode == -9
    two = Neighbour(tmp_path, "two")
    assert two.machine.dead() == ["one"]
    assert seen(two.machine, "one") == [1]
    assert two.machine.try_lock("b_1")
    two.close()


def test_node_whose_process_died_is_dead_though_a_forked_child_lives(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.database.test_neighbours import Neighbour\n"
        "one = Neighbour(Path(sys.argv[1]), 'one')\n"
        "assert one.machine.try_lock('b_1')\n"
        "parent, child = os.getpid(), os.fork()\n"
        "if child:\n"
        "    signal.pause()\n"
        "one.machine.abandon_after_fork()\n"
        "print(parent, os.getpid(), flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        parent, child = map(int, process.stdout.readline().split())
        try:
            two = Neighbour(tmp_path, "two")
            assert two.machine.dead() == []
            assert not two.machine.try_lock("b_1")
            os.kill(parent, signal.SIGKILL)
            process.wait()
            assert two.machine.dead() == ["one"]
            assert two.machine.try_lock("b_1")
            two.close()
        finally:
            os.kill(child, signal.SIGKILL)


def test_node_that_is_starting_is_never_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others look, and bury, at every step of its start."""
    watcher = Neighbour(tmp_path, "watcher")
    looks = 0
    main = threading.main_thread()

    def look_after(name: str) -> None:
        real = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            nonlocal looks
            result = real(*args, **kwargs)
            if threading.current_thread() is main and ("starting" in repr(args) or name == "posix_fallocate"):
                looks += 1
                monkeypatch.undo()
                for dead in watcher.machine.dead():
                    watcher.machine.bury(dead)
                arm()
            return result

        monkeypatch.setattr(os, name, call)

    def arm() -> None:
        for name in ("mkdir", "open", "posix_fallocate", "mkfifo", "rename"):
            look_after(name)

    arm()
    starting = Neighbour(tmp_path, "starting")
    monkeypatch.undo()
    assert looks >= 4
    assert watcher.machine.is_alive("starting")
    assert watcher.machine.dead() == []
    starting.commit(1)
    assert seen(watcher.machine, "starting") == [1]
    starting.close()
    watcher.close()


def _come_and_go(root: str, number: int, rounds: int) -> None:
    for turn in range(rounds):
        one = Neighbour(Path(root), f"n{number}-{turn}")
        for dead in one.machine.dead():
            one.machine.branches_of(dead)
            one.machine.bury(dead)
        one.commit(1)
        assert one.machine.home.exists(), "somebody buried a living node"
        one.close(keep_log=turn % 2 == 0)


def test_processes_that_come_go_and_bury_at_once_leave_the_living_alone(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_come_and_go, args=(str(tmp_path), n, 20)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_forgotten_halves_of_nodes_are_swept_in_the_end(pair: Pair, tmp_path: Path) -> None:
    one, _ = pair
    old, young = tmp_path / "nodes" / ".old", tmp_path / "nodes" / ".young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (0, 0))
    assert one.machine.dead() == []
    assert not old.exists()
    assert young.exists()


def test_damage_is_told_with_the_path_of_the_file(pair: Pair, tmp_path: Path) -> None:
    one, two = pair
    one.commit(1)
    one.commit(2)
    one.close(keep_log=True)
    (path,) = (tmp_path / "nodes" / "one").glob("*.log")
    content = bytearray(path.read_bytes())
    content[START + 60] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptError, match=str(path)):
        two.machine.records_of("one", BRANCH.decode())


class Interruption(BaseException):
    """What the handler of a signal raises."""


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Interruption()])
@pytest.mark.parametrize("name", ["ftruncate", "pwrite"])
def test_lock_that_could_not_be_finished_is_free_for_all(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, error: BaseException
) -> None:
    one, two = pair
    before = open_files(tmp_path)

    def fail(*_args: object) -> None:
        raise error

    monkeypatch.setattr(os, name, fail)
    full = isinstance(error, OSError)
    expected, told = (UnavailableError, r"b_1 .*free some space") if full else (Interruption, "^$")
    with pytest.raises(expected, match=told):
        one.machine.try_lock("b_1")
    monkeypatch.undo()
    assert open_files(tmp_path) == before
    assert os.listdir(tmp_path / "locks") == []
    assert two.machine.try_lock("b_1")
    two.machine.unlock("b_1")
    assert one.machine.try_lock("b_1")


def test_lock_is_free_though_a_forked_child_has_its_file_open(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A child has copies of all descriptors until it lets go of them, or for ever."""
    one, _ = pair
    assert one.machine.try_lock("b_1")
    copy = os.dup(one.machine._held["b_1"])
    other = os.open(tmp_path / "locks" / "b_1", os.O_RDWR)
    try:
        one.machine.unlock("b_1")
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(copy)
        os.close(other)


def test_listener_survives_an_answer_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard: queue.Queue[str] = queue.Queue()

    def answer(incarnation: str) -> None:
        heard.put(incarnation)
        raise RuntimeError("cannot start a thread")

    one, two = Machine(tmp_path, "one", answer), Machine(tmp_path, "two", lambda _: None)
    assert one.try_lock("b_1")
    assert one.try_lock("b_2")
    for incarnation in ("b_1", "b_2"):
        assert two.ask(incarnation) is not None
        assert heard.get(timeout=60) == incarnation
    one.close(keep_log=False)
    two.close(keep_log=False)
    assert "cannot start a thread" in caplog.text


def test_logs_of_those_that_came_and_went_are_not_kept_open(tmp_path: Path) -> None:
    watcher = Neighbour(tmp_path, "watcher")
    opened = []
    for turn in range(5):
        one = Neighbour(tmp_path, f"n{turn}")
        one.commit(turn)
        assert seen(watcher.machine, f"n{turn}") == [turn]
        one.close()
        opened.append(open_files(tmp_path))
    assert opened == opened[:1] * 5
    watcher.close()


def test_logs_of_the_many_living_are_kept_open_within_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memoturn.database.neighbours._FOLLOWED", 2)
    watcher = Neighbour(tmp_path, "watcher")
    others = [Neighbour(tmp_path, f"n{number}") for number in range(4)]
    for txid, one in enumerate(others):
        one.commit(txid)
    before = open_files(tmp_path)
    for _ in range(2):
        assert [seen(watcher.machine, f"n{txid}") for txid in range(4)] == [[0], [1], [2], [3]]
    assert before < open_files(tmp_path) <= before + 2
    for one in (*others, watcher):
        one.close()


def test_start_on_a_full_disk_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = open_files(tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UnavailableError, match="free some space"):
        Machine(tmp_path, "one", lambda _: None)
    assert os.listdir(tmp_path / "nodes") == []
    assert open_files(tmp_path) == before


@pytest.mark.parametrize("reserves", [True, False], ids=["reserved", "written"])
def test_published_page_has_its_place_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reserves: bool
) -> None:
    if not reserves:
        monkeypatch.delattr(os, "posix_fallocate")
    one = Neighbour(tmp_path, "one")
    assert (tmp_path / "nodes" / "one" / "alive").stat().st_blocks > 0
    two = Neighbour(tmp_path, "two")
    assert two.machine.is_alive("one")
    two.close()
    one.close()


def test_directory_of_a_node_is_durable_before_its_log_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, real = [], os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        synced.append(os.fstat(fd).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    root = tmp_path / "home" / "node"
    one = Machine(root, "one", lambda _: None)
    way = [root / "nodes", root, root.parent]
    assert synced[-3:] == [path.stat().st_ino for path in way]
    assert tmp_path.stat().st_ino in synced
    one.close(keep_log=False)
