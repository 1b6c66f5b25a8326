"""`memoturn memory`: each command for people and for programs, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faces.conftest import Cli

DIET = "mem_76e9ffdedf09074a5dcd20f450bd8627"


@pytest.fixture
def alice(cli: Cli) -> Cli:
    """A profile with one fact, at txid 1."""
    cli(
        "memory", "ingest", "acme", "alice", "--type", "fact", "--topic", "user.diet", "vegetarian since 2024"
    )
    return cli


def test_what_is_ingested_is_recalled(alice: Cli) -> None:
    found = alice("memory", "recall", "acme", "alice", "what can this user eat?")
    assert "vegetarian since 2024" in found.out
    assert "keyword 1.00" in found.out
    assert found.err == "txid: 1\n"
    hit = alice("memory", "recall", "acme", "alice", "--topic", "user.diet", "--json").json[0]
    assert (hit["id"], hit["channels"]) == (DIET, {"topic": 1.0})
    assert alice("memory", "recall", "acme", "nobody", "anything", "--json").json == []
    assert alice("memory", "profiles", "acme", "--json").json == ["alice"]


def test_memories_come_as_json_too(alice: Cli) -> None:
    event = {"type": "event", "summary": "ate soup", "session_id": "s"}
    task = {"type": "task", "summary": "buy soup", "session_id": "s", "ttl": 60}
    done = alice("memory", "ingest", "acme", "alice", json.dumps(event), json.dumps(event), "--json").json
    assert [one["status"] for one in done["memories"]] == ["created", "duplicate"]
    alice("memory", "ingest", "acme", "alice", stdin=f"{json.dumps(task)}\n\n")
    found = alice("memory", "recall", "acme", "alice", "soup", "--type", "event", "-k", "5", "--json").json
    assert [hit["summary"] for hit in found] == ["ate soup"]
    assert alice("memory", "sessions", "acme", "alice", "--json").json[0]["memories"] == 2
    ended = alice("memory", "sessions", "acme", "alice", "--end", "s")
    assert ended.out == "ended s: 1 tasks and 0 turns are gone\n"


def test_a_memory_is_shown_with_its_chain_and_forgotten(alice: Cli) -> None:
    alice(
        "memory",
        "ingest",
        "acme",
        "alice",
        "--type",
        "fact",
        "--topic",
        "user.diet",
        "--source",
        "bob",
        "vegan",
    )
    shown = alice("memory", "get", "acme", "alice", DIET)
    assert "superseded_by" in shown.out
    assert shown.out.count("vegan") == 1
    assert len(alice("memory", "get", "acme", "alice", DIET, "--json").json["chain"]) == 2
    assert "vegetarian" in alice("memory", "recall", "acme", "alice", "diet", "--as-of", "1").out
    assert "vegetarian" in alice("memory", "recall", "acme", "alice@main:1", "diet").out
    assert "vegetarian" in alice("memory", "recall", "acme", "alice", "diet", "--superseded").out
    assert "vegetarian" not in alice("memory", "recall", "acme", "alice", "diet").out
    assert alice("memory", "forget", "acme", "alice", DIET).out == f"forgot {DIET}\n"
    assert "there is no memory" in alice("memory", "forget", "acme", "alice", DIET, code=3).err
    assert "there is no memory" in alice("memory", "get", "acme", "alice", DIET, code=3).err


def test_a_profile_is_a_database_with_branches(alice: Cli) -> None:
    alice("branch", "checkpoint", "acme--alice", "main", "before-autonomous-run")
    alice("branch", "create", "acme--alice", "experiment", "--ttl", "3600")
    alice("memory", "ingest", "acme", "alice@experiment", "--type", "event", "learned on a branch")
    assert "learned" in alice("memory", "recall", "acme", "alice@experiment", "learned").out
    assert "learned" not in alice("memory", "recall", "acme", "alice", "learned").out
    alice("memory", "ingest", "acme", "alice", "--type", "event", "learned something wrong")
    alice("branch", "rewind", "acme--alice", "main", "before-autonomous-run")
    assert "wrong" not in alice("memory", "recall", "acme", "alice", "learned").out


def test_lines_go_out_and_come_back(alice: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert (
        alice("memory", "export", "acme", "alice", str(out)).out == f"exported acme alice to {out}: 1 lines\n"
    )
    assert alice("memory", "export", "acme", "alice").out == out.read_text()
    assert "1; 0 were there" in alice("memory", "import", "acme", "bob", str(out)).out
    assert "0; 1 were there" in alice("memory", "import", "acme", "bob", "-", stdin=out.read_text()).out
    chat = '{"messages": [{"role": "user", "content": "hello there"}]}\n'
    assert (
        alice("memory", "import", "acme", "bob", "--session", "s", "--json", stdin=chat).json["created"] == 1
    )
    assert "hello there" in alice("memory", "recall", "acme", "bob", "hello", "--turns").out
    assert "cannot be written" in alice("memory", "export", "acme", "alice", str(out), code=2).err
    assert "there is no file missing" in alice("memory", "import", "acme", "bob", "missing", code=3).err
    assert "cannot be read" in alice("memory", "import", "acme", "bob", ".", code=2).err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["ingest", "acme", "alice", "not json"], 2, "memory 1 is no JSON"),
        (["ingest", "acme", "alice", "[]"], 2, "memory 1 is no JSON object"),
        (["ingest", "acme", "alice", "--type", "note", "x"], 1, "type 'note' is unknown"),
        (["ingest", "acme", "alice@", "--type", "fact", "x"], 2, "names no profile"),
        (["ingest", "acme", "alice@main:1", "--type", "fact", "x"], 1, "read-only"),
        (["ingest", "a--b", "alice", "--type", "fact", "x"], 1, "parts the two names"),
        (["recall", "acme", "alice"], 1, "ask with a query"),
        (["recall", "acme", "alice", "x", "-k", "many"], 2, "-k 'many'"),
        (["recall", "acme", "alice@other", "x"], 3, "no branch 'other'"),
        (["sessions", "acme", "alice", "--turns"], 2, "goes with --end"),
        (["import", "acme", "alice"], 2, "line 1 is no JSON"),
    ],
)
def test_what_cannot_be_meant_is_refused(alice: Cli, words: list[str], code: int, message: str) -> None:
    done = alice("memory", *words, stdin="no json\n", code=code)
    assert message in done.err


def test_settings_name_an_embedder(alice: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMOTURN_EMBEDDER", "http://127.0.0.1:9/v1")
    refused = alice("memory", "recall", "acme", "alice", "diet", code=2)
    assert "set MEMOTURN_EMBEDDER_MODEL" in refused.err
    monkeypatch.setenv("MEMOTURN_EMBEDDER_MODEL", "m")
    monkeypatch.setenv("MEMOTURN_EMBEDDER_KEY", "hidden-key")
    done = alice("memory", "ingest", "acme", "alice", "--type", "event", "ate soup")
    assert "warning: 1 of 1 memories are kept without an embedding" in done.err
    assert "hidden-key" not in alice("config").out
    monkeypatch.setenv("MEMOTURN_EMBEDDER", "nonsense")
    assert "set it to local" in alice("config", code=2).err
