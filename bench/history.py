"""What history costs: the size of a branch after a day, waking it, and going back in it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from bench.measure import Figure, Times, times_of
from bench.samples import SCHEMA, text
from memoturn import Memoturn
from memoturn.base.clock import SystemClock
from memoturn.base.names import Address, AtTxid
from memoturn.base.settings import CacheSettings, MaintenanceSettings, Settings
from memoturn.base.txids import TXID, UnixMs
from memoturn.bucket.bucket import Pieces, Tails, Version
from memoturn.bucket.memory import MemoryBucket
from memoturn.database.branch import Branch
from memoturn.database.neighbours import NoNeighbours
from memoturn.database.shipper import Shipper
from memoturn.history.budget import Budget
from memoturn.history.compaction import compact_branch
from memoturn.history.planning import Aims, packs_of
from memoturn.manifest.watch import AgeWatch
from memoturn.models.guard import protect
from memoturn.node.engine import Engine, Surroundings
from memoturn.operations import branches as operations
from memoturn.operations import sql, transfer

DAY_COMMITS = 5 * 86_400
LAST_COMMITS = 16_000
"""Those among which a branch is opened: in so many, packs of level 1 become one of level 2 twice."""

HISTORIES = (1_000, 10_000)
QUIET = Settings(maintenance=MaintenanceSettings(on=False))
"""What is measured is done by hand."""


class VirtualClock(SystemClock):
    """A wall clock that a simulated day moves."""

    ms = 1_800_000_000_000

    def now_ms(self) -> UnixMs:
        return UnixMs(self.ms)


class Counted(MemoryBucket):
    """A store of which each request costs; it only counts them. Neighbouring ranges go in one, as they do on S3."""

    is_local = False

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.requests: list[str] = []
        self.in_parallel = 0
        """How many of the requests went out beside another one."""

    def get(self, key: str) -> tuple[bytes, Version]:
        self.requests.append(f"get {key}")
        return super().get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self.requests.append(f"range {key} {start}+{length}")
        return super().get(key)[0][start : start + length]

    def get_tail(self, key: str, length: int) -> tuple[bytes, int]:
        self.requests.append(f"tail {key} {length}")
        body = super().get(key)[0]
        return body[max(0, len(body) - length) :], len(body)

    def get_tails(self, wanted: Sequence[tuple[str, int]]) -> Tails:
        found = super().get_tails(wanted)
        self.in_parallel += len(found) - 1
        return found

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Pieces:
        end = -1
        for start, length in ranges:
            if start != end:
                self.requests.append(f"ranges {key} {start}")
            end = start + length
        body = super().get(key)[0]
        return [body[start : start + length] for start, length in ranges]


def figures(big: Path, small: Path, scratch: Path) -> Iterator[Figure]:
    """`big` and `small` are SQLite files of 1 GiB and 1 MiB."""
    yield from _a_day()
    yield from _waking(big, small)
    yield from _going_back(big, scratch)


def compact(engine: Engine, branch: Branch, idle: bool = False) -> None:
    """Take all steps that are due."""
    budget = Budget(engine.clock)
    for _ in compact_branch(engine.env, branch.db_uuid, branch.branch_id, budget, Aims(idle=idle)):
        pass


def _a_day() -> Iterator[Figure]:
    clock = VirtualClock()
    with Memoturn("memory:", clock=clock, settings=QUIET) as mt:
        engine = mt._engine
        for name in ("a", "b"):
            mt.databases.create(name)
            mt.db(name).batch(
                [SCHEMA, *[("INSERT INTO t VALUES (?, ?)", (n, text(n))) for n in range(1, 1000)]]
            )
            engine.branch(name).ship()
        db, branch, fresh = mt.db("a"), engine.branch("a"), engine.branch("b")
        ratios: list[float] = []
        most = largest = 0
        for number in range(DAY_COMMITS):
            clock.ms += 200
            db.sql("UPDATE t SET x = ? WHERE id = ?", [text(number), number * 7919 % 999 + 1])
            branch.ship()
            if number % 5 == 0:
                compact(engine, branch)
                manifest = branch.manifest()
                packs = len(packs_of(manifest))
                most = max(most, packs + 2 * (len(manifest.segments) - packs))
                if number % 1000 == 0:
                    largest = max(largest, len(msgspec.json.encode(manifest)))
            if number > DAY_COMMITS - LAST_COMMITS and number % 317 == 0:
                ratios.append(_opened(mt, branch, "a") / _opened(mt, fresh, "b"))
        yield Figure(
            "manifest after a day at 5 commits a second", "≤ 64 KiB", f"{largest:,} B", "", largest <= 65_536
        )
        yield Figure("objects of that branch, at most", "≤ 200", str(most), "", most <= 200)
        ratio = engine.env.written.amplification
        yield Figure(
            "bytes that compaction writes for each byte committed", "≤ 3", f"{ratio:.2f}", "", ratio <= 3
        )
        ratios.sort()
        median, p90, worst = (ratios[int(share * (len(ratios) - 1))] for share in (0.5, 0.9, 1))
        yield Figure(
            f"open and first query then, at {len(ratios)} moments, against a new branch of that size",
            "≤ 2×",
            f"{median:.2f}×; p90 {p90:.2f}×, worst {worst:.2f}×",
            "",
            median <= 2,
        )


def _opened(mt: Memoturn, branch: Branch, name: str) -> int:
    """How long it takes in a process that knows nothing of the branch, in nanoseconds; the fastest of some tries."""
    store = mt._engine.env.store
    caches = (store._pages, store._indexes, store._buffers)
    known = [(cache._young, cache._old, cache._weight) for cache in caches]
    best = 1 << 60
    for _ in range(15):
        branch.forget()
        for cache in caches:
            cache.clear()
        start = time.perf_counter_ns()
        mt.db(name).sql("SELECT x FROM t WHERE id = 500")
        best = min(best, time.perf_counter_ns() - start)
    for cache, (young, old, weight) in zip(caches, known, strict=True):
        cache._young, cache._old, cache._weight = young, old, weight
    return best


def _engine(bucket: MemoryBucket) -> Engine:
    clock = SystemClock()
    shipper = Shipper(clock, 3600, 1 << 30, lambda _branch, _error: None)
    around = Surroundings("n_bench", bucket, AgeWatch(clock, 0.5), NoNeighbours(), shipper)
    settings = replace(QUIET, cache=CacheSettings(disk_cache_bytes=0))
    return Engine("memory:", settings, prepare=protect, surroundings=around)


def _waking(big: Path, small: Path) -> Iterator[Figure]:
    for name, what in (("1 MiB", small), ("1 GiB", big), ("after 100,000 commits", small)):
        bucket = Counted()
        engine = _engine(bucket)
        transfer.import_file(engine, "a", str(what))
        where = Address("a", None, None)
        branch = engine.branch("a")
        for number in range(100_000 if "commits" in name else 20):
            sql.sql(engine, where, "UPDATE t SET x = ? WHERE id = ?", [text(number), number % 999 + 1])
            if number % 10 == 0:
                branch.ship()
            if number % 500 == 0:
                compact(engine, branch)
        branch.ship()
        compact(engine, branch, idle=True)
        engine.close()
        last = sql.sql(_engine(bucket), where, "SELECT max(id) AS n FROM t", None)[0]["n"]
        assert isinstance(last, int)
        found: list[tuple[int, int, str]] = []
        for wanted in (1, last // 3, last - 1):
            waking = _engine(bucket)
            bucket.requests.clear()
            bucket.in_parallel = 0
            assert len(sql.sql(waking, where, "SELECT x FROM t WHERE id = ?", [wanted])) == 1
            kinds = ", ".join(
                request.split("/")[0].split(" ")[0] + " " + request.rsplit("/", 1)[1]
                for request in bucket.requests
            )
            found.append((len(bucket.requests), len(bucket.requests) - bucket.in_parallel, kinds))
            waking.close()
        count, trips, kinds = max(found)
        yield Figure(
            f"requests to wake an idle branch, from the manifest to the first row: {name}",
            "≤ 4",
            f"{count - 1}; with the catalog entry {count}, in {trips} round trips",
            kinds,
            count - 1 <= 4,
        )


def _going_back(big: Path, scratch: Path) -> Iterator[Figure]:
    """A fork of the database goes back to a random commit of its history, and is asked for a row."""
    times: list[Times] = []
    for commits in HISTORIES:
        with Memoturn(f"file:{scratch}/back{commits}", settings=QUIET) as mt:
            mt.databases.import_file("a", big)
            db, engine = mt.db("a"), mt._engine
            branch = engine.branch("a")
            rows = int(str(db.sql("SELECT max(id) AS n FROM t")[0]["n"]))
            for number in range(commits):
                db.sql("UPDATE t SET x = ? WHERE id = ?", [text(number), number * 7919 % rows + 1])
                branch.ship()
                if number % 50 == 0:
                    compact(engine, branch)
            rng = random.Random(1)
            samples = []
            for _ in range(60):
                to = rng.randrange(2, commits)
                start = time.perf_counter_ns()
                operations.rewind(engine, "a", None, AtTxid(TXID(to)))
                db.sql("SELECT x FROM t WHERE id = ?", [to * 7919 % rows + 1])
                samples.append(time.perf_counter_ns() - start)
                compact(engine, branch)
            times.append(times_of(samples))
    few, many = times
    yield Figure(
        "1 GiB on `file:`: rewind to a random txid, and the first query",
        "p50 ≤ 15 ms",
        str(few),
        "",
        few.p50 <= 15_000,
    )
    yield Figure(
        "the same with 10 times the history",
        "≤ 1.5×",
        f"{many.p50 / few.p50:.2f}× ({many})",
        "",
        many.p50 <= 1.5 * few.p50,
    )
