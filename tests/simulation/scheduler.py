"""One thread runs at a time, and who is next is drawn from the seed.

Every task is an OS thread, because SQLite's C frames cannot be suspended in any other way; but a task runs only
while it holds the baton, and gives it up only where it would wait in reality: at a request, a sync, a sleep or a
lock. Nothing else decides an interleaving, so a seed replays exactly.

Time is a number. It creeps forward with every step and jumps to the next thing due when everybody waits.
"""

from __future__ import annotations

import _thread
import random
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final

MAX_STEPS: Final = 40_000


class Crash(BaseException):
    """The process that the task belongs to has died; it unwinds, and nothing it still does has any effect."""


class Violation(AssertionError):  # noqa: N818 - it is a verdict, not an error of the code that raises it
    """What the simulated nodes did breaks a promise."""


class Process:
    """What dies at once: some tasks, and all that they have in memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused_until = 0.0


class Task:
    """One thread of a process. `label` says on behalf of which operation it acts."""

    __slots__ = ("baton", "label", "name", "process", "ready", "thread", "wake_at")

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.process = process
        self.baton = _thread.allocate_lock()
        self.baton.acquire()
        self.ready = True
        self.wake_at: float | None = None
        self.label: Any = None
        self.thread: threading.Thread | None = None

    def where(self) -> str:
        """The lines of our code that the task is in."""
        frame = sys._current_frames().get(self.thread.ident or 0) if self.thread is not None else None
        stack = [f for f in traceback.extract_stack(frame) if "/memoturn/" in f.filename] if frame else []
        return f"{self.name}: " + " < ".join(f"{f.name}:{f.lineno}" for f in reversed(stack))


class Scheduler:
    """The tasks, the time, and the record of what happened."""

    def __init__(self, rng: random.Random, stickiness: float) -> None:
        self.rng = rng
        self.now = 0.0
        self.steps = 0
        self.trace: list[str] = []
        self.failure: BaseException | None = None
        self.current: Task | None = None
        self.deliver: Callable[[float], None] = lambda _now: None
        self.next_delivery: Callable[[], float | None] = lambda: None
        self._tasks: list[Task] = []
        self._stickiness = stickiness
        self._done = _thread.allocate_lock()
        self._stopping = False

    # For whoever builds the world.

    def spawn(self, name: str, process: Process, work: Callable[[], None]) -> Task:
        """A task that begins when it is first chosen."""
        task = Task(name, process)
        self._tasks.append(task)
        task.thread = threading.Thread(target=self._live, args=(task, work), name=name, daemon=True)
        task.thread.start()
        return task

    def run(self) -> None:
        """Let the tasks run until all have ended. Raises what a task has raised."""
        self._done.acquire()
        self._pass_baton(self._choose())
        self._done.acquire()
        self._done.release()
        if self.failure is not None:
            raise self.failure

    def log(self, text: str) -> None:
        """Add a line to the trace."""
        task = self.current
        self.trace.append(f"{self.now:9.4f} {task.name if task else '-'}: {text}")

    # For tasks.

    def step(self) -> None:
        """Let others go first, perhaps."""
        task = self._mine()
        self._yield(task)

    def sleep(self, seconds: float) -> None:
        """Wait for the clock."""
        task = self._mine()
        task.ready = False
        task.wake_at = self.now + max(seconds, 0.0)
        self._yield(task)

    def block(self, waiters: list[Task], timeout: float | None = None) -> None:
        """Wait until somebody calls `wake` with the same list, or for `timeout` seconds."""
        task = self._mine()
        waiters.append(task)
        task.ready = False
        if timeout is not None:
            task.wake_at = self.now + timeout
        try:
            self._yield(task)
        finally:
            if task in waiters:
                waiters.remove(task)

    @staticmethod
    def wake(waiters: list[Task]) -> None:
        """Let those who wait go on."""
        for task in waiters:
            task.ready, task.wake_at = True, None
        waiters.clear()

    def kill(self, process: Process) -> None:
        """The process is dead from now on; its tasks find out when they are next chosen."""
        process.alive = False
        process.paused_until = 0.0
        for task in self._tasks:
            if task.process is process:
                task.ready, task.wake_at = True, None

    def is_alive(self) -> bool:
        """Whether the process of the current task still runs."""
        task = self.current
        return task is None or (task.process.alive and not self._stopping)

    def check_alive(self) -> None:
        """Raise `Crash` in a task of a dead process."""
        if not self.is_alive():
            raise Crash

    # Inside.

    def _mine(self) -> Task:
        task = self.current
        assert task is not None, "only a task can wait"
        self.check_alive()
        return task

    def _yield(self, task: Task) -> None:
        following = self._choose()
        if following is not task:
            self._pass_baton(following)
            task.baton.acquire()
        self.check_alive()

    def _pass_baton(self, task: Task | None) -> None:
        self.current = task
        if task is None:
            self._done.release()
        else:
            task.baton.release()

    def _choose(self) -> Task | None:
        """Who runs next; None when all have ended."""
        self.steps += 1
        if self.steps > MAX_STEPS and not self._stopping:
            self.trace += [task.where() for task in self._tasks]
            self.fail(Violation(f"the nodes were still busy after {MAX_STEPS} steps"))
        self.now += self.rng.random() * 0.004
        while True:
            self.deliver(self.now)
            ready = []
            due: float | None = self.next_delivery()
            for task in self._tasks:
                wake_at = task.wake_at
                if wake_at is not None and wake_at <= self.now:
                    task.ready, task.wake_at, wake_at = True, None, None
                if task.ready:
                    if task.process.paused_until <= self.now:
                        ready.append(task)
                        continue
                    wake_at = task.process.paused_until
                if wake_at is not None and (due is None or wake_at < due):
                    due = wake_at
            if ready:
                if self.current in ready and self.rng.random() < self._stickiness:
                    return self.current
                return ready[int(self.rng.random() * len(ready))]
            if not self._tasks:
                return None
            if due is None:
                self.trace += [task.where() for task in self._tasks]
                names = ", ".join(task.name for task in self._tasks)
                self.fail(Violation(f"deadlock: {names} wait for each other"))
                continue
            self.now = max(self.now, due)

    def _live(self, task: Task, work: Callable[[], None]) -> None:
        task.baton.acquire()
        try:
            self.check_alive()
            work()
        except Crash:
            pass
        except BaseException as error:
            self.fail(error)
        self._tasks.remove(task)
        self._pass_baton(self._choose())

    def fail(self, error: BaseException) -> None:
        """The run is over, for this reason; everybody unwinds."""
        if self.failure is None:
            self.failure = error
            if not isinstance(error, Violation):
                self.trace += traceback.format_exception(error)[-8:]
        self._stopping = True
        for task in self._tasks:
            task.ready, task.wake_at = True, None
            task.process.paused_until = 0.0


class Clock:
    """The clock of one machine: its wall clock is off by `skew_ms`, its monotonic one is not."""

    def __init__(self, scheduler: Scheduler, skew_ms: int) -> None:
        self._scheduler = scheduler
        self._skew_ms = skew_ms

    def jump(self, ms: int) -> None:
        """Somebody has set the wall clock."""
        self._skew_ms += ms

    def now_ms(self) -> Any:
        return 1_800_000_000_000 + self._skew_ms + int(self._scheduler.now * 1000)

    def monotonic(self) -> float:
        return self._scheduler.now

    def sleep(self, seconds: float) -> None:
        self._scheduler.sleep(seconds)


class Lock:
    """A lock whose waiting is a step of the scheduler.

    A dead process gets every lock at once: what it does under it has no effect, and it must be able to unwind.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held = False
        self._waiters: list[Task] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        scheduler = self._scheduler
        until = scheduler.now + timeout if timeout >= 0 else None
        while self._held and scheduler.is_alive():
            if not blocking or (until is not None and scheduler.now >= until):
                return False
            try:
                scheduler.block(self._waiters, None if until is None else until - scheduler.now)
            except Crash:
                break
        self._held = True
        return True

    def release(self) -> None:
        self._held = False
        self._scheduler.wake(self._waiters)

    def locked(self) -> bool:
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class RLock:
    """A reentrant lock whose waiting is a step of the scheduler; see `Lock` for the dead."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._owner: Task | None = None
        self._depth = 0
        self._waiters: list[Task] = []

    def acquire(self) -> bool:
        scheduler = self._scheduler
        me = scheduler.current
        while self._depth and self._owner is not me and scheduler.is_alive():
            try:
                scheduler.block(self._waiters)
            except Crash:
                break
        self._owner = me
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._scheduler.wake(self._waiters)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Threading:
    """What the engine's modules know as `threading`, with locks that the scheduler sees."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def Lock(self) -> Lock:
        return Lock(self._scheduler)

    def RLock(self) -> RLock:
        return RLock(self._scheduler)

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)
