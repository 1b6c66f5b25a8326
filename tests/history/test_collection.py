"""What garbage collection removes, what it leaves, and when: the lives of branches and databases to their end."""

from __future__ import annotations

import pytest

from memoturn import (
    BranchExpiredError,
    BranchNotFoundError,
    CorruptError,
    DatabaseNotFoundError,
    TxidNotRetainedError,
)
from memoturn.base.settings import HistorySettings
from memoturn.bucket import ObjectNotFound
from memoturn.history import planning
from memoturn.manifest import keys
from memoturn.operations import branches, databases, maintenance
from memoturn.operations.undo import undo
from tests.history.collecting import GRACE, World, assert_readable, put_rows, rows
from tests.support import ManualClock


def test_a_burner_is_expired_at_once_and_gone_after_grace_and_its_children_live() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1, 2)
    burner = db.branch.create("burner", ttl=60)
    put_rows(burner, 3)
    child = burner.branch.create("child")
    put_rows(child, 4)
    put_rows(burner, 5)
    world.clock.advance(61)
    with pytest.raises(BranchExpiredError):
        burner.sql("SELECT 1")

    first = node.gc()
    assert (first.expired, first.removed, first.waiting) == (1, 0, 1), "what only the burner needed"
    world.clock.advance(GRACE - 1)
    assert node.gc().removed == 0
    world.clock.advance(2)
    second = node.gc()
    assert second.removed == 1
    fresh = world.node()
    assert rows(fresh.db("x@child")) == [1, 2, 3, 4]
    assert rows(fresh.db()) == [1, 2]
    with pytest.raises((BranchExpiredError, BranchNotFoundError)):
        fresh.db("x@burner").sql("SELECT 1")
    world.settle(node)
    world.assert_nothing_dead()
    assert_readable(world.node(), "x@child", [3, 4])

    branches.delete(node.engine, "x", "child")
    node.gc()
    world.settle(node)
    world.assert_nothing_dead()
    assert world.kinds() == {"catalog": 1, "manifest": 1, "segment": 1}, (
        "the burner's manifest has gone as well"
    )


def test_a_deleted_branch_keeps_its_history_for_those_who_descend_from_it() -> None:
    """As long as snapshots are kept; after that it keeps what they stand on, as that of a burner from the start."""
    world = World(history=HistorySettings(pitr_retention_secs=5000, pitr_snapshot_retention_secs=8000))
    node = world.node()
    db = node.create()
    put_rows(db, 1, 2)
    before = db.txid
    put_rows(db, 3)
    child = db.branch.create("child")
    put_rows(child, 4)
    child.branch.promote()
    branches.delete(node.engine, "x", "main")
    world.settle(node)
    assert rows(world.node().db(f"x@child:{before}")) == [1, 2]
    assert node.db("x@child").branch.restore_points().ranges[0].branch == "main"

    world.clock.advance(8001)
    world.settle(node)
    with pytest.raises(TxidNotRetainedError):
        world.node().db(f"x@child:{before}").sql("SELECT 1")
    assert rows(world.node().db("x@child")) == [1, 2, 3, 4]
    world.assert_nothing_dead()


