"""A bucket of files holds among processes, through failing disks, and through sudden deaths."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memoturn.base.clock import SystemClock
from memoturn.base.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    UnavailableError,
    UndecidedWriteError,
)
from memoturn.base.ids import Ids
from memoturn.bucket import ObjectNotFound, StaleVersionError, Version
from memoturn.bucket.descriptors import Descriptors
from memoturn.bucket.disk import Disk
from memoturn.bucket.file import ABANDONED_AFTER_S, FileBucket
from memoturn.bucket.locks import STRIPES, Locks
from tests.bucket.faulty import StoppedClock

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

PROCESSES = 32
ROUNDS = 6


def open_at(root: Path, disk: Disk | None = None, open_files: int = 128) -> FileBucket:
    return FileBucket(str(root), clock=SystemClock(), ids=Ids(), disk=disk, open_files=open_files)


def leftovers(root: Path) -> list[str]:
    return os.listdir(root / ".memoturn" / "tmp")


def keys(bucket: FileBucket) -> list[str]:
    return [info.key for info in bucket.list("")]


# Races among processes


def body_of(round_no: int, number: int) -> bytes:
    """A body whose parts agree, so that a mixture of two is seen."""
    word = f"{round_no}.{number};"
    return json.dumps({"by": number, "round": round_no, "words": word * (500 + 37 * number)}).encode()


def is_whole(body: bytes) -> bool:
    found = json.loads(body)
    return body == body_of(found["round"], found["by"])


def contend(root: str, number: int, start: Barrier, results: SimpleQueue[tuple[str, int, int]]) -> None:
    bucket = open_at(Path(root))
    for round_no in range(ROUNDS):
        start.wait()
        try:
            bucket.create(f"race/created-{round_no}", body_of(round_no, number))
            results.put(("create", round_no, number))
        except AlreadyExistsError:
            pass
        _, version = bucket.get("race/replaced")
        start.wait()
        try:
            bucket.replace("race/replaced", body_of(round_no, number), version)
            results.put(("replace", round_no, number))
        except StaleVersionError:
            pass
    bucket.close()


def read_along(root: str, stop: str, results: SimpleQueue[tuple[str, int, int]]) -> None:
    """Read what is being raced for until a file appears; report how much was read and how much was torn."""
    bucket, reads, torn = open_at(Path(root)), 0, 0
    while not os.path.exists(stop):
        reads += 1
        torn += not is_whole(bucket.get("race/replaced")[0])
        for info in bucket.list("race/created"):
            torn += not is_whole(bucket.get(info.key)[0])
    results.put(("read", reads, torn))


def test_of_32_racing_processes_one_wins_each_round_and_no_reader_sees_a_torn_object(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    root, stop = tmp_path / "bucket", tmp_path / "stop"
    bucket = open_at(root)
    bucket.create("race/replaced", body_of(0, 0))
    start, results = context.Barrier(PROCESSES), context.SimpleQueue()
    reader = context.Process(target=read_along, args=(str(root), str(stop), results))
    contenders = [
        context.Process(target=contend, args=(str(root), number, start, results))
        for number in range(PROCESSES)
    ]
    for process in (reader, *contenders):
        process.start()
    try:
        for process in contenders:
            process.join()
            assert process.exitcode == 0
        stop.touch()
        reader.join()
    finally:
        for process in (reader, *contenders):
            process.kill()
            process.join()

    found = []
    while not results.empty():
        found.append(results.get())
    for round_no in range(ROUNDS):
        created = [number for what, r, number in found if (what, r) == ("create", round_no)]
        replaced = [number for what, r, number in found if (what, r) == ("replace", round_no)]
        assert len(created) == len(replaced) == 1
        assert bucket.get(f"race/created-{round_no}")[0] == body_of(round_no, created[0])
    assert bucket.get("race/replaced")[0] == body_of(ROUNDS - 1, replaced[0])
    ((_, reads, torn),) = [each for each in found if each[0] == "read"]
    assert reads > 0
    assert torn == 0
    assert leftovers(root) == []


def test_a_delete_never_slips_between_the_comparison_and_the_write(tmp_path: Path) -> None:
    root = tmp_path / "bucket"

    class DeletesBeforeRename(Disk):
        def rename(self, source: str, target: str) -> None:
            other = threading.Thread(target=open_at(root).delete, args=("a",))
            other.start()
            others.append(other)
            other.join(0.05)
            super().rename(source, target)

    others: list[threading.Thread] = []
    version = open_at(root).create("a", b"one")
    assert open_at(root, DeletesBeforeRename()).replace("a", b"two", version)
    others[0].join()
    with pytest.raises(ObjectNotFound):
        open_at(root).get("a")


# Sudden death

WRITE_FOR_EVER = """
import sys
from memoturn.base.clock import SystemClock
from memoturn.base.ids import Ids
from memoturn.bucket.file import FileBucket

