"""A conditional write tells the truth about what became of it, whatever the store answers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoturn.base.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    UnavailableError,
    UndecidedWriteError,
    UnsuitableStoreError,
)
from memoturn.base.ids import Ids
from memoturn.bucket import (
    NO_VERSION,
    BucketSettings,
    Landed,
    LandedCheck,
    ObjectNotFound,
    StaleVersionError,
    Version,
)
from memoturn.bucket.conditional import Answer, ConditionalWriter, Outcome, Seen, Unread, decide
from tests.bucket.faulty import Event, Fault, FaultyStore, StoppedClock, following, landed

OURS = "ours"


class Writer(Protocol):
    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version: ...
    def replace(
        self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None
    ) -> Version: ...


MakeWriter = Callable[[FaultyStore], Writer]


class Schedule(NamedTuple):
    replaces: bool
    faults: Sequence[Fault]
    unreadable: Sequence[bool]
    events: Sequence[Event]


def careful(store: FaultyStore) -> Writer:
    return ConditionalWriter(store, clock=StoppedClock(), ids=Ids(random.Random(1)))


def check(schedule: Schedule, make: MakeWriter = careful) -> str:
    """Run one write through the schedule and hold what the caller was told against what happened."""
    store = FaultyStore(schedule.faults, schedule.unreadable, schedule.events)
    start = store.apply(following(None, "start"), None) if schedule.replaces else None
    body = following(store.object[0] if store.object else None, OURS)
    writer = make(store)

    def ours(current: bytes) -> Landed:
        return landed(current, OURS)

    try:
        version = (
            writer.create("key", body, ours) if start is None else writer.replace("key", body, start, ours)
        )
    except UndecidedWriteError:
        told = "undecided"
    except (AlreadyExistsError, StaleVersionError):
        told = "refused"
    except ObjectNotFound:
        told = "gone"
    else:
        told = "overwritten" if version == NO_VERSION else "landed"
    applied_by_then = len(store.applied)
    store.settle()

    writes = [each for each in store.applied if each[0] == body]
    assert len(writes) <= 1, "the write took effect twice"
    if told == "refused":
        assert not writes, "a write that was called refused took effect"
    if told == "gone":
        assert body not in [each[0] for each in store.applied[applied_by_then:]], "a gone object came back"
        assert schedule.replaces, "only an object that was there can be gone"
    if told in ("landed", "overwritten"):
        assert writes, "a write that was called done did not take effect"
    if told == "landed":
        assert version == writes[0][1], "the version belongs to another write"
    return told


def deletions_only_end(events: Sequence[Event]) -> bool:
    """Keys are not created again: after a deletion nobody writes."""
    gone = False
    for event in events:
        gone = gone or event is Event.DELETE
        if gone and event in (Event.WRITE, Event.WRITE_MUCH):
            return False
    return True


def short_schedules() -> Iterator[Schedule]:
    """Every schedule of up to two faults, with every pair of events, and a failing read or none."""
    for replaces in (False, True):
        # A create that is deleted and arrives late would be the second creation of a key, which nobody makes.
        events = list(Event) if replaces else [Event.NONE, Event.WRITE, Event.WRITE_MUCH]
        for count in range(3):
            for faults in itertools.product(Fault, repeat=count):
                for others in itertools.product(events, repeat=3):
                    if deletions_only_end(others):
                        for unreadable in ((), (True,)):
                            yield Schedule(replaces, faults, unreadable, others)


def test_every_short_schedule_ends_in_the_truth() -> None:
    told = {check(schedule) for schedule in short_schedules()}
    assert told == {"landed", "overwritten", "refused", "gone", "undecided"}


@settings(max_examples=400, deadline=None)
@given(
    st.builds(
        Schedule,
        st.booleans(),
        st.lists(st.sampled_from(Fault), max_size=12),
        st.lists(st.booleans(), max_size=12),
        st.lists(st.sampled_from([Event.NONE, Event.NONE, Event.WRITE, Event.WRITE_MUCH]), max_size=24),
    )
)
def test_long_schedules_end_in_the_truth(schedule: Schedule) -> None:
    check(schedule)


@settings(max_examples=200, deadline=None)
@given(st.booleans(), st.lists(st.sampled_from(Fault), max_size=10), st.lists(st.booleans(), max_size=10))
def test_a_write_without_rivals_lands_however_many_answers_are_lost(
    replaces: bool, faults: list[Fault], unreadable: list[bool]
) -> None:
    assert check(Schedule(replaces, faults, unreadable, ())) == "landed"


class Broken:
    """A writer that makes the mistakes that the loop exists to avoid."""

    def __init__(self, store: FaultyStore) -> None:
        self.store = store

    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        return self.write(key, body, None, landed)

    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        return self.write(key, body, version, landed)

    def write(self, key: str, body: bytes, expected: Version | None, landed: LandedCheck | None) -> Version:
        raise NotADirectoryError


class RetriesBlindly(Broken):
    def write(self, key: str, body: bytes, expected: Version | None, landed: LandedCheck | None) -> Version:
        while True:
            try:
                return self.store.attempt(key, body, expected)
            except UnavailableError:
                continue


class TakesAnErrorForANo(Broken):
    def write(self, key: str, body: bytes, expected: Version | None, landed: LandedCheck | None) -> Version:
        try:
            return self.store.attempt(key, body, expected)
        except UnavailableError:
            raise StaleVersionError("surely not written") from None


class TakesMissingForFinal(Broken):
    def write(self, key: str, body: bytes, expected: Version | None, landed: LandedCheck | None) -> Version:
        try:
            return self.store.attempt(key, body, expected)
        except (UnavailableError, AlreadyExistsError, StaleVersionError):
            try:
                current, version = self.store.get(key)
            except UnavailableError:
                raise UndecidedWriteError("unreadable") from None
            except ObjectNotFound:
                raise StaleVersionError("not there, so not written") from None
            if current != body:
                raise StaleVersionError("somebody else's") from None
            return version


class ReturnsTheVersionOfAnother(Broken):
    def write(self, key: str, body: bytes, expected: Version | None, landed: LandedCheck | None) -> Version:
        careful(self.store).create(key, body, landed) if expected is None else careful(self.store).replace(
            key, body, expected, landed
        )
        return self.store.object[1] if self.store.object else Version("none", None)


@pytest.mark.parametrize(
    "broken", [RetriesBlindly, TakesAnErrorForANo, TakesMissingForFinal, ReturnsTheVersionOfAnother]
)
def test_the_schedules_catch_a_broken_writer(broken: MakeWriter) -> None:
    def caught(schedule: Schedule) -> bool:
        try:
            check(schedule, broken)
        except AssertionError:
            return True
        return False

    assert any(caught(schedule) for schedule in short_schedules())


class TestDecisions:
    HERE = Seen(b"theirs", Version("v2", None))
    MINE = Seen(b"mine", Version("v3", None))
    OLD = Version("v1", None)

    @pytest.mark.parametrize("answer", Answer)
    @pytest.mark.parametrize("expected", [None, OLD])
    def test_our_body_has_landed_whatever_was_answered(
        self, answer: Answer, expected: Version | None
    ) -> None:
        assert decide(b"mine", expected, answer, self.MINE, None) is Outcome.LANDED

    @pytest.mark.parametrize("answer", Answer)
    def test_nothing_there_never_ends_a_create(self, answer: Answer) -> None:
        assert decide(b"mine", None, answer, Unread.MISSING, None) is Outcome.SEND_AGAIN

    def test_nothing_there_ends_a_replace_only_if_the_store_looked(self) -> None:
        assert decide(b"mine", self.OLD, Answer.UNKNOWN, Unread.MISSING, None) is Outcome.SEND_AGAIN
        assert decide(b"mine", self.OLD, Answer.GONE, Unread.MISSING, None) is Outcome.GONE
        assert decide(b"mine", self.OLD, Answer.REFUSED, Unread.MISSING, None) is Outcome.GONE

    @pytest.mark.parametrize("answer", Answer)
    def test_a_version_that_is_still_current_is_sent_again(self, answer: Answer) -> None:
        seen = Seen(b"before", self.OLD)
        assert decide(b"mine", self.OLD, answer, seen, lambda _: Landed.UNKNOWN) is Outcome.SEND_AGAIN

    @pytest.mark.parametrize("answer", Answer)
    def test_another_body_is_what_the_caller_says_it_is(self, answer: Answer) -> None:
        def judge(whose: Landed) -> Outcome:
            return decide(b"mine", self.OLD, answer, self.HERE, lambda _: whose)

        assert judge(Landed.OURS) is Outcome.LANDED_AND_OVERWRITTEN
        assert judge(Landed.NOT_OURS) is Outcome.REFUSED
        assert judge(Landed.UNKNOWN) is Outcome.UNDECIDABLE
        assert decide(b"mine", self.OLD, answer, self.HERE, None) is Outcome.REFUSED

    @pytest.mark.parametrize("answer", Answer)
    def test_an_unreadable_store_decides_nothing(self, answer: Answer) -> None:
        assert decide(b"mine", self.OLD, answer, Unread.FAILED, None) is Outcome.SEND_AGAIN


class TestPatience:
    def test_a_store_that_never_answers_leaves_the_write_undecided_after_the_deadline(self) -> None:
        clock = StoppedClock()
        store = FaultyStore([Fault.DROPPED] * 1000, [True] * 1000)
        writer = ConditionalWriter(
            store,
            clock=clock,
            ids=Ids(random.Random(1)),
            settings=BucketSettings(decide_s=30, longest_pause_s=2),
        )
        with pytest.raises(UndecidedWriteError, match=r"may yet take effect.*not carried out"):
            writer.create("key", b"mine")
        assert 27 < clock.seconds <= 30
        assert store.attempts < 40

    def test_pauses_grow_and_differ(self) -> None:
        class Listening(StoppedClock):
            def __init__(self) -> None:
                super().__init__()
                self.pauses: list[float] = []

            def sleep(self, seconds: float) -> None:
                self.pauses.append(seconds)
                super().sleep(seconds)

        first, second = Listening(), Listening()
        for seed, clock in enumerate((first, second)):
            writer = ConditionalWriter(
                FaultyStore([Fault.DROPPED] * 9), clock=clock, ids=Ids(random.Random(seed))
            )
            writer.create("key", b"mine")
        assert first.pauses != second.pauses
        for n, pause in enumerate(first.pauses):
            assert min(0.05 * 2**n, 2.0) / 2 <= pause <= min(0.05 * 2**n, 2.0)

    def test_a_true_answer_costs_one_request(self) -> None:
        store = FaultyStore([])
        assert careful(store).create("key", b"mine") == Version("v0", None)
        assert store.attempts == 1


class TestAnswersThatAreNoOutcome:
    def test_a_store_that_gives_no_version_is_asked_for_it(self) -> None:
        class Silent(FaultyStore):
            def attempt(self, key: str, body: bytes, expected: Version | None) -> Version:
                super().attempt(key, body, expected)
                return NO_VERSION

        assert careful(Silent([])).create("key", b"mine") == Version("v0", None)

    @pytest.mark.parametrize("error", [InvalidRequestError, UnsuitableStoreError])
    def test_what_was_never_sent_is_not_sent_again(self, error: type[Exception]) -> None:
        class Refusing(FaultyStore):
            def attempt(self, key: str, body: bytes, expected: Version | None) -> Version:
                self.attempts += 1
                raise error("cannot be said")

        store = Refusing([])
        with pytest.raises(error, match="cannot be said"):
            careful(store).create("key", b"mine")
        assert store.attempts == 1

    def test_the_version_of_nothing_is_refused_without_a_write(self) -> None:
        store = FaultyStore([])
        with pytest.raises(ObjectNotFound):
            careful(store).replace("key", b"mine", NO_VERSION)
        store.apply(b"theirs", None)
        with pytest.raises(StaleVersionError):
            careful(store).replace("key", b"mine", NO_VERSION)
        assert store.attempts == 0
