"""When branches are shipped behind the back of those who write them, and what becomes of one that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from memoturn.base.clock import SystemClock
from memoturn.base.errors import UnavailableError
from memoturn.database.shipper import Shippable, Shipper

FULL = 100


class Waiting:
    """A branch with something to ship."""

    def __init__(self, work: Callable[[], None] = lambda: None) -> None:
        self.backlog = 1
        self.shipped = threading.Semaphore(0)
        self.times: list[float] = []
        self.prepared: list[float] = []
        self.pieces = 0
        self._work = work

    def prepare(self) -> Iterator[None]:
        for _ in range(self.pieces):
            self.prepared.append(SystemClock().monotonic())
            yield

    def ship(self) -> None:
        self.times.append(SystemClock().monotonic())
        try:
            self._work()
            self.backlog = 0
        finally:
            self.shipped.release()


class Failures:
    """What the shipper has told of failures."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def __call__(self, _branch: Shippable, error: Exception) -> None:
        self.errors.append(error)


@pytest.fixture
def failures() -> Failures:
    return Failures()


@pytest.fixture
def shipper(failures: Failures) -> Iterator[Shipper]:
    shipper = Shipper(SystemClock(), 0.05, FULL, failures)
    yield shipper
    shipper.close()


def away() -> None:
    raise UnavailableError("the store is away")


def test_branch_is_shipped_after_the_interval_and_at_once_when_it_has_much(failures: Failures) -> None:
    shipper = Shipper(SystemClock(), 60.0, FULL, failures)
    branch, small = Waiting(), Waiting()
    shipper.notice(small)
    shipper.notice(branch)
    branch.backlog = FULL
    shipper.notice(branch)
    assert branch.shipped.acquire(timeout=20)
    shipper.close()
    assert (branch.backlog, small.times) == (0, [])


def test_what_is_shipped_is_prepared_before_in_pieces_with_pauses(shipper: Shipper) -> None:
    branch = Waiting()
    branch.pieces = 5
    shipper.notice(branch)
    assert branch.shipped.acquire(timeout=20)
    moments = [*branch.prepared, *branch.times]
    assert len(moments) == 6
    assert all(later - earlier >= 0.00005 for earlier, later in pairwise(moments))


def test_branch_that_fails_pauses_though_it_has_much_to_ship(shipper: Shipper, failures: Failures) -> None:
    branch = Waiting(away)
    branch.backlog = FULL
    shipper.notice(branch)
    done = threading.Event()
    while len(branch.times) < 4:
        shipper.notice(branch)
        done.wait(0.001)
    gaps = [later - earlier for earlier, later in pairwise(branch.times)]
    assert gaps[0] >= 0.1
    assert gaps[1] >= 0.2
    assert gaps[2] >= 0.4
    assert all(isinstance(error, UnavailableError) for error in failures.errors)


def test_error_that_nobody_foresaw_is_told_and_the_branch_is_tried_again(
    shipper: Shipper, failures: Failures
) -> None:
    faults: Iterator[Exception] = iter([ZeroDivisionError("unforeseen")])

    def work() -> None:
        for error in faults:
            raise error

    branch = Waiting(work)
    shipper.notice(branch)
    for _ in range(2):
        assert branch.shipped.acquire(timeout=20)
    shipper.close()
    assert [str(error) for error in failures.errors] == ["unforeseen"]
    assert branch.backlog == 0


def test_nothing_is_kept_of_a_branch_that_has_nothing_left(shipper: Shipper, failures: Failures) -> None:
    """It was given up: the next object at its place in memory is another branch, which has not failed."""
    branch = Waiting(away)

    def give_up() -> None:
        branch.backlog = 0
        away()

    branch._work = give_up
    shipper.notice(branch)
    assert branch.shipped.acquire(timeout=20)
    shipper.close()
    assert (shipper._pauses, shipper._waiting, shipper._flying) == ({}, {}, set())


@pytest.mark.parametrize("side_by_side", [1, 3])
def test_so_many_are_shipped_side_by_side_and_no_more(side_by_side: int, failures: Failures) -> None:
    shipper = Shipper(SystemClock(), 0.0, FULL, failures, side_by_side)
    begun, go_on = threading.Semaphore(0), threading.Event()

    def work() -> None:
        begun.release()
        assert go_on.wait(timeout=20)

    branches = [Waiting(work) for _ in range(4)]
    for branch in branches:
        shipper.notice(branch)
    for _ in range(side_by_side):
        assert begun.acquire(timeout=20)
    assert not begun.acquire(timeout=0.05)
    go_on.set()
    for branch in branches:
        assert branch.shipped.acquire(timeout=20)
    shipper.close()
    assert failures.errors == []
