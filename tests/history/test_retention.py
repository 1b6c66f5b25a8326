"""Where boundaries rise and which bases that takes: the plan alone, and on a store with a clock of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace as with_
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from memoturn import BranchNotFoundError, Database, TxidNotRetainedError
from memoturn.base.settings import HistorySettings
from memoturn.base.txids import TXID, UnixMs
from memoturn.history.budget import Budget
from memoturn.history.retaining import Raised, retain
from memoturn.history.retention import DAY_MS, SMALL, Moment, Plan, Windows, apply, plan
from memoturn.manifest import keys, rules
from memoturn.manifest.coverage import has_base_at, missing
from memoturn.manifest.invariants import check_manifest
from memoturn.manifest.model import Manifest
from memoturn.manifest.segment_name import SegmentName
from tests.history.collecting import Node, World, put_rows, rows
from tests.stand_ins import Between
from tests.support import ManualClock

HOUR = 3_600_000
BORN = UnixMs(100 * DAY_MS)


class Weighs:
    """Every base and every commit weigh the same."""

    def __init__(self, base: int = 1, commit: int = 1) -> None:
        self._base = base
        self._commit = commit

    def has_pages(self, txid: TXID) -> bool:
        return True

    def pack(self, pack: SegmentName) -> int:
        return self._commit * (pack.max_txid - pack.min_txid + 1)

    def base(self, manifest: Manifest, txid: TXID) -> int:
        return self._base


class History:
    """A branch that commits, rewinds and lets time pass, with a pack for each few commits."""

    def __init__(self) -> None:
        self.manifest = replace(rules.root("main", "b", BORN), epoch=1)
        self.now = int(BORN)
        self.moments: list[Moment] = []
        self.unpacked = 0

    def commit(self, count: int = 1, every: int = HOUR) -> History:
        for _ in range(count):
            self.now += every
            self.unpacked += 1
            self.moments.append(Moment(self.head, UnixMs(self.now)))
        return self

    @property
    def head(self) -> TXID:
        return TXID(self.manifest.head_txid + self.unpacked)

    def pack(self) -> History:
        if self.unpacked:
            head = self.head
            name = SegmentName.pack(0, TXID(head - self.unpacked + 1), head, 1)
            self.manifest, self.unpacked = rules.append(self.manifest, 1, name), 0
        return self

    def rewind(self, to: int) -> History:
        self.pack()
        self.manifest = rules.rewind(self.manifest, TXID(to), UnixMs(self.now))
        self.moments.append(Moment(self.manifest.head_txid, UnixMs(self.now)))
        return self

    def base(self, txid: int) -> History:
        self.pack()
        self.manifest = rules.add_base(self.manifest, SegmentName.base(TXID(txid), 1))
        return self

    def plan(
        self, fine: int = DAY_MS, snapshots: int = 30 * DAY_MS, pins: Iterable[int] = (), base: int = 1
    ) -> Plan:
        self.pack()
        windows = Windows(UnixMs(self.now - fine), UnixMs(self.now - snapshots), UnixMs(self.now))
        below = {TXID(s.max_txid) for s in map(SegmentName.parse, self.manifest.segments) if s.is_base}
        told = [m for m in self.moments if m.txid >= self.manifest.exact_txid or m.txid in below]
        return plan(self.manifest, told, windows, frozenset(map(TXID, pins)), Weighs(base))

    def take(self, done: Plan) -> History:
        for txid in done.bases:
            self.base(txid)
        old, self.manifest = self.manifest, apply(self.manifest, done)
        check_manifest(old, self.manifest)
        return self


def test_the_exact_window_begins_where_its_last_full_day_did_with_a_base_for_each_day() -> None:
    history = History().commit(100)
    done = history.plan()
    # Hours 1 to 100 of which day 0 ends with 23, day 1 with 47, day 2 with 71; the window began at hour 76.
    assert (done.bases, done.exact, done.floor) == ((23, 47, 71), 71, 0)
    history.take(done)
    assert history.plan() == Plan((), TXID(71), TXID(0), ())


def test_a_base_that_is_there_is_used_and_no_other_is_written() -> None:
    history = History().commit(100).base(74).base(90)
    done = history.plan()
    assert (done.bases, done.exact) == ((23, 47, 71), 74)


def test_nothing_within_the_window_is_given_up() -> None:
    history = History().commit(20).base(10)
    assert history.plan() == Plan((), TXID(0), TXID(0), ())


def test_the_floor_rises_to_the_last_snapshot_before_its_window_so_that_each_moment_has_one_below() -> None:
    history = History().commit(240).take(History().commit(240).plan())
    done = history.plan(snapshots=5 * DAY_MS)
    # 240 - 120 = hour 120: day 4 ended with 119.
    assert done.floor == 119
    history.take(done)
    with pytest.raises(TxidNotRetainedError):
        rules.rewind(history.manifest, TXID(95), UnixMs(history.now))
    assert rules.rewind(history.manifest, TXID(119), UnixMs(history.now))


def test_of_days_beyond_the_snapshot_window_the_last_gets_a_base() -> None:
    done = History().commit(240).plan(snapshots=5 * DAY_MS)
    assert (done.bases, done.floor) == ((119, 143, 167, 191, 215), 119)
    none = History().commit(240).plan(snapshots=0)
    assert (none.bases, none.exact, none.floor) == ((215,), 215, 215)


def test_without_a_fine_window_the_head_is_all_that_is_exact_and_once_a_slot() -> None:
    history = History().commit(5)
    done = history.plan(fine=0)
    assert (done.bases, done.exact) == ((5,), 5)
    history.take(done)
    history.commit(3, every=60_000)
    assert history.plan(fine=0).exact == 5, (
        "the next base in this slot would stay for the whole snapshot window"
    )
    history.commit(6)
    assert history.plan(fine=0).exact == 14


def test_of_the_bases_that_volume_brought_the_snapshot_tier_keeps_one_a_slot() -> None:
    history = History().commit(60)
    for txid in range(1, 37):
        history.base(txid)
    done = history.plan()
    assert done.exact == 36
    left = set(range(1, 37)) - {base.max_txid for base in done.extra}
    assert left == {5, 11, 17, 23, 29, 35, 36}
    left.add(1)  # The first position of a branch stands on nothing, and its base is never dropped.
    history.take(done)
    assert {s.max_txid for s in map(SegmentName.parse, history.manifest.segments) if s.is_base} == left


def test_large_bases_are_not_written_for_little() -> None:
    large = 2 << 20
    history = History().commit(100)
    assert history.plan(base=large) == Plan((), TXID(0), TXID(0), ()), "all stay exact, which is less to keep"
    heavy = Weighs(large, commit=large)
    windows = Windows(UnixMs(history.now - DAY_MS), UnixMs(history.now - 30 * DAY_MS), UnixMs(history.now))
    many = History()
    for _ in range(100):
        many.commit().pack()
    assert plan(many.manifest, many.moments, windows, frozenset(), heavy).exact == 71


def test_a_pin_gets_a_base_where_nothing_else_needs_its_packs() -> None:
    history = History()
    for _ in range(100):
        history.commit().pack()
    history.manifest = rules.checkpoint(history.manifest, "c", TXID(30), False, UnixMs(history.now))
    done = history.plan(pins=[40])
    assert done.bases == (23, 30, 40, 47, 71)
    cut = rules.cut(history.take(done).manifest, TXID(71), TXID(0), [TXID(40)])
    assert not [s for s in map(SegmentName.parse, cut.segments) if not s.is_base and s.max_txid <= 71]


def test_an_earlier_self_that_a_retained_stretch_begins_with_gets_a_base() -> None:
    history = History().commit(30).rewind(10)
    for _ in range(60):
        history.commit().pack()
    history.rewind(15).commit(5)
    done = history.plan()
    assert 15 in done.bases
    assert 10 not in done.bases, "what began with it is over"
    taken = history.take(done).manifest
    cut = rules.cut(taken, done.exact, done.floor, [])
    assert missing(cut, done.exact, [cut.head_txid]) is None
    assert not [s for s in map(SegmentName.parse, cut.segments) if not s.is_base and s.max_txid <= done.exact]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(1, 30), st.integers(1, 30)),
        st.tuples(st.just("pack"), st.just(0), st.just(0)),
        st.tuples(st.just("rewind"), st.integers(1, 200), st.just(0)),
        st.tuples(st.just("base"), st.integers(1, 200), st.just(0)),
        st.tuples(st.just("mark"), st.integers(1, 200), st.just(0)),
        st.tuples(st.just("retain"), st.integers(0, 3), st.integers(0, 6)),
    ),
    min_size=4,
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.sets(st.integers(1, 60), max_size=3), st.sampled_from([1, 2 << 20]))
def test_what_the_windows_ask_for_is_kept_and_nothing_is_planned_twice(
    steps: list[tuple[str, int, int]], pins: set[int], base: int
) -> None:
    history = History()
    for what, one, two in [("commit", 1, 1), *steps]:
        history.pack() if what != "commit" else None
        head = history.manifest.head_txid
        txid = one % head + 1 if head else 1
        if what == "commit":
            history.commit(one, every=two * HOUR // 4)
        elif what == "rewind" and txid >= history.manifest.exact_txid:
            history.rewind(txid)
        elif what == "base" and txid > history.manifest.exact_txid:
            history.base(txid)
        elif what == "mark" and txid >= history.manifest.exact_txid:
            history.manifest = rules.checkpoint(history.manifest, f"c{txid}", TXID(txid), False, UnixMs(0))
        elif what == "retain":
            known = {TXID(pin) for pin in pins if history.manifest.exact_txid <= pin <= head}
            pinned = {*known, *(TXID(p) for p in pins if has_base_at(history.manifest, TXID(p)))}
            fine, snapshots = one * DAY_MS, two * DAY_MS
            done = history.plan(fine, snapshots, pinned, base)
            before = history.manifest.exact_txid
            history.take(done)
            after = history.manifest
            assert (after.exact_txid, after.floor_txid) == (done.exact, done.floor)
            aged = [m.txid for m in history.moments if m.time <= history.now - fine]
            assert done.exact <= max([before, *aged]), (
                "the state at the beginning of the window can be restored"
            )
            cut = rules.cut(after, done.exact, done.floor, pinned)
            check_manifest(after, cut)
            assert missing(cut, done.exact, [*cut.checkpoints.values(), *pinned]) is None
            points = {s.max_txid for s in map(SegmentName.parse, cut.segments) if s.is_base}
            passed = [m for m in history.moments if before <= m.txid < done.exact]
            for day in {m.time // DAY_MS for m in passed if m.time > history.now - snapshots}:
                ends = [m.txid for m in history.moments if m.time // DAY_MS == day]
                assert max(ends) >= done.exact or max(ends) in points
            history.manifest = cut
            again = history.plan(fine, snapshots, pinned, base)
            # What was written for a pin may raise the floor; where bases cost much, the window may rise further.
            assert (again.bases, again.exact) == ((), done.exact) or base > SMALL


# On a store.


def run(node: Node, **windows: int) -> list[Raised]:
    history = with_(HistorySettings(), **windows)
    return list(retain(node.engine.env, node.uuid(), history, Budget(node.engine.clock)))


def aged(world: World, node: Node, days: int = 4) -> Database:
    """A database with three commits a day."""
    db = node.create()
    for day in range(days):
        for hour in range(3):
            put_rows(db, day * 10 + hour)
            world.clock.advance(3600)
        world.clock.advance(21 * 3600)
    return db


def test_what_is_older_goes_to_snapshots_and_comes_back_from_them() -> None:
    world = World()
    node = world.node()
    aged(world, node)
    (done,) = run(node)
    assert done.branch_id == "main"
    assert done.exact[1] == 10
    assert run(node) == [], "there is nothing more to do"
    node.gc()
    world.settle(node)
    world.assert_nothing_dead()
    fresh = world.node().db()
    points = fresh.branch.restore_points()
    assert [p.txid for p in points.points] == [4, 7]
    assert [(r.from_txid, r.to_txid) for r in points.ranges] == [(10, 13)]
    assert rows(fresh.at(4)) == [0, 1, 2]
    rewound = fresh.branch.rewind(8)
    assert (rewound.restored_txid, rewound.exact) == (7, False)
    assert rows(fresh) == [0, 1, 2, 10, 11, 12]
    forked = fresh.branch.create("f", txid=9).forked
    assert forked is not None
    assert (forked.fork_txid, forked.exact) == (7, False)
    for refused in (
        lambda: fresh.branch.rewind(8, exact=True),
        lambda: fresh.branch.create("g", txid=8, exact=True),
        lambda: fresh.at(8, exact=True).sql("SELECT 1"),
    ):
        with pytest.raises(TxidNotRetainedError) as error:
            refused()
        assert error.value.nearest == (7, 10)
    with pytest.raises(TxidNotRetainedError) as error:
        fresh.branch.rewind(2)
    assert error.value.nearest == (4,)


def test_no_base_is_asked_of_a_position_that_inherits_the_empty_past_of_its_parent() -> None:
    world = World()
    node = world.node()
    put_rows(node.create(), 1)
    node.db().branch.rewind(0)
    child = node.db().branch.create("child")
    child.branch.rewind(child.txid)
    child.branch.checkpoint("green")
    child.sql("CREATE TABLE t(v)")
    put_rows(child, 2)
    child.branch.checkpoint("blue")
    put_rows(child, 3)
    world.clock.advance(4 * 24 * 3600)
    put_rows(child, 4)
    assert [done.branch_id for done in run(node)] == ["child", "main"]
    assert run(node) == [], "there is nothing more to do"
    child.branch.rewind("green")
    assert child.sql("SELECT name FROM sqlite_schema") == []


def test_the_floor_of_a_fork_counts_for_what_it_inherited_as_well() -> None:
    world = World()
    node = world.node()
    put_rows(node.create(), 1, 2)
    child = node.db().branch.create("child")
    for day in range(10):
        world.clock.advance(86_400)
        put_rows(child, day)
    run(node, pitr_snapshot_retention_secs=5 * 86_400)
    fresh = world.node().db("x@child")
    points = fresh.branch.restore_points()
    assert [(p.branch, p.txid) for p in points.points] == [("child", t) for t in range(8, 12)]
    assert [(r.from_txid, r.to_txid) for r in points.ranges] == [(12, 13)]
    for txid in (0, 3, 7):
        with pytest.raises(TxidNotRetainedError) as error:
            fresh.branch.rewind(txid)
        assert error.value.nearest == (8,)


def test_an_undo_is_exact_or_refused() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 0)
    world.clock.advance(86_400)
    put_rows(db, 1, 2, 3)
    token = db.branch.rewind(3).undo
    for day in range(4):
        put_rows(db, day)
        world.clock.advance(86_400)
    run(node)
    assert not world.node().db().at(5).where().exact
    with pytest.raises(TxidNotRetainedError, match="no longer retained"):
        world.node().db().branch.undo(token)


@pytest.mark.parametrize("ahead", [3600, 86_400, 365 * 86_400, 100 * 365 * 86_400])
def test_a_node_whose_clock_is_ahead_gives_up_nothing_early(ahead: int) -> None:
    world = World()
    node = world.node()
    aged(world, node, days=1)
    world.clock.advance(-20 * 3600)  # The last commit was two hours ago.
    fast = world.node(clock=ManualClock(world.clock.ms + ahead * 1000))
    assert run(fast) == []
    assert run(fast, pitr_snapshot_retention_secs=0) == []
    put_rows(fast.db(), 99)
    assert run(fast) == []
    points = world.node().db().branch.restore_points()
    assert [(r.from_txid, r.to_txid) for r in points.ranges] == [(0, 5)]
    # What it has committed bears a time to come, and is kept until that has passed.
    world.clock.advance(3 * 86_400)
    if ahead > 4 * 86_400:
        assert [done.exact[1] for done in run(world.node())] == [4]


def test_a_clock_that_is_behind_delays_and_harms_nothing() -> None:
    world = World()
    node = world.node()
    aged(world, node)
    slow = world.node(clock=ManualClock(world.clock.ms - 10 * 86_400_000))
    assert run(slow) == []
    assert run(node) != []


def test_the_first_look_costs_no_request_to_the_clock_of_the_store() -> None:
    world = World()
    bucket = Between(world.store)
    node = world.node(bucket=bucket)
    put_rows(node.create(), 1, 2)
    asked: list[Any] = []
    bucket.before = lambda _number, name, key: asked.append(key) if name == "put" else None
    assert run(node) == []
    assert asked == []


# The second look.


def raising(world: World, node: Node, txid: int, name: str = "main") -> Callable[[], None]:
    """Raises the exact window of a branch, by another node, and lets half a grace period pass."""
    key = keys.manifest_key(node.uuid(), name)

    def now() -> None:
        world.clock.advance(world.grace / 2)
        world.node().engine.manifests.update(key, lambda m: rules.raise_exact(m, TXID(txid)))

    return now


def before_write(bucket: Between, method: str, part: str, act: Callable[[], None]) -> None:
    """`act`, once, before the first call of the method on a key that has this part."""

    def look(_number: int, name: str, key: Any) -> None:
        if name == method and part in str(key):
            bucket.before = lambda _number, _name, _key: None
            act()

    bucket.before = look


def test_a_fork_of_what_went_out_of_retention_meanwhile_is_taken_back() -> None:
    world = World()
    node = world.node()
    put_rows(node.create(), 1, 2, 3, 4)
    bucket = Between(world.store)
    other = world.node(bucket=bucket)
    before_write(bucket, "create", "late", raising(world, node, 4))
    with pytest.raises(TxidNotRetainedError, match="no longer retained"):
        other.db().branch.create("late", txid=2)
    with pytest.raises(BranchNotFoundError):
        world.node().db("x@late").sql("SELECT 1")
    before_write(bucket, "create", "head", raising(world, node, 5))
    assert rows(other.db().branch.create("head")) == [1, 2, 3, 4]


def test_a_rewind_to_what_the_parent_gave_up_meanwhile_goes_back() -> None:
    world = World()
    node = world.node()
    put_rows(node.create(), 1, 2, 3, 4)
    child = node.db().branch.create("child")
    put_rows(child, 5)
    bucket = Between(world.store)
    other = world.node(bucket=bucket)
    before_write(bucket, "replace", "child", raising(world, node, 5))
    with pytest.raises(TxidNotRetainedError, match="no longer retained"):
        other.db("x@child").branch.rewind(3)
    assert rows(world.node().db("x@child")) == [1, 2, 3, 4, 5]
    assert other.db("x@child").branch.rewind(5).exact, "its own fork point stays"


@pytest.mark.parametrize("deleted", [False, True])
def test_a_reset_to_a_head_that_the_parent_gave_up_meanwhile_goes_back(deleted: bool) -> None:
    world = World()
    node = world.node()
    parent = node.create().branch.create("parent")
    put_rows(parent, 1, 2)
    child = parent.branch.create("child")
    put_rows(child, 5)
    put_rows(parent, 3)
    bucket = Between(world.store)
    other = world.node(bucket=bucket)

    def meanwhile() -> None:
        if deleted:
            world.clock.advance(world.grace / 2 + 1)
            world.node().db("x@parent").branch.delete()
        else:
            raising(world, node, put_rows(world.node().db("x@parent"), 4), "parent")()

    before_write(bucket, "replace", "child", meanwhile)
    with pytest.raises(BranchNotFoundError if deleted else TxidNotRetainedError):
        other.db("x@child").branch.reset()
    assert rows(world.node().db("x@child")) == [1, 2, 5]


def test_a_manifest_of_before_there_were_boundaries_keeps_everything() -> None:
    world = World()
    node = world.node()
    put_rows(node.create(), 1, 2)
    key = keys.manifest_key(node.uuid(), "main")
    body, version = world.store.get(key)
    old = body.replace(b'"exact_txid":0,', b"").replace(b'"floor_txid":0,', b"")
    assert old != body
    world.store.replace(key, old, version)
    points = world.node().db().branch.restore_points()
    assert [(r.from_txid, r.to_txid) for r in points.ranges] == [(0, 3)]
