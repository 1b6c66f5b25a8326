"""What background work may take: it goes in bounded pieces, and pauses between them so that others get their turn.

Every job spends after each piece: that is where it is paced, counted, reported, and stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from memoturn.base.clock import Clock
from memoturn.base.errors import ClosedError

PIECE: Final = 1 << 20
"""Bytes after which a job that copies should spend."""

_NAP: Final = 0.1
"""Seconds of sleep after which a job looks whether it is to stop."""


class Stopped(ClosedError):  # noqa: N818 - no error of anybody's: the job was told to stop
    """The work was stopped halfway, because whoever it was for closes; what it has finished stands."""


class Budget:
    """One job's allowance, for one thread at a time. Without `share` and `bytes_per_second` it knows no limit.

    `share` is how much of the time the job may work, more than 0 and at most 1. `stopped` is asked again and again.
    `progress` is called with the bytes that are done and those that are expected in all, once for each `PIECE`.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        share: float | None = None,
        bytes_per_second: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.bytes = 0
        """Spent so far."""
        self.expected = 0
        self.worked = 0.0
        """Seconds."""
        self.paused = 0.0
        self._clock = clock
        self._share = share
        self._rate = bytes_per_second
        self._stopped = stopped
        self._progress = progress
        self._since = clock.monotonic()
        self._told = 0

    def check(self) -> None:
        """Raise `Stopped` if the work is to stop."""
        if self._stopped():
            raise Stopped("the store is being closed, and what was being done in the background was stopped")

    def begin(self) -> None:
        """Work begins now: what passed since the last piece was somebody else's time."""
        self.check()
        self._since = self._clock.monotonic()

    def expect(self, count: int) -> None:
        """There are so many more bytes to do."""
        self.expected += count

    def spend(self, count: int = 0) -> None:
        """A piece is done that took so many bytes: pause as long as it has earned. Raises `Stopped`."""
        self.check()
        self.bytes += count
        if self._progress is not None and self.bytes >= min(self._told + PIECE, self.expected):
            self._told = self.bytes
            self._progress(self.bytes, max(self.expected, self.bytes))
        worked = self._clock.monotonic() - self._since
        self.worked += worked
        pause = 0.0
        if self._share is not None:
            pause = worked * (1 / self._share - 1)
        if self._rate is not None:
            pause = max(pause, count / self._rate - worked)
        if pause > 0:
            self._pause(pause)
        self._since = self._clock.monotonic()

    def _pause(self, seconds: float) -> None:
        end = self._clock.monotonic() + seconds
        self.paused += seconds
        while seconds > 0:
            self._clock.sleep(min(seconds, _NAP))
            self.check()
            seconds = end - self._clock.monotonic()
