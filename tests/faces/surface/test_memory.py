"""Memories of a profile, and maintenance: the same on a store and on a server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memoturn import ConflictError, DatabaseNotFoundError, InvalidRequestError, MemoryChain, NotFoundError

WHEN = datetime(2026, 3, 4, tzinfo=UTC)
DIET = {"type": "fact", "topic_key": "user.diet", "summary": "vegetarian since 2024"}


def test_a_profile_that_is_not_there_reads_as_empty(mt: Any, profile: Any) -> None:
    assert profile.recall("anything") == []
    assert profile.get("mem_" + "0" * 32) is None
    assert profile.sessions() == []
    assert list(profile.export_lines()) == []
    with pytest.raises(DatabaseNotFoundError):
        mt.databases.get("acme--none")


def test_memories_are_kept_superseded_and_forgotten(mt: Any, profile: Any) -> None:
    first = profile.ingest([DIET])
    assert (first.memories[0].status, first.memories[0].superseded) == ("created", None)
    assert profile.ingest([DIET]).memories[0].status == "duplicate"
    done = profile.ingest(
        [
            DIET | {"summary": "eats fish", "source": "her mother", "session_id": "s1", "valid_from": WHEN},
            {"type": "event", "content": {"went": ["to", "Bern"]}, "session_id": "s1"},
            {
                "type": "task",
                "summary": "book a table",
                "ttl": 60,
                "session_id": "s1",
                "keywords": ["dinner"],
            },
        ]
    )
    fish = done.memories[0]
    assert fish.superseded == first.memories[0].id
    chain = profile.get(fish.id)
    assert isinstance(chain, MemoryChain)
    assert [one.summary for one in chain.chain] == ["vegetarian since 2024", "eats fish"]
    assert (chain.source, chain.session_id) == ("her mother", "s1")
    assert [(one.session_id, one.memories) for one in profile.sessions()] == [("s1", 3)]
    assert profile.end_session("s1").tasks == 1
    assert profile.forget(fish.id).forgotten
    assert not profile.forget(fish.id).forgotten
    assert profile.get(fish.id) is None
    name = repr(profile).split("--")[1].rstrip("')")
    assert name in mt.profiles("acme")


def test_recall_filters_and_explains(profile: Any) -> None:
    profile.ingest(
        [
            DIET | {"embedding": [1.0, 0.0], "model": "m"},
            {"type": "event", "summary": "talked about diet plans", "source": "Bo", "valid_from": WHEN},
            {"type": "instruction", "topic_key": "tone", "summary": "be brief about diet"},
        ]
    )
    profile.db.turns.append("s1", "user", "my diet is green")
    hits = profile.recall("what diet?", k=2)
    assert len(hits) == 2
    assert hits.txid == profile.db.txid
    assert hits.degraded is None
    assert hits[0].channels
    assert hits[0].score >= hits[1].score
    assert [hit.type for hit in profile.recall("diet", types="event")] == ["event"]
    assert {hit.type for hit in profile.recall("diet", types=["event", "fact"])} == {"event", "fact"}
    assert [hit.source for hit in profile.recall("diet", source="Bo")] == ["Bo"]
    assert [hit.summary for hit in profile.recall(topic_key="tone")] == ["be brief about diet"]
    assert [hit.type for hit in profile.recall("diet", until=WHEN + timedelta(days=1))] == ["event"]
    assert "event" not in {hit.type for hit in profile.recall("diet", since="2026-03-05T00:00:00Z")}
    assert "turn" in {hit.type for hit in profile.recall("diet", include_turns=True)}
    assert profile.recall(embedding=[1.0, 0.1], model="m")[0].topic_key == "user.diet"
    assert "vector" in profile.recall(embedding=[1.0, 0.1])[0].channels
    for act in (
        lambda: profile.recall(),
        lambda: profile.recall(7),
        lambda: profile.recall("a", k=0),
        lambda: profile.recall("a", k="x"),
        lambda: profile.recall("a", types="opinion"),
        lambda: profile.recall("a", since="yesterday"),
        lambda: profile.recall("a", since=datetime(2026, 1, 1)),
        lambda: profile.recall(embedding=[1.0]),
        lambda: profile.recall(embedding=[1.0, 0.0], model="other"),
        lambda: profile.recall(embedding=[float("nan"), 1]),
        lambda: profile.recall("a", topic_key=""),
    ):
        with pytest.raises(InvalidRequestError):
            act()


def test_a_memory_forks_checkpoints_and_rewinds_as_one(mt: Any, profile: Any) -> None:
    profile.ingest([DIET])
    assert profile.checkpoint("before-run").txid == profile.db.txid
    profile.ingest([DIET | {"summary": "eats steak every day"}])
    with pytest.raises(ConflictError):
        profile.checkpoint("before-run")
    assert [hit.summary for hit in profile.recall("eats", as_of="before-run", topic_key="user.diet")] == [
        DIET["summary"]
    ]
    assert profile.at("before-run").recall(topic_key="user.diet")[0].summary == DIET["summary"]
    with pytest.raises(InvalidRequestError, match="past"):
        profile.at("before-run").ingest([DIET])
    fork = profile.fork("try", ttl=3600)
    done = profile.rewind("before-run")
    assert profile.recall(topic_key="user.diet")[0].summary == DIET["summary"]
    assert fork.recall(topic_key="user.diet")[0].summary == "eats steak every day"
    profile.undo(done.undo)
    assert profile.recall(topic_key="user.diet")[0].summary == "eats steak every day"
    assert profile.fork("old", checkpoint="before-run").recall("vegetarian")
    name = repr(profile).split("--")[1].rstrip("')")
    assert mt.memory("acme", name, "old").recall(topic_key="user.diet")[0].summary == DIET["summary"]


@pytest.mark.parametrize(
    "bad",
    [
        7, "x", [], [7], [{}], [{"type": "opinion", "summary": "x"}], [{"type": "fact"}],
        [DIET | {"summary": b"x"}], [DIET | {"content": object()}], [DIET | {"unknown": 1}], [DIET | {"ttl": 60}],
        [DIET | {"embedding": [float("inf")]}], [DIET | {"valid_from": datetime(2026, 1, 1)}],
        [DIET | {"valid_from": 7}], [DIET | {"keywords": "word"}], [DIET] * 1001,
    ],
)  # fmt: skip
def test_what_is_no_memory_is_refused(profile: Any, bad: Any) -> None:
    with pytest.raises(InvalidRequestError):
        profile.ingest(bad)


def test_profiles_have_names_that_can_be_told_apart(mt: Any) -> None:
    for ns, profile in (("a--b", "c"), ("a", "B"), ("a-", "b"), ("a", "-b"), ("", "b")):
        with pytest.raises(InvalidRequestError):
            mt.memory(ns, profile)
    with pytest.raises(InvalidRequestError):
        mt.profiles("A")


def test_memories_move_as_lines(mt: Any, profile: Any) -> None:
    profile.ingest([DIET | {"valid_from": WHEN}])
    profile.ingest([DIET | {"summary": "eats fish", "embedding": [1.0, 0.5], "model": "m"}])
    profile.ingest([{"type": "event", "summary": f"line\u2028 {n}\n"} for n in range(600)])
    profile.db.turns.append("s1", "user", "hello\u2028 there")
    told: list[tuple[int, int]] = []
    lines = profile.export_lines(lambda *steps: told.append(steps))
    assert isinstance(lines, Iterator)
    found = list(lines)
    assert len(found) == 603
    assert told[-1][0] == 603
    assert found[2]["summary"] == "line\u2028 0\n"
    other = mt.memory("acme", repr(profile).split("--")[1].rstrip("')") + "-copy")
    told.clear()
    done = other.import_lines(iter(found), progress=lambda *steps: told.append(steps))
    assert (done.created, done.known, told[-1]) == (603, 0, (603, 0))
    assert list(other.export_lines()) == found
    assert other.import_lines(found).known == 603
    messages = [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}]
    assert other.import_lines(messages, session_id="chat").created == 2
    assert [turn.content for turn in other.db.turns.window("chat")] == ["hi", "ho"]
    with pytest.raises(InvalidRequestError, match="line 2"):
        other.import_lines([DIET, {"nonsense": 1}])


def test_an_export_need_not_be_read_to_its_end(profile: Any) -> None:
    profile.ingest([{"type": "event", "summary": f"event {n}"} for n in range(900)])
    lines = profile.export_lines()
    assert next(lines)["summary"] == "event 0"
    lines.close()
    assert len(list(profile.export_lines())) == 900


def test_embeddings_need_an_embedder(profile: Any) -> None:
    profile.ingest([DIET])
    with pytest.raises(InvalidRequestError, match="embedder"):
        profile.embed()


def test_maintenance(mt: Any, db: Any, name: str) -> None:
    for number in range(3):
        db.kv.put("n", "k", str(number))
    db.sync()
    assert mt.maintenance.compact(name).database == name
    assert mt.maintenance.compact(f"{name}@main").branches[0].name == "main"
    assert isinstance(mt.maintenance.retain(name), list)
    assert mt.maintenance.gc(name, dry_run=True).dry_run
    assert not mt.maintenance.gc(name).dry_run
    status = mt.maintenance.status(name)
    assert [one.name for one in status.databases] == [name]
    assert name in [one.name for one in mt.maintenance.status().databases]
    verified = mt.maintenance.verify(name, points=1)
    assert verified
    assert all(one.problem is None for one in verified)
    assert mt.maintenance.verify(f"{name}@main", at=2)[0].problem is None
    with pytest.raises(NotFoundError):
        mt.maintenance.why_retained("db/d_none/nothing")
    with pytest.raises(DatabaseNotFoundError):
        mt.maintenance.status("nobody")
    with pytest.raises(InvalidRequestError):
        mt.maintenance.compact(f"{name}@main:1")
