"""Typed memories: what becomes of what was held before, who may see it, and what is left of what is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from memoturn import (
    BranchNotFoundError,
    ConflictError,
    Database,
    DatabaseNotFoundError,
    InvalidRequestError,
    Memoturn,
    PayloadTooLargeError,
    Profile,
    UnavailableError,
)
from memoturn.base.clock import time_of
from memoturn.faces.embedded.memory import Profile as Embedded
from memoturn.models.embedding import encode
from tests.support import START_MS, ManualClock, assert_whole, branch_of, plain_connection

Opener = Callable[..., Memoturn]


@pytest.fixture
def alice(mt: Memoturn) -> Profile:
    return mt.memory("acme", "alice")


def fact(summary: str, topic_key: str | None = "user.diet", **more: Any) -> dict[str, Any]:
    return {"type": "fact", "summary": summary, "topic_key": topic_key, **more}


def one(memory: Profile, item: dict[str, Any]) -> str:
    return memory.ingest([item]).memories[0].id


def raw(db: Database) -> bytes:
    """Every page of the head."""
    view = branch_of(db).head()
    return b"".join(view.page(number) for number in range(1, view.page_count + 1))  # type: ignore[arg-type]


class Letters:
    """An embedder that counts letters."""

    name = "letters"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = False

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if self.fails:
            raise ConnectionError("the line is dead")
        self.asked += texts
        return [[1.0, *(float(text.lower().count(letter)) for letter in "abcdefghij")] for text in texts]


# A profile.


def test_reading_a_profile_that_does_not_exist_creates_nothing(mt: Memoturn, alice: Profile) -> None:
    assert alice.recall("anything") == []
    assert alice.get("mem_" + "0" * 32) is None
    assert alice.sessions() == []
    assert list(alice.export_lines()) == []
    assert mt.databases.list() == []
    assert mt.profiles("acme") == []
    with pytest.raises(DatabaseNotFoundError):
        alice.forget("mem_" + "0" * 32)


def test_the_first_memory_creates_the_profile(mt: Memoturn, alice: Profile) -> None:
    done = alice.ingest([fact("vegetarian since 2024")])
    assert done.txid == 1
    assert [found.name for found in mt.databases.list()] == ["acme--alice"]
    assert mt.profiles("acme") == ["alice"]
    assert mt.profiles("acm") == mt.profiles("acme-") == []
    assert alice.recall(query="what can this user eat?", k=3)[0].summary == "vegetarian since 2024"


def test_a_profile_has_a_database_like_any_other(mt: Memoturn, alice: Profile) -> None:
    mt.databases.create("acme--alice")
    mt.db("acme--alice").sql("CREATE TABLE t(v)")
    alice.ingest([fact("vegetarian")])
    assert alice.db.sql("SELECT count(*) AS n FROM t") == [{"n": 0}]
    assert alice.db.txid == 2
    with pytest.raises(InvalidRequestError, match="reserved"):
        alice.db.sql("SELECT * FROM __memoturn_memories")


@pytest.mark.parametrize(
    ("ns", "profile"), [("a--b", "c"), ("a", "b--c"), ("a-", "b"), ("a", "-b"), ("", "a"), ("A", "b")]
)
def test_names_that_cannot_be_told_apart_are_refused(mt: Memoturn, ns: str, profile: str) -> None:
    with pytest.raises(InvalidRequestError):
        mt.memory(ns, profile)
    with pytest.raises(InvalidRequestError, match="profile's database"):
        mt.memory("a" * 40, "b" * 40)


def test_a_branch_that_is_not_there_is_not_created(mt: Memoturn, alice: Profile) -> None:
    alice.ingest([fact("vegetarian")])
    with pytest.raises(BranchNotFoundError):
        mt.memory("acme", "alice", branch="other").ingest([fact("vegan")])
    with pytest.raises(DatabaseNotFoundError):
        mt.memory("acme", "bob", branch="other").ingest([fact("vegan")])


# What becomes of what was held before.


def test_the_same_memory_again_is_a_duplicate(alice: Profile) -> None:
    first = alice.ingest([{"type": "event", "content": {"a": 1, "b": 2}}])
    again = alice.ingest([{"type": "event", "content": {"b": 2.0, "a": 1}, "source": "other"}])
    assert [found.status for found in (*first.memories, *again.memories)] == ["created", "duplicate"]
    assert first.memories[0].id == again.memories[0].id
    assert again.txid == first.txid
    kept = alice.get(first.memories[0].id)
    assert kept is not None
    assert kept.source is None


def test_a_fact_supersedes_the_one_of_its_topic(alice: Profile, clock: ManualClock) -> None:
    old = one(alice, fact("vegetarian"))
    clock.advance(60)
    done = alice.ingest([fact("vegan"), fact("likes tea", "user.drink")])
    assert [found.superseded for found in done.memories] == [old, None]
    kept = alice.get(old)
    assert kept is not None
    assert kept.superseded_by == done.memories[0].id
    assert kept.valid_to == time_of(START_MS + 60_000)  # type: ignore[arg-type]
    assert [found.summary for found in kept.chain] == ["vegetarian", "vegan"]
    assert [hit.summary for hit in alice.recall("diet")] == ["vegan"]


def test_an_instruction_and_a_fact_of_one_topic_do_not_meet(alice: Profile) -> None:
    one(alice, fact("vegetarian"))
    done = alice.ingest([{**fact("offer no meat"), "type": "instruction"}])
    assert done.memories[0].superseded is None
    assert len(alice.recall("diet")) == 2


def test_events_and_facts_without_a_topic_accumulate(alice: Profile) -> None:
    alice.ingest([{**fact(text), "type": "event"} for text in ("ate soup", "ate salad")])
    alice.ingest([fact("likes soup", None), fact("likes salad", None)])
    assert len(alice.recall("soup salad")) == 4


def test_what_was_superseded_is_revived(alice: Profile, clock: ManualClock) -> None:
    first, second = one(alice, fact("vegetarian")), one(alice, fact("vegan"))
    clock.advance(5)
    done = alice.ingest([fact("vegetarian", source="doctor", session_id="s2")])
    assert (done.memories[0].id, done.memories[0].status, done.memories[0].superseded) == (
        first,
        "revived",
        second,
    )
    kept = alice.get(first)
    assert kept is not None
    assert (kept.valid_to, kept.superseded_by, kept.source, kept.session_id) == (None, None, "doctor", "s2")
    assert kept.valid_from == time_of(START_MS + 5000)  # type: ignore[arg-type]
    assert [found.summary for found in kept.chain] == ["vegan", "vegetarian"]
    assert [hit.summary for hit in alice.recall("diet doctor")] == ["vegetarian"]


def test_a_revived_memory_keeps_its_embedding_unless_it_brings_one(alice: Profile) -> None:
    memory = one(alice, fact("vegetarian", embedding=[1, 0]))
    one(alice, fact("vegan", embedding=[0, 1]))
    one(alice, fact("vegetarian"))
    assert next(line for line in alice.export_lines() if line["id"] == memory)["embedding"] == [1, 0]
    one(alice, fact("vegan"))
    one(alice, fact("vegetarian", embedding=[0.5, 0.5]))
    assert [line.get("embedding") for line in alice.export_lines()] == [[0, 1], [0.5, 0.5]]


def test_a_batch_is_as_if_each_came_alone(alice: Profile) -> None:
    done = alice.ingest([fact("vegetarian"), fact("vegan"), fact("vegetarian"), fact("vegetarian")])
    assert [found.status for found in done.memories] == ["created", "created", "revived", "duplicate"]
    assert [found.superseded for found in done.memories] == [
        None,
        done.memories[0].id,
        done.memories[1].id,
        None,
    ]
    assert done.txid == 1


def test_a_summary_that_is_too_long_is_refused_and_one_that_is_made_is_cut(alice: Profile) -> None:
    long = "x" * (256 * 1024 + 1)
    for given in ({"summary": long}, {"summary": long, "content": 1}):
        with pytest.raises(PayloadTooLargeError, match="summary of 262,145 characters is too long"):
            alice.ingest([{"type": "event", **given}])
    made = alice.ingest([{"type": "event", "content": {"text": long}}]).memories[0].id
    kept = alice.get(made)
    assert kept is not None
    assert (len(kept.summary), kept.content) == (256 * 1024, {"text": long})


def test_a_batch_with_one_bad_memory_keeps_none(mt: Memoturn, alice: Profile) -> None:
    with pytest.raises(InvalidRequestError, match=r"memory 2 of 2: type 'note'.*; none was kept"):
        alice.ingest([fact("vegetarian"), {"type": "note"}])
    assert mt.databases.list() == []
    with pytest.raises(InvalidRequestError, match="1 to 1,000 memories"):
        alice.ingest([])
    with pytest.raises(InvalidRequestError, match="1 to 1,000 memories"):
        alice.ingest([fact("x")] * 1001)
    with pytest.raises(InvalidRequestError, match="a list of objects, not as dict"):
        alice.ingest(fact("x"))  # type: ignore[arg-type]


def test_a_task_expires_after_a_day_or_its_ttl(alice: Profile, clock: ManualClock) -> None:
    short, long = (
        found.id
        for found in alice.ingest(
            [{"type": "task", "summary": "call Bob", "ttl": 60}, {"type": "task", "summary": "call Carol"}]
        ).memories
    )
    clock.advance(59.999)
    assert {hit.id for hit in alice.recall("call")} == {short, long}
    clock.advance(0.001)
    assert [hit.id for hit in alice.recall("call")] == [long]
    assert alice.ingest([{"type": "task", "summary": "call Bob", "ttl": 60}]).memories[0].status == "revived"
    assert {hit.id for hit in alice.recall("call")} == {short, long}
    clock.advance(24 * 3600)
    assert alice.recall("call", include_superseded=True) == []
    kept = alice.get(long)
    assert kept is not None
    assert kept.expires_at == time_of(START_MS) + timedelta(days=1)  # type: ignore[arg-type]


# Forgetting.


def test_what_is_forgotten_leaves_nothing_behind(alice: Profile) -> None:
    said = {"keywords": ["Qwertzuiop"], "embedding": [0.123456, 7.5], "source": "Zanzibar"}
    memory = one(alice, fact("Xylophonist", content={"long": "Ypsilanti " * 2000}, **said))
    one(alice, fact("likes tea", "user.drink"))
    done = alice.forget(memory)
    assert done.forgotten
    assert alice.get(memory) is None
    assert alice.recall("xylophonist qwertzuiop zanzibar") == []
    with plain_connection(branch_of(alice.db).head()) as connection:
        terms = {term for (term,) in connection.execute("SELECT term FROM __memoturn_memories_terms")}
        vectors = connection.execute("SELECT count(*) FROM __memoturn_memory_vectors").fetchall()
    assert terms == {"like", "tea", "user", "drink", "15", "januari", "2027"}
    assert vectors == [(0,)]
    for segment in (b"xylophon", b"qwertzuiop", b"zanzibar", b"ypsilanti", encode([0.123456, 7.5])):
        assert segment not in raw(alice.db).lower()
    assert not alice.forget(memory).forgotten
    assert not alice.forget("nonsense").forgotten
    assert_whole(alice.db)
    for rest in alice.export_lines():
        alice.forget(rest["id"])
    with plain_connection(branch_of(alice.db).head()) as connection:
        for table in ("memories", "memory_vectors", "memory_models", "memory_blocks", "memories_terms"):
            assert connection.execute(f"SELECT count(*) FROM __memoturn_{table}").fetchall() == [(0,)]


def test_forgetting_the_middle_of_a_chain_joins_its_ends(alice: Profile) -> None:
    first, middle, last = (one(alice, fact(text)) for text in ("omnivore", "vegetarian", "vegan"))
    alice.forget(middle)
    kept = alice.get(first)
    assert kept is not None
    assert kept.superseded_by == last
    alice.forget(last)
    kept = alice.get(first)
    assert kept is not None
    assert (kept.superseded_by, kept.valid_to is None) == (None, False)
    assert alice.recall("omnivore") == []
    assert alice.ingest([fact("vegan")]).memories[0].superseded is None


def test_a_forgotten_memory_can_be_learned_again(alice: Profile) -> None:
    memory = one(alice, fact("vegetarian"))
    alice.forget(memory)
    assert alice.ingest([fact("vegetarian")]).memories[0].status == "created"


# Sessions.


def test_sessions_are_counted_and_their_tasks_end_with_them(alice: Profile, clock: ManualClock) -> None:
    alice.ingest(
        [fact("likes tea", session_id="s1"), {"type": "task", "summary": "buy tea", "session_id": "s1"}]
    )
    clock.advance(10)
    alice.ingest(
        [{"type": "event", "summary": "bought tea", "session_id": "s1"}, fact("a", "b", session_id="s2")]
    )
    assert [(found.session_id, found.memories) for found in alice.sessions()] == [("s1", 3), ("s2", 1)]
    assert alice.sessions()[0].last - alice.sessions()[0].first == timedelta(seconds=10)
    before = alice.db.txid
    done = alice.end_session("s1")
    assert (done.tasks, done.txid) == (1, before + 1)
    assert {hit.type for hit in alice.recall("tea")} == {"fact", "event"}
    assert alice.end_session("s1").txid == before + 1
    with pytest.raises(InvalidRequestError, match="session_id is empty"):
        alice.end_session("")


def test_a_session_of_turns_alone_ends_as_well(mt: Memoturn, alice: Profile) -> None:
    mt.databases.create("acme--alice")
    alice.db.turns.append("s", "user", "hello")
    assert alice.end_session("s").turns == 0
    assert alice.end_session("s", turns=True).turns == 1
    assert alice.sessions() == []


# Embeddings.


def test_vectors_of_different_models_are_never_mixed(alice: Profile) -> None:
    one(alice, fact("vegetarian", embedding=[1, 0], model="m"))
    for wrong in (
        {"embedding": [1, 0], "model": "n"},
        {"embedding": [1, 0, 0], "model": "m"},
        {"embedding": [1, 0]},
    ):
        with pytest.raises(
            InvalidRequestError, match=r"2 dimensions and are of the model 'm'.*cannot be mixed"
        ):
            one(alice, fact("likes tea", None, **wrong))
    with pytest.raises(InvalidRequestError, match="cannot be mixed"):
        alice.recall(embedding=[1, 0], model="n")
    with pytest.raises(InvalidRequestError, match="those of the model 'm' with 3"):
        alice.recall(embedding=[1, 0, 0])
    assert alice.db.txid == 1
    assert alice.recall(embedding=[1, 0])[0].model == "m"


def test_the_model_goes_with_the_last_vector(alice: Profile) -> None:
    first = one(alice, fact("vegetarian", embedding=[1, 0], model="m"))
    second = one(alice, fact("likes tea", None, embedding=[0, 1], model="m"))
    alice.forget(first)
    with pytest.raises(InvalidRequestError, match="cannot be mixed"):
        one(alice, fact("vegan", embedding=[1, 0, 0], model="n"))
    alice.forget(second)
    one(alice, fact("vegan", embedding=[1, 0, 0], model="n"))
    assert [hit.model for hit in alice.recall(embedding=[1, 0, 0], model="n")] == ["n"]


@pytest.mark.parametrize("wrong", ["local", object(), type("Nameless", (), {"name": None, "embed": len})()])
def test_what_is_no_embedder_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match="is no embedder; it has the name of its model"):
        Memoturn("memory:", embedder=wrong)


def test_an_embedder_makes_the_vectors_that_are_missing(open_store: Opener) -> None:
    letters = Letters()
    alice = open_store(embedder=letters).memory("acme", "alice")
    alice.ingest([fact("abc"), {"type": "event", "summary": "def", "source": "Bob"}])
    assert letters.asked == ["abc", "Bob: def"]
    alice.ingest([fact("abc")])
    assert len(letters.asked) == 2
    hits = alice.recall("cab")
    assert (hits[0].summary, hits[0].model, hits.degraded) == ("abc", "letters", None)
    assert set(hits[0].channels) == {"vector", "vector_nearby"}


def test_where_the_embedder_fails_the_rest_goes_on_and_says_so(open_store: Opener) -> None:
    letters = Letters()
    alice = open_store(embedder=letters).memory("acme", "alice")
    alice.ingest([fact("abc")])
    letters.fails = True
    done = alice.ingest([fact("likes tea", None)])
    assert done.memories[0].status == "created"
    assert done.degraded is not None
    assert "1 of 1 memories are kept without an embedding" in done.degraded
    assert "the line is dead" in done.degraded
    hits = alice.recall("tea")
    assert [hit.summary for hit in hits] == ["likes tea"]
    assert hits.degraded is not None
    assert "by keyword and topic alone" in hits.degraded
    with pytest.raises(UnavailableError, match="the line is dead"):
        alice.embed()
    letters.fails = False
    assert alice.embed().embedded == 1
    assert alice.embed().embedded == 0
    assert alice.recall("tea").degraded is None
    assert alice.recall("tea")[0].channels["vector"] == 1.0


def test_an_embedder_of_another_model_is_refused(open_store: Opener, alice: Profile) -> None:
    one(alice, fact("vegetarian", embedding=[1, 0], model="m"))
    assert isinstance(alice, Embedded)
    other = Embedded(alice._engine, alice._address, Letters())
    with pytest.raises(InvalidRequestError, match="cannot be mixed"):
        other.recall("food")
    with pytest.raises(InvalidRequestError, match="cannot be mixed"):
        other.ingest([fact("likes tea", None)])
    with pytest.raises(InvalidRequestError, match="no embedder was named"):
        alice.embed()


def test_a_duplicate_brings_the_vector_that_was_missing(alice: Profile) -> None:
    memory = one(alice, fact("vegetarian"))
    assert alice.ingest([fact("vegetarian", embedding=[1, 0])]).memories[0].status == "duplicate"
    one(alice, fact("vegetarian", embedding=[0, 1]))
    assert [line["embedding"] for line in alice.export_lines() if line["id"] == memory] == [[1, 0]]


# Lines.


def test_what_was_exported_comes_back_with_its_history(
    mt: Memoturn, alice: Profile, clock: ManualClock
) -> None:
    alice.ingest([fact("omnivore", embedding=[0.1, 1 / 3], model="m", keywords=["food"])])
    clock.advance(1.001)
    alice.ingest([fact("vegetarian"), {"type": "task", "summary": "call", "ttl": 60, "session_id": "s"}])
    alice.ingest([{"type": "event", "content": {"x": [1.5, None]}, "source": "a"}, fact("vegan")])
    alice.forget(one(alice, fact("gone", "other")))
    lines = list(alice.export_lines())
    bob = mt.memory("acme", "bob")
    clock.advance(100)
    done = bob.import_lines(lines)
    assert (done.created, done.known) == (len(lines), 0)
    assert list(bob.export_lines()) == lines
    again = bob.import_lines(lines)
    assert (again.created, again.known, again.txid) == (0, len(lines), done.txid)
    assert bob.ingest([fact("omnivore")]).memories[0].status == "revived"
    assert bob.import_lines(lines).created == 0
    assert [hit.summary for hit in bob.recall("diet")] == ["omnivore"]


def test_of_two_that_meet_by_import_the_one_that_is_valid_since_later_stays(
    mt: Memoturn, alice: Profile, clock: ManualClock
) -> None:
    alice.ingest([fact("vegetarian")])
    clock.advance(10)
    bob = mt.memory("acme", "bob")
    bob.ingest([fact("vegan")])
    bob.import_lines(alice.export_lines())
    assert [hit.summary for hit in bob.recall("diet")] == ["vegan"]
    alice.import_lines(bob.export_lines())
    assert [hit.summary for hit in alice.recall("diet")] == ["vegan"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "line 2: it is no object but list"),
        (
            {"type": "fact", "summary": "x", "id": "mem_" + "0" * 32},
            "line 2: its id 'mem_0.*' is not that of",
        ),
        ({"type": "fact", "summary": "x", "superseded_by": "y"}, "line 2: superseded_by 'y' is no id"),
        (
            {"type": "fact", "summary": "x", "expires_at": "2027-01-01T00:00:00Z"},
            "line 2: only a task expires",
        ),
        ({"type": "fact", "summary": "x", "valid_to": "soon"}, "line 2: 'soon' is not a time"),
        ({"type": "fact", "summary": "x", "superseded_by": "mem_" + "0" * 32}, "line 2: .*has a valid_to"),
        (
            {"type": "event", "summary": "x", "valid_to": "2027-01-01T00:00:00Z"},
            "line 2: only what can be superseded has a valid_to",
        ),
    ],
)
def test_a_line_that_cannot_be_meant_is_named(alice: Profile, line: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        alice.import_lines([{"type": "fact", "summary": "first"}, line])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "line 4: it is no object"),
        ({"type": "fact", "summary": "x", "embedding": [1], "model": "m"}, "line 4: the vectors here have 2"),
        ({"role": "user", "content": "x", "embedding": [1]}, "line 4: the vector has 1 numbers"),
    ],
)
def test_what_comes_before_a_line_that_is_refused_is_kept(alice: Profile, line: Any, message: str) -> None:
    before = [
        {"type": "fact", "summary": "first", "embedding": [1, 2], "model": "m"},
        {"role": "user", "content": "hello", "embedding": [1, 2]},
        {"type": "fact", "summary": "second"},
    ]
    lines = [*before, line, {"type": "fact", "summary": "later"}]
    with pytest.raises(InvalidRequestError, match=message):
        alice.import_lines(lines, session_id="s")
    kept = list(alice.export_lines())
    assert [one.get("summary") for one in kept if "summary" in one][:2] == ["first", "second"]
    assert [one["content"] for one in kept if "role" in one] == ["hello"]
    del lines[3]
    alice.import_lines(lines, session_id="s")
    assert len(list(alice.export_lines())) == 4


def test_the_first_line_that_is_refused_is_named(alice: Profile) -> None:
    given: list[dict[str, Any]] = [
        {"role": "user", "content": "a", "embedding": [1, 2]},
        {"type": "fact", "summary": "a", "embedding": [1, 2]},
        {"role": "user", "content": "b", "embedding": [1]},
        {"type": "fact", "summary": "b", "embedding": [1]},
    ]
    with pytest.raises(InvalidRequestError, match="line 3: the vector has 1 numbers"):
        alice.import_lines(given, session_id="s")


def test_what_was_read_before_reading_failed_is_kept(alice: Profile) -> None:
    def lines() -> Iterator[dict[str, Any]]:
        yield fact("vegetarian")
        raise OSError("the line is dead")

    with pytest.raises(OSError, match="the line is dead"):
        alice.import_lines(lines())
    assert alice.recall("vegetarian")[0].summary == "vegetarian"


@pytest.mark.parametrize("lines", [7, "x", {"type": "fact", "summary": "x"}])
def test_lines_come_as_a_list(alice: Profile, lines: Any) -> None:
    with pytest.raises(InvalidRequestError, match="lines come one by one, as a list"):
        alice.import_lines(lines)


def test_an_export_is_of_the_moment_at_which_it_began(alice: Profile) -> None:
    alice.ingest([fact(f"number {number}", None) for number in range(600)])
    lines = alice.export_lines()
    first = next(lines)
    alice.forget(alice.recall("599")[0].id)
    alice.ingest([fact("later", None)])
    rest = list(lines)
    assert [first["summary"], rest[-1]["summary"], len(rest)] == ["number 0", "number 599", 599]


def test_messages_are_imported_as_turns_once(mt: Memoturn, alice: Profile) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "name": "look"}]},
        {"role": "tool", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    done = alice.import_lines(messages, session_id="s")
    assert (done.created, done.known) == (3, 0)
    assert [turn.content for turn in alice.db.turns.window("s")] == [
        "hello",
        '{"tool_calls":[{"id":"1","name":"look"}]}',
        "a\nb",
    ]
    more = {"messages": [*messages, {"role": "user", "content": "thanks"}], "session_id": "s"}
    again = alice.import_lines([more])
    assert (again.created, again.known) == (1, 3)
    assert alice.import_lines([more]).created == 0
    with pytest.raises(ConflictError, match="line 1: turn 2 of session 's' is another one, by 'assistant'"):
        alice.import_lines([{"messages": [messages[0], messages[2]], "session_id": "s"}])
    with pytest.raises(InvalidRequestError, match="line 2: a session is a text"):
        alice.import_lines([{**messages[0], "session_id": "t"}, messages[0]])
    with pytest.raises(InvalidRequestError, match="line 1: a message has content"):
        alice.import_lines([{"role": "user"}], session_id="u")
    assert [turn.content for turn in alice.db.turns.window("t")] == ["hello"]
    alice.db.turns.append("v", "user", "with a vector", embedding=[0.1, 1 / 3])
    bob = mt.memory("acme", "bob")
    bob.import_lines(alice.export_lines())
    assert list(bob.export_lines()) == list(alice.export_lines())
    assert bob.import_lines(alice.export_lines()).created == 0
