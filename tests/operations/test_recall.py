"""Recall: what is found and why, what is never found, and that nothing kept in memory changes an answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from memoturn import (
    CheckpointNotFoundError,
    InvalidRequestError,
    Memoturn,
    Profile,
    RecallSettings,
    Settings,
    TxidNotRetainedError,
)
from memoturn.base.clock import time_of
from memoturn.operations import recall as operation
from tests.operations.recall_reference import expected
from tests.support import ManualClock

Opener = Callable[..., Memoturn]


@pytest.fixture
def alice(mt: Memoturn) -> Profile:
    return mt.memory("acme", "alice")


def event(summary: str, session_id: str | None = "s", **more: Any) -> dict[str, Any]:
    return {"type": "event", "summary": summary, "session_id": session_id, **more}


def summaries(memory: Profile, *args: Any, **more: Any) -> list[str]:
    return [hit.summary for hit in memory.recall(*args, **more)]


# What is found, and why.


def test_what_stands_beside_the_words_is_found_as_well(alice: Profile) -> None:
    alice.ingest(
        [event(text) for text in ("a", "b", "which tea did you buy?", "the green one", "c", "far away")]
    )
    hits = alice.recall("tea")
    assert [hit.summary for hit in hits[:1]] == ["which tea did you buy?"]
    assert set(hits[0].channels) == {"keyword", "keyword_nearby", "keyword_session"}
    beside = next(hit for hit in hits if hit.summary == "the green one")
    assert set(beside.channels) == {"keyword_nearby", "keyword_session"}
    far = next(hit for hit in hits if hit.summary == "far away")
    assert set(far.channels) == {"keyword_session"}


def test_another_session_is_not_beside(alice: Profile) -> None:
    alice.ingest(
        [event("green tea", "one"), event("unrelated", "two"), event("alone", None), event("more", "one")]
    )
    assert summaries(alice, "tea") == ["green tea", "more"]


def test_a_score_is_the_weighted_sum_of_its_channels(open_store: Opener) -> None:
    weights = RecallSettings(keyword=2.0, keyword_nearby=0.5, keyword_session=0.25, vector=0, vector_nearby=3)
    alice = open_store(settings=Settings(recall=weights)).memory("a", "b")
    alice.ingest(
        [event(f"tea {text}", embedding=[1, number]) for number, text in enumerate(("x", "y y", "z"))]
    )
    for hit in alice.recall("tea z", embedding=[1, 0.3]):
        total = sum(getattr(weights, name) * value for name, value in hit.channels.items())
        assert hit.score == pytest.approx(total, abs=1e-5)
        assert all(0 < value <= 1 for value in hit.channels.values())


def test_words_are_found_in_other_forms_and_without_the_small_ones(alice: Profile) -> None:
    alice.ingest([event("She was running marathons", "one"), event("what is it about that", "two")])
    assert summaries(alice, "What about the marathon runs?") == ["She was running marathons"]
    assert summaries(alice, "what about that") == ["what is it about that"]


@pytest.mark.parametrize(
    "text",
    [
        "İstanbul is large",
        "cafe\u0301s open late",
        "naïve Straße",
        "ПРИВЕТ мир",
        "日本語 テスト",
        "snake_case",
    ],
)
def test_words_of_any_language_are_found_however_they_are_written(alice: Profile, text: str) -> None:
    alice.ingest([event(text)])
    alice.db.turns.append("s", "user", text)
    word = text.split()[0]
    for asked in (word, word.upper(), word.lower(), normalize("NFC", word), normalize("NFD", word)):
        assert summaries(alice, asked) == [text], asked
        assert [turn.content for turn in alice.db.turns.search(asked)] == [text], asked


def test_who_said_it_and_when_are_searched(alice: Profile) -> None:
    alice.ingest(
        [
            event("likes tea", "one", source="Caroline", valid_from="2023-05-08T13:56:00Z"),
            event("likes tea too", "two", source="Melanie", valid_from="2023-06-09T13:56:00Z"),
        ]
    )
    assert summaries(alice, "what did Caroline say?") == ["likes tea"]
    assert summaries(alice, "in June 2023")[0] == "likes tea too"
    assert summaries(alice, "8 May 2023")[0] == "likes tea"


def test_a_topic_comes_before_every_score(alice: Profile) -> None:
    alice.ingest(
        [
            {"type": "fact", "topic_key": "user.diet", "summary": "vegetarian"},
            {"type": "fact", "topic_key": "other", "summary": "the diet of the user is a user diet"},
        ]
    )
    assert summaries(alice, "user.diet")[0] == "vegetarian"
    assert summaries(alice, "the other's diet", topic_key="user.diet")[0] == "vegetarian"
    hits = alice.recall(topic_key="user.diet")
    assert [(hit.summary, hit.channels, hit.score) for hit in hits] == [("vegetarian", {"topic": 1.0}, 0.0)]
    assert alice.recall(topic_key="user.die") == []


def test_a_topic_comes_first_however_many_others_match_better(alice: Profile) -> None:
    alice.ingest([{"type": "fact", "topic_key": "user.drink", "summary": "water"}])
    alice.ingest([event(f"tea {number}", None) for number in range(50)])
    for k in (1, 3):
        assert summaries(alice, "tea", topic_key="user.drink", k=k)[0] == "water"


def test_of_equals_the_newer_comes_first(alice: Profile, clock: ManualClock) -> None:
    alice.ingest([event("tea one", None), event("tea two", None)])
    clock.advance(1)
    alice.ingest([event("tea six", None), event("tea old", None, valid_from="2020-01-01T00:00:00Z")])
    assert summaries(alice, "tea") == ["tea six", "tea two", "tea one", "tea old"]


def test_nothing_is_a_valid_answer(alice: Profile) -> None:
    alice.ingest([event("green tea")])
    assert alice.recall("coffee") == []
    assert alice.recall("") == []
    assert alice.recall("?!") == []
    assert alice.recall("tea", embedding=[1, 0])[0].summary == "green tea"
    assert alice.recall(embedding=[1, 0]) == []


@pytest.mark.parametrize(
    "query", ['"', "a OR", "NEAR(", "tea*", "col:tea", "-tea", "(tea", "tea'; DROP", "\x00tea", "_", "ţéa"]
)
def test_a_query_is_words_and_never_an_expression(alice: Profile, query: str) -> None:
    alice.ingest([event("green tea")])
    assert summaries(alice, query) in ([], ["green tea"])


# What is never found.


def test_a_filter_never_starves_the_result(alice: Profile) -> None:
    alice.ingest([event(f"tea {number}", f"s{number}") for number in range(300)])
    alice.ingest([{"type": "fact", "summary": "tea is green", "source": "book", "session_id": "x"}])
    alice.ingest([event(f"tea tea tea {number}", f"t{number}") for number in range(300)])
    assert summaries(alice, "tea", k=1, types=["fact"]) == ["tea is green"]
    assert summaries(alice, "tea", k=1, types="fact") == ["tea is green"]
    assert summaries(alice, "tea", k=1, source="book") == ["tea is green"]
    assert summaries(alice, "tea", k=1, session_id="x") == ["tea is green"]
    assert alice.recall("tea", k=1, types=["fact"])[0].channels["keyword"] == 1.0
    assert alice.recall("tea", source="nobody") == []


def test_a_range_of_time_includes_its_beginning(alice: Profile) -> None:
    alice.ingest([event(f"tea {day}", None, valid_from=f"2023-05-0{day}T00:00:00Z") for day in range(1, 6)])
    found = summaries(alice, "tea", since="2023-05-02T00:00:00Z", until="2023-05-04T00:00:00Z")
    assert sorted(found) == ["tea 2", "tea 3"]


def test_what_was_superseded_is_found_only_if_asked_for(alice: Profile) -> None:
    for text in ("vegetarian", "vegan"):
        alice.ingest([{"type": "fact", "topic_key": "user.diet", "summary": text}])
    assert summaries(alice, "diet") == ["vegan"]
    assert summaries(alice, "diet", include_superseded=True) == ["vegan", "vegetarian"]
    assert summaries(alice, topic_key="user.diet") == ["vegan"]


def test_what_was_superseded_lifts_nothing_beside_it(alice: Profile) -> None:
    alice.ingest(
        [{"type": "fact", "topic_key": "t", "summary": "poison", "session_id": "s"}, event("innocent")]
    )
    assert summaries(alice, "poison") == ["poison", "innocent"]
    alice.ingest([{"type": "fact", "topic_key": "t", "summary": "cure", "session_id": "s"}])
    assert summaries(alice, "poison") == []


# The past.


def test_the_past_is_recalled_as_it_was(alice: Profile, clock: ManualClock) -> None:
    first = alice.ingest([event("green tea"), {"type": "task", "summary": "buy tea", "ttl": 60}])
    alice.checkpoint("start")
    clock.advance(30)
    alice.ingest([event("black tea")])
    then = alice.recall("tea", as_of="start")
    assert [hit.summary for hit in then] == ["buy tea", "green tea"]
    clock.advance(3600)
    for position in ("start", first.txid, "2027-01-15T08:00:29Z"):
        again = alice.recall("tea", as_of=position)
        assert list(again) == list(then)
        assert again.txid == first.txid
    assert list(alice.at("start").recall("tea")) == list(then)
    assert summaries(alice, "tea") == ["black tea", "green tea"]
    assert alice.recall("tea", as_of=0) == []
    with pytest.raises(CheckpointNotFoundError):
        alice.recall("tea", as_of="never")
    with pytest.raises(TxidNotRetainedError):
        alice.recall("tea", as_of=99)
    with pytest.raises(InvalidRequestError, match="read-only"):
        alice.at("start").ingest([event("rewritten")])


def test_at_a_time_has_expired_what_had_expired_by_then(alice: Profile, clock: ManualClock) -> None:
    """A time is not that of the commit before it: what expired in between has expired."""
    alice.ingest([event("green tea"), {"type": "task", "summary": "buy tea", "ttl": 60}])
    clock.advance(120)
    now = time_of(clock.now_ms())
    assert summaries(alice, "tea", as_of=now) == summaries(alice, "tea") == ["green tea"]
    assert summaries(alice, "tea", as_of=now - timedelta(seconds=61)) == ["buy tea", "green tea"]
    assert summaries(alice, "tea", as_of=now - timedelta(seconds=60)) == ["green tea"]


def test_a_rewind_takes_back_what_was_learned(alice: Profile) -> None:
    alice.ingest([event("green tea")])
    alice.checkpoint("before-run")
    before = alice.recall("tea")
    alice.ingest([event("tea is poison")])
    done = alice.rewind("before-run")
    assert list(alice.recall("tea")) == list(before)
    alice.undo(done.undo)
    assert "tea is poison" in summaries(alice, "tea")


# Requests.


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "a query, an embedding or a topic_key"),
        ({"query": 7}, "a query is a text"),
        ({"query": "x" * 300_000}, "at most"),
        ({"query": "\ud800"}, "a query has to be Unicode"),
        ({"query": "x", "model": "m"}, "model names what made the embedding, and there is none"),
        ({"embedding": [1], "model": 7}, "model is text"),
        ({"query": "x", "k": 0}, "k 0 is not possible"),
        ({"query": "x", "k": True}, "k True"),
        ({"query": "x", "types": ["note"]}, "type 'note' is unknown"),
        ({"query": "x", "types": 7}, "types are a list of some of fact, .*, not 7"),
        ({"query": "x", "session_id": ""}, "session_id is empty"),
        ({"query": "x", "since": 7}, "since 7 is not a time"),
        ({"embedding": []}, "1 to 8,192"),
    ],
)
def test_what_cannot_be_meant_is_refused(alice: Profile, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        alice.recall(**asked)


def test_k_is_at_most_a_thousand(alice: Profile) -> None:
    for begin in (0, 600):
        alice.ingest([event(f"tea {number}", None) for number in range(begin, begin + 600)])
    assert len(alice.recall("tea", k=5000)) == 1000
    assert len(alice.recall("tea", k=3)) == 3


def test_asking_writes_nothing(alice: Profile) -> None:
    alice.ingest([event("green tea", embedding=[1, 0])])
    for _ in range(3):
        alice.recall("tea", embedding=[1, 0])
        alice.get("mem_" + "0" * 32)
        alice.sessions()
    assert alice.db.txid == 1


# What is kept in memory never changes an answer.


def test_what_changes_among_the_first_is_seen_after_many_more(alice: Profile) -> None:
    first = alice.ingest(
        [{"type": "fact", "topic_key": "t", "summary": "old tea"}, event("cup", embedding=[1, 0])]
    )
    task = alice.ingest([{"type": "task", "summary": "buy tea", "session_id": "x"}]).memories[0]
    for begin in (0, 300):
        alice.ingest([event(f"number {begin + number}", None, embedding=[0, 1]) for number in range(300)])
    assert set(summaries(alice, "tea", types=["fact", "task"])) == {"old tea", "buy tea"}
    alice.ingest([{"type": "fact", "topic_key": "t", "summary": "new tea"}])
    assert set(summaries(alice, "tea", types=["fact", "task"])) == {"new tea", "buy tea"}
    alice.end_session("x")
    assert summaries(alice, "tea", types=["fact", "task"]) == ["new tea"]
    assert alice.get(task.id) is None
    assert alice.recall(embedding=[1, 0], k=1)[0].summary == "cup"
    alice.forget(first.memories[1].id)
    assert alice.recall(embedding=[1, 0], k=700) == []
    alice.ingest([{"type": "fact", "topic_key": "t", "summary": "old tea", "embedding": [1, 0]}])
    assert summaries(alice, "tea", types=["fact"]) == ["old tea"]
    assert alice.recall(embedding=[1, 0], k=1)[0].summary == "old tea"


WORDS = ("tea", "green", "teas", "cup", "cups", "milk", "Ann", "May", "the", "what")


class Writing(RuleBasedStateMachine):
    """Memories are learned, forgotten, superseded and expire on a few branches, which are forked and rewound."""

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock()
        self.mt = Memoturn("memory:", clock=self.clock)
        self.branches = [self.mt.memory("a", "b")]
        self.memory = self.branches[0]
        self.many = False
        self.memory.ingest([event("green tea", embedding=[1, 0, 0])])

    def teardown(self) -> None:
        if hasattr(self, "mt"):
            self.mt.close()

    memories = st.lists(
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(["fact", "event", "task"]),
                "summary": st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join),
            },
            optional={
                "topic_key": st.sampled_from(["a.b", "c"]),
                "session_id": st.sampled_from(["s", "t"]),
                "source": st.sampled_from(["Ann", "Bob"]),
                "keywords": st.lists(st.sampled_from(WORDS), min_size=1, max_size=2),
                "embedding": st.lists(st.integers(-3, 3), min_size=3, max_size=3).filter(any),
                "valid_from": st.sampled_from(["2023-05-08T00:00:00Z", "2024-05-08T00:00:00Z"]),
            },
        ),
        min_size=1,
        max_size=12,
    )

    @rule(items=memories)
    def ingest(self, items: list[dict[str, Any]]) -> None:
        self.memory.ingest(items)

    @precondition(lambda self: not self.many)
    @rule(number=st.integers(0, 500))
    def ingest_many(self, number: int) -> None:
        self.many = True
        self.memory.ingest(
            [event(f"cup {number + i}", f"s{i // 7}", embedding=[i % 5, 1, number % 3]) for i in range(300)]
        )

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        lines = [line["id"] for line in self.memory.export_lines()]
        if lines:
            self.memory.forget(data.draw(st.sampled_from(lines)))

    @rule(seconds=st.sampled_from([1, 3600, 90_000]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        if len(self.branches) < 4:
            head = self.memory.db.txid
            at = data.draw(st.integers(1, head))
            self.branches.append(self.memory.fork(f"f{len(self.branches)}", txid=at))

    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        self.memory.rewind(data.draw(st.integers(1, self.memory.db.txid)))

    @rule(data=st.data())
    def change_branch(self, data: st.DataObject) -> None:
        self.memory = data.draw(st.sampled_from(self.branches))

    @rule(
        query=st.none() | st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join),
        vector=st.none() | st.lists(st.integers(-3, 3), min_size=3, max_size=3).filter(any),
        filters=st.fixed_dictionaries(
            {},
            optional={
                "types": st.sampled_from([["fact"], ["event", "task"]]),
                "session_id": st.just("s"),
                "source": st.just("Ann"),
                "include_superseded": st.booleans(),
            },
        ),
        k=st.sampled_from([1, 5, 1000]),
        back=st.integers(0, 3),
    )
    def ask(
        self, query: str | None, vector: list[float] | None, filters: dict[str, Any], k: int, back: int
    ) -> None:
        if query is None and vector is None:
            return
        head = self.memory.db.txid
        asked: dict[str, Any] = {"k": k, "embedding": vector, **filters}
        if back and head > back:
            asked["as_of"] = head - back
        warm = list(self.memory.recall(query, **asked))
        operation._frames.clear()
        assert list(self.memory.recall(query, **asked)) == warm
        memory, now = self.memory, self.clock.now_ms()
        if "as_of" in asked:
            memory = self.memory.at(asked["as_of"])
            now = memory._engine.branch("a--b", memory._address.branch).view_at(asked["as_of"]).time
        wanted = expected(list(memory.export_lines()), query, vector, k, now, **filters)
        assert [round(hit.score, 3) for hit in warm] == [
            pytest.approx(score, abs=2e-3) for _, score in wanted
        ]
        if k == 1000:
            assert {hit.id for hit in warm} == {memory_id for memory_id, _ in wanted}


Writing.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=16,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestNothingKeptInMemoryChangesAnAnswer = Writing.TestCase


# Turns.


def test_turns_are_recalled_beside_memories_if_asked_for(alice: Profile) -> None:
    alice.ingest([{"type": "fact", "summary": "likes green tea", "session_id": "s"}, event("gone away")])
    turns = alice.db.turns
    turns.append("s", "user", "which tea is in the cupboard?", embedding=[1, 0])
    turns.append("s", "assistant", "only the green one", embedding=[0, 1])
    turns.append("t", "user", "unrelated")
    assert summaries(alice, "tea")[:1] == ["likes green tea"]
    hits = alice.recall("cupboard tea", include_turns=True)
    assert [hit.summary for hit in hits[:2]] == ["which tea is in the cupboard?", "only the green one"]
    assert (hits[0].type, hits[0].source, hits[0].session_id) == ("turn", "user", "s")
    assert "keyword" not in hits[1].channels
    assert summaries(alice, "tea", include_turns=True, types=["fact"], source="user") == [
        "which tea is in the cupboard?"
    ]
    assert summaries(alice, embedding=[0, 1], include_turns=True, k=1) == ["only the green one"]
    assert summaries(alice, "unrelated", include_turns=True, session_id="s") == []


def test_turns_that_went_with_their_session_are_not_recalled(alice: Profile) -> None:
    alice.ingest([event("green tea"), {"type": "task", "summary": "buy tea", "session_id": "t"}])
    turns = alice.db.turns
    for number in range(300):
        turns.append("s", "user", f"tea number {number}")
    turns.append("t", "user", "tea for two")
    turns.append("u", "user", "tea for three")
    alice.checkpoint("all")
    assert len(alice.recall("tea", include_turns=True, k=1000)) == 304
    assert [(found.session_id, found.memories, found.turns) for found in alice.sessions()] == [
        ("s", 1, 300),
        ("t", 1, 1),
        ("u", 0, 1),
    ]
    before = alice.db.txid
    done = alice.end_session("t", turns=True)
    assert (done.tasks, done.turns, done.txid) == (1, 1, before + 1)
    assert alice.end_session("s", turns=True).turns == 300
    assert set(summaries(alice, "tea", include_turns=True)) == {"green tea", "tea for three"}
    turns.append("s", "user", "tea again")
    assert set(summaries(alice, "tea", include_turns=True)) == {"green tea", "tea for three", "tea again"}
    assert len(alice.recall("tea", include_turns=True, k=1000, as_of="all")) == 304
