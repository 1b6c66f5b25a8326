"""Files that are kept open are bounded in number, and always the right ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from memoturn.bucket import ObjectNotFound
from memoturn.bucket.descriptors import Descriptors
from tests.bucket.files import open_at
from tests.support import open_files

# Open files


def test_open_files_are_bounded_and_let_go_of(tmp_path: Path) -> None:
    bucket = open_at(tmp_path, open_files=8)
    for i in range(40):
        bucket.put(f"{i}", b"%02d" % i)
    before = open_files(tmp_path)
    for _ in range(3):
        for i in range(40):
            assert bucket.get_range(f"{i}", 0, 2) == b"%02d" % i
    assert before < open_files(tmp_path) <= before + 8
    bucket.close()
    assert open_files(tmp_path) == before


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
            yield Chunk(b"x" * 100_000)

    open_at(tmp_path).put("x", chunks())
    assert peak <= 3
