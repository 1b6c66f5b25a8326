"""What the statements of our models may take: look-ups are never stopped, what is in the hand of a user is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memoturn import Memoturn
from memoturn.base.errors import PayloadTooLargeError, RequestTimeoutError
from memoturn.base.settings import Settings, SqlSettings
from tests.support import ManualClock

Opener = Callable[..., Memoturn]


class HastyClock(ManualClock):
    """A second passes each time that somebody looks."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.passing = 0.0

    def monotonic(self) -> float:
        self.seconds += self.passing
        return self.seconds


def test_look_ups_are_never_stopped_however_many_there_are(open_store: Opener) -> None:
    clock = HastyClock()
    mt = open_store(clock=clock, settings=Settings(sql=SqlSettings(deadline=5)))
    mt.databases.create("x")
    db = mt.db("x")
    clock.passing = 1.0
    for number in range(2000):
        db.kv.put("n", f"{number % 50}", b"v")
        assert db.kv.get("n", f"{number % 50}") == b"v"
        db.docs.insert("c", {"n": number})
    clock.passing = 0.0
    # Nor do they count against the statement of a user that comes after them.
    assert db.sql(
        "SELECT count(*) AS n FROM (WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r LIMIT 9999) "
        "SELECT i FROM r)"
    ) == [{"n": 9999}]


def test_a_search_keeps_to_the_deadline(open_store: Opener) -> None:
    clock = HastyClock()
    mt = open_store(clock=clock, settings=Settings(sql=SqlSettings(deadline=5)))
    mt.databases.create("x")
    db = mt.db("x")
    db.docs.insert("c", [{"n": number, "t": "a" * 50} for number in range(3000)])
    clock.passing = 1.0
    for call in (
        lambda: db.docs.find("c", {"$or": [{"n": {"$ne": n}, "x": n} for n in range(20)]}),
        lambda: db.docs.count("c", {"$or": [{"n": {"$ne": n}, "x": n} for n in range(20)]}),
        lambda: db.docs.delete("c", {"$or": [{"n": {"$ne": n}, "x": n} for n in range(20)]}),
    ):
        with pytest.raises(RequestTimeoutError, match="deadline of 5 seconds"):
            call()
    clock.passing = 0.0
    assert db.docs.count("c", {"n": {"$lt": 10}}) == 10


def test_a_row_that_is_larger_than_a_limit_is_too_large(open_store: Opener) -> None:
    mt = open_store(settings=Settings(sql=SqlSettings(value_bytes=1 << 20)))
    mt.databases.create("x")
    db = mt.db("x")
    for call in (
        lambda: db.kv.put("n", "k", bytes(1 << 20)),
        lambda: db.docs.insert("c", {"a": "x" * (1 << 20)}),
        lambda: db.docs.insert("c", [{"a": 1}, {"a": "x" * (1 << 20)}]),
        lambda: db.turns.append("s", "user", "x" * (1 << 20)),
    ):
        with pytest.raises(PayloadTooLargeError, match="1048576"):
            call()
    assert db.kv.get("n", "k") is None
    assert db.docs.find("c") == []
    assert db.turns.window("s") == []
    db.kv.put("n", "k", bytes(1 << 19))
