"""A store that fails in every way a store may, and must still be used without loss.

A request may be refused with nothing done, carried out with its answer lost, or carried out much later, after its
sender has given up, sent it again, or died. The condition of a conditional write is looked at when it is carried
out. Everything above the single attempt is the engine's own code: `ConditionalWriter` decides here as it does on S3.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from memoturn.base.errors import (
    AlreadyExistsError,
    MemoturnError,
    UnavailableError,
    UndecidedWriteError,
)
from memoturn.base.ids import Ids
from memoturn.base.txids import UnixMs
from memoturn.bucket import NO_VERSION, Bucket, BucketSettings, ObjectInfo, ObjectNotFound, Version
from memoturn.bucket.bucket import LandedCheck, Pieces, StaleVersionError
from memoturn.bucket.conditional import ConditionalWriter

from .oracle import Oracle
from .scheduler import Clock, Crash, Process, Scheduler, Violation


@dataclass
class Faults:
    """How likely each mishap is at one request."""

    error: float = 0.0
    """Refused with nothing done."""
    lost: float = 0.0
    """Carried out, the answer lost."""
    late: float = 0.0
    """Carried out some seconds after the sender was told of an error."""
    echo: float = 0.0
    """Carried out, and answered with the refusal of its own second copy; or with no version at all."""
    crash: float = 0.0
    """The sender dies, before or after the request was carried out."""
    pause: float = 0.0
    """The sender stands still for some seconds."""
    disk: float = 0.0
    """A sync of the commit log fails."""


CALM = Faults()
STORE_EPOCH_MS = 1_800_000_000_000
_DELETES = 3
"""How often a client sends a deletion again; a real one does the same."""


class _Request(NamedTuple):
    """A write that is on its way; without a body, a deletion. `expected` is False for one without a condition."""

    key: str
    body: bytes | None
    expected: Version | bool | None
    label: Any


class Store:
    """The objects of the whole world, and the writes that are on their way to them."""

    def __init__(self, scheduler: Scheduler, oracle: Oracle) -> None:
        self.objects: dict[str, tuple[bytes, Version]] = {}
        self.modified: dict[str, UnixMs] = {}
        self.landed: set[bytes] = set()
        """The bodies of all conditional writes that were ever carried out."""
        self.denied: dict[bytes, str] = {}
        """The bodies of those whose sender was told that they were not."""
        self._scheduler = scheduler
        self._oracle = oracle
        self._on_the_way: list[tuple[float, int, _Request]] = []
        self._number = 0
        scheduler.deliver = self._deliver
        scheduler.next_delivery = self._next_delivery

    def carry_out(self, request: _Request) -> Version:
        """Do what the request says, if its condition holds."""
        key, body, expected, label = request
        there = self.objects.get(key)
        if body is None:
            return self._delete(key, label)
        if expected is None and there is not None:
            raise AlreadyExistsError(f"{key} exists")
        if isinstance(expected, Version):
            if there is None:
                raise ObjectNotFound(f"{key} is not there")
            if there[1] != expected:
                raise StaleVersionError(f"{key} has changed")
        self._number += 1
        version = Version(f'"{self._number}"', None)
        self.objects[key] = (body, version)
        self.modified[key] = self.now_ms()
        try:
            if expected is not False:
                if body in self.denied:
                    raise Violation(f"{key}: a write took effect after {self.denied[body]}")
                self.landed.add(body)
            self._oracle.written(key, body, None if there is None else there[0], label)
        except Violation as violation:
            # Whatever the engine makes of this error, the run has failed.
            self._scheduler.fail(violation)
            raise
        return version

    def _delete(self, key: str, label: Any) -> Version:
        there = self.objects.pop(key, None)
        if there is not None:
            try:
                self._oracle.deleted(key, there[0], label)
            except Violation as violation:
                self._scheduler.fail(violation)
                raise
        return NO_VERSION

    def now_ms(self) -> UnixMs:
        """The store's own time, which no machine's clock has to agree with."""
        return UnixMs(STORE_EPOCH_MS + int(self._scheduler.now * 1000))

    def send_late(self, request: _Request) -> None:
        """Carry the request out some other time."""
        self._number += 1
        # Most come soon enough to meet their own second copy, some long after everybody has given up.
        rng = self._scheduler.rng
        delay = rng.random() * (0.3 if rng.random() < 0.7 else 12.0)
        heapq.heappush(self._on_the_way, (self._scheduler.now + delay, self._number, request))

    def deliver_all(self) -> None:
        """Nothing is on its way any more."""
        self._deliver(float("inf"))

    def _deliver(self, now: float) -> None:
        while self._on_the_way and self._on_the_way[0][0] <= now:
            request = heapq.heappop(self._on_the_way)[2]
            try:
                self.carry_out(request)
                self._scheduler.log(f"(late) {request.key} written")
            except MemoturnError as error:
                self._scheduler.log(f"(late) {request.key} refused: {type(error).__name__}")
            except Violation:
                return

    def _next_delivery(self) -> float | None:
        return self._on_the_way[0][0] if self._on_the_way else None


class SimBucket(Bucket):
    """The store as one process sees it."""

    url = "sim:"
    is_local = False

    def __init__(
        self, store: Store, scheduler: Scheduler, process: Process, faults: Faults, clock: Clock, ids: Ids
    ) -> None:
        self._store = store
        self._scheduler = scheduler
        self._process = process
        self._rng = scheduler.rng
        self.faults = faults
        self._writer = ConditionalWriter(
            self, clock=clock, ids=ids, settings=BucketSettings(decide_s=3.0, longest_pause_s=1.0)
        )

    # Reading. What fails here has failed for as long as a reader is willing to try.

    def get(self, key: str) -> tuple[bytes, Version]:
        return self._read("get", key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self._read("get", key)[0][start : start + length]

    def get_tail(self, key: str, length: int) -> tuple[bytes, int]:
        body, _ = self._read("get", key)
        return body[max(0, len(body) - length) :], len(body)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Pieces:
        body, _ = self._read("get", key)
        return [body[start : start + length] for start, length in ranges]

    def list(self, prefix: str, after: str | None = None) -> Iterator[ObjectInfo]:
        self._request("list", prefix)
        found = [
            ObjectInfo(key, len(body), self._store.modified[key])
            for key, (body, _) in sorted(self._store.objects.items())
            if key.startswith(prefix) and (after is None or key > after)
        ]
        return iter(found)

    def _read(self, verb: str, key: str) -> tuple[bytes, Version]:
        self._request(verb, key)
        found = self._store.objects.get(key)
        if self._rng.random() < 0.3:
            self._scheduler.step()  # The answer is on its way while others write.
        self._scheduler.log(f"{verb} {key} -> {'none' if found is None else found[1].e_tag}")
        if found is None:
            raise ObjectNotFound(f"no object {key!r}")
        return found

    # Writing.

    def put(self, key: str, data: bytes | Iterable[bytes]) -> None:
        body = data if isinstance(data, bytes) else b"".join(data)
        self._write("put", _Request(key, body, False, self._label()))

    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        return self._checked(key, body, lambda: self._writer.create(key, body, landed))

    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        return self._checked(key, body, lambda: self._writer.replace(key, body, version, landed))

    def delete(self, key: str) -> None:
        for _ in range(_DELETES):
            try:
                self.delete_once(key)
            except UnavailableError:
                continue
            return
        raise UnavailableError(f"delete {key}: the store did not answer")

    def delete_once(self, key: str) -> None:
        self._write("delete", _Request(key, None, False, self._label()))

    def close(self) -> None:
        return None

    def attempt(self, key: str, body: bytes, expected: Version | None) -> Version:
        """One conditional write; see `ConditionalStore.attempt`."""
        return self._write(
            "create" if expected is None else "replace", _Request(key, body, expected, self._label())
        )

    def _checked(self, key: str, body: bytes, write: Any) -> Version:
        """What the writer concludes about a write must be true, and stay true."""
        try:
            version: Version = write()
        except UndecidedWriteError:
            self._scheduler.log(f"UNDECIDED {key}")
            raise
        except (AlreadyExistsError, StaleVersionError, ObjectNotFound) as error:
            told = f"its sender was told {type(error).__name__}"
            if body in self._store.landed:
                raise Violation(f"{key}: a write had taken effect, and {told}") from error
            self._store.denied[body] = told
            raise
        if body not in self._store.landed:
            raise Violation(f"{key}: a write counts as made that never took effect")
        return version

    def _write(self, verb: str, request: _Request) -> Version:
        self._request(verb, request.key)
        store, faults, rng, log = self._store, self.faults, self._rng, self._scheduler.log
        mishaps = (faults.lost, faults.late, faults.echo, faults.crash)
        (outcome,) = rng.choices(("lost", "late", "echo", "crash", "ok"), (*mishaps, 1 - sum(mishaps)))
        if outcome == "late":
            store.send_late(request)
        else:
            try:
                version = store.carry_out(request)
            except MemoturnError as error:
                log(f"{verb} {request.key} -> {type(error).__name__} ({outcome})")
                if outcome in ("ok", "echo"):
                    self._answer()
                    raise
        if outcome == "crash" or (outcome == "late" and rng.random() < faults.crash * 4):
            log(f"{verb} {request.key} -> CRASH")
            self._scheduler.kill(self._process)
            raise Crash
        if outcome in ("lost", "late"):
            log(f"{verb} {request.key} -> error ({outcome})")
            self._answer()
            raise UnavailableError(f"{verb} {request.key}: no answer came")
        if outcome == "echo" and request.expected is not False:
            log(f"{verb} {request.key} -> echo")
            self._answer()
            if rng.random() < 0.2:
                return NO_VERSION
            raise AlreadyExistsError("echo") if request.expected is None else StaleVersionError("echo")
        if outcome == "echo" and request.body is not None:
            store.send_late(request)
        log(f"{verb} {request.key} -> {version.e_tag}")
        self._answer()
        return version

    def _answer(self) -> None:
        if self._rng.random() < 0.5:
            self._scheduler.step()

    def _request(self, verb: str, key: str) -> None:
        """The way to the store: others may go first, and the request may never arrive."""
        scheduler, faults, rng = self._scheduler, self.faults, self._rng
        scheduler.step()
        roll = rng.random()
        if roll < faults.crash:
            scheduler.log(f"CRASH before {verb} {key}")
            scheduler.kill(self._process)
            raise Crash
        if roll < faults.crash + faults.pause:
            seconds = rng.random() * (8 if rng.random() < 0.8 else 120)
            scheduler.log(f"pauses for {seconds:.1f} s before {verb} {key}")
            self._process.paused_until = scheduler.now + seconds
            scheduler.step()
        elif roll < faults.crash + faults.pause + faults.error:
            scheduler.log(f"{verb} {key} -> error")
            raise UnavailableError(f"{verb} {key}: the store answered 503")

    def _label(self) -> Any:
        task = self._scheduler.current
        return None if task is None else task.label
