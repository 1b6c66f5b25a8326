"""Compaction changes where positions are kept, and never what they hold: whoever reads, writes, crashes or races."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from memoturn.base.errors import ConflictError, CorruptError, UnavailableError
from memoturn.base.txids import TXID
from memoturn.faces.embedded.client import Database, Memoturn
from memoturn.history import planning
from memoturn.history.budget import Budget, Stopped
from memoturn.history.compaction import compact_branch, is_idle, merge
from memoturn.history.planning import Aims, Merge, packs_of
from memoturn.manifest import keys
from memoturn.manifest.segment_name import SegmentName
from memoturn.pages.view import View, open_view
from tests.conftest import Opener
from tests.history.histories import (
    a_family,
    assert_unchanged,
    commit,
    compact,
    contents,
    forget,
    levels,
)
from tests.support import ManualClock, assert_whole, branch_of, engine_of, plain_connection, values


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merges and bases become due after few commits."""
    monkeypatch.setattr(planning, "MOST_PACKS", 12)
    monkeypatch.setattr(planning, "LEAST_MERGED", 4)
    monkeypatch.setattr(planning, "LEAST_BASE", 12_000)


def test_every_position_of_a_family_keeps_its_content(mt: Memoturn) -> None:
    family = a_family(mt)
    before = contents(mt)
    steps = [done.step for db in family for done in compact(branch_of(db))]
    assert any(isinstance(step, Merge) and step.level == 1 for step in steps)
    assert_unchanged(mt, before)
    for db in family:
        compact(branch_of(db), idle=True, max_depth=0)
    assert_unchanged(mt, before)
    for db in family:
        commit(db, 2)
        assert_whole(db)


def test_a_time_is_found_at_a_rewind_that_its_pack_has_merged_away(mt: Memoturn, clock: ManualClock) -> None:
    db = a_family(mt)[0]
    clock.advance(10)
    rewound = db.branch.rewind(3)
    clock.advance(10)
    fork = db.branch.create("late")
    commit(db, 12, "what the fork never saw ")
    now = clock.now_ms()
    clock.advance(10)
    commit(fork, 1)
    merged = [done.step for done in compact(branch_of(db)) if isinstance(done.step, Merge)]
    assert any(pack.packs[0].min_txid < rewound.txid < pack.packs[-1].max_txid for pack in merged)
    when = datetime.fromtimestamp(now / 1000, UTC)
    assert fork.at(when).txid == rewound.txid
    assert values(fork.at(when)) == values(db.at(rewound.txid)) == values(db.at(3))


