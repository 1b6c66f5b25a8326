"""Reading while segments are merged and collected: nobody who looks now and then ever meets one that is gone."""

from __future__ import annotations

from typing import Any

import pytest

from memoturn import CorruptError, Database, Hits, SegmentGoneError
from memoturn.base.names import parse_address
from memoturn.faces.embedded.memory import Profile
from memoturn.manifest.watch import AloneWatch
from memoturn.operations import maintenance, recall
from tests.history.collecting import GRACE, Node, World, put_rows, rows
from tests.stand_ins import Between
from tests.support import ManualClock, branch_of


class StoppedClock(ManualClock):
    def monotonic(self) -> float:
        return 0.0


class HeldUp(ManualClock):
    held_up = 0.0

    def monotonic(self) -> float:
        return self.held_up


def stale_node(world: World) -> Node:
    """A node that nobody tells of changes, with a clock that stands still, as on a suspended machine."""
    return world.node(StoppedClock(world.clock.ms), watch=AloneWatch())


def collected_under(world: World, writer: Node) -> None:
    """Merge everything, and collect what was merged."""
    maintenance.compact(writer.engine, "x")
    writer.gc()
    world.clock.advance(GRACE + 1)
    assert writer.gc().removed > 0


def without_cache(node: Node) -> None:
    node.engine.env.store._pages.clear()
    node.engine.env.store._indexes.clear()
    node.engine.env.store._buffers.clear()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def writer(world: World) -> Node:
    node = world.node()
    db = node.create()
    for value in range(130):
        put_rows(db, value)
    return node


def read_statement(db: Database) -> list[int]:
    return rows(db)


def read_batch(db: Database) -> list[int]:
    return [row["v"] for row in db.batch(["SELECT v FROM t ORDER BY rowid"]).results[0]]


def recalled(node: Node) -> Hits:
    memories = Profile(node.engine, parse_address("x"), None)
    return memories.recall("tea", embedding=[1, 3], k=5, include_turns=True)


@pytest.mark.parametrize("read", [read_statement, read_batch])
@pytest.mark.parametrize("address", ["x", "x@child", "x@main:20"])
def test_a_read_that_meets_a_removed_segment_is_done_again(
    world: World, writer: Node, address: str, read: object
) -> None:
    writer.db().branch.create("child")
    reader = stale_node(world)
    expected = rows(reader.db(address))
    collected_under(world, writer)
    without_cache(reader)
    reader.engine.branch("x").readers.close()
    reader.engine.branch("x", "child").readers.close()
    assert read(reader.db(address)) == expected  # type: ignore[operator]
    assert rows(reader.db(address)) == expected


def test_a_recall_that_meets_a_removed_segment_is_done_again(world: World) -> None:
    writer = world.node()
    writer.create()
    memories = Profile(writer.engine, parse_address("x"), None)
    for number in range(130):
        memories.ingest([{"type": "event", "summary": f"tea number {number}", "embedding": [1, number]}])
        memories.db.turns.append("s", "user", "more tea")
        memories.db.sync()
    expected = recalled(writer)
    reader = stale_node(world)
    assert recalled(reader) == expected
    collected_under(world, writer)
    without_cache(reader)
    reader.engine.branch("x").readers.close()
    recall._frames.clear()
    assert recalled(reader) == expected


def test_a_write_that_meets_a_removed_segment_says_so_and_the_next_one_works(
    world: World, writer: Node
) -> None:
    owner = stale_node(world)
    db = owner.db()
    put_rows(db, 100)
    collected_under(world, writer)
    without_cache(owner)
    branch_of(db)._discard_writer()
    with pytest.raises(SegmentGoneError, match="try again"):
        db.sql("INSERT INTO t VALUES (?)", [101])
    db.sql("INSERT INTO t VALUES (102)")
    db.sync()
    assert rows(world.node().db()) == [*range(130), 100, 102]


def test_who_looks_now_and_then_never_notices(world: World, writer: Node) -> None:
    writer.db().branch.create("child")
    reader = world.node(watch=AloneWatch())
    for _ in range(3):
        put_rows(writer.db(), 7)
        maintenance.compact(writer.engine, "x")
        for _ in range(9):
            for address in ("x@child", "x@main:20", "x"):
                without_cache(reader)
                reader.db(address).branch.get()
                assert reader.engine.branch("x", "child").head().page_count == 2
                assert rows(reader.db(address))[:10] == list(range(10))
            writer.gc()
            world.clock.advance(GRACE / 4)


def test_a_segment_that_is_really_lost_is_an_error_and_no_loop(world: World, writer: Node) -> None:
    writer.db().sync()
    for key in world.objects():
        if key.endswith(".ltx"):
            world.store.delete(key)
    with pytest.raises(CorruptError, match="is missing"):
        rows(world.node().db())


@pytest.mark.parametrize("slow", [True, False])
def test_a_reader_who_is_held_up_again_is_told_to_try_again_and_not_of_damage(
    world: World, writer: Node, slow: bool
) -> None:
    clock = HeldUp(world.clock.ms)
    bucket = Between(world.store)
    reader = world.node(clock, bucket=bucket, watch=AloneWatch())
    expected = rows(reader.db())
    collected_under(world, writer)
    put_rows(writer.db(), 6)
    maintenance.compact(writer.engine, "x")
    without_cache(reader)
    reader.engine.branch("x").readers.close()

    def hold_up(_call: int, name: str, key: Any) -> None:
        if name != "get" and "/base/" in str(key) and str(key).endswith(".ltx"):
            bucket.before = lambda *_: None
            put_rows(writer.db(), 7)
            maintenance.compact(writer.engine, "x")
            world.clock.advance(GRACE + 1)
            writer.gc()
            world.clock.advance(GRACE + 1)
            assert writer.gc().removed > 0
            clock.held_up = GRACE + 1.0 if slow else 0.0

    bucket.before = hold_up
    with pytest.raises(SegmentGoneError if slow else CorruptError):
        rows(reader.db())
    assert rows(reader.db()) == [*expected, 6, 7]
