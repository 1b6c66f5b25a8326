"""A store of one object whose answers are lost, late, wrong or out of order, and that remembers the truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum

from memoturn.base.errors import AlreadyExistsError, UnavailableError
from memoturn.base.txids import UnixMs
from memoturn.bucket import Landed, ObjectNotFound, StaleVersionError, Version

KEPT_IDS = 4
"""How many of the latest write ids a body carries, as a manifest does."""


class Fault(Enum):
    """What becomes of one attempt."""

    NONE = "carried out and answered truly"
    LOST = "carried out, and the answer is lost"
    DROPPED = "not carried out, and an error"
    LATE = "an error now, and carried out after the next step"
    VERY_LATE = "an error now, and carried out after three more steps"
    REPEATED = "carried out, then refused: something in between sent it twice"
    CONFLICT = "not carried out, and refused for no reason, like the 409 of S3"
    NOT_FOUND = "not carried out, and said to be gone"


class Event(Enum):
    """What somebody else does between two steps."""

    NONE = "nothing"
    WRITE = "writes the object, after the last write"
    WRITE_MUCH = "writes it so often that the body forgets the ids of before"
    DELETE = "deletes it"


class StoppedClock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ms(self) -> UnixMs:
        return UnixMs(round(self.seconds * 1000))

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class FaultyStore:
    """Carries out a schedule: a fault for each attempt, a failure or not for each read, an event after each.

    When the schedule has run out, everything works.
    """

    def __init__(
        self, faults: Sequence[Fault], unreadable: Sequence[bool] = (), events: Sequence[Event] = ()
    ) -> None:
        self._faults, self._unreadable, self._events = iter(faults), iter(unreadable), iter(events)
        self._late: list[tuple[int, bytes, Version | None]] = []
        self._others = 0
        self.object: tuple[bytes, Version] | None = None
        self.applied: list[tuple[bytes, Version]] = []
        self.attempts = 0

    def get(self, key: str) -> tuple[bytes, Version]:
        try:
            if next(self._unreadable, False):
                raise UnavailableError("unreadable")
            if self.object is None:
                raise ObjectNotFound("nothing there")
            return self.object
        finally:
            self._step()

    def attempt(self, key: str, body: bytes, expected: Version | None) -> Version:
        self.attempts += 1
        fault = next(self._faults, Fault.NONE)
        try:
            if fault is Fault.NONE:
                return self.apply(body, expected)
            if fault in (Fault.LOST, Fault.REPEATED):
                self._try(body, expected)
            if fault in (Fault.LATE, Fault.VERY_LATE):
                self._late.append((1 if fault is Fault.LATE else 3, body, expected))
            if fault in (Fault.REPEATED, Fault.CONFLICT):
                raise AlreadyExistsError("refused") if expected is None else StaleVersionError("refused")
            if fault is Fault.NOT_FOUND:
                raise ObjectNotFound("said to be gone")
            raise UnavailableError(fault.value)
        finally:
            self._step()

    def apply(self, body: bytes, expected: Version | None) -> Version:
        """The store as it should be: one write, or a refusal, answered truly."""
        if expected is None and self.object is not None:
            raise AlreadyExistsError("there is one")
        if expected is not None and self.object is None:
            raise ObjectNotFound("there is none")
        if expected is not None and self.object is not None and self.object[1] != expected:
            raise StaleVersionError("there is another")
        version = Version(f"v{len(self.applied)}", None)
        self.object = (body, version)
        self.applied.append(self.object)
        return version

    def settle(self) -> None:
        """Let every late write arrive."""
        while self._late:
            self._arrive()

    def _step(self) -> None:
        event = next(self._events, Event.NONE)
        if event is Event.DELETE:
            self.object = None
        elif event is not Event.NONE:
            for _ in range(1 if event is Event.WRITE else KEPT_IDS):
                self._others += 1
                current = self.object
                self.apply(following(current and current[0], f"other {self._others}"), current and current[1])
        self._arrive()

    def _arrive(self) -> None:
        waiting, self._late = self._late, []
        for steps, body, expected in waiting:
            if steps:
                self._late.append((steps - 1, body, expected))
            else:
                self._try(body, expected)

    def _try(self, body: bytes, expected: Version | None) -> None:
        try:
            self.apply(body, expected)
        except (AlreadyExistsError, StaleVersionError, ObjectNotFound):
            return


def following(body: bytes | None, write_id: str) -> bytes:
    """The body of a write over another: its id, and those of the writes before it."""
    before = [] if body is None else json.loads(body)
    return json.dumps([write_id, *before][:KEPT_IDS]).encode()


def landed(body: bytes, write_id: str) -> Landed:
    """Whether the write is part of a body's past, as far as the body remembers."""
    ids = json.loads(body)
    if write_id in ids:
        return Landed.OURS
    return Landed.UNKNOWN if len(ids) == KEPT_IDS else Landed.NOT_OURS
