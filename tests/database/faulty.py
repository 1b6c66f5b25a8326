"""A disk, a store and a street of machines that fail on purpose, and remember what is really there."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from memoturn.base.errors import UnavailableError, UndecidedWriteError
from memoturn.base.ids import Ids
from memoturn.base.names import parse_address
from memoturn.base.settings import CommitSettings, Durability, Settings
from memoturn.base.txids import UnixMs
from memoturn.bucket import Bucket, ObjectNotFound, Version
from memoturn.bucket.bucket import LandedCheck, ObjectInfo, Pieces
from memoturn.bucket.memory import MemoryBucket
from memoturn.database.branch import Branch
from memoturn.database.follow import LogFollower
from memoturn.database.log import CommitLog
from memoturn.database.neighbours import Holder
from memoturn.database.published import PAGE_BYTES, Published, read_state
from memoturn.database.record import START, LogRecord
from memoturn.faces.embedded.client import Database
from memoturn.manifest.watch import AgeWatch
from memoturn.models.guard import protect
from memoturn.node.engine import Engine, Surroundings
from tests.stand_ins import NoShipper

# The disk.


class Frozen(OSError):  # noqa: N818 - a state, not an error that anybody handles
    """The machine has stopped: nothing is written any more."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "the machine has stopped")


class StoredFile:
    """What is durable of a file, and what was written since its last sync, in order."""

    def __init__(self, size: int) -> None:
        self.durable = bytearray(size)
        self.unsynced: list[tuple[int, bytes]] = []

    def visible(self) -> bytearray:
        """What programs read now."""
        return self.after(sum(len(data) for _, data in self.unsynced))

    def after(self, survived: int) -> bytearray:
        """What a crash leaves if the first `survived` unsynced bytes have reached the disk.

        A file's header lies in one sector, which is written whole or not at all.
        """
        content = bytearray(self.durable)
        for offset, data in self.unsynced:
            part = data[:survived] if offset >= START or survived >= len(data) else b""
            if len(content) < offset + len(part):
                content.extend(bytes(offset + len(part) - len(content)))
            content[offset : offset + len(part)] = part
            survived -= len(part)
        return content


Operation = Literal["create", "write", "sync", "remove"]


class FaultyDirectory:
    """Log files in memory. `fail(kind, n, error)` fails the n-th call of a kind; with `freeze_at`, everything stops
    at that call of all. What a failed sync should have written can still be read, as on Linux.
    """

    def __init__(self, files: dict[str, StoredFile] | None = None) -> None:
        self.files = files if files is not None else {}
        self.calls: dict[Operation, int] = {"create": 0, "write": 0, "sync": 0, "remove": 0}
        self.steps: list[tuple[Operation, str]] = []
        self.freeze_at: int | None = None
        self._faults: dict[tuple[Operation, int], BaseException] = {}
        self.on_sync: Callable[[], None] = lambda: None

    def fail(self, kind: Operation, number: int, error: BaseException) -> None:
        self._faults[kind, number] = error

    def step(self, kind: Operation, name: str) -> None:
        self.steps.append((kind, name))
        self.calls[kind] += 1
        if self.freeze_at is not None and len(self.steps) >= self.freeze_at:
            raise Frozen
        error = self._faults.pop((kind, self.calls[kind]), None)
        if error is not None:
            raise error

    def surviving(self, survived: int, reordered: bool = False) -> FaultyDirectory:
        """The directory after a power cut that let `survived` unsynced bytes of each file through.

        The first ones, or, as disks reorder what lies between two syncs, those that were written last.
        """
        files = {}
        for name, file in self.files.items():
            left = StoredFile(0)
            left.durable = bytearray(file.durable)
            left.unsynced = file.unsynced[::-1] if reordered else file.unsynced
            left.durable, left.unsynced = left.after(survived), []
            files[name] = left
        return FaultyDirectory(files)

    def unsynced_bytes(self) -> int:
        return sum(len(data) for file in self.files.values() for _, data in file.unsynced)

    def names(self) -> list[str]:
        return sorted(self.files)

    def create(self, name: str, size: int) -> FaultyFile:
        self.step("create", name)
        self.files[name] = StoredFile(size)
        return FaultyFile(self, name)

    def open(self, name: str) -> FaultyFile:
        if name not in self.files:
            raise FileNotFoundError(name)
        return FaultyFile(self, name)

    def remove(self, name: str) -> None:
        self.step("remove", name)
        self.files.pop(name, None)


