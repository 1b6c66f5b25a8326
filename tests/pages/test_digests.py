"""Looking for a page skips what a digest has told, and finds what a look into every pack finds."""

from __future__ import annotations

import random

import pytest
from bench.history import Counted, _engine, compact
from bench.samples import SCHEMA, text

from memoturn import Memoturn
from memoturn.base.errors import CorruptError
from memoturn.base.names import Address
from memoturn.base.txids import TXID, PageNo
from memoturn.database.branch import Branch
from memoturn.manifest.timeline import stretch_at
from memoturn.operations import databases, sql
from memoturn.pages.store import Spot
from memoturn.pages.view import View, open_view
from memoturn.segments.digest import EVERY, FAR_EVERY
from memoturn.segments.pack import PackIndex
from tests.support import branch_of, engine_of

WHERE = Address("a", None, None)


def opened(branch: Branch, txid: TXID) -> View:
    env = branch._env
    return open_view(env.store, branch.db_uuid, branch.manifest(), txid, env.manifest_of)


def looked_for(view: View, page_no: PageNo) -> Spot | None:
    """The newest version, by asking every pack."""
    for place, part in enumerate(view._packs):
        key = view._key(place)
        frame = view._store.pack(key).find(page_no, part.until, part.since)
        if frame is not None:
            return Spot((view._origin(place), frame.txid, page_no), key, *frame[:3])
    return None


def test_every_page_of_every_position_is_where_a_look_into_every_pack_finds_it() -> None:
    rng = random.Random(5)
    with Memoturn("memory:", durability="durable") as mt:
        engine = engine_of(mt)
        mt.databases.create("a")
        db = mt.db("a")
        db.batch([SCHEMA, *[("INSERT INTO t VALUES (?, ?)", (n, text(n))) for n in range(1, 200)]])
        digests = 0
        for step in range(500):
            db.sql("UPDATE t SET x = ? WHERE id = ?", [text(step), rng.randrange(1, 200)])
            if step in (130, 300, 301):
                db.branch.rewind(rng.randrange(3, step // 2))
            if step % 50 == 49:
                compact(engine, branch_of(db), idle=step == 349)
        fork = db.branch.create("f", txid=400)
        for step in range(30):
            fork.sql("UPDATE t SET x = ? WHERE id = ?", [text(step), step + 1])
        for one, numbers in ((db, range(2, 500, 7)), (fork, range(390, 430))):
            branch = branch_of(one)
            head = branch.head().txid
            for txid in {*filter(head.__gt__, numbers), head}:
                view = opened(branch, TXID(txid))
                footers = [view._store.pack(view._key(place)) for place in range(len(view._packs))]
                digests += sum(footer.digest is not None for footer in footers)
                for part, footer in zip(view._packs, footers, strict=True):
                    if footer.digest_since is not None and part.until >= footer.min_txid >= part.since:
                        assert footer.digest_since >= stretch_at(branch.manifest(), footer.min_txid).from_txid
                for number in range(1, view.page_count + 1):
                    assert view.spot(PageNo(number)) == looked_for(view, PageNo(number)), (txid, number)
        assert digests > 100


@pytest.mark.parametrize("commits", [30, 110])
def test_a_branch_that_was_never_folded_wakes_with_few_requests_and_fewer_round_trips(commits: int) -> None:
    bucket = Counted()
    engine = _engine(bucket)
    databases.create(engine, "a", None)
    branch = engine.branch("a")
    sql.sql(engine, WHERE, SCHEMA, None)
    for number in range(1, 100):
        sql.sql(engine, WHERE, "INSERT INTO t VALUES (?, ?)", [number, text(number)])
    branch.ship()
    for number in range(commits):
        sql.sql(engine, WHERE, "UPDATE t SET x = ? WHERE id = ?", [text(number), number * 7 % 99 + 1])
        branch.ship()
    engine.close()
    for wanted in (1, 50, 99):
        engine = _engine(bucket)
        bucket.requests.clear()
        bucket.in_parallel = 0
        assert sql.sql(engine, WHERE, "SELECT x FROM t WHERE id = ?", [wanted])
        engine.close()
        assert len(bucket.requests) <= 12
        assert len(bucket.requests) - bucket.in_parallel <= 8


def test_a_pack_that_is_gone_or_damaged_is_named_though_footers_are_fetched_together() -> None:
    bucket = Counted()
    engine = _engine(bucket)
    databases.create(engine, "a", None)
    branch = engine.branch("a")
    sql.sql(engine, WHERE, SCHEMA, None)
    for number in range(4):
        sql.sql(engine, WHERE, "INSERT INTO t VALUES (?, ?)", [number, text(number)])
        branch.ship()
    engine.close()
    key = next(name for name in bucket._objects if "/ltx/0/3-3" in name)
    whole, _ = bucket.get(key)
    bucket.put(key, whole[:-1])
    with pytest.raises(CorruptError, match=key):
        sql.sql(_engine(bucket), WHERE, "SELECT count(*) FROM t", None)
    bucket.delete(key)
    with pytest.raises(CorruptError, match=f"{key} is missing"):
        sql.sql(_engine(bucket), WHERE, "SELECT count(*) FROM t", None)


def test_digests_reach_back_to_the_base_after_a_compaction_as_well() -> None:
    with Memoturn("memory:", durability="durable") as mt:
        engine = engine_of(mt)
        mt.databases.create("a")
        db = mt.db("a")
        db.batch([SCHEMA, *[("INSERT INTO t VALUES (?, ?)", (n, text(n))) for n in range(1, 100)]])
        branch = branch_of(db)
        for step in range(400):
            db.sql("UPDATE t SET x = ? WHERE id = ?", [text(step), step * 7 % 99 + 1])
            compact(engine, branch, idle=step == 150)
        view = opened(branch, branch.head().txid)
        footers = [view._store.pack(view._key(place)) for place in range(len(view._packs))]
        assert sum(footer.max_txid > footer.min_txid for footer in footers) > 1
        since = view._packs[0].since
        far = [place for place, footer in enumerate(footers) if footer.digest_since == since]
        assert far[0] <= FAR_EVERY + EVERY + 2
        asked: set[str] = set()
        engine.env.store._indexes.clear()
        store = engine.env.store
        tail = store.bucket.get_tail
        store.bucket.get_tail = lambda key, length: (asked.add(key), tail(key, length))[1]  # type: ignore[method-assign]
        view = opened(branch, branch.head().txid)
        oldest = view._key(len(view._packs) - 1)
        assert view._packs[-1].segment.min_txid < since, "the base lies within the oldest pack"
        for number in range(1, view.page_count + 1):
            asked.clear()
            store._indexes.clear()
            view.spot(PageNo(number))
            assert len(asked) <= EVERY + 4
            looked_in = oldest in asked
            found = looked_for(view, PageNo(number))
            assert not looked_in or (found is not None and found.key == oldest)


def test_a_digest_that_names_a_commit_without_the_page_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with Memoturn("memory:", durability="durable") as mt:
        mt.databases.create("a")
        db = mt.db("a")
        db.sql(SCHEMA)
        for number in range(30):
            db.sql("INSERT INTO t VALUES (?, ?)", [number, text(number)])
        told = PackIndex.told
        monkeypatch.setattr(PackIndex, "told", lambda pack, page_no: max(told(pack, page_no) - 1, 0))
        branch = branch_of(db)
        view = opened(branch, branch.head().txid)
        with pytest.raises(CorruptError, match=r"says that txid \d+ wrote page \d+"):
            list(map(view.spot, map(PageNo, range(1, view.page_count + 1))))
