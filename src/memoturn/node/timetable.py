"""When which piece of background work is due: decided by what was heard, at times that the caller gives.

Nothing here knows a clock, a thread or a bucket, so that a simulation can live through a week of it in a moment.

    compact  a branch, a moment after it has shipped, and not more often than every few seconds
    fold     a branch, when it has shipped nothing for a while
    sweep    a branch that this process writes, its keys that have expired; less often while there are none
    collect  a database in use: retention, and what is dead; less often while there is nothing to do
    drill    a piece of a restore, of any branch in use
    bury     databases that were deleted or have expired, wherever they are

What fails is tried again after a pause that doubles, and keeps nothing else from its turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Outcome = Literal["idle", "useful", "more", "over"]
"""There was nothing to do; something was done; so it was and there is more; there is nothing left to look after."""

Kind = Literal["compact", "fold", "sweep", "collect", "drill", "bury"]
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 600.0


class Job(NamedTuple):
    """A piece of work on a branch, or on a database where `branch_id` is empty, or wherever it finds some."""

    kind: Kind
    db_uuid: str = ""
    branch_id: str = ""


DRILL: Final = Job("drill")
BURY: Final = Job("bury")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often, in seconds."""

    settle: float = 1.0
    """From a shipment until its branch is looked at, so that several are looked at once."""
    compact: float = 5.0
    """Between two looks at a branch that ships all the time."""
    idle: float = 60.0
    """Without a shipment, after which a branch counts as idle."""
    sweep: float = 60.0
    collect: float = 150.0
    """A quarter of the grace period."""
    rest: float = 3600.0
    """The longest that sweeps and passes are put off: each that found nothing to do doubles its pause."""
    drill: float = 60.0
    bury: float = 4 * 3600.0
    restraint: float = 20.0
    """A pass over a database is left alone for so many times as long as it took."""


class Timetable:
    """What is due when. For one thread."""

    def __init__(self, pace: Pace) -> None:
        self._pace: Final = pace
        self._due: dict[Job, float] = {}
        self._pauses: dict[Job, float] = {}
        self._looked: dict[Job, float] = {}
        self._quiet: dict[Job, float] = {}

    def used(self, db_uuid: str, branch_id: str, now: float) -> None:
        """A branch was opened. Others may have left work to do on it."""
        self._soonest(Job("fold", db_uuid, branch_id), now + self._pace.idle)
        self._soonest(Job("collect", db_uuid), now + self._pace.collect)
        self._soonest(DRILL, now + self._pace.drill)
        self._soonest(BURY, now + self._pace.collect)

    def shipped(self, db_uuid: str, branch_id: str, now: float) -> None:
        """A branch was written."""
        pace = self._pace
        compact = Job("compact", db_uuid, branch_id)
        looked = self._looked.get(compact, now - pace.compact)
        self._soonest(compact, max(now + pace.settle, looked + pace.compact))
        self._later(Job("fold", db_uuid, branch_id), now + pace.idle)
        self._quiet.pop(sweep := Job("sweep", db_uuid, branch_id), None)
        self._soonest(sweep, now + pace.sweep)
        self.touched(db_uuid, now)

    def touched(self, db_uuid: str, now: float) -> None:
        """Something of a database has changed: there may be something to collect."""
        self._quiet.pop(collect := Job("collect", db_uuid), None)
        self._soonest(collect, now + self._pace.collect)
        self._soonest(DRILL, now + self._pace.drill)

    def left(self, db_uuid: str, branch_id: str = "") -> None:
        """A branch, or a database with all that belongs to it, is gone."""
        for table in (self._due, self._pauses, self._looked, self._quiet):
            for job in [job for job in table if job.db_uuid == db_uuid]:
                if branch_id in ("", job.branch_id):
                    del table[job]

    def next_at(self) -> float | None:
        """When the next piece of work is due."""
        return min(self._due.values(), default=None)

    def take(self, now: float) -> Job | None:
        """The piece of work that has been due for longest; it is to be reported as `done` or `failed`."""
        job = min(self._due, key=self._due.__getitem__, default=None)
        if job is None or self._due[job] > now:
            return None
        del self._due[job]
        return job

    def done(self, job: Job, now: float, took: float, outcome: Outcome, wait: float = 0.0) -> None:
        """The work took so many seconds, and asks to be left alone for `wait` seconds at least."""
        pace = self._pace
        self._pauses.pop(job, None)
        if outcome == "over":
            if job.db_uuid:
                self.left(*job[1:])
            return
        self._looked[job] = now
        if job.kind in ("compact", "fold") and outcome != "idle":
            # What it has put others in the place of is dead, as soon as the grace period is over.
            self.touched(job.db_uuid, now)
        if outcome == "more":
            self._soonest(job, now + wait)
        elif job.kind == "drill":
            self._soonest(job, now + max(pace.drill, wait))
        elif job.kind == "bury":
            self._soonest(
                job, now + max(pace.collect if outcome == "useful" else pace.bury, pace.restraint * took)
            )
        elif job.kind in ("sweep", "collect"):
            least = pace.sweep if job.kind == "sweep" else pace.collect
            quiet = least if outcome == "useful" else min(2 * self._quiet.get(job, least / 2), pace.rest)
            self._quiet[job] = quiet
            self._soonest(job, now + max(quiet, wait, pace.restraint * took))

    def failed(self, job: Job, now: float) -> float:
        """The work has failed; returns for how many seconds it is left alone."""
        pause = self._pauses[job] = min(2 * self._pauses.get(job, _FIRST_PAUSE / 2), _LONGEST_PAUSE)
        self._later(job, now + pause)
        return pause

    def due(self) -> dict[Job, float]:
        """All that is planned."""
        return dict(self._due)

    def _soonest(self, job: Job, at: float) -> None:
        # What has failed keeps its pause, whatever is heard meanwhile.
        if job not in self._pauses or job not in self._due:
            self._due[job] = min(at, self._due.get(job, at))

    def _later(self, job: Job, at: float) -> None:
        self._due[job] = max(at, self._due.get(job, at))