def test_packs_stay_few_whatever_the_age(mt: Memoturn, db: Database) -> None:
    branch = branch_of(db)
    commits, merged, most = 400, 0, 0
    for _ in range(commits // 5):
        commit(db, 5)
        merged += sum(isinstance(done.step, Merge) for done in compact(branch))
        kinds = levels(branch.look_again().segments)
        most = max(most, kinds.get("ltx/0", 0) + kinds.get("ltx/1", 0))
    assert merged > 5
    assert most < planning.MOST_PACKS + 5
    assert levels(branch.manifest().segments)["ltx/2"] >= 2, levels(branch.manifest().segments)
    assert len(values(db)) == commits
    forget(mt)
    assert_whole(db, range(1, commits, 37))


def test_each_commit_is_copied_at_most_twice(
    mt: Memoturn, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "LEAST_BASE", 1 << 40)
    branch = branch_of(db)
    for _ in range(60):
        commit(db, 5)
        compact(branch)
    written = engine_of(mt).env.written
    assert 0.5 < written.amplification <= 2, written


def test_nothing_is_left_to_do_afterwards(mt: Memoturn) -> None:
    for db in a_family(mt):
        assert compact(branch_of(db), idle=True)
        assert compact(branch_of(db), idle=True) == []


def test_a_reader_on_an_old_view_reads_on_and_a_new_one_sees_the_merged_pack(db: Database) -> None:
    commit(db, 20)
    branch = branch_of(db)
    old = branch.head()
    with plain_connection(old) as connection:
        rows = connection.execute("SELECT count(*) FROM t")
        compact(branch)
        assert next(rows) == (20,)
        assert connection.execute("SELECT count(v) FROM t").fetchall() == [(20,)]
    commit(db, 1)
    assert len(values(db)) == 21
    assert branch.head() is not old


def test_what_is_cached_stays_cached_when_its_pack_is_merged_or_a_base_is_written(
    mt: Memoturn, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(db, 30)
    branch = branch_of(db)
    assert len(values(db)) == 30
    assert compact(branch, idle=True)
    branch.forget()
    bucket = engine_of(mt).bucket
    monkeypatch.setattr(bucket, "get_range", lambda *args: pytest.fail(f"read {args}"))
    monkeypatch.setattr(bucket, "get_tail", lambda *args: pytest.fail(f"read the index of {args}"))
    assert len(values(db)) == 30


def test_a_view_that_is_opened_again_knows_what_it_knew_and_no_segment_that_is_gone(db: Database) -> None:
    commit(db, 30)
    branch = branch_of(db)
    assert len(values(db)) == 30
    compact(branch)
    commit(db, 3)
    assert len(values(db)) == 33
    before = branch.head()
    assert isinstance(before, View)
    known = {page_no for page_no, spot in before._memo.items() if spot is not None} | {
        page_no for recent in before._recent for page_no in recent
    }
    branch.renew()
    view = branch.head()
    assert isinstance(view, View)
    assert view is not before
    assert set(view._memo) >= known, "no segment has changed, so nothing was forgotten"
    assert compact(branch, idle=True)
    branch.renew()
    view = branch.head()
    assert isinstance(view, View)
    there = {
        keys.segment_key(branch.db_uuid, branch.incarnation, name) for name in branch.manifest().segments
    }
    packs = set(map(view._key, range(len(view._packs))))
    assert packs <= there
    assert all(spot is None or spot.key in packs for spot in view._memo.values())
    assert len(values(db)) == 33


def test_an_owner_goes_on_over_what_another_process_has_compacted(open_store: Opener, file_url: str) -> None:
    ours, theirs = open_store(file_url), open_store(file_url)
    ours.databases.create("x")
    db = ours.db("x")
    db.sql("CREATE TABLE t(v)")
    commit(db, 20)
    past = branch_of(db).view_at(TXID(7))
    steps = compact(branch_of(theirs.db("x")))
    assert steps
    assert not set(branch_of(db).manifest().segments) & {str(p) for p in steps[0].step.packs}  # type: ignore[union-attr]
    assert branch_of(db).view_at(TXID(7)) is not past, "a view of what was merged is not kept"
    commit(db, 5)
    db.sql("INSERT INTO t VALUES ('unshipped')")
    compact(branch_of(theirs.db("x")))
    assert len(values(db)) == 26
    assert len(values(theirs.db("x"))) == 26
    assert_whole(db)


def test_writers_commit_while_their_branch_is_compacted(mt: Memoturn, db: Database) -> None:
    """Between any two pieces of the work somebody commits and ships."""
    commit(db, 30)
    branch = branch_of(db)
    env = branch._env
    commits = 0

    def others() -> bool:
        nonlocal commits
        if commits < 40:
            commits += 1
            db.sql("INSERT INTO t VALUES (?)", ["meanwhile " * 20])
            branch.ship()
        return False

    done = list(
        compact_branch(env, branch.db_uuid, branch.branch_id, Budget(env.clock, stopped=others), Aims())
    )
    assert len(done) > 2
    assert commits > 10
    assert len(values(db)) == 30 + commits
    assert_whole(db)


def test_of_two_compactors_one_wins_and_nothing_is_lost(mt: Memoturn) -> None:
    family = a_family(mt, before_fork=40)
    before = contents(mt)
    branch = branch_of(family[0])
    env = branch._env
    calls = 0

    def other() -> bool:
        nonlocal calls
        calls += 1
        if calls == 3:
            assert compact(branch)
        return False

    budget = Budget(env.clock, stopped=other)
    manifest = branch.manifest()
    packs = tuple(packs_of(manifest)[:8])
    with pytest.raises(ConflictError, match="no longer part of branch"):
        merge(env, branch.db_uuid, manifest, Merge(packs, 1), budget)
    assert calls > 3
    calls = 0
    commit(family[0], 20)
    before = contents(mt)
    list(compact_branch(env, branch.db_uuid, branch.branch_id, budget, Aims(idle=True)))
    assert_unchanged(mt, before)
    assert compact(branch, idle=True) == []


@pytest.mark.parametrize("idle", [False, True])
def test_crashing_at_any_request_changes_no_position(
    mt: Memoturn, idle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = a_family(mt)
    before = contents(mt)
    branch = branch_of(family[0])
    bucket = engine_of(mt).bucket
    requests, crash_at = 0, 0

    class Crash(BaseException):
        pass

    def through(name: str, after: bool) -> None:
        real = getattr(bucket, name)

        def request(*args: Any) -> Any:
            nonlocal requests
            requests += 1
            mine = requests
            if mine == crash_at and not after:
                raise Crash
            answer = real(*args)
            if mine == crash_at:
                raise Crash
            return answer

        monkeypatch.setattr(bucket, name, request)

    for name in ("get", "get_range", "put", "replace"):
        through(name, after=name in ("put", "replace"))
    crashes = 0
    for crash_at in range(1, 400):
        requests = 0
        try:
            compact(branch, idle)
        except Crash:
            crashes += 1
            if crashes % 5 == 0:
                crash_at_before, crash_at = crash_at, 0
                assert_unchanged(mt, {"main": before["main"]})
                crash_at = crash_at_before
        else:
            break
    assert crashes > 10
    crash_at = 0
    assert_unchanged(mt, before)
    assert compact(branch, idle) == []


def test_a_store_that_fails_leaves_the_manifest_as_it_was(
    mt: Memoturn, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(db, 20)
    branch = branch_of(db)
    before = branch.manifest()

    def put(_key: str, data: bytes | Iterable[bytes]) -> None:
        list(data)
        raise UnavailableError("the store is away")

    monkeypatch.setattr(engine_of(mt).bucket, "put", put)
    with pytest.raises(UnavailableError, match="is away"):
        compact(branch)
    assert branch.look_again() == before


def test_closing_stops_it_between_two_pieces(mt: Memoturn, db: Database) -> None:
    commit(db, 20)
    branch = branch_of(db)
    env = branch._env
    before = branch.manifest()
    pieces = 0

    def stopped() -> bool:
        nonlocal pieces
        pieces += 1
        return pieces > 2

    with pytest.raises(Stopped):
        list(
            compact_branch(env, branch.db_uuid, branch.branch_id, Budget(env.clock, stopped=stopped), Aims())
        )
    assert branch.look_again() == before


def test_damage_is_not_copied(mt: Memoturn, db: Database) -> None:
    commit(db, 20)
    branch = branch_of(db)
    bucket = engine_of(mt).bucket
    key = keys.segment_key(branch.db_uuid, branch.incarnation, branch.manifest().segments[5])
    index = branch._env.store.pack(key)
    frame = next(iter(index.frames()))
    whole = bucket.get(key)[0]
    damaged = bytearray(whole)
    damaged[frame.offset + frame.length - 1] ^= 1
    bucket.put(key, bytes(damaged))
    before = branch.manifest()
    with pytest.raises(CorruptError, match=f"{key}.*is not merged"):
        compact(branch)
    assert branch.look_again() == before
    bucket.put(key, whole[:-1])
    forget(mt)
    with pytest.raises(CorruptError):
        compact(branch)
    bucket.put(key, whole)
    assert compact(branch)


def test_a_piece_that_a_transfer_has_spoiled_is_read_again(
    mt: Memoturn, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(db, 20)
    bucket = engine_of(mt).bucket
    real = bucket.get_range
    spoiled: set[str] = set()

    def get_range(key: str, start: int, length: int) -> bytes:
        data: bytes = real(key, start, length)
        if key in spoiled:
            return data
        spoiled.add(key)
        return data[: len(data) // 2] if len(spoiled) % 2 else b"\0" * len(data)

    before = contents(mt)
    monkeypatch.setattr(bucket, "get_range", get_range)
    assert compact(branch_of(db))
    assert len(spoiled) > 5
    monkeypatch.undo()
    assert_unchanged(mt, before)


def test_an_idle_branch_is_one_base_and_at_most_one_pack(mt: Memoturn, db: Database) -> None:
    commit(db, 50)
    branch = branch_of(db)
    compact(branch, idle=True)
    manifest = branch.look_again()
    view = open_view(branch._env.store, branch.db_uuid, manifest, manifest.head_txid, branch._env.manifest_of)
    assert (len(view._packs), view._base is not None) == (0, True)


def test_an_idle_branch_with_a_large_base_gets_one_pack(
    mt: Memoturn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "SMALL_BASE", 0)
    monkeypatch.setattr(planning, "LEAST_BASE", 1 << 40)
    mt.databases.create("x")
    db = mt.db("x")
    db.batch(["CREATE TABLE t(v)", *[("INSERT INTO t VALUES (randomblob(3000))", None)] * 100])
    db.sync()
    branch = branch_of(db)
    compact(branch, idle=True)
    for _ in range(3):
        commit(db, 4)
        before = contents(mt)
        compact(branch, idle=True)
        found = branch.look_again().segments
        assert found[-1].startswith("ltx/2/")
        assert levels(found) == {"ltx/0": 1, "base": 1, "ltx/2": 1}
        assert_unchanged(mt, before)


def test_a_branch_is_idle_when_its_last_commit_and_its_last_stretch_are_old(
    db: Database, clock: ManualClock
) -> None:
    commit(db, 1)
    branch = branch_of(db)

    def idle() -> bool:
        return is_idle(branch._env, branch.db_uuid, branch.manifest(), 60)

    assert not idle()
    clock.advance(60)
    assert idle()
    db.branch.rewind(1)
    assert not idle()
    clock.advance(61)
    assert idle()
    compact(branch, idle=True)
    assert idle()


def test_a_name_that_was_given_away_is_left_alone(mt: Memoturn, db: Database) -> None:
    """The branch that has the name now has packs of the same names."""
    db.branch.create("b")
    commit(mt.db("x@b"), 20)
    branch = branch_of(mt.db("x@b"))
    env, manifest = branch._env, branch.manifest()
    mt.db("x@b").branch.delete()
    mt.db("x").branch.create("b")
    commit(mt.db("x@b"), 20)
    assert branch_of(mt.db("x@b")).manifest().segments == manifest.segments
    before = contents(mt)
    step = Merge(tuple(packs_of(manifest)), 1)
    with pytest.raises(Exception, match="taken again by another"):
        merge(env, branch.db_uuid, manifest, step, Budget(env.clock))
    assert_unchanged(mt, before)


def test_a_branch_that_is_replaced_meanwhile_ends_the_work_and_nothing_else(
    mt: Memoturn, db: Database
) -> None:
    db.branch.create("b")
    commit(mt.db("x@b"), 20)
    branch = branch_of(mt.db("x@b"))
    calls = 0

    def others() -> bool:
        nonlocal calls
        calls += 1
        if calls == 3:
            mt.db("x@b").branch.delete()
            mt.db("x").branch.create("b")
        return False

    budget = Budget(branch._env.clock, stopped=others)
    assert list(compact_branch(branch._env, branch.db_uuid, "b", budget, Aims())) == []
    assert calls > 3
    assert values(mt.db("x@b")) == []


def test_packs_are_merged_only_where_nothing_is_missing_between_them(mt: Memoturn, db: Database) -> None:
    commit(db, 20)
    branch = branch_of(db)
    key = branch.key
    hole = SegmentName.parse(branch.manifest().segments[6])
    register = engine_of(mt).manifests
    from msgspec.structs import replace

    register._check = lambda _old, _new: None
    register.update(key, lambda m: replace(m, segments=tuple(s for s in m.segments if s != str(hole))))
    for done in compact(branch):
        if isinstance(done.step, Merge):
            txids = [done.step.packs[0].min_txid, done.step.packs[-1].max_txid]
            assert not txids[0] <= hole.min_txid <= txids[1]
