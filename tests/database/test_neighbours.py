"""Who lives on a machine, who may write a branch, how to ask for it, and what becomes of the dead."""

from __future__ import annotations

import multiprocessing
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from memoturn.base.clock import SystemClock
from memoturn.base.errors import CorruptError
from memoturn.base.txids import TXID
from memoturn.database.log import CommitLog
from memoturn.database.logfile import DiskDirectory
from memoturn.database.neighbours import Machine
from memoturn.database.record import START

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
    deaf = Machine(tmp_path, "deaf", lambda _incarnation: heard.wait(20) and None)
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
            if threading.current_thread() is main and ("starting" in repr(args) or name == "ftruncate"):
                looks += 1
                monkeypatch.undo()
                for dead in watcher.machine.dead():
                    watcher.machine.bury(dead)
                arm()
            return result

        monkeypatch.setattr(os, name, call)

    def arm() -> None:
        for name in ("mkdir", "open", "ftruncate", "mkfifo", "rename"):
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
