"""Writing: one row a commit, many databases at once, and commits that wait for the store."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import s3
from bench.measure import Figure, measure, measure_both, ratio
from bench.reads import plain
from memoturn import Memoturn
from memoturn.bucket import Bucket

_INSERT = "INSERT INTO t(x) VALUES (?)"
_ROW = ("a value of about a hundred bytes, as a fact that an agent keeps might be: likes tea, no sugar.",)
_CREATE = "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT)"


def figures(scratch: Path) -> Iterator[Figure]:
    """Files are made below `scratch`."""
    yield _one_row(scratch)
    yield from _many_databases(scratch)
    yield from _durable(scratch)


def _one_row(scratch: Path) -> Figure:
    connection = plain(scratch / "commit.sqlite")
    connection.execute("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=1000").fetchall()
    connection.execute(_CREATE)
    with Memoturn(f"file:{scratch / 'commit'}") as mt:
        mt.databases.create("a")
        db = mt.db("a")
        db.sql(_CREATE)
        ours, theirs = measure_both(
            lambda _: db.sql(_INSERT, _ROW), lambda _: connection.execute(_INSERT, _ROW).fetchall(), 4000
        )
    connection.close()
    return Figure(
        "one-row commit, standard (fsync)",
        "≤ 1.2× SQLite WAL FULL",
        f"{ratio(ours.p50, theirs.p50)} ({ours})",
        str(theirs),
        ours.p50 <= 1.2 * theirs.p50,
    )


def _many_databases(scratch: Path) -> Iterator[Figure]:
    for name, goal, delay in (("", 1.2, 0.0), (", sync slowed to 2 ms", 15.0, 0.002)):
        with _slow_sync(delay):
            one = _rate(scratch / f"one{delay}", 1)
            many = _rate(scratch / f"many{delay}", 32)
        yield Figure(
            f"32 databases writing at once{name}",
            f"≥ {goal:g}× the commits a second of one",
            f"{ratio(many, one)} ({many:,.0f} a second)",
            f"{one:,.0f} a second alone",
            many >= goal * one,
        )


def _rate(home: Path, databases: int, seconds: float = 2.0) -> float:
    """Commits a second of so many databases, each written by its own thread."""
    counts = [0] * databases
    with Memoturn(f"file:{home}") as mt:
        handles = []
        for number in range(databases):
            mt.databases.create(f"d{number}")
            handles.append(mt.db(f"d{number}"))
            handles[-1].sql(_CREATE)
            handles[-1].sql(_INSERT, _ROW)
        barrier = threading.Barrier(databases + 1)
        stop = threading.Event()

        def write(number: int) -> None:
            db = handles[number]
            barrier.wait()
            while not stop.is_set():
                db.sql(_INSERT, _ROW)
                counts[number] += 1

        threads = [threading.Thread(target=write, args=(number,)) for number in range(databases)]
        for thread in threads:
            thread.start()
        barrier.wait()
        start = time.perf_counter()
        time.sleep(seconds)
        stop.set()
        done = sum(counts)
        took = time.perf_counter() - start
        for thread in threads:
            thread.join()
    return done / took


@contextmanager
def without_sync() -> Iterator[None]:
    """Logs are written as ever, and nothing waits for the disk: what a commit costs before its sync."""
    from memoturn.database import logfile

    written, synced = logfile._write, logfile._sync
    logfile._write = lambda fd, data, offset: os.pwrite(fd, data, offset)
    logfile._sync = lambda fd: None
    try:
        yield
    finally:
        logfile._write, logfile._sync = written, synced


@contextmanager
def _slow_sync(delay: float) -> Iterator[None]:
    """Every sync of a log takes that much longer, as on a disk that is farther away."""
    from memoturn.database.logfile import DiskFile

    original = DiskFile.sync

    def slow(self: DiskFile) -> None:
        original(self)
        time.sleep(delay)

    if delay:
        DiskFile.sync = slow  # type: ignore[method-assign]
    try:
        yield
    finally:
        DiskFile.sync = original  # type: ignore[method-assign]


def _durable(scratch: Path) -> Iterator[Figure]:
    yield _durable_on("file:", f"file:{scratch / 'durable'}", scratch)
    with s3.server(scratch) as url:
        if url is None:
            yield Figure("durable commit, local S3 server", "reported", "no S3 server here", "", None)
        else:
            yield _durable_on("local S3 server (versitygw)", url, scratch)


def _durable_on(name: str, url: str, scratch: Path) -> Figure:
    with Memoturn(url, durability="durable", data_dir=scratch / "durable-data") as mt:
        mt.databases.create("a")
        db = mt.db("a")
        db.sql(_CREATE)
        times = measure(lambda _: db.sql(_INSERT, _ROW), 200, warm=10)
        with counted(mt._engine.bucket) as requests:
            for _ in range(20):
                db.sql(_INSERT, _ROW)
        kinds = ", ".join(f"{count / 20:g} {kind}" for kind, count in sorted(requests.items()))
    return Figure(f"durable commit, {name}", "reported; one PUT and one CAS", f"{times}; {kinds}", "", None)


@contextmanager
def counted(bucket: Bucket) -> Iterator[dict[str, int]]:
    """How often each method of the bucket is called inside the block."""
    counts: dict[str, int] = {}

    def counting(name: str, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] = counts.get(name, 0) + 1
            return method(*args, **kwargs)

        return call

    names = ("get", "get_range", "get_tail", "get_ranges", "list", "put", "create", "replace", "delete")
    for name in names:
        setattr(bucket, name, counting(name, getattr(bucket, name)))
    try:
        yield counts
    finally:
        for name in names:
            delattr(bucket, name)