class FaultyFile:
    def __init__(self, directory: FaultyDirectory, name: str) -> None:
        self._directory = directory
        self._name = name
        self._file = directory.files[name]
        self.closed = False

    def write(self, data: bytes, offset: int) -> None:
        assert not self.closed
        try:
            self._directory.step("write", self._name)
        except Frozen:
            self._file.unsynced.append((offset, bytes(data)))
            raise
        except OSError:
            # A disk that fills up takes a part, though never of one sector.
            if offset >= START:
                self._file.unsynced.append((offset, bytes(data[: len(data) // 2])))
            raise
        self._file.unsynced.append((offset, bytes(data)))

    def sync(self) -> None:
        assert not self.closed
        self._directory.step("sync", self._name)
        self._directory.on_sync()
        self._file.durable = self._file.visible()
        self._file.unsynced.clear()

    def read(self, offset: int, length: int) -> bytes:
        assert not self.closed
        return bytes(self._file.visible()[offset : offset + length])

    def close(self) -> None:
        self.closed = True


# The store.


class FaultyBucket(Bucket):
    """A bucket in memory that several engines share; `fault(verb, key)` is called before every call and may raise.

    A `replace` for which it raises `UndecidedWriteError` is carried out if `lands` is set. Closing does nothing.
    """

    url = "memory:"
    is_local = True

    def __init__(self, clock: StepClock) -> None:
        self.inner = MemoryBucket(clock)
        self.fault: Callable[[str, str], None] = lambda _verb, _key: None
        self.spoil: Callable[[str, bytes], bytes] = lambda _key, data: data
        self.lands = True
        self.requests: list[tuple[str, str]] = []

    def copy(self, clock: StepClock) -> FaultyBucket:
        """The same objects, to be changed apart from these."""
        other = FaultyBucket(clock)
        for info in self.inner.list(""):
            other.inner.put(info.key, self.inner.get(info.key)[0])
        return other

    def _call(self, verb: str, key: str) -> None:
        self.requests.append((verb, key))
        self.fault(verb, key)

    def get(self, key: str) -> tuple[bytes, Version]:
        self._call("get", key)
        return self.inner.get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self._call("get_range", key)
        return self.spoil(key, self.inner.get_range(key, start, length))

    def get_tail(self, key: str, length: int) -> tuple[bytes, int]:
        self._call("get_tail", key)
        return self.inner.get_tail(key, length)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Pieces:
        return [self.get_range(key, start, length) for start, length in ranges]

    def list(self, prefix: str, after: str | None = None) -> Iterator[ObjectInfo]:
        self._call("list", prefix)
        return self.inner.list(prefix, after)

    def put(self, key: str, data: bytes | Iterable[bytes]) -> None:
        self._call("put", key)
        body = data if isinstance(data, bytes) else b"".join(data)
        try:
            assert self.inner.get(key)[0] == body, f"{key} is immutable and was written with another content"
        except ObjectNotFound:
            self.inner.put(key, body)

    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        self._call("create", key)
        return self.inner.create(key, body, landed)

    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        try:
            self._call("replace", key)
        except UndecidedWriteError:
            if self.lands:
                self.inner.replace(key, body, version, landed)
            raise
        return self.inner.replace(key, body, version, landed)

    def delete(self, key: str) -> None:
        self._call("delete", key)
        self.inner.delete(key)

    def close(self) -> None:
        return None


# Machines, and the processes on them.


class StepClock:
    """Time that passes only by sleeping; the wall clock also moves a millisecond with every look at it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._looks = 0

    def now_ms(self) -> UnixMs:
        self._looks += 1
        return UnixMs(1_800_000_000_000 + round(self.seconds * 1000) + self._looks)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class SharedCounters:
    """What `SharedWatch` is to real processes."""

    tells_owner = True
    owner_age = math.inf

    def __init__(self) -> None:
        self._tokens: dict[str, int] = {}

    def token(self, key: str) -> int:
        return self._tokens.get(key, 0)

    def ring(self, key: str) -> int:
        token = self._tokens[key] = self.token(key) + 1
        return token


class House:
    """What one machine keeps: the logs of all processes that ever ran on it, and who of them lives."""

    def __init__(self, set_aside: Path | None = None) -> None:
        self.logs: dict[str, FaultyDirectory] = {}
        self.pages: dict[str, bytearray] = {}
        self.living: set[str] = set()
        self.locks: dict[str, str] = {}
        self.on_ask: dict[str, Callable[[str], None]] = {}
        self.set_aside = set_aside
        self.counters = SharedCounters()


class Resident:
    """One process among those of a house: `Neighbours` without the operating system."""

    def __init__(self, house: House, node_id: str) -> None:
        self._house = house
        self._id = node_id
        house.logs.setdefault(node_id, FaultyDirectory())
        page = house.pages[node_id] = bytearray(PAGE_BYTES)
        house.living.add(node_id)
        self.published = Published(memoryview(page))

    def try_lock(self, incarnation: str) -> bool:
        holder = self._house.locks.get(incarnation)
        if holder is not None and holder != self._id and holder in self._house.living:
            return False
        self._house.locks[incarnation] = self._id
        return True

    def unlock(self, incarnation: str) -> None:
        if self._house.locks.get(incarnation) == self._id:
            del self._house.locks[incarnation]

    def ask(self, incarnation: str) -> Holder | None:
        holder = self._house.locks.get(incarnation)
        if holder is None:
            return None
        self._house.on_ask.get(holder, lambda _incarnation: None)(incarnation)
        return Holder(holder, 0, "resident")

    def _follower(self, node_id: str) -> LogFollower:
        house = self._house
        return LogFollower(
            house.logs[node_id],
            lambda: (node_id in house.living, read_state(bytes(house.pages.get(node_id, b"")))),
        )

    def records_of(self, node_id: str, branch: str) -> list[LogRecord]:
        if node_id not in self._house.logs:
            return []
        follower = self._follower(node_id)
        follower.look()
        return follower.records_of(branch)

    def branches_of(self, node_id: str) -> set[str]:
        follower = self._follower(node_id)
        follower.look()
        return follower.branches()

    def dead(self) -> list[str]:
        return sorted(self._house.logs.keys() - self._house.living)

    def bury(self, node_id: str) -> None:
        self._house.logs.pop(node_id, None)
        self._house.pages.pop(node_id, None)


class Process:
    """An engine in a house. `kill` leaves its log as it is and lets its locks go.

    With `remote`, machines far away write the bucket too, so that what was read is believed for half a second.
    """

    def __init__(
        self,
        house: House,
        bucket: Bucket,
        clock: StepClock,
        name: str = "n1",
        durability: Durability = "standard",
        backlog_bytes: int = 64 << 20,
        remote: bool = False,
    ) -> None:
        self.house, self.name = house, name
        self.resident = Resident(house, name)
        self.directory = house.logs[name]
        self.shipper = NoShipper()
        published = self.resident.published
        self.log = CommitLog(self.directory, clock, published.synced, published.failed)
        commit = CommitSettings(durability=durability, backlog_bytes=backlog_bytes)
        self.engine = Engine(
            "memory:",
            replace(Settings(), commit=commit),
            prepare=protect,
            clock=clock,
            ids=Ids(),
            surroundings=Surroundings(
                name,
                bucket,
                AgeWatch(clock, 0.5) if remote else house.counters,
                self.resident,
                self.shipper,
                log=self.log,
                set_aside=house.set_aside,
            ),
        )
        house.on_ask[name] = self.engine._hand_over

    def db(self, address: str) -> Database:
        return Database(self.engine, parse_address(address))

    def branch(self, address: str) -> Branch:
        parsed = parse_address(address)
        return self.engine.branch(parsed.database, parsed.branch)

    def create(self, name: str) -> Database:
        from memoturn.operations import databases

        databases.create(self.engine, name)
        return self.db(name)

    def kill(self) -> None:
        self.house.living.discard(self.name)
        self.house.on_ask.pop(self.name, None)


def away(verb: str, key: str) -> None:
    """A store that does not answer."""
    raise UnavailableError("the store does not answer")
