"""Timing: percentiles of single calls, and of two sides taken in turns so that noise meets both alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import NamedTuple


class Times(NamedTuple):
    """Microseconds of single calls."""

    p50: float
    p99: float
    mean: float
    calls: int

    def __str__(self) -> str:
        return f"{us(self.p50)} (p99 {us(self.p99)})"


class Figure(NamedTuple):
    """One line of the table. `reached` is None where a figure is only reported."""

    name: str
    goal: str
    measured: str
    peer: str
    reached: bool | None


def us(value: float) -> str:
    """Microseconds for people."""
    if value < 1000:
        return f"{value:.1f} µs" if value < 100 else f"{value:.0f} µs"
    return f"{value / 1000:.2f} ms" if value < 1e6 else f"{value / 1e6:.2f} s"


def times_of(samples: list[int]) -> Times:
    """Percentiles of nanoseconds."""
    ordered = sorted(samples)
    count = len(ordered)
    return Times(
        ordered[count // 2] / 1000,
        ordered[min(count - 1, count * 99 // 100)] / 1000,
        sum(ordered) / count / 1000,
        count,
    )


def measure(call: Callable[[int], object], calls: int, warm: int = 100) -> Times:
    """Call with 0, 1, 2, …; the first `warm` calls do not count."""
    for number in range(warm):
        call(number)
    return times_of([timed(call, number) for number in range(warm, warm + calls)])


def measure_both(
    ours: Callable[[int], object],
    theirs: Callable[[int], object],
    calls: int,
    warm: int = 100,
    block: int = 50,
) -> tuple[Times, Times]:
    """Both sides in blocks by turns."""
    for number in range(warm):
        ours(number)
        theirs(number)
    samples: tuple[list[int], list[int]] = ([], [])
    for start in range(warm, warm + calls, block):
        for side, call in enumerate((ours, theirs)):
            samples[side].extend(timed(call, number) for number in range(start, start + block))
    return times_of(samples[0]), times_of(samples[1])


def timed(call: Callable[[int], object], number: int) -> int:
    """Nanoseconds of one call."""
    start = time.perf_counter_ns()
    call(number)
    return time.perf_counter_ns() - start


def best_of(call: Callable[[], object], runs: int = 5) -> float:
    """The fastest of some runs, in microseconds: for work that is long enough to time by itself."""
    best = float("inf")
    for _ in range(runs):
        gc.collect()
        start = time.perf_counter_ns()
        call()
        best = min(best, (time.perf_counter_ns() - start) / 1000)
    return best


def ratio(ours: float, theirs: float) -> str:
    """How many times the peer."""
    return f"{ours / theirs:.2f}×"
