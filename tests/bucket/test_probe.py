"""The probe lets every store in that keeps the rules, and names the rule that a broken one breaks."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memoturn.base.clock import SystemClock
from memoturn.base.errors import UnavailableError, UnconfiguredError, UnsuitableStoreError
from memoturn.base.ids import Ids
from memoturn.bucket import (
    NO_VERSION,
    Bucket,
    BucketSettings,
    LandedCheck,
    ObjectInfo,
    ObjectNotFound,
    Version,
    open_bucket,
    probe,
)
from memoturn.bucket.memory import MemoryBucket
from memoturn.bucket.probe import VERDICT_KEY
from tests.bucket.services import SERVICES, Service

CLOCK, IDS = SystemClock(), Ids()


class Remote(MemoryBucket):
    """Memory that claims to be far away, so that the probe takes an interest, and counts its reads."""

    url = "s3://imagined"
    is_local = False

    def __init__(self) -> None:
        super().__init__(CLOCK)
        self.gets: list[str] = []
        self.gate = threading.Lock()

    def get(self, key: str) -> tuple[bytes, Version]:
        self.gets.append(key)
        return super().get(key)

    def force(self, key: str, body: bytes) -> Version:
        self.put(key, body)
        return MemoryBucket.get(self, key)[1]


class IgnoresCreateCondition(Remote):
    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        return self.force(key, body)


class IgnoresVersions(Remote):
    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        MemoryBucket.get(self, key)
        return self.force(key, body)


class RevivesTheGone(Remote):
    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        try:
            return super().replace(key, body, version)
        except ObjectNotFound:
            return self.force(key, body)


class GivesNoVersions(Remote):
    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        super().create(key, body)
        return NO_VERSION


class AcceptsSilently(Remote):
    """Says yes to a stale replace, and changes nothing."""

    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        current = MemoryBucket.get(self, key)[1]
        return super().replace(key, body, version) if current == version else current


class ReadsStale(Remote):
    def __init__(self) -> None:
        super().__init__()
        self.older: dict[str, tuple[bytes, Version]] = {}

    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        before = MemoryBucket.get(self, key)
        following = super().replace(key, body, version)
        self.older[key] = before
        return following

    def get(self, key: str) -> tuple[bytes, Version]:
        return self.older.get(key) or super().get(key)


class ChecksThenCreates(Remote):
    def __init__(self) -> None:
        super().__init__()
        self.first: set[object] = set()
        self.second: defaultdict[object, threading.Event] = defaultdict(threading.Event)

    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        if key not in self._objects:
            self.meet(key)
            return self.force(key, body)
        return super().create(key, body)

    def meet(self, what: object) -> None:
        """Whoever races for something and is the first waits for the second."""
        if threading.current_thread() is threading.main_thread():
            return
        with self.gate:
            second = self.second[what]
            if what in self.first:
                second.set()
            self.first.add(what)
        second.wait(20)


class ChecksThenReplaces(ChecksThenCreates):
    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        return Remote.create(self, key, body)

    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        if MemoryBucket.get(self, key)[1] == version:
            self.meet((key, version))
            return self.force(key, body)
        return super().replace(key, body, version)


class MixesTwoWrites(Remote):
    """A read during a write gets the old body with the new version."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get(self, key: str) -> tuple[bytes, Version]:
        body, version = super().get(key)
        self.reads += 1
        if key.endswith("/counter") and self.reads % 7 == 0:
            return self.older.get(key, body), version
        return body, version

    older: dict[str, bytes]

    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        before = MemoryBucket.get(self, key)[0]
        following = super().replace(key, body, version)
        self.older = {key: before}
        return following


class ListsLate(Remote):
    def list(self, prefix: str, after: str | None = None) -> Iterator[ObjectInfo]:
        return iter(list(super().list(prefix, after))[1:])


