"""How a reader learns, without asking the bucket, that a record may have changed.

A watch gives a token for a key: as long as the token stays the same, what was read under it is still current.
Tokens are compared for equality only.
"""

from __future__ import annotations

import itertools
import math
import os
import zlib
from pathlib import Path
from typing import Final, Protocol

from memoturn.base.clock import Clock
from memoturn.base.ids import Ids
from memoturn.base.shared import map_shared
from memoturn.bucket.durable import reporting


class Watch(Protocol):
    """Tells whether a record read earlier may be stale."""

    tells_owner: bool
    """Whether the owner of a branch, too, learns of changes by others; else it learns at its next write."""

    def token(self, key: str) -> int:
        """A number that changes when the record at `key` may have changed."""

    def ring(self, key: str) -> int:
        """Say that the record at `key`, or the log of its branch, has changed; returns the token after that."""

    owner_age: float
    """For so many seconds after he heard from the bucket an owner who is not told need not look again."""


class AloneWatch:
    """For a bucket that no one else can reach: what this process wrote last is what there is."""

    tells_owner = False
    owner_age = math.inf

    def token(self, key: str) -> int:
        return 0

    def ring(self, key: str) -> int:
        return 0


class AgeWatch:
    """For a bucket that others write too: a record is believed for `max_age` seconds; if that is 0, never.

    The owner of a branch, who hears from the bucket whenever he ships, believes it for `owner_max_age` seconds.
    """

    tells_owner = False

    def __init__(self, clock: Clock, max_age: float, owner_max_age: float = 5.0) -> None:
        self._clock = clock
        self._max_age = max_age
        self.owner_age = owner_max_age
        self._numbers = itertools.count()

    def token(self, key: str) -> int:
        if self._max_age <= 0:
            return next(self._numbers)
        return int(self._clock.monotonic() / self._max_age)

    def ring(self, key: str) -> int:
        return self.token(key)


class SharedWatch:
    """For processes on one machine: a page of shared memory with one slot for many keys.

    A ring writes a number that was never there before, so that two processes which ring at the same moment
    cannot cancel each other, as two increments could. Keys that share a slot cause a needless look, no more.
    """

    tells_owner = True
    owner_age = math.inf
    _SLOTS: Final = 1 << 15

    def __init__(self, path: Path, ids: Ids) -> None:
        with reporting(str(path), "opened"):
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._map = map_shared(fd, self._SLOTS * 8)
            finally:
                os.close(fd)
        self._slots = memoryview(self._map).cast("Q")
        self._next = ids.number(63)
        self._slot_of: dict[str, int] = {}

    def token(self, key: str) -> int:
        try:
            return self._slots[self._slot_of[key]]
        except KeyError:
            return self._slots[self._remember(key)]

    def ring(self, key: str) -> int:
        token = self._next = (self._next + 1) & 0xFFFF_FFFF_FFFF_FFFF
        slot = self._slot_of.get(key)
        self._slots[self._remember(key) if slot is None else slot] = token
        return token

    def close(self) -> None:
        """Let go of the shared memory."""
        self._slots.release()
        self._map.close()

    def _remember(self, key: str) -> int:
        if len(self._slot_of) >= 65536:
            self._slot_of.clear()
        slot = self._slot_of[key] = zlib.crc32(key.encode()) % self._SLOTS
        return slot
