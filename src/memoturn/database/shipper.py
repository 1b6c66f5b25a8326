"""Ships what branches have committed, a little later than it was committed and several branches side by side.

One thread keeps the time; each branch that is due is shipped on a small pool, so that one slow request delays no
other branch. A branch that fails is tried again after a pause that doubles. An idle branch costs nothing.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from memoturn.base.clock import Clock
from memoturn.base.errors import ConflictError, MemoturnError, NotFoundError

_LONGEST_PAUSE: Final = 30.0


class Shippable(Protocol):
    """What the shipper asks of a branch."""

    @property
    def backlog(self) -> int:
        """Bytes that have not shipped."""

    def ship(self) -> None:
        """Ship them. Raises `MemoturnError`."""


class Shipper:
    """Started by the first commit; `close` stops it and leaves what is unshipped to the caller."""

    def __init__(
        self, clock: Clock, interval: float, full: int, on_failure: Callable[[Shippable, MemoturnError], None]
    ) -> None:
        self._clock = clock
        self._interval = interval
        self._full = full
        self._on_failure = on_failure
        self._wake = threading.Condition()
        self._due: list[tuple[float, int, Shippable]] = []
        self._waiting: set[int] = set()
        self._flying: set[int] = set()
        self._urgent: set[int] = set()
        self._pauses: dict[int, float] = {}
        self._closed = False
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None

    def notice(self, branch: Shippable) -> None:
        """The branch has committed: ship it within the interval, or at once if it has much to ship."""
        number = id(branch)
        if number in self._flying:
            return  # It is looked at again when it has landed.
        if number in self._waiting and (branch.backlog < self._full or number in self._urgent):
            return
        with self._wake:
            if self._closed:
                return
            if number in self._waiting:
                self._urgent.add(number)
                heapq.heappush(self._due, (0.0, number, branch))
            else:
                self._waiting.add(number)
                at = self._clock.monotonic() + (self._pauses.get(number) or self._interval)
                heapq.heappush(self._due, (at, number, branch))
            if self._thread is None:
                self._start()
            self._wake.notify()

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
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="memoturn-ship")
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
                if number not in self._waiting:
                    continue  # It was urgent, and has been shipped since.
                self._waiting.discard(number)
                self._urgent.discard(number)
                self._flying.add(number)
                pool = self._pool
            if pool is not None:
                pool.submit(self._ship, branch)

    def _ship(self, branch: Shippable) -> None:
        number = id(branch)
        try:
            branch.ship()
            self._pauses.pop(number, None)
        except (ConflictError, NotFoundError):
            self._pauses.pop(number, None)  # The branch knows, and tells whoever writes next.
        except MemoturnError as error:
            self._pauses[number] = min(self._pauses.get(number, self._interval) * 2, _LONGEST_PAUSE)
            self._on_failure(branch, error)
        finally:
            with self._wake:
                self._flying.discard(number)
            if branch.backlog:
                self.notice(branch)
