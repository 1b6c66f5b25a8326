"""Turns stay as they were said and in their order, and are found by their words and by their vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import apsw
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from memoturn import Database, InvalidRequestError, MemoturnError
from memoturn.base.txids import UnixMs
from memoturn.models import transcripts as model
from memoturn.models.guard import protect, trusted
from memoturn.models.keywords import match_any
from tests.models.branching import Branching
from tests.support import START_MS, ManualClock, assert_whole, branch_of, plain_connection

MIB = 1 << 20
START = datetime.fromtimestamp(START_MS / 1000, UTC)


def said(turns: Sequence[Any]) -> list[str]:
    return [turn.content for turn in turns]


def names(db: Database) -> set[str]:
    with plain_connection(branch_of(db).head()) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}


# Turns.


def test_turns_are_numbered_in_their_session_and_kept_verbatim(db: Database, clock: ManualClock) -> None:
    first = db.turns.append("monday", "user", "  Hi\r\n\x00🙂 ")
    clock.advance(60)
    assert (first.seq, first.txid) == (1, 2)
    assert db.turns.append("monday", "assistant", "").seq == 2
    assert db.turns.append("tuesday", "user", "else").seq == 1
    window = db.turns.window("monday")
    assert [(t.session, t.seq, t.role, t.content, t.created_at, t.score) for t in window] == [
        ("monday", 1, "user", "  Hi\r\n\x00🙂 ", START, None),
        ("monday", 2, "assistant", "", START + timedelta(minutes=1), None),
    ]
    assert window.txid == 4
    assert [t.seq for t in db.turns.window("monday", 1)] == [2]


def test_many_turns_are_one_transaction(db: Database) -> None:
    at = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
    done = db.turns.append_many(
        "s",
        [
            {"role": "Caroline", "content": "one", "created_at": at},
            {"role": "Melanie", "content": "two", "embedding": [1.0, 2.0]},
        ],
    )
    assert (done.seqs, done.seq, done.txid) == ([1, 2], 2, 2)
    assert [t.created_at for t in db.turns.window("s")] == [at, START]
    with pytest.raises(InvalidRequestError, match="3 numbers"):
        db.turns.append_many(
            "s", [{"role": "x", "content": "x"}, {"role": "x", "content": "x", "embedding": [1, 2, 3]}]
        )
    assert said(db.turns.window("s")) == ["one", "two"]
    assert db.txid == 2


def test_sessions_tell_how_many_turns_and_when(db: Database, clock: ManualClock) -> None:
    for session in ("b", "a", "b", "c"):
        db.turns.append(session, "user", "x")
        clock.advance(1)
    listed = [(s.session, s.turns, s.first_at, s.last_at) for s in db.turns.sessions()]
    second = timedelta(seconds=1)
    assert listed == [
        ("a", 1, START + second, START + second),
        ("b", 2, START, START + 2 * second),
        ("c", 1, START + 3 * second, START + 3 * second),
    ]
    assert [s.session for s in db.turns.sessions(after="a", limit=1)] == ["b"]


def test_a_turn_of_sixteen_mebibytes_round_trips(db: Database) -> None:
    content = "word " * (16 * MIB // 5)
    db.turns.append("s", "user", content)
    assert said(db.turns.window("s")) == [content]
    assert [t.seq for t in db.turns.search("word")] == [1]
    with pytest.raises(MemoturnError) as too_large:
        db.turns.append("s", "user", "é" * (8 * MIB) + "x")
    assert too_large.value.code == "payload_too_large"


def test_what_is_read_before_anything_was_said_is_empty_and_makes_nothing(db: Database) -> None:
    assert db.turns.window("s") == []
    assert db.turns.sessions() == []
    assert db.turns.search("tea") == []
    assert db.turns.search(vector=[1, 2]) == []
    assert db.turns.delete("s").turns == 0
    assert db.txid == 1
    assert names(db) == {"t"}


def test_the_past_is_read_and_not_written(db: Database) -> None:
    db.turns.append("s", "user", "tea", [1, 0])
    db.turns.append("s", "user", "more tea", [0, 1])
    then = db.at(2).turns
    assert said(then.window("s")) == said(then.search("tea")) == said(then.search(vector=[0, 1])) == ["tea"]
    assert db.at(1).turns.search("tea") == []
    for call in (lambda: then.append("s", "user", "x"), lambda: then.delete("s")):
        with pytest.raises(InvalidRequestError, match="read-only"):
            call()


@pytest.mark.parametrize(
    "wrong",
    [
        {"session": ""},
        {"session": None},
        {"session": "s" * 513},
        {"session": "\ud800"},
        {"role": ""},
        {"role": 7},
        {"role": "é" * 257},
        {"content": None},
        {"content": b"x"},
        {"content": "\ud800"},
        {"embedding": []},
        {"embedding": "12"},
        {"embedding": [1, "2"]},
        {"embedding": [[1.0]]},
        {"embedding": {1: 2}},
        {"embedding": 5},
        {"embedding": [1, None]},
        {"embedding": [0.0, 0.0]},
        {"embedding": [float("nan"), 1]},
        {"embedding": [float("inf"), 1]},
        {"embedding": [1e300, 1]},
        {"embedding": [1e30, 1]},
        {"embedding": [1e-30, 0]},
        {"embedding": [10**400]},
        {"embedding": [1.0] * 8193},
        {"created_at": "yesterday"},
        {"created_at": datetime(2023, 5, 8)},
    ],
    ids=repr,
)
def test_a_turn_that_cannot_be_is_refused(db: Database, wrong: dict[str, Any]) -> None:
    given = {"session": "s", "role": "user", "content": "x", **wrong}
    with pytest.raises(InvalidRequestError):
        db.turns.append(**given)
    assert db.txid == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.search(),
        lambda t: t.search("x", vector=[1, 2]),
        lambda t: t.search("x", k=0),
        lambda t: t.search("x", k="5"),
        lambda t: t.search(7),
        lambda t: t.search("x" * 10_001),
        lambda t: t.search("x", session=""),
        lambda t: t.search(vector=[1, 2, 3]),
        lambda t: t.search(vector=[float("nan"), 1]),
        lambda t: t.window("s", 0),
        lambda t: t.window("s", True),
        lambda t: t.sessions(limit=0),
        lambda t: t.append_many("s", []),
        lambda t: t.append_many("s", [{"role": "x"}]),
        lambda t: t.append_many("s", [{"role": "x", "content": "x", "text": "x"}]),
        lambda t: t.append_many("s", ["x"]),
        lambda t: t.append_many("s", {"role": "x", "content": "x"}),
    ],
)
def test_a_request_that_cannot_be_is_refused(db: Database, call: Any) -> None:
    db.turns.append("s", "user", "x", [1, 2])
    with pytest.raises(InvalidRequestError):
        call(db.turns)


# Finding.


def test_words_are_found_in_any_of_their_forms(db: Database) -> None:
    for content in ("I was drinking green teas", "She drinks coffee", "nothing", "TEA and a drink"):
        db.turns.append("s", "user", content)
    found = db.turns.search("what does she drink, tea?")
    assert set(said(found)) == {"I was drinking green teas", "She drinks coffee", "TEA and a drink"}
    assert said(found)[0] == "TEA and a drink"
    assert [t.score for t in found] == sorted((t.score or 0 for t in found), reverse=True)
    assert said(db.turns.search("drink", k=1)) == said(db.turns.search("drink"))[:1]
    assert db.turns.search("wine") == []
    assert db.turns.search("?!  ") == []
    assert said(db.turns.search("and")) == ["TEA and a drink"]


def test_who_said_it_and_when_can_be_searched_for(db: Database) -> None:
    at = datetime(2023, 5, 8, tzinfo=UTC)
    db.turns.append("s", "Caroline", "hello", created_at=at)
    db.turns.append("s", "Melanie", "hello")
    assert [t.role for t in db.turns.search("what did Caroline say")] == ["Caroline"]
    assert [t.role for t in db.turns.search("May 2023")] == ["Caroline"]


def test_of_equals_the_newer_comes_first(db: Database) -> None:
    for number in range(4):
        db.turns.append(f"s{number % 2}", "user", "tea", [1, 1])
    for found in (db.turns.search("tea"), db.turns.search(vector=[2, 2])):
        assert [(t.session, t.seq) for t in found] == [("s1", 2), ("s0", 2), ("s1", 1), ("s0", 1)]


def test_a_session_is_chosen_before_the_cut(db: Database) -> None:
    db.turns.append("wanted", "user", "tea, once among many other words that make it a poor match", [0.1, 1])
    db.turns.append_many("other", [{"role": "user", "content": "tea tea", "embedding": [1, 0]}] * 50)
    assert [t.session for t in db.turns.search("tea", session="wanted", k=3)] == ["wanted"]
    assert [t.session for t in db.turns.search(vector=[1, 0], session="wanted", k=3)] == ["wanted"]
    assert db.turns.search("tea", session="nobody") == []


def test_vectors_are_found_by_their_angle(db: Database) -> None:
    db.turns.append("s", "user", "plain")
    for content, vector in (("east", [1, 0]), ("far east", [9, 0]), ("north", [0, 1]), ("west", [-1, 0])):
        db.turns.append("s", "user", content, vector)
    found = db.turns.search(vector=[2, 1], k=10)
    assert said(found) == ["far east", "east", "north", "west"]
    expected = [2 / math.sqrt(5), 2 / math.sqrt(5), 1 / math.sqrt(5), -2 / math.sqrt(5)]
    assert [t.score for t in found] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=200)
@given(
    query=st.text(max_size=40)
    | st.lists(st.sampled_from(['"', "*", "NEAR", "OR", "tea", "-", "(", "_", ":"])).map(" ".join)
)
@example(query='" OR content:tea NOT')
@example(query="__tea__")
@example(query="\x00tea")
def test_no_query_is_a_syntax_of_its_own(query: str) -> None:
    connection = CONNECTION
    match = match_any(query)
    if match is not None:
        model.by_words(connection, None, match, 10)
    if "tea" in query.split():
        assert [found.content for found in model.by_words(connection, None, match or "", 10)] == ["tea"]


def test_a_session_that_is_deleted_leaves_no_word_and_no_vector(db: Database) -> None:
    db.turns.append("a", "user", "tea", [1, 0])
    db.turns.append("b", "user", "tea", [1, 0])
    db.turns.append("a", "user", "coffee", [1, 0])
    before = db.txid
    done = db.turns.delete("a")
    assert (done.turns, done.txid) == (2, before + 1)
    assert db.turns.window("a") == []
    assert [t.session for t in db.turns.search("tea coffee")] == ["b"]
    assert [t.session for t in db.turns.search(vector=[1, 0])] == ["b"]
    assert [s.session for s in db.turns.sessions()] == ["b"]
    assert db.turns.append("a", "user", "again").seq == 1
    assert said(db.at(before).turns.search("coffee")) == ["coffee"]
    with plain_connection(branch_of(db).head()) as connection:
        assert connection.execute("SELECT count(*) FROM __memoturn_turn_vectors").fetchall() == [(1,)]
        assert connection.execute("SELECT count(*) FROM __memoturn_turn_words").fetchall() == [(2,)]
    assert_whole(db)


def test_a_table_that_is_missing_beside_others_is_made_and_nothing_is_kept_twice() -> None:
    connection = apsw.Connection(":memory:")
    protect(connection)
    with trusted(connection):
        connection.execute(model.SCHEMA).fetchall()
        connection.execute("DROP TABLE __memoturn_turn_words")
    stamps = iter(range(9)).__next__
    assert model.append(connection, "s", [model.turn("user", "tea", UnixMs(START_MS))], stamps) == [1]
    assert [found.content for found in model.by_words(connection, None, "tea", 5)] == ["tea"]


def test_windows_and_sessions_walk_an_index(db: Database) -> None:
    db.turns.append("s", "user", "x")
    with plain_connection(branch_of(db).head()) as connection:
        for statement in (model._WINDOW, model._SESSIONS):
            plan = [r[3] for r in connection.execute("EXPLAIN QUERY PLAN " + statement, ("s", 5))]
            assert len(plan) == 1
            assert "__memoturn_turns_in_order" in plan[0]
            assert plan[0].startswith("SEARCH")


def _tea() -> Any:
    connection = apsw.Connection(":memory:")
    protect(connection)
    model.append(
        connection, "s", [model.turn("user", "tea", START_MS), model.turn("user", "x", START_MS)], lambda: 1
    )  # type: ignore[arg-type]
    return connection


CONNECTION = _tea()


# Against a model.


class Sessions(Branching):
    """Turns on a branch and a fork of it, appended, deleted and rewound, against lists."""

    @initialize()
    def create(self) -> None:
        self.begin([])

    @rule(
        which=st.integers(0, 1),
        session=st.sampled_from(["a", "b"]),
        words=st.lists(st.sampled_from(["tea", "rice", "wine"]), min_size=1, max_size=3),
    )
    def append(self, which: int, session: str, words: list[str]) -> None:
        name = self.branch(which)
        seq = 1 + max([s for where, s, _ in self.now[name] if where == session], default=0)
        content = " ".join(words)
        vector = [1.0 + content.count(word) for word in ("tea", "rice", "wine")]
        done = self.db(name).turns.append(session, "user", content, vector)
        assert done.seq == seq
        self.now[name].append((session, seq, content))
        self.kept(name, done.txid)

    @rule(which=st.integers(0, 1), session=st.sampled_from(["a", "b"]))
    def delete(self, which: int, session: str) -> None:
        name = self.branch(which)
        gone = [turn for turn in self.now[name] if turn[0] == session]
        done = self.db(name).turns.delete(session)
        assert done.turns == len(gone)
        if gone:
            self.now[name] = [turn for turn in self.now[name] if turn[0] != session]
            self.kept(name, done.txid)

    @invariant()
    def every_branch_is_what_the_model_says(self) -> None:
        for name in getattr(self, "now", ()):
            turns, kept = self.db(name).turns, self.now[name]
            for session in ("a", "b"):
                mine = [(s, c) for where, s, c in kept if where == session]
                assert [(t.seq, t.content) for t in turns.window(session, 100)] == mine
                found = turns.search("teas", session=session, k=100)
                assert sorted(t.seq for t in found) == [s for s, c in mine if "tea" in c]
            assert {(t.session, t.seq) for t in turns.search(vector=[1, 1, 1], k=100)} == {
                (w, s) for w, s, _ in kept
            }
            assert {s.session: s.turns for s in turns.sessions()} == {
                session: count for session in "ab" if (count := sum(w == session for w, _, _ in kept))
            }


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=30, stateful_step_count=25)
