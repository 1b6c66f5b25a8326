"""Ships what branches have committed, a little later than it was committed and several branches side by side.

One thread keeps the time; each branch that is due is shipped on a small pool, so that one slow request delays no
other branch. Where no request is slow, a pool of one takes less from those who commit meanwhile. A branch that
fails is tried again after a pause that doubles. An idle branch costs nothing.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from memoturn.base.clock import Clock
from memoturn.base.errors import ConflictError, NotFoundError

_LONGEST_PAUSE: Final = 30.0
_AT_ONCE: Final = 0.0
_LET_OTHERS: Final = 0.00005
"""Seconds between pieces, in which whoever commits gets the interpreter. A thread that only lets go of it for moments
has it back before the other has woken, and goes on for as long as the interpreter lets it: 5 ms."""


class Shippable(Protocol):
    """What the shipper asks of a branch."""

    @property
    def backlog(self) -> int:
        """Bytes that have not shipped."""

    def prepare(self) -> Iterator[None]:
        """Do what shipping takes that can be done beforehand, in brief pieces. Raises `MemoturnError`."""

    def ship(self) -> None:
        """Ship them. Raises `MemoturnError`."""


class Shipper:
    """Started by the first commit; `close` stops it and leaves what is unshipped to the caller."""

    def __init__(
        self,
        clock: Clock,
        interval: float,
        full: int,
        on_failure: Callable[[Shippable, Exception], None],
        side_by_side: int = 4,
    ) -> None:
        self._clock = clock
        self._interval = interval
        self._full = full
        self._on_failure = on_failure
        self._side_by_side = side_by_side
        self._wake = threading.Condition()
        self._due: list[tuple[float, int, Shippable]] = []
        # By the number of a branch, only while it waits, ships or has failed: later the number may be another's.
        self._waiting: dict[int, float] = {}
        self._flying: set[int] = set()
        self._pauses: dict[int, float] = {}
        self._closed = False
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None

    def notice(self, branch: Shippable) -> None:
        """The branch has committed: ship it within the interval, or at once if it has much to ship."""
        number = id(branch)
        if number in self._flying:
            return  # It is looked at again when it has landed.
        if number in self._waiting and (branch.backlog < self._full or self._has_no_haste(number)):
            return
        with self._wake:
            if self._closed or number in self._flying:
                return
            if number not in self._waiting:
                at = self._clock.monotonic() + (self._pauses.get(number) or self._interval)
            elif self._has_no_haste(number):
                return
            else:
                at = _AT_ONCE
            self._waiting[number] = at
            heapq.heappush(self._due, (at, number, branch))
            if self._thread is None:
                self._start()
            self._wake.notify()

    def _has_no_haste(self, number: int) -> bool:
        """Whether a branch that waits is due at once already, or has failed and pauses."""
        return number in self._pauses or self._waiting.get(number) == _AT_ONCE

    def close(self) -> None:
        """Stop, after what is being shipped now."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        if self._pool is not None:
            self._pool.shutdown()

    def _start(self) -> None:
        self._pool = ThreadPoolExecutor(self._side_by_side, thread_name_prefix="memoturn-ship")
        self._thread = threading.Thread(target=self._run, name="memoturn-shipper", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            with self._wake:
                if self._closed:
                    return
                if not self._due:
                    self._wake.wait()
                    continue
                at, number, branch = self._due[0]
                now = self._clock.monotonic()
                if at > now:
                    self._wake.wait(at - now)
                    continue
                heapq.heappop(self._due)
                if self._waiting.get(number) != at:
                    continue  # It was urgent, and has been shipped since.
                del self._waiting[number]
                self._flying.add(number)
                pool = self._pool
            if pool is not None:
                pool.submit(self._ship, branch)

    def _ship(self, branch: Shippable) -> None:
        number = id(branch)
        failure: Exception | None = None
        try:
            for _ in branch.prepare():
                self._clock.sleep(_LET_OTHERS)
            branch.ship()
        except (ConflictError, NotFoundError):
            pass  # The branch knows, and tells whoever writes next.
        except Exception as error:
            failure = error
        with self._wake:
            # In this order: a commit that comes while the branch still ships does not notice it.
            self._flying.discard(number)
            unshipped = branch.backlog
            if failure is None or not unshipped:
                self._pauses.pop(number, None)
            else:
                self._pauses[number] = min(self._pauses.get(number, self._interval) * 2, _LONGEST_PAUSE)
        if unshipped:
            self.notice(branch)
        if failure is not None:
            self._on_failure(branch, failure)
