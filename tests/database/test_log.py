"""Group commit, rotation, cutting and reuse of log files, and who is told what when a sync fails."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from memoturn.base.clock import SystemClock
from memoturn.base.errors import ClosedError
from memoturn.base.txids import TXID
from memoturn.database import group as groups
from memoturn.database import log as module
from memoturn.database.group import LogFailedError
from memoturn.database.log import CommitLog
from memoturn.database.logfile import DiskDirectory
from memoturn.database.record import START, file_header, read_file_header, read_records
from tests.database.faulty import FaultyDirectory, StepClock


class Gate:
    """A sync that takes as long as the test wants, without a clock: it waits until it is let through."""

    def __init__(self, directory: FaultyDirectory) -> None:
        self.arrived = threading.Semaphore(0)
        self.passing = threading.Semaphore(0)
        directory.on_sync = self._wait

    def _wait(self) -> None:
        self.arrived.release()
        assert self.passing.acquire(timeout=20)

    def next(self) -> None:
        """Wait for a sync to begin."""
        assert self.arrived.acquire(timeout=20)

    def let(self, count: int = 1) -> None:
        self.passing.release(count)


class Committer(threading.Thread):
    """One commit on a thread of its own, and how it ended."""

    def __init__(self, log: CommitLog, number: int) -> None:
        super().__init__(daemon=True)
        self.error: BaseException | None = None
        self._work: Callable[[], None] = lambda: log.commit(b"d/b/%d" % number, 1, TXID(1), b"x" * 100)
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error

    def ended(self) -> BaseException | None:
        self.join(timeout=20)
        assert not self.is_alive(), "a commit waits for ever"
        return self.error


def make(directory: FaultyDirectory | None = None) -> tuple[CommitLog, FaultyDirectory]:
    directory = directory or FaultyDirectory()
    return CommitLog(directory, StepClock()), directory


def queued(log: CommitLog, count: int) -> None:
    """Wait until so many commits are in the group that forms."""
    while len(log._group.commits) < count:
        threading.Event().wait(0.001)


def records(directory: FaultyDirectory, name: str = "000001.log") -> list[tuple[str, int, int]]:
    data = bytes(directory.files[name].visible())
    generation = read_file_header(data[:64])
    assert generation is not None
    return [(r.branch, r.epoch, r.txid) for r in read_records(data, START, generation)[0]]


@pytest.fixture
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_FILE_BYTES", START + 2000)
    monkeypatch.setattr(module, "FILE_BYTES", START + 4000)


def test_commits_that_wait_together_share_one_sync() -> None:
    log, directory = make()
    log.commit(b"d/b/0", 1, TXID(1), b"first")
    gate = Gate(directory)
    leader = Committer(log, 1)
    gate.next()
    followers = [Committer(log, number) for number in range(2, 34)]
    queued(log, 32)
    gate.let(2)
    assert [one.ended() for one in (leader, *followers)] == [None] * 33
    assert (log.syncs, log.commits) == (3, 34)
    assert len(records(directory)) == 34


def test_lead_passes_from_group_to_group() -> None:
    log, directory = make()
    log.commit(b"d/b/0", 1, TXID(1), b"first")
    gate = Gate(directory)
    everybody = [Committer(log, 1)]
    for group in range(1, 6):
        gate.next()
        everybody += [Committer(log, group * 10 + number) for number in range(3)]
        queued(log, 3)
        gate.let()
    gate.let(10)
    assert [one.ended() for one in everybody] == [None] * 16
    assert log.syncs == 7
    directory.on_sync = lambda: None
    log.commit(b"d/b/0", 1, TXID(2), b"a lone writer comes after")


def test_nothing_is_acknowledged_before_its_sync() -> None:
    log, directory = make()
    log.commit(b"d/b/0", 1, TXID(1), b"first")
    gate = Gate(directory)
    leader, follower = Committer(log, 1), None
    gate.next()
    follower = Committer(log, 2)
    queued(log, 1)
    gate.let()
    assert leader.ended() is None
    gate.next()
    assert follower.is_alive()
    assert "d/b/2" not in {branch for branch, _, _ in records(directory.surviving(0))}
    gate.let()
    assert follower.ended() is None
    assert "d/b/2" in {branch for branch, _, _ in records(directory.surviving(0))}


def test_failed_sync_fails_its_group_and_no_other() -> None:
    failed: list[tuple[str, int]] = []
    directory = FaultyDirectory()
    log = CommitLog(directory, StepClock(), on_failed=lambda name, end: failed.append((name, end)))
    log.commit(b"d/b/0", 1, TXID(1), b"first")
    end = START + len(_only_record(directory))
    gate = Gate(directory)
    first = Committer(log, 1)
    gate.next()
    group = [Committer(log, number) for number in range(2, 6)]
    queued(log, 4)
    directory.fail("sync", directory.calls["sync"] + 1, OSError(errno.EIO, "injected"))
    gate.let(10)
    assert first.ended() is None
    errors = [one.ended() for one in group]
    assert all(isinstance(error, LogFailedError) and "injected" in str(error) for error in errors)
    assert len({id(error) for error in errors}) == 4, "threads share one exception"
    assert failed[0][0] == "000001.log"
    assert failed[0][1] > end
    log.commit(b"d/b/9", 1, TXID(1), b"after")
    assert directory.names() == ["000001.log", "000002.log"]
    assert directory.calls["write"] == 6  # Two headers, and four groups: none is written twice.


def _only_record(directory: FaultyDirectory) -> bytes:
    data = bytes(directory.files["000001.log"].visible())
    return data[START : read_records(data, START, 1)[1]]


def test_failed_file_is_removed_when_it_has_shipped() -> None:
    log, directory = make()
    log.commit(b"d/b/0", 1, TXID(1), b"first")
    directory.fail("sync", directory.calls["sync"] + 1, OSError(errno.EIO, "injected"))
    with pytest.raises(LogFailedError):
        log.commit(b"d/b/1", 1, TXID(1), b"second")
    log.commit(b"d/b/1", 2, TXID(1), b"second")
    assert directory.names() == ["000001.log", "000002.log"]
    log.shipped(b"d/b/0", TXID(1))
    assert directory.names() == ["000002.log"]


@pytest.mark.usefixtures("_small_files")
def test_full_file_is_left_for_another_and_used_again_when_shipped() -> None:
    log, directory = make()
    for txid in range(1, 9):
        log.commit(b"d/b/0", 1, TXID(txid), bytes(600))
    assert directory.names() == ["000001.log", "000002.log"]
    log.shipped(b"d/b/0", TXID(8))
    for txid in range(9, 60):
        log.commit(b"d/b/0", 1, TXID(txid), bytes(600))
        log.shipped(b"d/b/0", TXID(txid))
    assert directory.names() == ["000001.log", "000002.log"], "files were not used again"
    assert log.is_empty()


@pytest.mark.usefixtures("_small_files")
def test_file_with_anything_unshipped_is_never_used_again() -> None:
    log, directory = make()
    log.commit(b"d/slow/0", 1, TXID(1), bytes(600))
    for txid in range(1, 60):
        log.commit(b"d/b/0", 1, TXID(txid), bytes(600))
        log.shipped(b"d/b/0", TXID(txid))
    assert ("d/slow/0", 1, 1) in records(directory)


@pytest.mark.usefixtures("_small_files")
def test_header_is_durable_before_a_file_is_written_again() -> None:
    """Else a crash could leave new records under the old generation, or old ones behind new ones."""
    log, directory = make()
    for txid in range(1, 30):
        log.commit(b"d/b/0", 1, TXID(txid), bytes(600))
        log.shipped(b"d/b/0", TXID(txid))
    previous: dict[str, str] = {}
    for kind, name in directory.steps:
        if kind == "write":
            assert previous.get(name) != "write", f"{name} is written twice without a sync"
        previous[name] = kind


@pytest.mark.usefixtures("_small_files")
def test_records_of_an_earlier_generation_are_not_read() -> None:
    log, directory = make()
    for txid in range(1, 4):
        log.commit(b"d/b/0", 1, TXID(txid), bytes(500))
    log.shipped(b"d/b/0", TXID(3))  # More than half of the file is used: it is cut.
    log.commit(b"d/b/0", 1, TXID(4), bytes(500))
    assert directory.names() == ["000001.log"]
    assert records(directory) == [("d/b/0", 1, 4)]
    assert read_file_header(bytes(directory.files["000001.log"].visible()[:64])) == 2


@pytest.mark.usefixtures("_small_files")
def test_record_larger_than_any_file_has_a_file_of_its_own() -> None:
    log, directory = make()
    log.commit(b"d/b/0", 1, TXID(1), b"small")
    log.commit(b"d/b/0", 1, TXID(2), bytes(1_000_000))
    log.commit(b"d/b/0", 1, TXID(3), b"small")
    found = [record for name in directory.names() for record in records(directory, name)]
    assert sorted(found) == [("d/b/0", 1, 1), ("d/b/0", 1, 2), ("d/b/0", 1, 3)]


@pytest.mark.parametrize("kind", ["create", "write", "sync"])
def test_new_file_that_cannot_be_begun_is_given_up(kind: Any) -> None:
    log, directory = make()
    directory.fail(kind, 1, OSError(errno.ENOSPC, "no space left"))
    with pytest.raises(LogFailedError, match="no space left"):
        log.commit(b"d/b/0", 1, TXID(1), b"x")
    log.commit(b"d/b/0", 1, TXID(1), b"x")
    assert directory.names()[-1] == "000002.log"
    log.shipped(b"d/b/0", TXID(1))
    assert directory.names() == ["000002.log"]


def test_cut_that_fails_costs_a_file_and_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_FILE_BYTES", START + 200)
    log, directory = make()
    log.commit(b"d/b/0", 1, TXID(1), bytes(3000))
    directory.fail("sync", directory.calls["sync"] + 1, OSError(errno.EIO, "injected"))
    log.shipped(b"d/b/0", TXID(1))
    log.commit(b"d/b/0", 1, TXID(2), b"x")
    assert ("d/b/0", 1, 2) in records(directory, "000002.log")


def test_close_removes_what_is_empty_and_keeps_the_rest() -> None:
    log, directory = make()
    log.commit(b"d/b/0", 1, TXID(1), b"x")
    assert not log.is_empty()
    log.close()
    assert directory.names() == ["000001.log"]

    log, directory = make()
    log.commit(b"d/b/0", 1, TXID(1), b"x")
    log.shipped(b"d/b/0", TXID(1))
    assert log.is_empty()
    log.close()
    assert directory.names() == []
    with pytest.raises(ClosedError):
        log.commit(b"d/b/0", 1, TXID(2), b"too late")


def test_live_readers_are_told_of_the_start_before_the_end() -> None:
    told: list[tuple[str, int]] = []
    log = CommitLog(FaultyDirectory(), StepClock(), lambda name, end: told.append((name, end)))
    log.commit(b"d/b/0", 1, TXID(1), b"x")
    assert told[0] == ("000001.log", START)
    assert told[1][1] > START


class _InterruptAt:
    """Raises KeyboardInterrupt at the n-th line of the log that the main thread runs."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.where = ""

    def __call__(self, frame: FrameType, event: str, _arg: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.endswith(("/database/group.py", "/database/log.py")):
            return None
        if event == "call" and self.left > 0:
            self.left -= 1
            if self.left == 0:
                self.where = f"{frame.f_code.co_name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self


def test_interrupted_leader_leaves_nobody_waiting() -> None:
    for number in range(1, 200):
        log, directory = make()
        log.commit(b"d/b/0", 1, TXID(1), b"first")
        followers: list[Committer] = []

        def crowd(
            log: CommitLog = log,
            directory: FaultyDirectory = directory,
            followers: list[Committer] = followers,
        ) -> None:
            directory.on_sync = lambda: None
            followers.extend(Committer(log, number) for number in range(2, 5))
            queued(log, 3)

        directory.on_sync = crowd
        interrupt = _InterruptAt(number)
        sys.settrace(interrupt)
        try:
            log.commit(b"d/b/1", 1, TXID(1), b"led by the main thread")
        except (KeyboardInterrupt, LogFailedError):
            assert interrupt.where
        finally:
            sys.settrace(None)
        for follower in followers:
            follower.ended()
        last = Committer(log, 9)
        assert last.ended() is None, f"after an interrupt in {interrupt.where}"
        if not interrupt.where:
            return
    raise AssertionError("a commit takes more than 200 calls")


def test_interrupted_follower_that_is_to_lead_still_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    log, directory = make()
    log.commit(b"d/b/0", 1, TXID(1), b"first")
    gate = Gate(directory)
    leader = Committer(log, 1)
    gate.next()
    waiter_wait = groups._Waiter.wait

    def interrupted(self: groups._Waiter) -> BaseException | None:
        waiter_wait(self)
        return KeyboardInterrupt()

    monkeypatch.setattr(groups._Waiter, "wait", interrupted)
    follower = Committer(log, 2)
    queued(log, 1)
    monkeypatch.setattr(groups._Waiter, "wait", waiter_wait)
    another = Committer(log, 3)
    queued(log, 2)
    gate.let(10)
    assert leader.ended() is None
    assert another.ended() is None
    assert isinstance(follower.ended(), KeyboardInterrupt)
    assert Committer(log, 4).ended() is None


def test_files_on_a_real_disk_hold_what_was_committed(tmp_path: Any) -> None:
    directory = DiskDirectory(tmp_path / "logs")
    assert directory.names() == []
    log = CommitLog(directory, SystemClock())
    committers = [Committer(log, number) for number in range(20)]
    assert [one.ended() for one in committers] == [None] * 20
    log.close()
    (name,) = directory.names()
    data = (tmp_path / "logs" / name).read_bytes()
    assert len(data) == module.FIRST_FILE_BYTES
    assert data.startswith(file_header(1))
    assert len(read_records(data, START, 1)[0]) == 20


@pytest.mark.parametrize("name", ["write", "fsync"])
def test_new_file_whose_making_was_interrupted_is_removed(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    directory = DiskDirectory(tmp_path)
    monkeypatch.setattr(os, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        directory.create("000001.log", 1 << 20)
    monkeypatch.undo()
    assert directory.names() == []


def test_new_file_is_whole_though_each_write_stops_early(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:300_000]))
    DiskDirectory(tmp_path).create("000001.log", 3 << 20).close()
    assert (tmp_path / "000001.log").stat().st_size == 3 << 20


def test_directory_of_new_files_is_durable(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, real = [], os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        synced.append(os.fstat(fd).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    DiskDirectory(tmp_path / "a" / "b").create("000001.log", 1).close()
    assert {path.stat().st_ino for path in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")} <= set(synced)
