"""Background work keeps to its share of time and of bytes, and stops when it is told to."""

from __future__ import annotations

import pytest

from memoturn.history.budget import PIECE, Budget, Stopped
from tests.bucket.faulty import StoppedClock


def test_it_pauses_so_that_work_takes_its_share_of_the_time() -> None:
    clock = StoppedClock()
    budget = Budget(clock, share=0.25)
    for _ in range(8):
        clock.sleep(0.5)
        budget.spend(1000)
    assert clock.monotonic() == pytest.approx(16)
    assert (budget.worked, budget.paused, budget.bytes) == (pytest.approx(4), pytest.approx(12), 8000)


def test_it_pauses_so_that_bytes_keep_to_their_rate() -> None:
    clock = StoppedClock()
    budget = Budget(clock, share=1, bytes_per_second=1000)
    for _ in range(5):
        clock.sleep(0.1)
        budget.spend(500)
    assert clock.monotonic() == pytest.approx(2.5)


def test_without_limits_it_never_pauses() -> None:
    clock = StoppedClock()
    budget = Budget(clock)
    clock.sleep(3)
    budget.spend(1 << 30)
    assert clock.monotonic() == 3


def test_time_between_jobs_is_not_paid_for() -> None:
    clock = StoppedClock()
    budget = Budget(clock, share=0.5)
    clock.sleep(100)
    budget.begin()
    clock.sleep(1)
    budget.spend()
    assert clock.monotonic() == pytest.approx(102)


def test_it_stops_at_the_next_piece_and_within_a_long_pause() -> None:
    clock = StoppedClock()
    closed = False
    budget = Budget(clock, share=0.01, stopped=lambda: closed or clock.monotonic() > 10)
    clock.sleep(1)
    with pytest.raises(Stopped, match="is being closed"):
        budget.spend(1)
    assert clock.monotonic() == pytest.approx(10, abs=0.3), "the pause would have been 99 seconds"
    closed = True
    with pytest.raises(Stopped):
        Budget(clock, stopped=lambda: closed).begin()


def test_it_reports_what_is_done_of_what_is_expected() -> None:
    seen: list[tuple[int, int]] = []
    budget = Budget(StoppedClock(), progress=lambda done, total: seen.append((done, total)))
    budget.expect(3 * PIECE)
    for _ in range(6):
        budget.spend(PIECE // 2)
    budget.spend(1)
    assert seen == [(PIECE, 3 * PIECE), (2 * PIECE, 3 * PIECE), (3 * PIECE, 3 * PIECE), (3 * PIECE + 1,) * 2]
