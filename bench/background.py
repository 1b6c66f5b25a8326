"""What background work costs those in front: the latency of commits while it goes on against while it does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.history import QUIET
from bench.measure import Figure, Times, times_of, us
from memoturn import Database, Memoturn
from memoturn.history.bases import write_base
from memoturn.history.budget import Budget, Stopped
from memoturn.history.collection import Collector
from memoturn.history.compaction import compact_branch
from memoturn.history.planning import Aims
from memoturn.history.verification import Restoring
from memoturn.manifest import keys

_MIB = 32
_BLOCK = 250
_TURNS = 32
_INSERT = "INSERT INTO t(v) VALUES (1)"


def figures(scratch: Path) -> Iterator[Figure]:
    """Both sides by turns, so that noise meets both alike."""
    with Memoturn(f"file:{scratch / 'background'}", settings=QUIET) as mt:
        db, engine = _filled(mt)
        for name, pause in (("all the time", 0.0), ("every 5 ms", 0.005)):
            yield _figure(
                f"commits {name} while bases are written, collection and drills run, p99",
                _measure(engine, lambda: db.sql(_INSERT), pause, _once),
            )
    with Memoturn(f"file:{scratch / 'merging'}", settings=QUIET, durability="durable") as mt:
        db, engine = _filled(mt)
        yield _figure(
            "durable commits while their packs are merged, p99",
            _measure(engine, lambda: db.sql(_INSERT), 0.001, _merge),
        )


def _filled(mt: Memoturn) -> tuple[Database, Any]:
    mt.databases.create("a")
    db = mt.db("a")
    db.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
    for _ in range(_MIB):
        db.sql("INSERT INTO t(v) SELECT randomblob(1 << 20)")
        db.sync()
    return db, mt._engine


def _figure(name: str, measured: tuple[Times, Times, float]) -> Figure:
    idle, busy, worked = measured
    return Figure(
        name,
        "≤ 1.5× of idle",
        f"{busy.p99 / idle.p99:.2f}× ({busy}; {worked:.0%} of the time in the background)",
        us(idle.p99),
        busy.p99 <= 1.5 * idle.p99,
    )


def _measure(
    engine: Any, commit: Callable[[], object], pause: float, job: Callable[[Any, Budget], None]
) -> tuple[Times, Times, float]:
    at_work, stop = threading.Event(), threading.Event()
    history = engine.settings.history
    budget = Budget(
        engine.clock,
        share=history.work_share,
        bytes_per_second=history.work_bytes_per_second,
        stopped=lambda: stop.is_set() or not at_work.is_set(),
    )

    def work() -> None:
        while not stop.is_set():
            at_work.wait()
            try:
                job(engine, budget)
            except Stopped:
                continue

    thread = threading.Thread(target=work)
    thread.start()
    samples: tuple[list[int], list[int]] = ([], [])
    worked = 0.0
    try:
        for turn in range(2 * _TURNS):
            busy = turn % 2
            began, before = time.perf_counter(), budget.worked
            if busy:
                at_work.set()
                time.sleep(0.05)
            else:
                at_work.clear()
                time.sleep(0.2)
            for _ in range(_BLOCK):
                start = time.perf_counter_ns()
                commit()
                samples[busy].append(time.perf_counter_ns() - start)
                if pause:
                    time.sleep(pause)
            if busy:
                worked += (budget.worked - before) / (time.perf_counter() - began) / _TURNS
    finally:
        stop.set()
        at_work.set()
        thread.join()
    return times_of(samples[0]), times_of(samples[1]), worked


def _once(engine: Any, budget: Budget) -> None:
    branch = engine.branch("a")
    manifest = engine.manifests.read(keys.manifest_key(branch.db_uuid, "main")).record
    write_base(engine.env, branch.db_uuid, manifest, manifest.head_txid, budget)
    Collector(engine.env, 0.0, budget).collect(branch.db_uuid)
    restoring = Restoring(engine.bucket, engine.ids, branch.db_uuid, "main")
    restoring.verify(restoring.manifest.head_txid, budget)


def _merge(engine: Any, budget: Budget) -> None:
    for _ in compact_branch(engine.env, engine.branch("a").db_uuid, "main", budget, Aims()):
        pass
    engine.clock.sleep(0.02)