bucket = FileBucket(sys.argv[1], clock=SystemClock(), ids=Ids())
chunk = bytes(range(256)) * 1024
version, n = bucket.get("manifest")[1], 0
print("writing", flush=True)
while True:
    n += 1
    bucket.put(f"segments/{n:06}", (chunk for _ in range(16)))
    version = bucket.replace("manifest", b"%d;" % n * 20000, version)
"""


def test_a_process_killed_while_writing_leaves_no_torn_object(tmp_path: Path) -> None:
    root = tmp_path / "bucket"
    bucket = open_at(root)
    bucket.create("manifest", b"0;" * 20000)
    whole = bytes(range(256)) * 1024 * 16
    for lap in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, str(root)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        try:
            assert writer.stdout.readline() == "writing\n"
            threading.Event().wait(0.02 + 0.013 * lap)
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdout.close()

        for info in bucket.list("segments/"):
            assert info.size == len(whole)
            assert bucket.get(info.key)[0] == whole
        body, version = bucket.get("manifest")
        assert len(set(body.split(b";"))) == 2
        # The lock died with its holder.
        bucket.replace("manifest", b"lap %d;" % lap, version)
        assert all(not info.key.startswith(".") for info in bucket.list(""))


def test_what_a_crash_left_behind_is_removed_once_it_is_old(tmp_path: Path) -> None:
    open_at(tmp_path)
    place = tmp_path / ".memoturn" / "tmp"
    (place / "old").write_bytes(b"half")
    (place / "new").write_bytes(b"half")
    an_hour_older = (place / "new").stat().st_mtime - ABANDONED_AFTER_S - 3600
    os.utime(place / "old", (an_hour_older, an_hour_older))
    bucket = open_at(tmp_path)
    assert leftovers(tmp_path) == ["new"]
    assert keys(bucket) == []


# Failing disks


class FailingDisk(Disk):
    """Fails the nth call of those that touch the medium, and all later ones too if it is `broken`."""

    def __init__(self, fails_at: int | None = None, number: int = errno.EIO, broken: bool = False) -> None:
        self.fails_at, self.number, self.broken = fails_at, number, broken
        self.calls: list[str] = []

    def fail(self, name: str) -> None:
        self.calls.append(name)
        n = len(self.calls) - 1
        if self.fails_at is not None and (n == self.fails_at or (self.broken and n > self.fails_at)):
            raise OSError(self.number, os.strerror(self.number))

    def create(self, path: str) -> int:
        self.fail("create")
        return super().create(path)

    def write(self, fd: int, data: bytes) -> None:
        if self.fails_at == len(self.calls):
            super().write(fd, data[: len(data) // 2])
        self.fail("write")
        super().write(fd, data)

    def sync(self, fd: int) -> None:
        self.fail("sync")
        super().sync(fd)

    def close(self, fd: int) -> None:
        super().close(fd)
        self.fail("close")

    def rename(self, source: str, target: str) -> None:
        self.fail("rename")
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self.fail("unlink")
        super().unlink(path)

    def make_directory(self, path: str) -> None:
        self.fail("make_directory")
        super().make_directory(path)


def calls_of(tmp_path: Path, what: str) -> list[str]:
    """The calls of one faultless write of that sort."""
    disk = FailingDisk()
    write(open_at(prepared(tmp_path / "faultless"), disk), what)
    return disk.calls


def prepared(root: Path) -> Path:
    open_at(root).create("x/manifest", b"before")
    return root


def write(bucket: FileBucket, what: str) -> None:
    if what == "put":
        bucket.put("new/dir/segment", iter([b"first ", b"second"]))
    elif what == "create":
        bucket.create("new/dir/created", b"after")
    else:
        bucket.replace("x/manifest", b"after", bucket.get("x/manifest")[1])


WRITTEN = {
    "put": ("new/dir/segment", b"first second", None),
    "create": ("new/dir/created", b"after", None),
    "replace": ("x/manifest", b"after", b"before"),
}


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("what", WRITTEN)
def test_a_disk_that_fails_once_leaves_all_or_nothing_and_no_rubbish(
    tmp_path: Path, what: str, number: int
) -> None:
    key, after, before = WRITTEN[what]
    names = calls_of(tmp_path, what)
    renamed = len(names) - 1 - names[::-1].index("rename")
    for step, name in enumerate(names):
        root = prepared(tmp_path / f"{step}")
        bucket = open_at(root, FailingDisk(step, number))
        definite = step <= renamed
        if definite or what == "put":
            # A put whose directory could not be synced is there, and may be put again.
            with pytest.raises(UnavailableError, match=os.strerror(number)) as raised:
                write(bucket, what)
            assert isinstance(raised.value, UndecidedWriteError) is not definite, (step, name)
        else:
            write(bucket, what)
        try:
            found: bytes | None = open_at(root).get(key)[0]
        except ObjectNotFound:
            found = None
        assert found == (before if definite else after), (step, name)
        assert leftovers(root) == [], (step, name)
        if found == before:
            write(bucket, what)
            assert open_at(root).get(key)[0] == after


@pytest.mark.parametrize("what", WRITTEN)
def test_a_disk_that_breaks_never_turns_a_write_into_a_success_or_a_half(tmp_path: Path, what: str) -> None:
    key, after, before = WRITTEN[what]
    for step, name in enumerate(calls_of(tmp_path, what)):
        root = prepared(tmp_path / f"{step}")
        with pytest.raises(UnavailableError) as raised:
            write(open_at(root, FailingDisk(step, broken=True)), what)
        try:
            found: bytes | None = open_at(root).get(key)[0]
        except ObjectNotFound:
            found = None
        undecided = isinstance(raised.value, UndecidedWriteError)
        assert found == (after if undecided else before), (step, name)


def test_a_full_disk_is_named_with_what_helps(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=f"{tmp_path}.*No space left on device; free some space"):
        open_at(tmp_path, FailingDisk(1, errno.ENOSPC)).put("x", b"x")


class ListeningDisk(Disk):
    """Notes what is done in which order, and gives out inode numbers of the test's choosing."""

    def __init__(self, root: Path) -> None:
        self.root, self.done, self.inode = root, list[str](), 1

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self.done.append("sync")

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        self.done.append("rename")

    def sync_directory(self, path: str) -> int:
        super().sync_directory(path)
        self.done[-1] = f"sync {os.path.relpath(path, self.root)}"
        return self.inode


