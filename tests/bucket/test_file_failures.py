"""A bucket of files comes through failing disks and sudden deaths with every object whole."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from memoturn.base.errors import (
    InvalidRequestError,
    UnavailableError,
    UndecidedWriteError,
)
from memoturn.bucket import ObjectNotFound
from memoturn.bucket.disk import Disk
from memoturn.bucket.file import ABANDONED_AFTER_S, FileBucket
from tests.bucket.files import keys, leftovers, open_at

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


def test_the_way_to_a_new_store_is_durable_once_it_is_open(tmp_path: Path) -> None:
    disk = ListeningDisk(tmp_path)
    open_at(tmp_path / "home" / "objects", disk)
    assert disk.done == ["sync home", "sync ."]
    open_at(tmp_path / "home" / "objects", disk)
    assert len(disk.done) == 2


def test_a_store_whose_place_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError, match=f"{tmp_path}/file/bucket could not be opened"):
        open_at(tmp_path / "file" / "bucket")


def test_a_name_too_long_for_the_file_system_is_an_invalid_request(tmp_path: Path) -> None:
    bucket = open_at(tmp_path)
    with pytest.raises(InvalidRequestError, match="too long"):
        bucket.put("x" * 300, b"")
    assert leftovers(tmp_path) == []


class CrowdedDisk(Disk):
    """Another process removes the directory as soon as it is empty."""

    def unlink(self, path: str) -> None:
        super().unlink(path)
        os.rmdir(os.path.dirname(path))


def test_a_directory_that_somebody_else_removes_first_is_no_failure(tmp_path: Path) -> None:
    bucket = open_at(tmp_path / "bucket", CrowdedDisk())
    bucket.create("db/d_1/one", b"1")
    bucket.delete("db/d_1/one")
    assert keys(bucket) == []
