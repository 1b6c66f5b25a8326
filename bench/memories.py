"""What remembering and recalling cost, by words and by vectors at once."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.commits import without_sync
from bench.measure import Figure, Times, measure, times_of, us
from memoturn import Memoturn, Profile

DIMENSION = 256
_WORDS = [f"word{number}" for number in range(5000)]
_COMMON = list(itertools.accumulate(1 / (number + 5) for number in range(5000)))
"""Words come as often as in speech: the second half as often as the first, and so on."""


class Sample:
    """Memories and questions that nobody has made before, the same in every run."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        self._vectors = np.random.default_rng(7)
        self._numbers = itertools.count()

    def vector(self) -> list[float]:
        vector: list[float] = self._vectors.standard_normal(DIMENSION).tolist()
        return vector

    def text(self, words: int) -> str:
        return " ".join(self._random.choices(_WORDS, cum_weights=_COMMON, k=words))

    def memory(self, topic_key: str | None = None) -> dict[str, Any]:
        number = next(self._numbers)
        item = {"type": "fact", "summary": f"{self.text(14)} {number}", "session_id": f"s{number // 40}"}
        return {**item, "topic_key": topic_key or f"t{number}", "embedding": self.vector()}

    def ask(self, memory: Profile) -> None:
        memory.recall(self.text(6), embedding=self.vector(), k=10)


def figures(scratch: Path) -> Iterator[Figure]:
    """Ingest one by one and in batches; recall over 10,000 and 100,000, and just after a fork or a rewind."""
    yield from _on("memory:", "`memory:`")
    yield from _on(f"file:{scratch / 'memories'}", "`file:`")


def _on(url: str, store: str) -> Iterator[Figure]:
    sample = Sample()
    with Memoturn(url) as mt:
        memory = mt.memory("bench", "small")
        batches = [[sample.memory() for _ in range(1000)] for _ in range(10)]
        begin = time.perf_counter()
        for batch in batches:
            memory.ingest(batch)
        rate = len(batches) * 1000 / (time.perf_counter() - begin)
        yield Figure(
            f"ingest in batches of 1,000, {DIMENSION} dim, {store}",
            "≥ 10,000 a second",
            f"{rate:,.0f}",
            "",
            rate >= 10_000,
        )
        yield from _recall(sample, memory, f"10,000 memories, {store}", 2, 6)
        items = [[sample.memory(f"topic{number % 50}")] for number in range(1100)]
        with without_sync():
            one = measure(lambda number: memory.ingest(items[number]), 1000)
        yield Figure(
            f"ingest one fact that supersedes, {DIMENSION} dim, {store}, before fsync",
            "p50 ≤ 0.4 ms",
            str(one),
            "",
            one.p50 <= 400,
        )
        memory = mt.memory("bench", "large")
        for _ in range(100):
            memory.ingest([sample.memory() for _ in range(1000)])
        hot = measure(lambda _: sample.ask(memory), 200, warm=20)
        yield Figure(
            f"hybrid recall over 100,000 memories, {store}", "p50 ≤ 15 ms", str(hot), "", hot.p50 <= 15_000
        )


def _recall(sample: Sample, memory: Profile, what: str, p50: float, p99: float) -> Iterator[Figure]:
    hot = measure(lambda _: sample.ask(memory), 1000)
    yield Figure(
        f"hybrid recall over {what}",
        f"p50 ≤ {p50} ms, p99 ≤ {p99} ms",
        str(hot),
        "",
        hot.p50 <= p50 * 1000 and hot.p99 <= p99 * 1000,
    )
    memory.checkpoint("full")
    forked = times_of([_timed(sample, memory.fork(f"f{number}")) for number in range(30)])
    yield _first(f"forked, {what}", forked, hot)
    rewound = []
    for _ in range(30):
        memory.ingest([sample.memory()])
        memory.rewind("full")
        rewound.append(_timed(sample, memory))
    yield _first(f"rewound, {what}", times_of(rewound), hot)


def _first(what: str, first: Times, hot: Times) -> Figure:
    ratio = first.p50 / hot.p50
    return Figure(
        f"first recall in a database just {what}",
        "≤ 3× the hot one",
        f"{us(first.p50)}: {ratio:.1f}×",
        us(hot.p50),
        ratio <= 3,
    )


def _timed(sample: Sample, memory: Profile) -> int:
    begin = time.perf_counter_ns()
    sample.ask(memory)
    return time.perf_counter_ns() - begin