@pytest.mark.parametrize("what", WRITTEN)
def test_a_write_counts_once_its_bytes_and_then_its_name_are_on_the_medium(tmp_path: Path, what: str) -> None:
    disk = ListeningDisk(prepared(tmp_path))
    bucket = open_at(tmp_path, disk)
    write(bucket, what)
    directory = os.path.dirname(WRITTEN[what][0])
    assert disk.done[:3] == ["sync", "rename", f"sync {directory}"]


def test_a_delete_counts_once_it_is_on_the_medium(tmp_path: Path) -> None:
    disk = ListeningDisk(prepared(tmp_path))
    open_at(tmp_path, disk).delete("x/manifest")
    assert disk.done == ["sync x"]


def test_the_way_to_a_directory_is_synced_once_and_again_when_it_is_another_directory(tmp_path: Path) -> None:
    disk = ListeningDisk(tmp_path)
    bucket = open_at(tmp_path, disk)

    def synced_by_a_put() -> list[str]:
        disk.done.clear()
        bucket.put("a/b/c", b"1")
        return disk.done[2:]

    assert synced_by_a_put() == ["sync a/b", "sync a", "sync ."]
    assert synced_by_a_put() == ["sync a/b"]
    disk.inode = 2
    assert synced_by_a_put() == ["sync a/b", "sync a", "sync ."]


def test_a_store_whose_place_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError, match=f"{tmp_path}/file/bucket could not be opened"):
        open_at(tmp_path / "file" / "bucket")


def test_a_name_too_long_for_the_file_system_is_an_invalid_request(tmp_path: Path) -> None:
    bucket = open_at(tmp_path)
    with pytest.raises(InvalidRequestError, match="too long"):
        bucket.put("x" * 300, b"")
    assert leftovers(tmp_path) == []


# What is on disk


def test_lock_files_do_not_grow_with_keys(tmp_path: Path) -> None:
    bucket = open_at(tmp_path)
    for i in range(3 * STRIPES):
        bucket.create(f"k/{i}", b"%d" % i)
    assert len(os.listdir(tmp_path / ".memoturn" / "locks")) <= STRIPES


