"""A machine's disk: what was synced stays, what was not may stay in part, sector by sector."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from memoturn.database.follow import LogFollower
from memoturn.database.group import Entry, Work
from memoturn.database.log import CommitLog
from memoturn.database.published import PAGE_BYTES, Published, Synced, read_state
from memoturn.database.record import LogRecord

from .oracle import Oracle
from .scheduler import Clock, Scheduler

_SECTOR = 512


class _Stored:
    """A file: what is durable, and what programs see."""

    __slots__ = ("durable", "unsynced", "visible")

    def __init__(self, size: int) -> None:
        self.durable = bytearray(size)
        self.visible = bytearray(size)
        self.unsynced: list[tuple[int, bytes]] = []

    def settle(self, rng: random.Random, keep: float) -> None:
        """Each sector written since the last sync reaches the platter, or not."""
        for offset, data in self.unsynced:
            for start in range(0, len(data), _SECTOR):
                if rng.random() < keep:
                    part = data[start : start + _SECTOR]
                    _write(self.durable, offset + start, part)
        self.unsynced.clear()


def _write(target: bytearray, offset: int, data: bytes) -> None:
    if len(target) < offset + len(data):
        target.extend(bytes(offset + len(data) - len(target)))
    target[offset : offset + len(data)] = data


class Disk:
    """One directory for each process that ever ran on the machine."""

    def __init__(self, rng: random.Random, set_aside: Path) -> None:
        self._rng = rng
        self.set_aside = set_aside
        self.directories: dict[str, dict[str, _Stored]] = {}
        self.published: dict[str, bytearray] = {}
        """What each process tells of its log, in memory that outlives it, but not always the machine."""

    def lose_power(self) -> None:
        """Only what is durable is left."""
        for files in self.directories.values():
            for file in files.values():
                file.settle(self._rng, self._rng.choice((0.0, 0.5, 1.0)))
                file.visible = bytearray(file.durable)
        for node_id in self.published:
            if self._rng.random() < 0.5:
                self.published[node_id] = bytearray(PAGE_BYTES)

    def lose(self) -> None:
        """The machine comes back with an empty disk."""
        self.directories.clear()
        self.published.clear()


class SimFile:
    """An open log file."""

    def __init__(self, stored: _Stored, scheduler: Scheduler, fails: Callable[[], bool]) -> None:
        self._stored = stored
        self._scheduler = scheduler
        self._fails = fails

    def write(self, data: bytes, offset: int) -> None:
        self._scheduler.check_alive()
        _write(self._stored.visible, offset, data)
        self._stored.unsynced.append((offset, data))

    def sync(self) -> None:
        self._scheduler.step()
        rng = self._scheduler.rng
        if self._fails():
            self._scheduler.log("sync -> EIO")
            # The kernel marks the pages clean: a later sync will not write them either.
            self._stored.settle(rng, rng.choice((0.0, 0.5, 1.0)))
            raise OSError(5, "Input/output error")
        self._stored.settle(rng, 1.0)
        if rng.random() < 0.3:
            self._scheduler.step()

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._stored.visible[offset : offset + length])

    def close(self) -> None:
        return None


class SimDirectory:
    """Where one process keeps its log files."""

    def __init__(self, disk: Disk, node_id: str, scheduler: Scheduler, fails: Callable[[], bool]) -> None:
        self._files = disk.directories.setdefault(node_id, {})
        self._scheduler = scheduler
        self._fails = fails

    def names(self) -> list[str]:
        return sorted(self._files)

    def create(self, name: str, size: int) -> SimFile:
        self._scheduler.check_alive()
        stored = self._files[name] = _Stored(size)
        return SimFile(stored, self._scheduler, self._fails)

    def open(self, name: str) -> SimFile:
        try:
            return SimFile(self._files[name], self._scheduler, self._fails)
        except KeyError:
            raise FileNotFoundError(name) from None

    def remove(self, name: str) -> None:
        self._scheduler.check_alive()
        self._files.pop(name, None)


class SimNeighbours:
    """A machine on which one process runs at a time: it may write whatever it likes, and find its dead.

    Nobody is kept from writing a branch here, so that the epochs alone protect it.
    """

    def __init__(self, disk: Disk, node_id: str, scheduler: Scheduler) -> None:
        self._disk = disk
        self._node_id = node_id
        self._scheduler = scheduler
        self._followers: dict[str, LogFollower] = {}

    def try_lock(self, incarnation: str) -> bool:
        return True

    def unlock(self, incarnation: str) -> None:
        return None

    def ask(self, incarnation: str) -> None:
        return None

    def records_of(self, node_id: str, branch: str) -> list[LogRecord]:
        follower = self._follow(node_id)
        return [] if follower is None else follower.records_of(branch)

    def branches_of(self, node_id: str) -> set[str]:
        follower = self._follow(node_id)
        return set() if follower is None else follower.branches()

    def dead(self) -> list[str]:
        return [name for name in sorted(self._disk.directories) if name != self._node_id]

    def bury(self, node_id: str) -> None:
        self._scheduler.check_alive()
        self._scheduler.log(f"buries {node_id}")
        self._disk.directories.pop(node_id, None)
        self._disk.published.pop(node_id, None)
        self._followers.pop(node_id, None)

    def _follow(self, node_id: str) -> LogFollower | None:
        if node_id not in self._disk.directories:
            return None
        follower = self._followers.get(node_id)
        if follower is None:
            directory = SimDirectory(self._disk, node_id, self._scheduler, lambda: False)
            follower = self._followers[node_id] = LogFollower(directory, lambda: self._synced_of(node_id))
        follower.look()
        return follower

    def _synced_of(self, node_id: str) -> tuple[bool, Synced]:
        return False, read_state(bytes(self._disk.published.get(node_id, b"")))


class SimLog(CommitLog):
    """The commit log, telling the operation that runs which commit it has made durable."""

    def __init__(
        self,
        directory: SimDirectory,
        disk: Disk,
        node_id: str,
        scheduler: Scheduler,
        clock: Clock,
        oracle: Oracle,
    ) -> None:
        page = disk.published[node_id] = bytearray(PAGE_BYTES)
        published = Published(memoryview(page))
        super().__init__(directory, clock, published.synced, published.failed)
        self._scheduler = scheduler
        self._node_id = node_id
        self._oracle = oracle

    def commit(self, branch: bytes, epoch: int, txid: int, commit: bytes) -> None:  # type: ignore[override]
        super().commit(branch, epoch, txid, commit)  # type: ignore[arg-type]
        self._logged(branch, epoch, txid)

    def combine(self, work: Work) -> bool:
        given: list[Entry] = []

        def watched() -> Entry | None:
            entry = work()
            given.extend([] if entry is None else [entry])
            return entry

        done = super().combine(watched)
        for branch, epoch, txid, _ in given if done else ():
            self._logged(branch, epoch, txid)
        return done

    def _logged(self, branch: bytes, epoch: int, txid: int) -> None:
        self._scheduler.check_alive()
        self._oracle.logged(branch.decode(), epoch, self._node_id)
        task = self._scheduler.current
        if task is not None and task.label is not None:
            task.label.logged = (branch.decode(), epoch, txid)
