"""Threads for work that must not hold up the event loop, in lanes, so that slow work holds up no quick work.

A lane has a line for each database. A line has as many threads at a time as the lane allows it, and takes turns with
the others; so one database's work delays another's by a few pieces at most, however much of it there is. A line that
is full refuses more.

All counting happens on the event loop. Threads only take work from a line that was handed to them, and hand results
back; the loop is woken once for as many results as there are by then.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import Any, Final, TypeVar, cast

from memoturn.base.deadline import Deadline
from memoturn.base.errors import MemoturnError, OverloadedError, UnavailableError

T = TypeVar("T")
_log: Final = logging.getLogger("memoturn.http")
_TURN: Final = 16
"""Pieces of work of one line that a thread does before it looks at other lines."""


class Job:
    """A piece of work, and whoever waits for it."""

    __slots__ = ("deadline", "error", "future", "result", "work")

    def __init__(self, work: Callable[[], Any], deadline: Deadline, future: asyncio.Future[Any]) -> None:
        self.work = work
        self.deadline = deadline
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None


class _Line:
    """The work of one database; `threads` are at it now."""

    __slots__ = ("key", "threads", "waiting")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.waiting: deque[Job] = deque()
        self.threads = 0


class Lane:
    """Some threads, and the lines that they work off. `submit` and `close` are for the event loop's thread only."""

    def __init__(
        self,
        name: str,
        threads: int,
        of_one: int,
        queued: int,
        monotonic: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.name = name
        self._most = threads
        self._of_one = of_one
        self._queued = queued
        self._monotonic = monotonic
        self._loop = loop
        self._lines: dict[Hashable, _Line] = {}
        self._ready: SimpleQueue[_Line | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._given = 0
        """Lines that were handed to threads, one count for each thread."""
        self._done: deque[Job | _Line] = deque()
        self._woken = False

    def submit(self, key: Hashable, work: Callable[[], T], deadline: Deadline) -> asyncio.Future[T]:
        """Have work done by a thread. Raises `OverloadedError` if too much of that key waits already.

        What has not begun by its deadline is not begun.
        """
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(key)
        elif len(line.waiting) >= self._queued:
            raise OverloadedError(
                f"{self._queued} {self.name} of this database wait already; try again in a second", 1.0
            )
        job = Job(work, deadline, self._loop.create_future())
        line.waiting.append(job)
        if line.threads < self._of_one:
            self._hand_out(line)
        return cast("asyncio.Future[T]", job.future)

    @property
    def busy(self) -> int:
        """How much work waits or is being done."""
        return sum(len(line.waiting) + line.threads for line in self._lines.values())

    def _hand_out(self, line: _Line) -> None:
        line.threads += 1
        self._given += 1
        if self._given > len(self._threads) < self._most:
            thread = threading.Thread(
                target=self._work, name=f"memoturn-{self.name}-{len(self._threads)}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._ready.put(line)

    # On the threads.

    def _work(self) -> None:
        take, ready = self._ready.get, self._ready
        while (line := take()) is not None:
            turn = 0
            while True:
                try:
                    job = line.waiting.popleft()
                except IndexError:
                    self._hand_back(line)
                    break
                self._do(job)
                self._hand_back(job)
                turn += 1
                if turn >= _TURN and not ready.empty():
                    ready.put(line)
                    break

    def _do(self, job: Job) -> None:
        deadline = job.deadline
        if job.future.cancelled():
            return
        try:
            if deadline.is_over(self._monotonic()):
                raise deadline.error()
            with deadline:
                job.result = job.work()
        except MemoturnError as error:
            job.error = error
        except BaseException as error:
            # What is stopped within the engine may surface as anything.
            job.error = deadline.error() if deadline.is_over(self._monotonic()) else error

    def _hand_back(self, what: Job | _Line) -> None:
        self._done.append(what)
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._settle)
            except RuntimeError:
                _log.warning("work of the lane %s ended after the server did", self.name)

    # On the event loop.

    def _settle(self) -> None:
        self._woken = False
        done = self._done
        while done:
            what = done.popleft()
            if isinstance(what, Job):
                future = what.future
                if not future.done():
                    if what.error is None:
                        future.set_result(what.result)
                    else:
                        future.set_exception(what.error)
                what.error = what.result = None
                continue
            what.threads -= 1
            self._given -= 1
            if what.waiting:
                self._hand_out(what)
            elif not what.threads:
                del self._lines[what.key]

    async def close(self) -> None:
        """Wait for what was begun, and let the threads go. What still waits is called off."""
        for line in self._lines.values():
            for job in line.waiting:
                job.deadline.call_off("the server is closing")
        for _ in self._threads:
            self._ready.put(None)
        for thread in self._threads:
            while thread.is_alive():
                await asyncio.sleep(0.005)
        self._settle()
        for line in self._lines.values():
            for job in line.waiting:
                if not job.future.done():
                    job.future.set_exception(UnavailableError("the server is closing"))