def test_deleting_the_last_object_removes_its_directories_and_writing_brings_them_back(
    tmp_path: Path,
) -> None:
    bucket = open_at(tmp_path)
    bucket.put("a/b/c/1", b"1")
    bucket.put("a/2", b"2")
    bucket.delete("a/b/c/1")
    assert os.listdir(tmp_path / "a") == ["2"]
    bucket.put("a/b/c/1", b"1")
    assert keys(bucket) == ["a/2", "a/b/c/1"]


def test_versions_differ_though_inode_size_and_time_agree(tmp_path: Path) -> None:
    bucket = open_at(tmp_path)
    version, seen = bucket.create("a", b"0"), set[Version]()
    for n in range(1, 9):
        seen.add(version)
        version = bucket.replace("a", b"%d" % n, version)
        os.utime(tmp_path / "a", ns=(1, 1))
        assert bucket.get("a")[1] == version
        assert version not in seen


def test_files_of_the_surroundings_are_not_listed(tmp_path: Path) -> None:
    bucket = open_at(tmp_path)
    bucket.put("a/b", b"")
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "a" / ".directory").touch()
    assert keys(bucket) == ["a/b"]


def test_a_stopped_holder_of_a_lock_makes_others_fail_not_hang(tmp_path: Path) -> None:
    clock = StoppedClock()
    first, second = (Locks(str(tmp_path), clock) for _ in range(2))
    with first.hold("a"), pytest.raises(UnavailableError, match="nothing was written"), second.hold("a"):
        pass
    assert clock.seconds >= 30
    with second.hold("a"):
        pass


# Open files


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else -1


def test_open_files_are_bounded_and_let_go_of(tmp_path: Path) -> None:
    bucket = open_at(tmp_path, open_files=8)
    for i in range(40):
        bucket.put(f"{i}", b"%02d" % i)
    before = open_descriptors()
    for _ in range(3):
        for i in range(40):
            assert bucket.get_range(f"{i}", 0, 2) == b"%02d" % i
    assert open_descriptors() <= before + 8
    bucket.close()
    assert open_descriptors() == before


def test_files_in_use_stay_open_when_others_are_evicted(tmp_path: Path) -> None:
    for name in "abcdef":
        (tmp_path / name).write_bytes(name.encode())
    files = Descriptors(limit=3)
    hot = files.open("a", str(tmp_path / "a"))
    for name in "bcdef":
        files.open(name, str(tmp_path / name))
        assert files.find("a") is hot
    assert len(files) == 3


def test_a_reader_keeps_the_file_that_is_evicted_under_it(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    files = Descriptors(limit=1)
    held = files.open("a", str(tmp_path / "a"))
    files.open("b", str(tmp_path / "b"))
    assert files.find("a") is None
    assert os.pread(held.fd, 1, 0) == b"a"


def test_many_threads_read_the_right_bytes_while_files_are_evicted_and_deleted(tmp_path: Path) -> None:
    bucket = open_at(tmp_path, open_files=4)
    for i in range(16):
        bucket.put(f"s/{i}", b"%04d" % i * 1000)
    wrong: list[object] = []

    def read(seed: int) -> None:
        for n in range(1500):
            i = (n * 7 + seed) % 16
            try:
                if bucket.get_range(f"s/{i}", 4 * n % 3000, 4) != b"%04d" % i:
                    wrong.append(i)
            except ObjectNotFound:
                if i:
                    wrong.append(i)

    def rewrite() -> None:
        for _ in range(20):
            bucket.delete("s/0")
            bucket.put("s/0", b"0000" * 1000)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    threads.append(threading.Thread(target=rewrite))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_get_never_shows_an_older_write_of_another_process(tmp_path: Path) -> None:
    here, there = open_at(tmp_path), open_at(tmp_path)
    version = here.create("a", b"one")
    assert here.get_range("a", 0, 3) == b"one"
    there.replace("a", b"two", version)
    assert here.get("a")[0] == b"two"


def test_a_stream_is_not_held_in_memory(tmp_path: Path) -> None:
    alive = peak = 0

    class Chunk(bytes):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def chunks() -> Iterator[bytes]:
        nonlocal alive, peak
        for _ in range(50):
            alive += 1
            peak = max(peak, alive)
            yield Chunk(b"x" * 1000)

    open_at(tmp_path).put("x", chunks())
    assert peak <= 3
