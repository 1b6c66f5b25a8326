"""A bucket of files holds among processes, and keeps nothing on disk that it need not."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memoturn.base.clock import SystemClock
from memoturn.base.errors import (
    AlreadyExistsError,
    UnavailableError,
)
from memoturn.bucket import ObjectNotFound, StaleVersionError, Version
from memoturn.bucket.disk import Disk
from memoturn.bucket.locks import STRIPES, Locks
from tests.bucket.faulty import StoppedClock
from tests.bucket.files import keys, leftovers, open_at

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

PROCESSES = 32
ROUNDS = 6


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
    bucket.create("race/replaced", body_of(-1, 0))
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


def test_a_child_forked_while_a_lock_is_held_does_not_keep_it(tmp_path: Path) -> None:
    clock = StoppedClock()
    first, second = (Locks(str(tmp_path), clock) for _ in range(2))
    with first.hold("a"):
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
    try:
        with second.hold("a"):
            pass
        assert clock.seconds == 0
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_thread_waits_for_another_no_longer_than_for_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memoturn.bucket.locks._PATIENCE_S", 0.05)
    locks = Locks(str(tmp_path), SystemClock())
    told = list[str]()

    def wait() -> None:
        try:
            with locks.hold("a"):
                told.append("held")
        except UnavailableError as error:
            told.append(str(error))

    waiting = threading.Thread(target=wait, daemon=True)
    with locks.hold("a"):
        waiting.start()
        waiting.join(60)
        assert told
    assert "another thread" in told[0]
    with locks.hold("a"):
        pass