def test_what_an_undo_brought_back_has_a_grace_period_of_its_own_when_it_is_let_go_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A census that was taken while it was dead must not be acted on when compaction has replaced it since."""
    monkeypatch.setattr(planning, "MOST_PACKS", 2)
    monkeypatch.setattr(planning, "LEAST_MERGED", 2)
    world = World()
    node = world.node()
    branch = node.create().branch.create("b")
    for n in range(3):
        put_rows(branch, n)
    token = branches.delete(node.engine, "x", "b").undo
    assert node.gc().waiting == 3, "the census counts its packs as dead"
    world.clock.advance(GRACE - 10)
    undo(node.engine, "x", token)
    packs = {key for key in world.objects() if "/ltx/0/" in key}
    assert maintenance.compact(node.engine, "x", "b").branches[0].merges
    world.clock.advance(20)
    node.gc()
    assert {key for key in world.objects() if "/ltx/0/" in key} == packs
    world.settle(node)
    world.assert_nothing_dead()
    assert rows(world.node().db("x@b")) == [0, 1, 2]


def test_a_clean_database_gets_no_census_and_is_left_alone() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    before = world.objects("")
    for _ in range(3):
        result = node.gc()
        assert (result.removed, result.waiting, result.ready_at) == (0, 0, None)
        world.clock.advance(GRACE + 1)
    assert world.objects("") == before


def test_a_deletion_can_be_taken_back_for_a_grace_period_and_is_refused_clearly_after_it() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    put_rows(db.branch.create("b"), 2)
    token = db.branch.delete("b").undo
    node.gc()
    world.clock.advance(GRACE - 1)
    node.gc()
    undo(node.engine, "x", token)
    assert rows(node.db("x@b")) == [1, 2]

    world.clock.advance(10)
    node.gc()
    assert rows(world.node().db("x@b")) == [1, 2], "the old census is of a tombstone that was taken back"
    again = db.branch.delete("b").undo
    node.gc()
    world.clock.advance(GRACE - 1)
    assert node.gc().removed == 0, "its grace period begins anew"
    world.clock.advance(2)
    assert node.gc().removed == 1
    with pytest.raises(TxidNotRetainedError, match="history is being removed"):
        undo(node.engine, "x", again)


def test_a_census_of_one_deletion_says_nothing_of_the_next() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    put_rows(db.branch.create("b"), 2)
    undo(node.engine, "x", db.branch.delete("b").undo)
    world.clock.advance(1)
    token = db.branch.delete("b").undo
    node.gc()
    undo(node.engine, "x", token)
    world.clock.advance(GRACE)
    token = db.branch.delete("b").undo
    world.clock.advance(2)
    node.gc()
    undo(node.engine, "x", token)
    world.settle(node)
    assert rows(world.node().db("x@b")) == [1, 2]


@pytest.mark.parametrize("with_commits", [True, False])
def test_a_fresh_tombstone_holds_what_it_stands_on(with_commits: bool) -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    put_rows(db.branch.create("middle"), 2)
    leaf = node.db("x@middle").branch.create("leaf")
    if with_commits:
        put_rows(leaf, 3)
    db.branch.delete("middle")
    node.gc()
    world.clock.advance(GRACE + 1)
    token = db.branch.delete("leaf").undo
    node.gc()
    world.clock.advance(GRACE - 1)
    node.gc()
    undo(node.engine, "x", token)
    world.settle(node)
    assert rows(world.node().db("x@leaf")) == ([1, 2, 3] if with_commits else [1, 2])


@pytest.mark.parametrize("with_commits", [True, False])
def test_an_undo_between_census_and_cut_keeps_what_the_branch_stands_on(with_commits: bool) -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    middle = db.branch.create("middle")
    put_rows(middle, 2)
    leaf = middle.branch.create("leaf")
    if with_commits:
        put_rows(leaf, 3)
    leaf_undo = db.branch.delete("leaf").undo
    db.branch.delete("middle")
    node.gc()
    world.clock.advance(GRACE + 1)
    undo(node.engine, "x", leaf_undo)
    node.gc()
    world.settle(node)
    assert rows(world.node().db("x@leaf")) == ([1, 2, 3] if with_commits else [1, 2])


def test_a_name_is_free_again_at_every_moment_of_its_removal() -> None:
    for passes in range(5):
        world = World()
        node = world.node()
        db = node.create()
        put_rows(db, 1)
        put_rows(db.branch.create("b"), 2)
        child = node.db("x@b").branch.create("child")
        put_rows(child, 3)
        db.branch.delete("b")
        for _ in range(passes):
            node.gc()
            world.clock.advance(GRACE + 1)
        put_rows(db.branch.create("b"), 10)
        put_rows(node.db("x@b"), 11)
        world.settle(node)
        fresh = world.node()
        assert rows(fresh.db("x@b")) == [1, 10, 11]
        assert rows(fresh.db("x@child")) == [1, 2, 3]
        world.assert_nothing_dead()


def test_a_former_manifest_goes_when_nobody_descends_from_it() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    put_rows(db.branch.create("b"), 2)
    put_rows(node.db("x@b").branch.create("child"), 3)
    db.branch.delete("b")
    put_rows(db.branch.create("b"), 4)
    assert any("~" in key for key in world.objects())
    world.settle(node)
    assert any("~" in key for key in world.objects())
    db.branch.delete("child")
    node.gc()
    world.settle(node)
    assert not any("~" in key for key in world.objects())
    assert rows(world.node().db("x@b")) == [1, 4]
    world.assert_nothing_dead()


def test_a_deleted_database_goes_whole_and_its_entry_remembers_when() -> None:
    world = World()
    node = world.node()
    put_rows(node.create(), 1)
    put_rows(node.create("y"), 2)
    put_rows(node.db().branch.create("b"), 3)
    deleted_at = world.clock.ms
    token = databases.delete(node.engine, "x").undo
    first = node.gc()
    assert (first.removed, first.waiting) == (0, 4)
    world.clock.advance(GRACE - 1)
    node.gc()
    undo(node.engine, "x", token)
    assert rows(world.node().db("x@b")) == [1, 3]

    token = databases.delete(node.engine, "x").undo
    world.clock.advance(GRACE - 1)
    assert node.gc().removed == 0, "its grace period begins anew"
    world.clock.advance(GRACE + 1)
    assert node.gc().removed == 4
    with pytest.raises(TxidNotRetainedError, match="being removed"):
        undo(node.engine, "x", token)
    entry = node.engine.catalog.read(keys.catalog_key("x")).record
    assert entry.deleted_at is not None
    assert entry.deleted_at > deleted_at
    with pytest.raises(DatabaseNotFoundError):
        node.db().sql("SELECT 1")
    world.settle(node)
    assert world.kinds() == {"catalog": 2, "manifest": 1, "segment": 1}
    put_rows(node.create(), 7)
    world.settle(node)
    assert (rows(node.db()), rows(node.db("y"))) == ([7], [2])


def test_an_expired_database_goes_whole() -> None:
    world = World()
    node = world.node()
    put_rows(node.create(ttl=60), 1)
    world.clock.advance(61)
    assert node.gc().expired == 1
    world.settle(node)
    assert world.kinds() == {"catalog": 1}


def test_what_a_crashed_creation_left_goes_whole() -> None:
    world = World()
    node = world.node()
    put_rows(node.create(), 1)
    world.store.delete(keys.catalog_key("x"))
    assert node.gc().waiting == 2
    world.clock.advance(GRACE + 1)
    assert node.gc().removed == 2
    assert world.objects() == []


def test_a_record_that_cannot_be_read_stops_the_collection_of_its_database_alone() -> None:
    world = World()
    node = world.node()
    for name in ("a", "b"):
        put_rows(node.create(name), 1)
        put_rows(node.db(name).branch.create("gone"), 2)
        node.db(name).branch.delete("gone")
    a, b = node.uuid("a"), node.uuid("b")
    world.store.put(keys.manifest_key(a, "main"), b"{")
    orphan = keys.manifest_key("d_orphan", "main")
    world.store.put(orphan, b"")

    def some_passes() -> list[str]:
        before = world.objects(keys.database_prefix(a))
        for _ in range(4):
            with pytest.raises(CorruptError):
                world.node().gc()
            world.clock.advance(GRACE + 1)
        assert world.objects(keys.database_prefix(a)) == before
        return world.objects()

    left = some_passes()
    assert len([key for key in left if b in key]) == 2, "a manifest and a segment"
    assert orphan not in left
    world.store.put(orphan, b"")
    world.store.put(keys.catalog_key("b"), b"{")
    left = some_passes()
    assert orphan in left, "nobody knows which databases have a name"
    assert len([key for key in left if b in key]) == 2


def test_one_database_is_collected_by_its_name() -> None:
    world = World()
    node = world.node()
    for name in ("x", "y"):
        put_rows(node.create(name), 1)
        put_rows(node.db(name).branch.create("b"), 2)
        node.db(name).branch.delete("b")
    node.gc("x")
    world.clock.advance(GRACE + 1)
    assert node.gc("x").removed == 1
    assert node.gc("y").waiting == 1
    with pytest.raises(DatabaseNotFoundError):
        node.gc("nobody")


def test_a_clock_that_jumped_ahead_ends_nothing_that_lives_for_others() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    put_rows(db.branch.create("burner", ttl=600), 2)
    ahead = world.node(ManualClock(world.clock.ms + 3_600_000))
    for _ in range(3):
        ahead.gc()
        world.clock.advance(100)
    assert rows(world.node().db("x@burner")) == [1, 2]


def test_a_clock_that_jumped_ahead_removes_nothing_before_its_time() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    put_rows(db.branch.create("b"), 2)
    token = db.branch.delete("b").undo
    for hours in range(1, 5):
        assert world.node(ManualClock(world.clock.ms + hours * 3_600_000)).gc().removed == 0
    undo(node.engine, "x", token)
    assert rows(world.node().db("x@b")) == [1, 2]


def test_unknown_objects_are_kept_and_told() -> None:
    world = World()
    node = world.node()
    put_rows(node.create(), 1)
    strange = [f"db/{node.uuid()}/receipts/1.json", f"db/{node.uuid()}/b_1/ltx/0/1-x.ltx"]
    for key in strange:
        world.store.put(key, b"?")
    for _ in range(3):
        result = node.gc()
        kept = [example.key for example in result.examples if example.fate == "kept"]
        assert sorted(kept) == sorted(strange)
        world.clock.advance(GRACE + 1)
    assert set(strange) <= set(world.objects())


def test_orphans_go_and_what_an_owner_may_yet_link_stays() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1, 2)
    branch = node.engine.branch("x")
    manifest = branch.manifest()
    place = f"db/{node.uuid()}/{manifest.incarnation}/"
    head, epoch = manifest.head_txid, manifest.epoch
    mine = f"{place}ltx/0/{head + 1}-{head + 1}-{epoch}.ltx"
    orphans = [
        f"{place}ltx/0/{head + 1}-{head + 1}-{epoch - 1}.ltx",
        f"{place}ltx/0/{head}-{head}-{epoch}-0123abcd.ltx",
        f"{place}ltx/1/1-{head}-{epoch}-0123abcd.ltx",
        f"{place}base/{head}-{epoch}-0123abcd.ltx",
        f"{place}base/{head}-{epoch}-0123abcd.idx",
        f"{place}ltx/0/{head + 40}-{head + 40}-{epoch}.ltx",
        f"db/{node.uuid()}/b_gone/ltx/0/1-1-1.ltx",
    ]
    for key in [mine, *orphans]:
        world.store.put(key, b"orphan")
    for _ in range(3):
        world.clock.advance(GRACE + 1)
        node.gc()
    assert not set(orphans) & set(world.objects())
    assert mine in world.objects()
    put_rows(db, 3)
    world.settle(node)
    world.assert_nothing_dead()
    assert rows(world.node().db()) == [1, 2, 3]


def test_why_retained_and_a_dry_run_agree_and_every_object_has_a_reason() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    burner = db.branch.create("burner", ttl=100)
    put_rows(burner, 2)
    put_rows(burner.branch.create("child"), 3)
    put_rows(burner, 4)
    maintenance.compact(node.engine, "x", "child")
    put_rows(db.branch.create("gone"), 5)
    db.branch.delete("gone")
    world.clock.advance(101)
    planned = {found.key: found.fate for found in node.gc(dry_run=True).examples}
    assert planned, "nothing is dead"
    segments = [key for key in world.objects() if keys.place_of(key).kind == "segment"]
    found = {key: maintenance.why_retained(node.engine, key) for key in segments}
    assert {key for key in segments if found[key].state != "alive"} == planned.keys()
    assert all(one.holders for one in found.values())
    said = {holder.why for one in found.values() for holder in one.holders}
    assert any("a base stands in for it" in why for why in said), (
        "a pack that no position needs, before any cut"
    )
    assert not any(
        holder.branch == "burner" and "head" in holder.why for one in found.values() for holder in one.holders
    )
    (key,) = [key for key in world.objects() if key.endswith("/burner.json")]
    assert "was forked from it" in maintenance.why_retained(node.engine, key).holders[0].why


def test_a_dry_run_writes_nothing_and_says_what_would_go_and_why() -> None:
    world = World()
    node = world.node()
    db = node.create()
    put_rows(db, 1)
    put_rows(db.branch.create("b"), 2)
    db.branch.delete("b")
    before = {key: world.store.get(key) for key in world.objects("")}
    planned = node.gc(dry_run=True)
    assert (planned.dry_run, planned.removed, planned.waiting) == (True, 0, 1)
    assert "branch 'b' was deleted" in planned.examples[0].why
    assert {key: world.store.get(key) for key in world.objects("")} == before
    node.gc()
    world.clock.advance(GRACE + 1)
    before = {key: world.store.get(key) for key in world.objects("")}
    planned = node.gc(dry_run=True)
    assert (planned.removed, planned.waiting) == (1, 0)
    assert {key: world.store.get(key) for key in world.objects("")} == before
    assert node.gc().removed == 1


def test_what_crashes_left_outside_of_databases_goes_after_a_day() -> None:
    world = World()
    node = world.node()
    world.store.put("probe/verdict.json", b"{}")
    world.store.put("probe/abc/one", b"?")
    world.store.put("clock/abc", b"?")
    node.gc()
    assert len(world.objects("")) == 3
    world.clock.advance(24 * 3600 + 1)
    node.gc()
    assert world.objects("") == ["probe/verdict.json"]
    with pytest.raises(ObjectNotFound):
        world.store.get("clock/abc")
