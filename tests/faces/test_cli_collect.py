"""`memoturn gc` and `memoturn why-retained`: what goes, what waits, who holds what, and what to do next."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.faces.conftest import Cli


def age(store: Path, seconds: int = 700) -> None:
    """Let everything in the store have been written so much earlier."""
    for path in (store / "data" / "objects").rglob("*"):
        if path.is_file():
            written = path.stat().st_mtime - seconds
            os.utime(path, (written, written))


@pytest.fixture
def deleted(agent: Cli) -> Cli:
    """A store with a branch that was deleted, and one commit on it."""
    agent("branch", "create", "agent-42", "try")
    agent("sql", "agent-42@try", "INSERT INTO fact (text) VALUES ('likes coffee')")
    agent("branch", "delete", "agent-42", "try")
    return agent


def test_a_clean_store_has_nothing_to_remove(agent: Cli) -> None:
    done = agent("gc")
    assert "removed 0 of" in done.out
    assert "again" not in done.out


def test_a_run_counts_and_the_one_after_the_grace_period_removes(deleted: Cli, tmp_path: Path) -> None:
    first = deleted("gc", "agent-42")
    assert "waits" in first.out
    assert "deleted branches" in first.out
    assert "run `memoturn gc` again after" in first.out
    assert "removed 0 of" in deleted("gc").out, "too early"
    age(tmp_path)
    again = deleted("gc", "agent-42", "--json").json
    assert (again["removed"], again["waiting"], again["dry_run"]) == (1, 0, False)
    assert again["groups"] == [
        {"fate": "removed", "kind": "deleted branches", "objects": 1, "bytes": again["removed_bytes"]}
    ]
    assert deleted("sql", "agent-42", "SELECT text FROM fact").out.split() == ["text", "likes", "tea"]


def test_a_dry_run_tells_what_would_go_and_why_and_changes_nothing(deleted: Cli, tmp_path: Path) -> None:
    objects = tmp_path / "data" / "objects"

    def stored() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in objects.rglob("*") if path.is_file()}

    before = stored()
    done = deleted("gc", "--dry-run")
    assert "branch 'try' was deleted, and nothing that lives stands on it" in done.out
    assert "would remove 0 of" in done.out
    assert "counts them" in done.out
    assert stored() == before
    deleted("gc")
    age(tmp_path)
    before = stored()
    done = deleted("gc", "--dry-run")
    assert "would be removed" in done.out
    assert "would remove 1 of" in done.out
    assert stored() == before
    assert deleted("gc", "--dry-run", "--json").json["examples"][0]["fate"] == "removed"


def test_the_grace_period_is_a_setting(deleted: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMOTURN_GC_GRACE_SECS", "1")
    deleted("gc")
    deadline = time.monotonic() + 120
    while "removed 1 of" not in deleted("gc").out:
        assert time.monotonic() < deadline


def test_why_retained_names_the_holders(deleted: Cli, tmp_path: Path) -> None:
    objects = tmp_path / "data" / "objects"
    deleted("branch", "create", "agent-42", "kept")
    deleted("branch", "checkpoint", "agent-42", "here")
    states = {}
    for path in sorted(objects.rglob("*.*")):
        if ".memoturn" in path.parts or not path.is_file():
            continue
        key = path.relative_to(objects).as_posix()
        done = deleted("why-retained", key)
        assert done.out.startswith(f"{key}: ")
        states[key] = deleted("why-retained", key, "--json").json
    said = {holder["why"] for found in states.values() for holder in found["holders"]}
    assert "checkpoints here are made of it" in said
    assert any("forked from 'main' stands on txid" in why for why in said)
    assert "a database's name stands in it" in said
    dead = [found for found in states.values() if found["state"] == "dead"]
    assert len(dead) == 1
    assert "the next pass will count it" in dead[0]["holders"][0]["why"]
    deleted("gc")
    assert "and the first one after" in deleted("why-retained", dead[0]["key"]).out


def test_what_is_not_there_is_said(agent: Cli) -> None:
    assert "there is no database" in agent("gc", "nobody", code=3).err
    assert "there is no object" in agent("why-retained", "db/x/y", code=3).err
    agent("gc", "--dry", code=2)
