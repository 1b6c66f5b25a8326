"""Days go by, five commits a second: what a branch takes and what it costs to open it stay the same.

A day is shortened, and what is counted in days with it. The commits are real, and so is all that keeps them small.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest

from memoturn import Memoturn
from memoturn.base.settings import HistorySettings, MaintenanceSettings, Settings
from memoturn.history import planning, retention
from memoturn.history.budget import Budget
from memoturn.history.compaction import compact_branch
from memoturn.history.planning import Aims, packs_of
from memoturn.operations import maintenance
from tests.support import ManualClock, assert_view_is_whole, branch_of, engine_of

DAY = 600
"""Seconds."""
DAYS = 8
SNAPSHOT_DAYS = 3


class Evening(NamedTuple):
    """What a branch is at the end of a day."""

    manifest: int
    named: int
    stored: int
    reads: int


@pytest.fixture
def _short_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "DAY_MS", DAY * 1000)
    monkeypatch.setattr(planning, "SLOT_MS", DAY * 250)


@pytest.mark.usefixtures("_short_days")
def test_days_go_by_and_nothing_grows() -> None:
    clock = ManualClock()
    history = HistorySettings(
        pitr_retention_secs=DAY, pitr_snapshot_retention_secs=SNAPSHOT_DAYS * DAY, gc_grace_secs=40
    )
    settings = Settings(history=history, maintenance=MaintenanceSettings(on=False))
    with Memoturn("memory:", clock=clock, settings=settings) as mt:
        mt.databases.create("a")
        db = mt.db("a")
        db.batch(
            [
                "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT)",
                *[("INSERT INTO t VALUES (?, ?)", [n, f"fact {n}" * 20]) for n in range(300)],
            ]
        )
        branch = branch_of(db)
        engine = engine_of(mt)
        evenings = []
        for second in range(1, DAYS * DAY + 1):
            for tick in range(5):
                clock.advance(0.2)
                row = (second * 5 + tick) * 7919 % 300
                db.sql("UPDATE t SET x = ? WHERE id = ?", [f"told at {second}.{tick}" * 10, row])
                branch.ship()
            if second % 10 == 0:
                _compact(engine, branch)
            if second % 50 == 0:
                maintenance.retain(engine, "a")
                maintenance.gc(engine, "a")
            if second % DAY == 0:
                evenings.append(_look(mt, branch))
        early, late = evenings[SNAPSHOT_DAYS + 1 : -2], evenings[-2:]
        for what in ("manifest", "named", "stored"):
            before = max(getattr(evening, what) for evening in early)
            after = max(getattr(evening, what) for evening in late)
            assert after <= 1.25 * before, (what, evenings)
        assert max(evening.manifest for evening in evenings) <= 64 << 10
        assert max(evening.named for evening in evenings) <= 200
        # A first query looks through the packs since the last base, of which there are more or fewer.
        assert max(evening.reads for evening in evenings) <= 40, evenings

        points = db.branch.restore_points()
        (window,) = points.ranges
        assert window.to_txid - window.from_txid >= 5 * DAY, "every txid of a day can be restored"
        assert len([p for p in points.points if p.why == "snapshot"]) >= SNAPSHOT_DAYS - 1
        for txid in (window.from_txid, (window.from_txid + window.to_txid) // 2, points.points[0].txid):
            assert_view_is_whole(branch.view_at(txid))


def _compact(engine: Any, branch: Any) -> None:
    """What the background does with a branch that is busy."""
    for _ in compact_branch(engine.env, branch.db_uuid, branch.branch_id, Budget(engine.clock), Aims()):
        pass


def _look(mt: Memoturn, branch: Any) -> Evening:
    engine = engine_of(mt)
    manifest = branch.manifest()
    packs = len(packs_of(manifest))
    stored = sum(1 for _ in engine.bucket.list(f"db/{branch.db_uuid}/{branch.incarnation}/"))
    branch.forget()
    store = engine.env.store
    for cache in (store._pages, store._indexes, store._buffers):
        cache.clear()
    bucket, reads = engine.bucket, 0
    real = bucket.get_range, bucket.get_tail

    def counted(call: Any) -> Any:
        def read(*args: Any) -> Any:
            nonlocal reads
            reads += 1
            return call(*args)

        return read

    bucket.get_range, bucket.get_tail = map(counted, real)
    try:
        mt.db("a").sql("SELECT x FROM t WHERE id = 150")
    finally:
        bucket.get_range, bucket.get_tail = real
    size = len(msgspec.json.encode(manifest))
    return Evening(size, packs + 2 * (len(manifest.segments) - packs), stored, reads)
