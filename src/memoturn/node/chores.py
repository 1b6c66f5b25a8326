"""Each piece of background work, done once: what `maintenance` does when it is due, on an engine, within a budget."""

from __future__ import annotations

import contextlib
from itertools import chain
from typing import TYPE_CHECKING, Final

from memoturn.base.clock import Clock
from memoturn.base.errors import BranchExpiredError, BranchNotFoundError, MemoturnError, UnavailableError
from memoturn.bucket import ObjectNotFound
from memoturn.history.budget import Budget, Stopped
from memoturn.history.collection import Collector, Tally
from memoturn.history.compaction import compact_branch, is_idle
from memoturn.history.planning import Aims
from memoturn.history.retaining import retain
from memoturn.history.whole import collect_all, collect_entry
from memoturn.manifest import keys
from memoturn.manifest.model import CatalogEntry
from memoturn.manifest.register import Held
from memoturn.models.sweeping import AT_ONCE, sweep
from memoturn.node.drills import Drills
from memoturn.node.notes import Note, Notes
from memoturn.node.timetable import Job, Outcome, Pace

if TYPE_CHECKING:
    from memoturn.node.engine import Engine

_TURN: Final = 5.0
"""Seconds after which a branch that needs many steps lets others have their turn."""


class Chores:
    """What can be done, one thing at a time. `names` tells what databases are called, as far as is known."""

    def __init__(
        self,
        clock: Clock,
        notes: Notes,
        budget: Budget,
        pace: Pace,
        grace: float,
        drills: Drills | None,
        names: dict[str, str],
    ) -> None:
        self._clock = clock
        self._notes = notes
        self._budget = budget
        self._pace = pace
        self._grace = grace
        self._drills = drills
        self._names = names

    def do(self, engine: Engine, job: Job) -> tuple[Outcome, float]:
        """Do a piece of work; returns what came of it, and for how many seconds it is to be left alone at least."""
        if job.kind in ("compact", "fold"):
            return self._compact(engine, job), 0.0
        if job.kind == "sweep":
            return self._sweep(engine, job), 0.0
        if job.kind == "drill" and self._drills is not None:
            wait = self._drills.step(engine.open_branches(), self._budget)
            return ("over", 0.0) if wait is None else ("useful", wait)
        if job.kind == "collect":
            return self._collect(engine, job.db_uuid), 0.0
        if job.kind == "bury":
            return self._bury(engine), 0.0
        return "over", 0.0

    def _collect(self, engine: Engine, db_uuid: str) -> Outcome:
        """One pass over a database, unless a neighbour has just made one."""
        began = self._clock.monotonic()
        last = self._notes.read(db_uuid).last("collect")
        age = self._clock.now_ms() - last.at if last is not None and not last.failures else -1
        if 0 <= age < self._pace.collect * 500:
            return "useful"
        found = self._entry(engine, db_uuid)
        if found is None:
            self._notes.forget(db_uuid)
            return "over"
        key, held = found
        raised = bases = written = 0
        failed: MemoturnError | None = None
        if held.record.deleted_at is None:
            try:
                for done in retain(engine.env, db_uuid, engine.settings.history, self._budget):
                    raised += done.exact[0] != done.exact[1] or done.floor[0] != done.floor[1]
                    bases += len(done.bases)
                    written += done.bytes
            except (Stopped, UnavailableError):
                raise
            except MemoturnError as error:
                # Where a snapshot cannot be written, what is dead goes all the same.
                failed = error
        collector = self._collector(engine)
        collect_entry(collector, engine.catalog, key, held)
        tally = collector.tally
        if held.record.collected and not tally.objects:
            self._notes.forget(db_uuid)
            return "over"
        self._notes.keep(db_uuid, collector.living)
        if failed is not None:
            raise failed
        what = _told(tally, raised, bases)
        self._note(Job("collect", db_uuid), began, what or "nothing is dead", written)
        return "useful" if what else "idle"

    def _collector(self, engine: Engine) -> Collector:
        keep = engine.settings.history.longest_secs
        return Collector(engine.env, self._grace, self._budget, keep_secs=keep)

    def _entry(self, engine: Engine, db_uuid: str) -> tuple[str, Held[CatalogEntry]] | None:
        """The catalog entry of a database, and where it lies; None if its name stands for another by now."""
        names = [self._names[db_uuid]] if db_uuid in self._names else []
        listed = (keys.database_of(info.key) for info in engine.bucket.list(keys.CATALOG))
        for name in chain(names, listed):
            key = keys.catalog_key(name)
            with contextlib.suppress(ObjectNotFound):
                held = engine.catalog.peek(key)
                if held.record.db_uuid == db_uuid:
                    self._names[db_uuid] = name
                    return key, held
            self._budget.spend()
        return None

    def _bury(self, engine: Engine) -> Outcome:
        """A pass over every database that was deleted or has expired, and what no name stands for."""
        collector = self._collector(engine)
        collect_all(collector, engine.catalog, dead_only=True)
        return "useful" if collector.tally.objects else "idle"

    def _note(self, job: Job, began: float, what: str, written: int = 0) -> None:
        took = self._clock.monotonic() - began
        self._notes.add(
            job.db_uuid, Note(job.kind, job.branch_id, self._clock.now_ms(), took, what), written=written
        )

    def _compact(self, engine: Engine, job: Job) -> Outcome:
        """The steps that a branch needs now: its owner merges, and whoever uses it folds it when it is idle."""
        env, began = engine.env, self._clock.monotonic()
        key = keys.manifest_key(job.db_uuid, job.branch_id)
        try:
            manifest = env.manifests.current(key).record
        except ObjectNotFound:
            return "over"
        if manifest.deleted_at is not None:
            return "over"
        idle = job.kind == "fold"
        if manifest.owner != env.owner and not (
            idle and is_idle(env, job.db_uuid, manifest, self._pace.idle)
        ):
            # Somebody else writes it, and looks after it.
            return "idle"
        aims = Aims(engine.settings.history.max_depth, idle)
        steps = written = 0
        for done in compact_branch(env, job.db_uuid, job.branch_id, self._budget, aims):
            steps += done.linked
            written += done.bytes
            if self._clock.monotonic() - began > _TURN:
                break
        if steps:
            self._note(job, began, f"{steps} steps, {written:,} bytes", written)
        return "more" if self._clock.monotonic() - began > _TURN else "useful" if steps else "idle"

    def _sweep(self, engine: Engine, job: Job) -> Outcome:
        for branch in engine.open_branches():
            if (branch.db_uuid, branch.branch_id) == job[1:]:
                break
        else:
            return "over"
        try:
            if branch.manifest().owner != engine.env.owner:
                return "over"
            removed = sweep(branch, self._clock.now_ms())
        except (BranchNotFoundError, BranchExpiredError):
            return "over"
        self._budget.spend()
        return "more" if removed == AT_ONCE else "useful" if removed else "idle"


def _told(tally: Tally, raised: int, bases: int) -> str:
    """What a pass has done, and what it leaves to the next."""
    removed, size = tally.of("removed")
    waiting, _ = tally.of("waits")
    parts = [
        f"the window of {raised:,} branches moved on" if raised else "",
        f"{bases:,} snapshots written" if bases else "",
        f"removed {removed:,} objects, {size:,} bytes" if removed else "",
        f"{waiting:,} objects wait" if waiting else "",
        f"unlinked history of {tally.cut:,} branches" if tally.cut else "",
        f"{tally.expired:,} expired" if tally.expired else "",
        f"{tally.freed:,} manifests freed" if tally.freed else "",
    ]
    return ", ".join(part for part in parts if part)
