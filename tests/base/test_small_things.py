"""The cache, the ids and the clock."""

from __future__ import annotations

import os
import random
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoturn.base.cache import GenerationalCache
from memoturn.base.clock import format_time, ms_of, parse_time, time_of
from memoturn.base.errors import InvalidRequestError
from memoturn.base.ids import Ids
from memoturn.base.settings import HistorySettings
from memoturn.base.txids import UnixMs


@given(
    st.lists(st.tuples(st.sampled_from(["put", "get", "discard", "clear"]), st.integers(0, 20)), max_size=200)
)
def test_a_cache_gives_what_was_put_last_or_nothing(steps: list[tuple[str, int]]) -> None:
    cache: GenerationalCache[int, int] = GenerationalCache(8)
    truth: dict[int, int] = {}
    for number, (what, key) in enumerate(steps):
        if what == "put":
            cache.put(key, number)
            truth[key] = number
        elif what == "get":
            assert cache.get(key) in (None, truth.get(key))
        elif what == "discard":
            cache.discard(key)
            truth.pop(key, None)
        else:
            cache.clear()
            truth.clear()
        assert len(cache) <= 8 + 1


def test_a_cache_keeps_what_is_used_and_forgets_the_rest() -> None:
    cache: GenerationalCache[int, bytes] = GenerationalCache(1000, weigh=len)
    cache.put(0, bytes(100))
    for key in range(1, 100):
        cache.put(key, bytes(100))
        assert cache.get(0) is not None
    assert cache.get(1) is None
    assert len(cache) <= 10
    assert cache.get(99) is not None


def test_a_value_larger_than_the_cache_is_kept_alone() -> None:
    cache: GenerationalCache[int, bytes] = GenerationalCache(10, weigh=len)
    cache.put(1, bytes(5))
    cache.put(2, bytes(500))
    cache.put(3, bytes(500))
    assert cache.get(3) is not None
    assert len(cache) <= 2


def test_ids_sort_by_time_and_never_repeat() -> None:
    ids = Ids()
    made = [ids.ulid(ms) for ms in range(1_700_000_000_000, 1_700_000_000_500)]
    assert made == sorted(made)
    assert len(set(made)) == 500
    assert {len(name) for name in made} == {26}
    assert len({ids.token() for _ in range(500)}) == 500


def test_ids_of_one_millisecond_ascend() -> None:
    ids = Ids()
    made = [ids.ulid(1_700_000_000_000) for _ in range(5000)]
    assert made == sorted(set(made))
    assert {name[:10] for name in made} == {"01HF7YAT00"}
    assert ids.ulid(1_700_000_000_001) > made[-1]
    assert Ids().ulid(1_700_000_000_000)[:18] != made[0][:18]


def test_ids_of_a_seed_are_the_same_again() -> None:
    one, two = (Ids(random.Random(7)) for _ in range(2))
    assert [one.ulid(5), one.token(), one.number(9)] == [two.ulid(5), two.token(), two.number(9)]


def test_ids_of_many_threads_never_repeat() -> None:
    ids = Ids()
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.extend([ids.ulid(1) for _ in range(500)])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4000


def test_a_forked_child_makes_other_ids() -> None:
    ids = Ids()
    ids.ulid(5)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "".join([ids.ulid(5), *(ids.token() for _ in range(4))]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(read, 26 + 64).decode()
    own, theirs = said[:26], said[26:]
    assert own[10:18] != ids.ulid(5)[10:18]
    os.close(read)
    os.close(write)
    assert theirs != "".join(ids.token() for _ in range(4))


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_that_is_written_reads_as_itself(ms: int) -> None:
    assert parse_time(format_time(UnixMs(ms))) == ms


@given(st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29), timezones=st.timezones()))
def test_any_aware_time_is_milliseconds(moment: datetime) -> None:
    assert timedelta() <= moment - time_of(ms_of(moment)) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00Z", "now", "2026"]
)
def test_a_time_at_the_edge_is_read_or_refused(text: str) -> None:
    try:
        parse_time(text)
    except InvalidRequestError:
        return


def test_a_time_without_a_zone_is_not_guessed() -> None:
    with pytest.raises(InvalidRequestError, match="no time zone"):
        ms_of(datetime(2026, 1, 1))
    assert ms_of(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)) == 1000


@pytest.mark.parametrize(
    "settings", [{"gc_grace_secs": 0}, {"pitr_retention_secs": -1}, {"pitr_snapshot_retention_secs": -1}]
)
def test_a_history_that_cannot_be_kept_is_refused(settings: dict[str, int]) -> None:
    """Without a grace period a collection would remove what somebody is just about to link."""
    with pytest.raises(InvalidRequestError):
        HistorySettings(**settings)
