"""Background work of one engine: a thread that does what is due, a piece at a time, within a budget.

It begins with the first branch that is used, so that opening a store costs nothing, and ends when the engine is
closed, after the piece in hand. An error ends a piece of work and never the thread: it is counted, logged with the
branch's name, and the work is tried again after a pause that doubles.

`step` does what is most overdue; the thread does nothing else, so whoever has a clock of his own may call it instead.
"""

from __future__ import annotations

import logging
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from memoturn.base.errors import MemoturnError
from memoturn.base.spread import Spread
from memoturn.base.txids import UnixMs
from memoturn.history.budget import Budget, Stopped
from memoturn.node.chores import Chores
from memoturn.node.drills import Drills
from memoturn.node.notes import Note
from memoturn.node.timetable import Job, Kind, Pace, Timetable

if TYPE_CHECKING:
    from memoturn.database.branch import Branch
    from memoturn.node.engine import Engine

_log: Final = logging.getLogger("memoturn")
_NO_HASTE: Final = 5.0
"""Seconds after which it is early enough to hear of something that is due much later."""
_LEAST_PAUSE: Final = 5.0
"""Seconds between two passes over a database at least."""
_SECONDS: Final = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
_PATIENCE: Final = 30.0
"""Seconds for which closing waits for a request that is on its way."""


@dataclass(frozen=True, slots=True)
class Work:
    """What this process has done since it opened the store. Times in seconds."""

    running: Job | None
    pieces: int
    failures: int
    worked: float
    paused: float
    bytes: int
    since: UnixMs


