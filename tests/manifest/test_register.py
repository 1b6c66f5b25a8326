"""Racing wishes take effect one after another, each once, whatever becomes of the answers."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from memoturn.base.clock import SystemClock
from memoturn.base.errors import (
    AlreadyExistsError,
    CheckpointNotFoundError,
    ConflictError,
    CorruptError,
    MemoturnError,
    UnavailableError,
    UndecidedWriteError,
)
from memoturn.base.ids import Ids
from memoturn.base.txids import TXID, UnixMs
from memoturn.bucket import (
    NO_VERSION,
    Bucket,
    Landed,
    ObjectNotFound,
    StaleVersionError,
    Version,
    open_bucket,
)
from memoturn.bucket.bucket import LandedCheck, ObjectInfo, Pieces
from memoturn.manifest import rules
from memoturn.manifest.invariants import check_manifest
from memoturn.manifest.model import Manifest, Owner
from memoturn.manifest.register import KEPT_WRITE_IDS, Register
from memoturn.manifest.watch import AgeWatch, AloneWatch, SharedWatch, Watch

NOW = UnixMs(1_000)
KEY = "db/d/branches/main.json"


class Between(Bucket):
    """A bucket that lets something happen just before a conditional write, and just after it."""

    def __init__(self, below: Bucket) -> None:
        self.below = below
        self.url, self.is_local = below.url, below.is_local
        self.before: list[object] = []
        self.after: list[object] = []
        self.slow: list[object] = []
        """As `after`, but the answer is not lost: it only takes its time."""
        self.gets = 0

    def get(self, key: str) -> tuple[bytes, Version]:
        self.gets += 1
        return self.below.get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.below.get_range(key, start, length)

    def get_tail(self, key: str, length: int) -> tuple[bytes, int]:
        return self.below.get_tail(key, length)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Pieces:
        return self.below.get_ranges(key, ranges)

    def list(self, prefix: str, after: str | None = None) -> Iterator[ObjectInfo]:
        return self.below.list(prefix, after)

    def put(self, key: str, data: bytes | Iterable[bytes]) -> None:
        self.below.put(key, data)

    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        return self.below.create(key, body, landed)

    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        """As a remote store does it: an answer that was lost is decided by what is there."""
        if self.before:
            self.before.pop(0)()  # type: ignore[operator]
        version = self.below.replace(key, body, version, landed)
        if self.slow:
            self.slow.pop(0)()  # type: ignore[operator]
        if not self.after:
            return version
        self.after.pop(0)()  # type: ignore[operator]
        there, now = self.below.get(key)
        if there == body:
            return now
        assert landed is not None
        verdict = landed(there)
        if verdict is Landed.OURS:
            return NO_VERSION
        if verdict is Landed.UNKNOWN:
            raise UndecidedWriteError(key)
        raise StaleVersionError(key)

    def delete(self, key: str) -> None:
        self.below.delete(key)

    def close(self) -> None:
        self.below.close()


@pytest.fixture(params=["memory", "file"])
def below(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bucket]:
    url = "memory:" if request.param == "memory" else f"file:{tmp_path}/bucket"
    bucket = open_bucket(url, clock=SystemClock(), ids=Ids())
    yield bucket
    bucket.close()


def register(bucket: Bucket, watch: Watch | None = None) -> Register[Manifest]:
    return Register(Manifest, check_manifest, bucket, watch or AloneWatch(), Ids())


def main() -> Manifest:
    return rules.root("main", "b_0", NOW)


def pin(name: str):  # type: ignore[no-untyped-def]
    return lambda m: rules.checkpoint(m, name, TXID(0), False, NOW)


def test_a_record_comes_back_as_it_was_written(below: Bucket) -> None:
    mine = register(below)
    held = mine.create(KEY, main())
    assert held.record.seq == 1
    assert mine.current(KEY) == held
    assert register(below).read(KEY).record == held.record
    with pytest.raises(AlreadyExistsError):
        register(below).create(KEY, main())
    with pytest.raises(ObjectNotFound):
        mine.current("db/d/branches/other.json")


def test_racing_wishes_are_each_applied_once(below: Bucket) -> None:
    """Registers that share nothing but the bucket, as processes do, each with several threads."""
    shared = [register(below, AgeWatch(SystemClock(), 1e-9)) for _ in range(3)]
    shared[0].create(KEY, main())
    ready = threading.Barrier(6)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        ready.wait()
        try:
            for i in range(15):
                shared[number % 3].update(KEY, pin(f"w{number}-{i}"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    found = register(below).read(KEY).record
    assert set(found.checkpoints) == {f"w{n}-{i}" for n in range(6) for i in range(15)}
    assert found.seq == 1 + 6 * 15
    assert len(found.write_ids) == KEPT_WRITE_IDS


def test_threads_of_one_register_leave_the_newest_record_in_its_cache(below: Bucket) -> None:
    mine = register(below)
    mine.create(KEY, main())
    for round_ in range(30):
        ready = threading.Barrier(4)

        def work(number: int, round_: int = round_, ready: threading.Barrier = ready) -> None:
            ready.wait()
            mine.update(KEY, pin(f"{round_}-{number}"))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert mine.current(KEY).record == register(below).read(KEY).record


def test_an_older_record_does_not_take_the_place_of_a_newer_one_in_the_cache(below: Bucket) -> None:
    bucket = Between(below)
    mine = register(bucket)
    mine.create(KEY, main())
    # The second write ends, and is remembered, before the first one comes back from the bucket.
    bucket.slow = [lambda: mine.update(KEY, pin("second"))]
    mine.update(KEY, pin("first"))
    assert set(mine.current(KEY).record.checkpoints) == {"first", "second"}


def test_a_record_whose_key_was_removed_and_taken_again_is_read_although_its_seq_is_lower(
    below: Bucket,
) -> None:
    ours, others = register(below), register(below)
    held = ours.create("m", main())
    for number in range(3):
        held = ours.update("m", pin(f"c{number}"), held)
    below.delete("m")
    others.create("m", main())
    assert ours.read("m").record.checkpoints == {}
    assert ours.current("m").record.checkpoints == {}


def test_a_write_whose_answer_was_lost_is_known_by_its_id_behind_another_write(below: Bucket) -> None:
    bucket = Between(below)
    mine, other = register(bucket), register(below)
    mine.create(KEY, main())
    bucket.after = [lambda: other.update(KEY, pin("theirs"))]
    held = mine.update(KEY, pin("ours"))
    assert set(held.record.checkpoints) == {"ours"}, "what we wrote, not what became of it"
    assert set(mine.update(KEY, pin("next"), held).record.checkpoints) == {"ours", "theirs", "next"}
    assert mine.read(KEY).record.seq == 4


def test_a_new_owner_never_takes_a_later_owner_for_itself(below: Bucket) -> None:
    """The answer was lost, and before it was looked for somebody else had taken the branch over."""
    bucket = Between(below)
    mine, other = register(bucket), register(below)
    mine.create(KEY, main())
    bucket.after = [lambda: other.update(KEY, lambda m: rules.take(m, Owner("other"), None, NOW))]
    held = mine.update(KEY, lambda m: rules.take(m, Owner("mine"), None, NOW))
    assert (held.record.owner, held.record.epoch) == (Owner("mine"), 1)


def test_a_write_behind_so_many_others_that_its_id_is_gone_is_undecided(below: Bucket) -> None:
    bucket = Between(below)
    mine, other = register(bucket), register(below)
    mine.create(KEY, main())

    def many() -> None:
        for i in range(KEPT_WRITE_IDS):
            other.update(KEY, pin(f"o{i}"))

    bucket.after = [many]
    with pytest.raises(UndecidedWriteError):
        mine.update(KEY, pin("ours"))


def test_a_write_that_others_overtook_starts_again_from_what_they_left(below: Bucket) -> None:
    bucket = Between(below)
    mine, other = register(bucket), register(below)
    mine.create(KEY, main())
    bucket.before = [lambda i=i: other.update(KEY, pin(f"o{i}")) for i in range(5)]
    held = mine.update(KEY, pin("ours"))
    assert set(held.record.checkpoints) == {"ours", *(f"o{i}" for i in range(5))}


def test_a_record_that_keeps_being_changed_by_others_ends_in_a_clear_error(below: Bucket) -> None:
    bucket = Between(below)
    mine, other = register(bucket), register(below)
    mine.create(KEY, main())
    stamp = iter(range(10**6))
    bucket.before = [lambda: other.update(KEY, lambda m: replace(m, epoch=next(stamp)))] * 1001
    with pytest.raises(UnavailableError, match="1000 times in a row"):
        mine.update(KEY, pin("ours"))


@pytest.mark.parametrize("stale", [True, False])
def test_a_wish_is_refused_only_by_what_the_bucket_holds(below: Bucket, stale: bool) -> None:
    mine, other = register(below), register(below)
    held = mine.create(KEY, main())
    held = mine.update(KEY, pin("c"), held)
    if stale:
        other.update(KEY, lambda m: rules.drop_checkpoint(m, "c", NOW))

    def drop(m: Manifest) -> Manifest:
        return rules.drop_checkpoint(m, "d", NOW)

    if stale:
        # By what we remember the checkpoint is there already, and setting it would change nothing.
        assert mine.update(KEY, pin("c"), held).record.checkpoints == {"c": 0}
        assert other.read(KEY).record.checkpoints == {"c": 0}
        other.update(KEY, pin("d"))
        # And by what we remember this one is not there.
        assert mine.update(KEY, drop).record.checkpoints == {"c": 0}
    else:
        before = below.get(KEY)
        assert mine.update(KEY, pin("c"), held).record == held.record
        with pytest.raises(CheckpointNotFoundError):
            mine.update(KEY, drop)
        assert below.get(KEY) == before, "nothing was written"


def test_a_record_that_is_gone_is_told_so_and_forgotten(below: Bucket) -> None:
    mine = register(below)
    mine.create(KEY, main())
    below.delete(KEY)
    with pytest.raises(ObjectNotFound):
        mine.update(KEY, pin("c"))
    with pytest.raises(ObjectNotFound):
        mine.current(KEY)
    assert mine.create(KEY, main()).record.seq == 1
    assert mine.current(KEY).record.seq == 1


def test_create_or_makes_the_first_record_or_changes_what_is_there(below: Bucket) -> None:
    mine = register(below)
    assert mine.create_or(KEY, main(), pin("over")).record.checkpoints == {}
    assert mine.create_or(KEY, main(), pin("over")).record.checkpoints == {"over": 0}

    def refuse(_m: Manifest) -> Manifest:
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        mine.create_or(KEY, main(), refuse)


def test_a_record_that_breaks_an_invariant_is_never_written(below: Bucket) -> None:
    mine = register(below)
    mine.create(KEY, main())
    before = below.get(KEY)
    with pytest.raises(MemoturnError, match="epoch never falls"):
        mine.update(KEY, lambda m: replace(m, epoch=-1))
    assert below.get(KEY) == before


def test_a_body_that_is_no_record_is_told_with_its_key(below: Bucket) -> None:
    below.create(KEY, b'{"format": 1}')
    with pytest.raises(CorruptError, match=KEY):
        register(below).current(KEY)


# Staying current.


def test_alone_a_record_is_read_from_memory(below: Bucket) -> None:
    bucket = Between(below)
    mine = register(bucket)
    mine.create(KEY, main())
    for _ in range(5):
        mine.update(KEY, lambda m: replace(m, epoch=m.epoch + 1))
        mine.current(KEY)
    assert bucket.gets == 0


def test_a_neighbour_is_heard_at_once(below: Bucket, tmp_path: Path) -> None:
    watches = [SharedWatch(tmp_path / "changes", Ids()) for _ in range(2)]
    mine, other = (register(below, watch) for watch in watches)
    mine.create(KEY, main())
    for i in range(20):
        other.update(KEY, pin(f"o{i}"))
        assert f"o{i}" in mine.current(KEY).record.checkpoints
        mine.update(KEY, pin(f"m{i}"))
        assert f"m{i}" in other.current(KEY).record.checkpoints
    for watch in watches:
        watch.close()


def test_a_ring_of_ours_does_not_cover_up_that_of_a_neighbour_who_wrote_after_us(
    below: Bucket, tmp_path: Path
) -> None:
    bucket = Between(below)
    watches = [SharedWatch(tmp_path / "changes", Ids()) for _ in range(2)]
    mine, other = register(bucket, watches[0]), register(below, watches[1])
    mine.create(KEY, main())
    # Our write lands; the neighbour writes and rings; only then do we ring.
    bucket.slow = [lambda: other.update(KEY, pin("theirs"))]
    held = mine.update(KEY, pin("ours"))
    assert held.token != watches[0].token(KEY), "what we hold is known to be outdated"
    assert set(mine.current(KEY).record.checkpoints) == {"ours", "theirs"}
    for watch in watches:
        watch.close()


def test_a_record_of_a_remote_store_is_believed_for_a_while(below: Bucket) -> None:
    class Ticking(SystemClock):
        seconds = 100.0

        def monotonic(self) -> float:
            return self.seconds

    clock = Ticking()
    mine, other = register(below, AgeWatch(clock, 0.5)), register(below)
    mine.create(KEY, main())
    other.update(KEY, pin("c"))
    assert mine.current(KEY).record.checkpoints == {}
    clock.seconds += 0.5
    assert mine.current(KEY).record.checkpoints == {"c": 0}


def test_a_record_of_a_remote_store_with_no_age_at_all_is_always_read(below: Bucket) -> None:
    mine, other = register(below, AgeWatch(SystemClock(), 0)), register(below)
    mine.create(KEY, main())
    for i in range(3):
        other.update(KEY, pin(f"c{i}"))
        assert f"c{i}" in mine.current(KEY).record.checkpoints


@pytest.mark.parametrize("reserves", [True, False], ids=["reserved", "written"])
def test_the_shared_page_has_its_place_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reserves: bool
) -> None:
    """A store into a hole of a file kills the process when the disk is full."""
    if not reserves:
        monkeypatch.delattr(os, "posix_fallocate")
    path = tmp_path / "changes"
    watch = SharedWatch(path, Ids())
    assert path.stat().st_blocks * 512 >= path.stat().st_size > 0
    token = watch.ring("a")
    again = SharedWatch(path, Ids())
    assert again.token("a") == token
    watch.close()
    again.close()


def test_a_shared_page_that_finds_no_place_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UnavailableError, match=r"changes .*free some space"):
        SharedWatch(tmp_path / "changes", Ids())
