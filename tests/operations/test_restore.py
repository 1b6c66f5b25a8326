"""Every position that restore points declare can be restored, and every other one is refused or goes to the nearest.

Against a model that remembers what every txid held and when it came to be, over histories with rewinds, forks,
deletions, clocks that jump, and maintenance in between.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from memoturn import Database, Memoturn, TxidNotRetainedError
from memoturn.base.settings import CommitSettings, HistorySettings, MaintenanceSettings, Settings
from memoturn.history import planning
from tests.support import ManualClock, assert_view_is_whole, branch_of, values

DAY = 86_400
GRACE = 600


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC) + timedelta(milliseconds=ms % 1000)


def test_a_chain_of_forks_deeper_than_the_stack_tells_what_it_inherited(db: Database) -> None:
    db.sql("INSERT INTO t VALUES (1)")
    deep = db
    for number in range(300):
        deep = deep.branch.create(f"b{number}")
    points = deep.branch.restore_points()
    assert [(r.branch, r.from_txid, r.to_txid) for r in points.ranges] == [("main", 0, 2)]
    assert points.points == []
    assert values(deep.at(points.ranges[0].to_time)) == [1]
    assert deep.branch.rewind(1).exact
    assert values(deep) == []


class Clock(ManualClock):
    """A wall clock that is set forward and back; what it is set forward has passed."""

    passed = 0.0

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.passed += max(seconds, 0.0)

    def monotonic(self) -> float:
        return super().monotonic() + self.passed


@dataclass
class Line:
    """What a branch should be: what each txid held, when it came to be, and which are checkpoints."""

    held: dict[int, tuple[int, ...] | None]
    times: dict[int, int]
    head: int
    first: int
    parent: str | None = None
    marks: set[int] = field(default_factory=set)


class Restoring(RuleBasedStateMachine):
    """One database with up to four branches, in a store in memory that shares the test's clock."""

    fine = DAY
    snapshots = 5 * DAY

    @initialize()
    def create(self) -> None:
        # Few packs are many, so that they are merged, over rewinds as well.
        self.small_steps = mock.patch.multiple(planning, MOST_PACKS=3, LEAST_MERGED=2, SMALL_BASE=0)
        self.small_steps.start()
        self.clock = Clock()
        history = HistorySettings(
            pitr_retention_secs=self.fine, pitr_snapshot_retention_secs=self.snapshots, gc_grace_secs=GRACE
        )
        quiet = Settings(
            commit=CommitSettings(ship_interval_ms=3_600_000),
            history=history,
            maintenance=MaintenanceSettings(on=False),
        )
        self.mt = Memoturn("memory:", settings=quiet, clock=self.clock)
        self.mt.databases.create("x")
        db = self.mt.db("x")
        txid = db.sql("CREATE TABLE t(v)").txid
        now = self.clock.ms
        self.lines = {"main": Line({0: None, txid: ()}, {0: now, txid: now}, txid, 0)}
        self.next = 0
        self.retained_at = 0

    def teardown(self) -> None:
        if hasattr(self, "mt"):
            self.mt.close()
            self.small_steps.stop()

    def db(self, name: str) -> Database:
        return self.mt.db(f"x@{name}")

    def pick(self, which: int) -> str:
        return sorted(self.lines)[which % len(self.lines)]

    def moved(self, name: str, txid: int, held: tuple[int, ...] | None, time: int | None = None) -> None:
        line = self.lines[name]
        assert txid == line.head + 1
        line.head, line.held[txid] = txid, held
        line.times[txid] = max(self.clock.ms, *line.times.values()) if time is None else time

    @rule(which=st.integers(0, 9), count=st.integers(1, 4), ship=st.booleans())
    def commit(self, which: int, count: int, ship: bool) -> None:
        name = self.pick(which)
        db = self.db(name)
        for _ in range(count):
            before = self.lines[name].held[self.lines[name].head]
            self.next += 1
            if before is None:
                txid = db.batch(["CREATE TABLE t(v)", ("INSERT INTO t VALUES (?)", [self.next])]).txid
            else:
                txid = db.sql("INSERT INTO t VALUES (?)", [self.next]).txid
            self.moved(name, txid, (*(before or ()), self.next))
            if ship:
                db.sync()

    @rule(hours=st.integers(1, 60))
    def time_passes(self, hours: int) -> None:
        self.clock.advance(hours * 3600)

    @rule(which=st.integers(0, 9), days=st.integers(1, 8), count=st.integers(1, 2))
    def days_pass(self, which: int, days: int, count: int) -> None:
        for _ in range(days):
            self.clock.advance(DAY)
            self.commit(which, count, False)

    @rule(seconds=st.integers(1, 20_000))
    def the_clock_goes_back(self, seconds: int) -> None:
        self.clock.advance(-seconds)

    @rule(which=st.integers(0, 9), label=st.sampled_from("abc"))
    def checkpoint(self, which: int, label: str) -> None:
        name = self.pick(which)
        line = self.lines[name]
        self.db(name).branch.checkpoint(label, move=True)
        found = {mark.txid for mark in self.db(name).branch.checkpoints()}
        assert line.head in found
        line.marks = found

    @rule(which=st.integers(0, 9), to=st.integers(0, 60))
    def rewind(self, which: int, to: int) -> None:
        name = self.pick(which)
        line = self.lines[name]
        wanted = to % (line.head + 1)
        there = self.at_or_below(name, wanted)
        if there is None:
            with pytest.raises(TxidNotRetainedError):
                self.db(name).branch.rewind(wanted)
            return
        done = self.db(name).branch.rewind(wanted)
        assert (done.restored_txid, done.exact) == (there, there == wanted)
        self.moved(name, done.txid, line.held[there])

    @precondition(lambda self: len(self.lines) < 4)
    @rule(which=st.integers(0, 9), at=st.integers(0, 60), by_time=st.booleans())
    def fork(self, which: int, at: int, by_time: bool) -> None:
        source = self.pick(which)
        line = self.lines[source]
        wanted = at % (line.head + 1)
        self.next += 1
        name = f"b{self.next}"
        branch = self.db(source).branch
        if by_time:
            try:
                child = branch.create(name, at=moment(line.times[wanted]))
            except TxidNotRetainedError:
                return
        else:
            if self.at_or_below(source, wanted) is None:
                with pytest.raises(TxidNotRetainedError):
                    branch.create(name, txid=wanted)
                return
            child = branch.create(name, txid=wanted)
        info = child.forked
        assert info is not None
        forked = info.fork_txid
        assert forked is not None
        if not by_time:
            assert (forked, info.exact) == (self.at_or_below(source, wanted), forked == wanted)
        self.lines[name] = Line(
            {t: held for t, held in line.held.items() if t <= forked},
            {t: time for t, time in line.times.items() if t <= forked},
            forked,
            forked + 1,
            source,
        )
        # The first commit of a fork is not before the fork was made.
        self.lines[name].times[forked + 0.5] = max(self.clock.ms, *line.times.values())  # type: ignore[index]

    @precondition(lambda self: len(self.lines) > 1)
    @rule(which=st.integers(0, 9))
    def delete(self, which: int) -> None:
        name = self.pick(which)
        if name != "main":
            self.db(name).branch.delete()
            del self.lines[name]

    @rule(compact=st.booleans(), collect=st.booleans())
    def maintain(self, compact: bool, collect: bool) -> None:
        if compact:
            self.mt.maintenance.compact("x")
        self.mt.maintenance.retain("x")
        self.check_the_promise()
        if collect:
            self.mt.maintenance.gc("x")
            self.clock.advance(GRACE + 1)
            self.mt.maintenance.gc("x")
            for name in self.lines:
                branch_of(self.db(name)).forget()

    def check_the_promise(self) -> None:
        """Every txid of the fine window, and of each day within the snapshot window one, of a branch's own."""
        # What a boundary has passed stays passed when the clock is set back.
        now = self.retained_at = max(self.clock.ms, self.retained_at)
        for name, line in self.lines.items():
            declared = set(self.declared(name))
            own = [t for t in range(line.first, line.head + 1) if line.held[t] is not None]
            aged = [t for t in own if line.times[t] <= now - self.fine * 1000]
            for txid in own:
                if self.fine and (txid >= aged[-1] if aged else True):
                    assert txid in declared, (name, txid, sorted(declared))
            before = [t for t in own if line.times[t] <= now - self.snapshots * 1000]
            if before:
                assert declared.intersection(before), "each moment of the window has a snapshot before it"
            days: dict[int, list[int]] = {}
            for txid in own:
                if line.times[txid] > now - self.snapshots * 1000:
                    days.setdefault(line.times[txid] // 86_400_000, []).append(txid)
            for day, txids in days.items():
                assert declared.intersection(txids), (name, day, txids, sorted(declared))

    # What is declared.

    def declared(self, name: str) -> list[int]:
        points = self.db(name).branch.restore_points()
        found = [txid for r in points.ranges for txid in range(r.from_txid, r.to_txid + 1)]
        found += [point.txid for point in points.points]
        assert len(found) == len(set(found))
        return sorted(found)

    def at_or_below(self, name: str, wanted: int) -> int | None:
        declared = self.declared(name)
        place = bisect_right(declared, wanted)
        return declared[place - 1] if place else None

    def reads(self, db: Database, held: tuple[int, ...] | None) -> None:
        if held is None:
            assert db.sql("SELECT count(*) AS n FROM sqlite_schema") == [{"n": 0}]
        else:
            assert tuple(values(db)) == held

    @rule(which=st.integers(0, 9))
    def everything_declared_is_there_and_nothing_else(self, which: int) -> None:
        name = self.pick(which)
        line, db = self.lines[name], self.db(name)
        declared = self.declared(name)
        assert declared[-1] == line.head
        assert line.marks <= set(declared)
        for txid in range(line.head + 1):
            place = bisect_right(declared, txid)
            if txid in declared:
                at = db.at(txid, exact=True)
                self.reads(at, line.held[txid])
                assert at.where().exact
                assert_view_is_whole(branch_of(db).view_at(txid))  # type: ignore[arg-type]
                continue
            nearest = (*declared[max(place - 1, 0) : place], *declared[place : place + 1])
            with pytest.raises(TxidNotRetainedError) as refused:
                db.at(txid, exact=True).sql("SELECT 1")
            assert refused.value.nearest == nearest
            if place:
                at = db.at(txid)
                assert (at.where().txid, at.where().exact) == (declared[place - 1], False)
                assert not at.sql("SELECT 1").exact
                self.reads(at, line.held[declared[place - 1]])
            else:
                with pytest.raises(TxidNotRetainedError):
                    db.at(txid).sql("SELECT 1")

    @rule(which=st.integers(0, 9))
    def times_are_told_and_found(self, which: int) -> None:
        name = self.pick(which)
        line, db = self.lines[name], self.db(name)
        declared = self.declared(name)
        points = db.branch.restore_points()
        for r in points.ranges:
            assert (r.from_time, r.to_time) == (
                moment(line.times[r.from_txid]),
                moment(line.times[r.to_txid]),
            )
        assert all(point.time == moment(line.times[point.txid]) for point in points.points)
        whole = {t: time for t, time in line.times.items() if t == int(t)}
        for time in {time + shift for time in whole.values() for shift in (-1, 0, 1)}:
            wanted = max((t for t in whole if whole[t] <= time), default=None)
            there = [t for t in declared if whole[t] <= time]
            if not there:
                with pytest.raises(TxidNotRetainedError):
                    db.at(moment(time)).where()
                continue
            found = db.at(moment(time)).where()
            assert found.txid == there[-1]
            # That it is exact may not be known any more; it is never claimed wrongly.
            assert not found.exact or found.txid == wanted
            if wanted in declared and (wanted == line.head or wanted + 1 in declared):
                assert found.exact

    @rule(which=st.integers(0, 9))
    def history_is_what_is_declared(self, which: int) -> None:
        name = self.pick(which)
        line = self.lines[name]
        entries = list(self.db(name).branch.history())
        told = [entry.txid for entry in entries if entry.kind != "fork"]
        own = [t for t in self.declared(name) if t >= max(line.first, 1)]
        assert told == own[::-1]
        assert all(e.time == moment(line.times[e.txid]) for e in entries if e.kind in ("commit", "rewind"))


class RestoringWithoutFineWindow(Restoring):
    """Only snapshots are asked for."""

    fine = 0


_BOUNDS: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
}
TestRestoring = Restoring.TestCase
TestRestoring.settings = settings(max_examples=60, stateful_step_count=30, **_BOUNDS)
TestRestoringWithoutFineWindow = RestoringWithoutFineWindow.TestCase
TestRestoringWithoutFineWindow.settings = settings(max_examples=30, stateful_step_count=30, **_BOUNDS)
