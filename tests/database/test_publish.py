"""No try to publish a segment names what an earlier one has put, or what has been there for long."""

from __future__ import annotations

import pytest

from memoturn.base.errors import UnavailableError
from memoturn.base.ids import Ids
from memoturn.bucket import ObjectNotFound
from memoturn.database.publish import Upload, put_fresh
from memoturn.faces.embedded.client import Database
from memoturn.manifest.segment_name import SegmentName
from tests.bucket.faulty import StoppedClock
from tests.support import branch_of, values


def put_slowly(clock: StoppedClock, seconds: list[float], seen: list[str], grace: float = 600) -> str:
    def put(upload: Upload) -> str:
        clock.sleep(10_000)  # While it is being sent nobody can see it.
        list(upload.chunks([b"data"]))
        clock.sleep(seconds.pop(0))
        seen.append(upload.mark)
        return upload.mark

    return put_fresh(clock, Ids(), grace, put, marked=False)


def test_what_was_put_lately_may_be_linked() -> None:
    seen: list[str] = []
    assert put_slowly(StoppedClock(), [299], seen) == ""
    assert seen == [""]


def test_what_has_been_there_for_half_the_grace_is_put_again_under_another_name() -> None:
    seen: list[str] = []
    assert put_slowly(StoppedClock(), [301, 301, 1], seen) == seen[-1]
    assert seen[0] == ""
    assert len(set(seen)) == 3
    SegmentName.parse(f"ltx/1/1-2-3-{seen[1]}.ltx")


def test_a_store_that_is_always_too_slow_is_reported() -> None:
    with pytest.raises(UnavailableError, match="MEMOTURN_GC_GRACE_SECS"):
        put_slowly(StoppedClock(), [301] * 3, [])


def test_without_grace_there_is_nothing_to_wait_for() -> None:
    assert put_slowly(StoppedClock(), [301], [], grace=0) == ""


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