@pytest.mark.parametrize(
    ("store", "rule"),
    [
        (IgnoresCreateCondition, "a create must refuse a key that exists"),
        (IgnoresVersions, "a replace must refuse a version that is not current"),
        (RevivesTheGone, "a replace must refuse an object that is gone"),
        (GivesNoVersions, "a write must be answered with an ETag or a generation"),
        (AcceptsSilently, "a replace must refuse a version that is not current"),
        (ReadsStale, "a read must show the last write"),
        (ChecksThenCreates, "of many creates at once exactly one must win"),
        (ChecksThenReplaces, "of many replaces at once exactly one must win"),
        (MixesTwoWrites, "a read must pair a body with its own version"),
        (ListsLate, "a listing must show every object"),
    ],
)
def test_a_store_that_breaks_a_rule_is_refused_by_name_of_the_rule(
    store: Callable[[], Remote], rule: str
) -> None:
    bucket = store()
    with pytest.raises(UnsuitableStoreError, match=rule):
        probe(bucket, clock=CLOCK, ids=IDS)
    assert VERDICT_KEY not in [info.key for info in MemoryBucket.list(bucket, "")]


def test_the_verdict_is_kept_so_that_the_next_start_costs_one_read() -> None:
    bucket = Remote()
    first = probe(bucket, clock=CLOCK, ids=IDS)
    bucket.gets.clear()
    assert probe(bucket, clock=CLOCK, ids=IDS) == first
    assert bucket.gets == [VERDICT_KEY]
    assert [info.key for info in bucket.list("")] == [VERDICT_KEY]


@pytest.mark.parametrize(
    "kept", [b"", b"[]", b"{}", b'{"url":"s3://elsewhere","rules":1,"checked_ms":1}',
             b'{"url":"s3://imagined","rules":0,"checked_ms":1}']
)  # fmt: skip
def test_a_verdict_about_something_else_does_not_count(kept: bytes) -> None:
    bucket = Remote()
    bucket.put(VERDICT_KEY, kept)
    assert probe(bucket, clock=CLOCK, ids=IDS).checked_ms > 1
    assert len(bucket.gets) > 1


def test_local_stores_are_not_tried(tmp_path: Path) -> None:
    for url in ("memory:", f"file://{tmp_path}"):
        bucket = open_bucket(url, clock=CLOCK, ids=IDS)
        probe(bucket, clock=CLOCK, ids=IDS)
        assert list(bucket.list("")) == []


def test_a_store_that_stops_answering_is_unavailable_not_unsuitable() -> None:
    class Stops(Remote):
        def replace(
            self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None
        ) -> Version:
            if key.endswith("/counter"):
                raise UnavailableError("gone to lunch")
            return super().replace(key, body, version)

    with pytest.raises(UnavailableError, match="lunch"):
        probe(Stops(), clock=CLOCK, ids=IDS)


@pytest.mark.parametrize("name", SERVICES)
def test_real_protocols_pass(name: str, service: Callable[[str], Service]) -> None:
    store = service(name)
    bucket = open_bucket(f"{store.url}/{IDS.token()}", clock=CLOCK, ids=IDS, options=store.options)
    assert probe(bucket, clock=CLOCK, ids=IDS) == probe(bucket, clock=CLOCK, ids=IDS)
    assert [info.key for info in bucket.list("")] == [VERDICT_KEY]


@pytest.mark.parametrize("name", SERVICES)
def test_a_bucket_that_does_not_exist_is_named(name: str, service: Callable[[str], Service]) -> None:
    url = service(name).url.replace("memoturn-tests", "no-such-bucket")
    bucket: Bucket = open_bucket(
        url,
        clock=CLOCK,
        ids=IDS,
        options=service(name).options,
        settings=BucketSettings(decide_s=1, retry_s=1),
    )
    with pytest.raises(UnconfiguredError, match=f"{url}: there is no such bucket"):
        probe(bucket, clock=CLOCK, ids=IDS)
    with pytest.raises(UnconfiguredError, match="there is no such bucket"):
        bucket.put("x", b"")
