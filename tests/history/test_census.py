"""Attacks on garbage collection: crashes at every call, collectors and forks in each other's way, clocks that lie.

Nothing that is alive is ever removed; and once all is quiet, nothing that is dead stays, no census either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from memoturn.base.errors import AlreadyExistsError, MemoturnError, UnavailableError
from memoturn.base.settings import HistorySettings
from memoturn.base.txids import TXID, UnixMs
from memoturn.bucket import ObjectInfo
from memoturn.history import census
from memoturn.history.bases import write_base
from memoturn.history.budget import Budget
from memoturn.history.census import Candidates, Censuses, is_ripe
from memoturn.history.collection import Collector
from memoturn.history.reach import objects_of, undecided
from memoturn.manifest import keys
from memoturn.manifest.coverage import lineage
from memoturn.manifest.rules import free_name, raise_exact
from memoturn.manifest.segment_name import SegmentName
from memoturn.operations import branches, databases, maintenance
from memoturn.operations.undo import undo
from tests.history.collecting import GRACE, Node, World, put_rows, rows
from tests.stand_ins import Between
from tests.support import ManualClock


def base_at(node: Node, txid: int) -> None:
    """A base of the default branch of `x` at a position."""
    manifest = node.engine.manifests.read(keys.manifest_key(node.uuid(), "main")).record
    write_base(node.engine.env, node.uuid(), manifest, TXID(txid), Budget(node.engine.clock))


class DeadError(Exception):
    """The process that ran the pass is no more."""


def furnish(world: World, node: Node) -> None:
    """Something of everything that can die: burners with and without children, deletions, names taken again."""
    db = node.create()
    put_rows(db, 1, 2)
    burner = db.branch.create("burner", ttl=60)
    put_rows(burner, 3)
    put_rows(burner.branch.create("child"), 4)
    put_rows(burner, 5)
    put_rows(db.branch.create("again"), 6)
    put_rows(node.db("x@again").branch.create("heir"), 7)
    db.branch.delete("again")
    put_rows(db.branch.create("again"), 8)
    put_rows(db.branch.create("gone"), 9)
    db.branch.delete("gone")
    db.branch.create("empty")
    db.branch.delete("empty")
    put_rows(node.create("dead"), 1)
    databases.delete(node.engine, "dead")
    world.clock.advance(61)


ALIVE = {"x": [1, 2], "x@child": [1, 2, 3, 4], "x@again": [1, 2, 8], "x@heir": [1, 2, 6, 7]}


def assert_alive(world: World) -> None:
    node = world.node()
    for address, expected in ALIVE.items():
        assert rows(node.db(address)) == expected, address


def assert_quiet(world: World) -> None:
    world.settle(world.node(), passes=12)
    assert_alive(world)
    world.assert_nothing_dead()
    world.clock.advance(24 * 3600 + 1)
    world.node().gc()
    assert world.kinds() == {"catalog": 2, "manifest": 6, "segment": 6}


@pytest.mark.parametrize("passes_before", [0, 1, 2])
def test_a_pass_may_die_at_any_call(passes_before: int) -> None:
    number = 0
    while True:
        world = World()
        furnish(world, world.node())
        for _ in range(passes_before):
            world.node().gc()
            world.clock.advance(GRACE + 1)
        bucket = Between(world.store)

        def die(call: int, _name: str, _key: Any, at: int = number) -> None:
            if call >= at:
                raise DeadError

        mortal = world.node(bucket=bucket)
        bucket.calls = 0
        bucket.before = die
        with contextlib.suppress(DeadError):
            mortal.gc()
            break
        assert_alive(world)
        assert_quiet(world)
        number += 1
    assert number > 20


@pytest.mark.parametrize("passes_before", [1, 2])
def test_a_store_that_fails_at_any_call_is_told_and_the_next_pass_goes_on(passes_before: int) -> None:
    for number in range(0, 60, 3):
        world = World()
        furnish(world, world.node())
        for _ in range(passes_before):
            world.node().gc()
            world.clock.advance(GRACE + 1)
        bucket = Between(world.store)
        node = world.node(bucket=bucket)
        bucket.calls = 0

        def fail(call: int, _name: str, _key: Any, at: int = number) -> None:
            if call == at:
                raise UnavailableError("503")

        bucket.before = fail
        with contextlib.suppress(UnavailableError):
            node.gc()
        assert_alive(world)
        assert_quiet(world)


@pytest.mark.parametrize("passes_before", [0, 1, 2])
def test_two_collectors_in_each_others_way(passes_before: int) -> None:
    number, calls = 0, 1
    while number < calls:
        world = World()
        furnish(world, world.node())
        for _ in range(passes_before):
            world.node().gc()
            world.clock.advance(GRACE + 1)
        bucket = Between(world.store)
        node = world.node(bucket=bucket)
        other = world.node()
        bucket.calls = 0

        def meanwhile(call: int, _name: str, _key: Any, at: int = number, other: Node = other) -> None:
            if call == at:
                other.gc()

        bucket.before = meanwhile
        with contextlib.suppress(MemoturnError):
            node.gc()
        calls = bucket.calls
        assert_alive(world)
        assert_quiet(world)
        number += 2


Act = Callable[[Node, dict[str, str]], None]


def fork_at_the_head(node: Node, _tokens: dict[str, str]) -> None:
    put_rows(node.db().branch.create("late"), 100)


def fork_from_a_child(node: Node, _tokens: dict[str, str]) -> None:
    put_rows(node.db("x@child").branch.create("late"), 100)


def fork_at_a_checkpoint_and_drop_it(node: Node, _tokens: dict[str, str]) -> None:
    node.db().branch.create("late", checkpoint="here")
    node.db().branch.delete_checkpoint("here")


def take_the_name_of_the_dead(node: Node, _tokens: dict[str, str]) -> None:
    put_rows(node.db().branch.create("gone"), 100)


def take_the_name_of_the_empty(node: Node, _tokens: dict[str, str]) -> None:
    put_rows(node.db().branch.create("empty"), 100)


def take_back(node: Node, tokens: dict[str, str]) -> None:
    undo(node.engine, "x", tokens["leaf"])


def take_back_a_database(node: Node, tokens: dict[str, str]) -> None:
    undo(node.engine, "dead", tokens["dead"])


def write_and_rewind(node: Node, _tokens: dict[str, str]) -> None:
    put_rows(node.db(), 100)
    node.db().branch.rewind(1)


def fork_and_die_young(node: Node, _tokens: dict[str, str]) -> None:
    put_rows(node.db("x@child").branch.create("late"), 100)
    branches.delete(node.engine, "x", "child")


ACTS = [
    fork_at_the_head,
    fork_from_a_child,
    fork_at_a_checkpoint_and_drop_it,
    take_the_name_of_the_dead,
    take_the_name_of_the_empty,
    take_back,
    take_back_a_database,
    write_and_rewind,
    fork_and_die_young,
]


def content(node: Node) -> dict[str, object]:
    found: dict[str, object] = {}
    for database in databases.list_(node.engine):
        for branch in branches.list_(node.engine, database.name):
            address = f"{database.name}@{branch.name}"
            found[address] = rows(node.db(address))
    return found


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("passes_before", [1, 2])
def test_what_users_do_before_any_call_of_a_pass_stands(act: Act, passes_before: int) -> None:
    number, calls, done_ever = 0, 1, 0
    while number < calls:
        world = World()
        builder = world.node()
        furnish(world, builder)
        db = builder.db()
        db.branch.checkpoint("here")
        put_rows(db.branch.create("middle"), 20)
        put_rows(builder.db("x@middle").branch.create("leaf"), 21)
        tokens = {"leaf": db.branch.delete("leaf").undo}
        db.branch.delete("middle")
        put_rows(builder.create("dead"), 5)
        tokens["dead"] = databases.delete(builder.engine, "dead").undo
        for _ in range(passes_before):
            world.node().gc()
            world.clock.advance(GRACE + 1)
        bucket = Between(world.store)
        node = world.node(bucket=bucket)
        user = world.node()
        bucket.calls = 0
        after: dict[str, object] = {}

        def meanwhile(
            call: int,
            _name: str,
            _key: Any,
            at: int = number,
            user: Node = user,
            after: dict[str, object] = after,
            tokens: dict[str, str] = tokens,
        ) -> None:
            if call == at:
                with contextlib.suppress(MemoturnError):
                    act(user, tokens)
                    after["done"] = True
                after.update(content(user))

        bucket.before = meanwhile
        node.gc()
        calls = bucket.calls
        done_ever += bool(after.pop("done", False))
        assert content(world.node()) == after, f"before call {number}"
        world.settle(world.node(), passes=12)
        assert content(world.node()) == after, f"before call {number}, later"
        world.assert_nothing_dead()
        number += 3
    assert done_ever or act in (take_back, take_back_a_database)


def test_a_fork_at_a_checkpoint_that_is_dropped_while_its_history_is_cut_keeps_it() -> None:
    world = World(history=HistorySettings(pitr_retention_secs=1800, pitr_snapshot_retention_secs=3600))
    node = world.node()
    db = node.create()
    put_rows(db, 1, 2)
    db.branch.checkpoint("here")
    put_rows(db, 3)
    world.clock.advance(10 * 86_400)
    put_rows(db, 4)
    world.clock.advance(86_400)
    put_rows(db, 5)
    for _ in range(3):
        maintenance.retain(node.engine, "x")
        world.clock.advance(3600)
        put_rows(db, 6)
    exact = node.engine.manifests.read(keys.manifest_key(node.uuid(), "main")).record.exact_txid
    assert exact > db.branch.checkpoints()[0].txid
    node.gc()
    world.clock.advance(GRACE + 1)
    bucket = Between(world.store)
    cutter = world.node(bucket=bucket)
    user = world.node()

    def meanwhile(_call: int, name: str, key: Any) -> None:
        if name == "replace" and key == keys.manifest_key(node.uuid(), "main"):
            bucket.before = lambda *_: None
            fork_at_a_checkpoint_and_drop_it(user, {})

    bucket.before = meanwhile
    assert cutter.gc().unlinked
    assert rows(world.node().db("x@late")) == [1, 2]
    world.settle(world.node())
    assert rows(world.node().db("x@late")) == [1, 2]
    world.assert_nothing_dead()


# What must be caught, or these tests prove nothing.


def test_a_collector_without_grace_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "is_ripe", lambda *_: True)
    with pytest.raises((AssertionError, MemoturnError)):
        deletion_is_taken_back_in_time(World())


def deletion_is_taken_back_in_time(world: World) -> None:
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    put_rows(db.branch.create("b"), 2)
    token = db.branch.delete("b").undo
    for _ in range(3):
        world.node(ManualClock(world.clock.ms + 10 * GRACE * 1000)).gc()
        world.clock.advance(1)
    undo(node.engine, "x", token)
    assert rows(world.node().db("x@b")) == [1, 2]


def test_a_collector_with_grace_passes() -> None:
    deletion_is_taken_back_in_time(World())


def test_a_collector_that_believes_its_own_clock_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Collector, "now", lambda self: self.env.clock.now_ms())
    with pytest.raises((AssertionError, MemoturnError)):
        deletion_is_taken_back_in_time(World())


# A publisher that is slow.


def test_a_commit_that_was_put_and_linked_days_later_is_there() -> None:
    """A machine that is suspended between the two, with collectors at work elsewhere."""
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    bucket = Between(world.store)
    asleep = world.node(ManualClock(world.clock.ms), bucket=bucket)
    asleep.db().sql("INSERT INTO t VALUES (2)")

    def sleep(_call: int, name: str, key: Any) -> None:
        if name == "replace" and key == keys.manifest_key(node.uuid(), "main"):
            bucket.before = lambda *_: None
            for _ in range(4):
                world.node().gc()
                world.clock.advance(GRACE + 1)

    bucket.before = sleep
    asleep.db().sync()
    assert rows(world.node().db()) == [1, 2]
    world.settle(world.node())
    assert rows(world.node().db()) == [1, 2]
    world.assert_nothing_dead()


def test_a_merge_whose_maker_was_stopped_before_it_linked_it_does_no_harm() -> None:
    world = World()
    node = world.node()
    db = node.create()
    for value in range(130):
        put_rows(db, value)
    bucket = Between(world.store)
    stopped = world.node(bucket=bucket)

    def stop(_call: int, name: str, key: Any) -> None:
        if name == "replace" and key == keys.manifest_key(node.uuid(), "main"):
            bucket.before = lambda *_: None
            for _ in range(4):
                world.clock.advance(GRACE + 1)
                world.node().gc()

    bucket.before = stop
    maintenance.compact(stopped.engine, "x")
    assert rows(world.node().db()) == list(range(130))
    world.settle(world.node())
    assert rows(world.node().db()) == list(range(130))
    world.assert_nothing_dead()


def test_what_was_linked_while_a_pass_was_under_way_is_not_counted_as_dead() -> None:
    """Else what lets go of it later would be no longer than a moment before its removal."""
    world = World()
    node = world.node()
    db = node.create()
    for value in range(4):
        put_rows(db, value)
        maintenance.compact(node.engine, "x")
    world.clock.advance(GRACE + 1)
    node.gc()
    world.clock.advance(GRACE + 1)
    bucket = Between(world.store)

    def work(_call: int, name: str, key: Any) -> None:
        if name == "list" and key == keys.database_prefix(node.uuid()):
            bucket.before = lambda *_: None
            put_rows(db, 4)
            maintenance.compact(node.engine, "x")
            put_rows(db, 5)

    bucket.before = work
    assert world.node(bucket=bucket).gc().removed > 0
    assert rows(world.node().db()) == list(range(6)), "somebody worked in between"
    parts = Censuses(world.store, node.uuid(), UnixMs(world.clock.ms), GRACE * 1000)
    counted = {name for name, _, _ in parts.objects()}
    manifest = node.engine.manifests.read(keys.manifest_key(node.uuid(), "main")).record
    assert not counted & {f"{manifest.incarnation}/{name}" for name in objects_of(manifest)}


def test_what_an_undo_brought_back_while_a_pass_was_under_way_is_not_counted_as_dead() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    put_rows(db.branch.create("b"), 2)
    deleted = db.branch.delete("b")
    bucket = Between(world.store)

    def take_back(_call: int, name: str, key: Any) -> None:
        if name == "put" and "/census/" in key:
            bucket.before = lambda *_: None
            undo(node.engine, "x", deleted.undo)

    bucket.before = take_back
    world.node(bucket=bucket).gc()
    assert rows(world.node().db("x@b")) == [1, 2]
    parts = Censuses(world.store, node.uuid(), UnixMs(world.clock.ms), GRACE * 1000)
    assert not list(parts.objects())


def test_a_fork_that_was_slow_does_not_stand_on_what_was_removed() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    put_rows(db.branch.create("parent"), 2)
    bucket = Between(world.store)
    slow = world.node(bucket=bucket)
    assert rows(slow.db("x@parent")) == [1, 2]

    def meanwhile(_call: int, name: str, key: Any) -> None:
        if name == "create" and key.endswith("/child.json"):
            bucket.before = lambda *_: None
            branches.delete(world.node().engine, "x", "parent")
            for _ in range(4):
                world.node().gc()
                world.clock.advance(GRACE + 1)

    bucket.before = meanwhile
    with pytest.raises(MemoturnError):
        slow.db("x@parent").branch.create("child")
    world.settle(world.node())
    assert content(world.node()) == {"x@main": [1]}
    world.assert_nothing_dead()


def test_a_database_that_was_created_slowly_is_refused() -> None:
    world = World()
    slow = world.node()
    real = slow.engine.manifests.create

    def create(*args: Any) -> Any:
        made = real(*args)
        world.clock.advance(GRACE)
        return made

    slow.engine.manifests.create = create  # type: ignore[method-assign]
    with pytest.raises(UnavailableError, match="was not created"):
        slow.create("y")
    world.settle(world.node())
    assert world.objects("") == []


def test_who_is_slow_to_take_a_name_overwrites_no_later_history_of_who_had_it() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    put_rows(db.branch.create("b"), 2)
    deleted = db.branch.delete("b")
    bucket = Between(world.store)

    def meanwhile(_call: int, name: str, key: Any) -> None:
        if name == "create" and "b~" in key:
            bucket.before = lambda *_: None
            undo(node.engine, "x", deleted.undo)
            put_rows(node.db("x@b"), 3)
            node.db("x@b").branch.create("child")
            db.branch.delete("b")
            db.branch.create("b")

    bucket.before = meanwhile
    with pytest.raises(AlreadyExistsError):
        world.node(bucket=bucket).db().branch.create("b")
    assert rows(world.node().db("x@child")) == [1, 2, 3]


def test_what_somebody_left_who_died_while_taking_a_name_is_replaced_by_what_came_later() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    put_rows(db.branch.create("b"), 2)
    deleted = db.branch.delete("b")
    bucket = Between(world.store)

    def die(_call: int, name: str, key: Any) -> None:
        if name == "replace" and key.endswith("/b.json"):
            raise DeadError

    bucket.before = die
    with pytest.raises(DeadError):
        world.node(bucket=bucket).db().branch.create("b")
    undo(node.engine, "x", deleted.undo)
    put_rows(node.db("x@b"), 3)
    node.db("x@b").branch.create("child")
    db.branch.delete("b")
    db.branch.create("b")
    assert rows(world.node().db("x@child")) == [1, 2, 3]


def test_what_a_boundary_has_passed_lately_is_not_cut_by_what_an_earlier_census_said() -> None:
    world = World()
    node = world.node()
    db = node.create()
    for value in range(1, 7):
        put_rows(db, value)
    key = keys.manifest_key(node.uuid(), "main")

    def pass_by(txid: int) -> None:
        base_at(node, txid)
        node.engine.manifests.update(key, lambda m: raise_exact(m, TXID(txid)))

    pass_by(3)
    node.gc()
    world.clock.advance(GRACE + 1)
    pass_by(6)
    node.gc()
    segments = node.engine.manifests.read(key).record.segments
    assert lineage(node.engine.manifests.read(key).record, TXID(5)).gap is None, (
        "somebody may just have forked there"
    )
    world.clock.advance(GRACE + 1)
    node.gc()
    assert len(node.engine.manifests.read(key).record.segments) < len(segments)


def test_a_name_that_is_being_freed_is_waited_for_and_a_mark_left_behind_is_made_anew() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    db.branch.create("b")
    db.branch.delete("b")
    node.gc()
    world.clock.advance(GRACE + 1)
    node.gc()
    key = keys.manifest_key(node.uuid(), "b")
    node.engine.manifests.update(key, free_name)
    with pytest.raises(MemoturnError, match="just being freed"):
        db.branch.create("b")
    world.clock.advance(GRACE + 1)
    world.settle(node)
    assert key not in world.objects()
    put_rows(db.branch.create("b"), 2)
    world.settle(node)
    assert rows(world.node().db("x@b")) == [1, 2]


# Decisions.


def test_a_census_is_ripe_after_a_grace_period_of_the_store_and_not_before() -> None:
    part = ObjectInfo("db/d/census/a-00000001.json", 1, UnixMs(1000))
    assert [is_ripe(part, UnixMs(now), 600) for now in (0, 1000, 1599, 1600, 5000)] == [
        False, False, False, True, True
    ]  # fmt: skip


def test_candidates_are_found_beside_a_listing() -> None:
    objects = [("a", True, 5), ("a", False, 9), ("b", False, 9), ("c", True, 3), ("c", True, 4)]
    candidates = Candidates(iter((name, ripe, UnixMs(at)) for name, ripe, at in objects))
    assert candidates.find("a") == (True, 5)
    assert candidates.find("aa") is None
    assert candidates.find("b") == (False, 9)
    assert candidates.find("c") == (True, 4)
    assert candidates.find("d") is None


def test_what_nobody_can_link_any_more_is_decided() -> None:
    world = World()
    node = world.node()
    put_rows(node.create(), 1, 2)
    manifest = node.engine.branch("x").manifest()
    head, epoch = manifest.head_txid, manifest.epoch

    def of(text: str, age: int) -> bool:
        return undecided(manifest, SegmentName.parse(text), age, 600)

    assert of(f"ltx/0/{head + 1}-{head + 2}-{epoch}.ltx", 10**9)
    assert of(f"ltx/0/{head + 1}-{head + 2}-{epoch}-0123abcd.ltx", 10**9)
    assert not of(f"ltx/0/{head + 1}-{head + 2}-{epoch - 1}.ltx", 0)
    assert not of(f"ltx/0/{head}-{head}-{epoch}.ltx", 0)
    assert [of(f"ltx/0/{head + 2}-{head + 2}-{epoch}.ltx", age) for age in (599, 600)] == [True, False]
    assert [of(f"ltx/1/1-{head}-{epoch}.ltx", age) for age in (599, 600)] == [True, False]
    assert [of(f"base/{head}-{epoch}.ltx", age) for age in (599, 600)] == [True, False]
    assert [undecided(None, SegmentName.parse("base/1-1.ltx"), age, 600) for age in (599, 600)] == [
        True, False
    ]  # fmt: skip