class Maintenance:
    """One for each engine. Without a thread nothing happens but what `step` is called for."""

    def __init__(self, engine: Engine, *, threaded: bool = True) -> None:
        settings = engine.settings
        history = settings.history
        self.notes: Final = engine.notes
        self._clock = engine.clock
        self._opened_at = engine.clock.now_ms()
        self._engine = weakref.ref(engine, lambda _: self._wake_up())
        pace = Pace(idle=settings.maintenance.idle_secs, collect=max(history.gc_grace_secs / 4, _LEAST_PAUSE))
        self._timetable = Timetable(pace)
        self._names: dict[str, str] = {}
        self._budget = Budget(
            engine.clock,
            share=history.work_share,
            bytes_per_second=history.work_bytes_per_second,
            stopped=lambda: self._closing,
        )
        rate = settings.maintenance.drill_bytes_per_minute
        drills = Drills(engine, self.notes, rate) if rate else None
        self._chores = Chores(
            engine.clock, self.notes, self._budget, pace, history.gc_grace_secs, drills, self._names
        )
        self._wake = threading.Condition()
        self._used: dict[tuple[str, str], None] = {}
        self._shipped: dict[tuple[str, str], int] = {}
        self._touched: set[str] = set()
        self._asleep_until = float("inf")
        self._threaded = threaded
        self._closing = False
        self._thread: threading.Thread | None = None
        self._pieces = 0
        self.kinds: Final[dict[tuple[Kind, bool], Spread]] = {}
        """Seconds that pieces of each kind took, those that failed apart."""
        self._failures = 0
        self._running: Job | None = None

    # What is heard: called by those who work in the foreground, so it is only noted.

    def used(self, name: str, branch: Branch) -> None:
        """A branch of the database of that name was opened."""
        with self._wake:
            self._names[branch.db_uuid] = name
            self._used[branch.db_uuid, branch.branch_id] = None
            self._rouse(_NO_HASTE)

    def shipped(self, branch: Branch, size: int) -> None:
        """So many bytes of a branch's commits were linked."""
        key = (branch.db_uuid, branch.branch_id)
        with self._wake:
            before = self._shipped.get(key)
            self._shipped[key] = size + (before or 0)
            if before is None:
                self._rouse(1.0)

    def touched(self, db_uuid: str) -> None:
        """Something of a database was deleted."""
        with self._wake:
            self._touched.add(db_uuid)
            self._rouse(_NO_HASTE)

    def _rouse(self, within: float) -> None:
        """See to it that the thread hears of it in time."""
        if self._closing or not self._threaded:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="memoturn-maintenance", daemon=True)
            self._thread.start()
        elif self._asleep_until > self._clock.monotonic() + within:
            self._wake.notify()

    # The thread.

    def _run(self) -> None:
        try:
            while not self._closing:
                wait = self._step_of_engine()
                with self._wake:
                    if self._closing or self._engine() is None:
                        return
                    if self._touched or self._shipped or self._used:
                        continue
                    self._asleep_until = float("inf") if wait is None else self._clock.monotonic() + wait
                    if wait is None or wait > 0:
                        self._wake.wait(wait)
                    self._asleep_until = float("-inf")
        except Stopped:
            return

    def _step_of_engine(self) -> float | None:
        engine = self._engine()
        return None if engine is None else self.step(engine)

    def _wake_up(self) -> None:
        if self._thread is not None:
            with self._wake:
                self._wake.notify()

    def stop(self) -> None:
        """Do nothing more; returns after the piece of work in hand."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_PATIENCE)
            if thread.is_alive():
                _log.warning("%s is still under way, and is left alone", name_of(self._running))

    def note_shipped(self) -> None:
        """Note what was shipped at the very end."""
        with self._wake:
            shipped, self._shipped = self._shipped, {}
        self._note_shipped(shipped)

    def _note_shipped(self, shipped: dict[tuple[str, str], int]) -> None:
        sizes: dict[str, int] = {}
        for (db_uuid, _), size in shipped.items():
            sizes[db_uuid] = sizes.get(db_uuid, 0) + size
        for db_uuid, size in sizes.items():
            self.notes.add(db_uuid, shipped=size)

    def abandon_after_fork(self) -> None:
        """In a forked child: the thread is the parent's."""
        self._closing = True
        self._thread = None

    # The work.

    def step(self, engine: Engine) -> float | None:
        """Do what is most overdue; returns in how many seconds more is due, None if nothing is planned.

        Raises `Stopped`.
        """
        self._hear()
        job = self._timetable.take(self._clock.monotonic())
        if job is not None:
            self._do(engine, job)
        at = self._timetable.next_at()
        return None if at is None else max(at - self._clock.monotonic(), 0.0)

    def _hear(self) -> None:
        with self._wake:
            used, self._used = self._used, {}
            shipped, self._shipped = self._shipped, {}
            touched, self._touched = self._touched, set()
        now = self._clock.monotonic()
        for db_uuid, branch_id in used:
            self._timetable.used(db_uuid, branch_id, now)
        for db_uuid, branch_id in shipped:
            self._timetable.shipped(db_uuid, branch_id, now)
        self._note_shipped(shipped)
        for db_uuid in touched:
            self._timetable.touched(db_uuid, now)

    def _do(self, engine: Engine, job: Job) -> None:
        clock = self._clock
        began, self._running = clock.monotonic(), job
        self._pieces += 1
        try:
            self._budget.begin()
            outcome, wait = self._chores.do(engine, job)
        except Stopped:
            raise
        except Exception as error:
            self._budget.check()
            self._failed(job, began, error)
        else:
            now = clock.monotonic()
            self._count(job.kind, True, now - began)
            self._timetable.done(job, now, now - began, outcome, wait)
        finally:
            self._running = None

    def _count(self, kind: Kind, well: bool, took: float) -> None:
        if (kind, well) not in self.kinds:
            self.kinds[kind, well] = Spread(_SECONDS)
        self.kinds[kind, well].add(took)

    def _failed(self, job: Job, began: float, error: Exception) -> None:
        now = self._clock.monotonic()
        self._failures += 1
        self._count(job.kind, False, now - began)
        pause = self._timetable.failed(job, now)
        unforeseen = None if isinstance(error, MemoturnError) else error
        _log.warning(
            "%s failed and is tried again in %g s: %s", name_of(job), pause, error, exc_info=unforeseen
        )
        if job.db_uuid:
            last = self.notes.read(job.db_uuid).last(job.kind, job.branch_id)
            failures = 1 if last is None else last.failures + 1
            self.notes.add(
                job.db_uuid,
                Note(
                    job.kind, job.branch_id, self._clock.now_ms(), now - began, "failed", str(error), failures
                ),
            )

    def work(self) -> Work:
        """What has been done so far."""
        budget = self._budget
        return Work(
            self._running,
            self._pieces,
            self._failures,
            budget.worked,
            budget.paused,
            budget.bytes,
            self._opened_at,
        )

    def due(self) -> dict[Job, float]:
        """In how many seconds which work is due, as far as it is planned."""
        now = self._clock.monotonic()
        return {job: at - now for job, at in self._timetable.due().items()}


def name_of(job: Job | None) -> str:
    """What a piece of work is called in logs and answers."""
    if job is None:
        return "background work"
    where = f" of branch {job.branch_id}" if job.branch_id else ""
    return f"{job.kind}{where} of database {job.db_uuid}" if job.db_uuid else job.kind
