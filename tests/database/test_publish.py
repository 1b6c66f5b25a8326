"""No try to publish a segment names what an earlier one has put, or what has been there for long."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from memoturn.base.errors import UnavailableError
from memoturn.base.ids import Ids
from memoturn.base.txids import TXID, UnixMs
from memoturn.bucket import ObjectNotFound
from memoturn.bucket.memory import MemoryBucket
from memoturn.database.publish import Publisher, Upload
from memoturn.faces.embedded.client import Database
from memoturn.manifest import rules
from memoturn.manifest.invariants import check_manifest
from memoturn.manifest.model import Manifest
from memoturn.manifest.register import Register
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.watch import AloneWatch
from tests.bucket.faulty import StoppedClock
from tests.support import branch_of, values

KEY = "db/d_1/branches/main.json"


class Bench:
    """A manifest, and a publisher of bases for it that is as slow as a test says."""

    def __init__(self, grace: float = 600) -> None:
        self.clock = StoppedClock()
        ids = Ids()
        self.manifests = Register(Manifest, check_manifest, MemoryBucket(self.clock), AloneWatch(), ids)
        first = replace(
            rules.root("main", "b_1", UnixMs(1)), head_txid=TXID(3), segments=("ltx/0/1-3-1.ltx",)
        )
        self.manifests.create(KEY, first)
        self.publisher = Publisher(self.manifests, self.clock, ids, grace)
        self.marks: list[str] = []

    def publish(self, *seconds: float) -> Manifest:
        """Each try takes so long after the object was there."""
        left = list(seconds)

        def put(upload: Upload) -> SegmentName:
            self.clock.sleep(10_000)  # While it is being sent nobody can see it.
            list(upload.chunks([b"data"]))
            self.clock.sleep(left.pop(0))
            self.marks.append(upload.mark)
            return SegmentName.base(TXID(3), 1, upload.mark)

        return self.publisher.publish(KEY, put, rules.add_base)[1]


def test_what_was_put_lately_is_linked() -> None:
    bench = Bench()
    assert bench.publish(299).segments[-1] == f"base/3-1-{bench.marks[0]}.ltx"


def test_what_has_been_there_for_half_the_grace_is_put_again_under_another_name() -> None:
    bench = Bench()
    manifest = bench.publish(301, 301, 1)
    assert len(set(bench.marks)) == 3
    assert manifest.segments == ("ltx/0/1-3-1.ltx", f"base/3-1-{bench.marks[2]}.ltx")


def test_a_store_that_is_always_too_slow_is_reported() -> None:
    with pytest.raises(UnavailableError, match="MEMOTURN_GC_GRACE_SECS"):
        Bench().publish(301, 301, 301)


def test_a_publisher_that_was_stopped_on_its_way_to_the_manifest_looks_at_the_time_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has looked, is stopped for longer than the grace period, and a collector has been there meanwhile."""
    bench = Bench()
    bucket = bench.manifests._bucket
    real = bucket.replace

    def stopped(*args: Any) -> Any:
        monkeypatch.setattr(bucket, "replace", real)
        bench.clock.sleep(1000)
        bench.manifests.update(KEY, rules.touch)
        return real(*args)

    monkeypatch.setattr(bucket, "replace", stopped)
    manifest = bench.publish(1, 1)
    assert len(bench.marks) == 2
    assert manifest.segments == ("ltx/0/1-3-1.ltx", f"base/3-1-{bench.marks[1]}.ltx")


def test_a_shipment_that_is_tried_again_has_another_name(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch = branch_of(db)
    db.sync()
    db.sql("INSERT INTO t VALUES (1)")
    bucket = branch._env.bucket
    real = bucket.replace
    monkeypatch.setattr(
        bucket, "replace", lambda *_args: (_ for _ in ()).throw(UnavailableError("the store is away"))
    )
    with pytest.raises(UnavailableError):
        db.sync()
    first = bucket.list(f"db/{branch.db_uuid}/{branch.incarnation}/ltx/0/2-2-")
    abandoned = [found.key for found in first]
    assert len(abandoned) == 1
    monkeypatch.setattr(bucket, "replace", real)
    bucket.delete(abandoned[0])  # What nobody has linked, anybody may delete.
    db.sync()
    assert SegmentName.parse(branch.manifest().segments[-1]).mark
    with pytest.raises(ObjectNotFound):
        bucket.get(abandoned[0])
    db.sql("INSERT INTO t VALUES (2)")
    db.sync()
    assert branch.manifest().segments[-1] == "ltx/0/3-3-1.ltx", "the next one is a first try again"
    branch.forget()
    assert values(db) == [1, 2]
