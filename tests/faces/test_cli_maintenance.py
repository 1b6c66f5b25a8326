"""`memoturn verify`: what is whole, what is not, and how a script can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faces.conftest import Cli


def pack_of(store: Path) -> Path:
    return max(store.rglob("*.ltx"), key=lambda path: path.stat().st_mtime_ns)


def test_everything_or_one_database_or_one_branch_is_verified(agent: Cli) -> None:
    agent("branch", "create", "agent-42", "try")
    done = agent("verify")
    header, *rows = done.out.splitlines()
    assert header.split() == ["database", "branch", "txid", "pages", "size", "restored"]
    assert [row.split()[:3] for row in rows] == [
        *(["agent-42", branch, str(txid)] for branch in ("main", "try") for txid in (0, 1, 2))
    ]
    assert all(row.endswith("as recorded") for row in rows)
    assert len(agent("verify", "agent-42@try", "--points", "1").out.splitlines()) == 3
    chosen = agent("verify", "agent-42", "--at", "1", "--json").json
    assert [(one["txid"], one["ok"], one["problem"]) for one in chosen] == [(1, True, None), (2, True, None)]
    assert len(agent("verify", "agent-42", "--points", "0", "--json").json) == 2


def test_damage_is_named_and_ends_with_one(agent: Cli, tmp_path: Path) -> None:
    pack = pack_of(tmp_path)
    body = bytearray(pack.read_bytes())
    body[160] ^= 1
    pack.write_bytes(body)
    done = agent("verify", code=1)
    assert pack.name in done.out
    assert "1 of 3 positions cannot be restored" in done.err
    assert pack.name in done.err
    assert "replica" in done.err
    failed = agent("verify", "--json", code=1)
    assert [one["ok"] for one in failed.json] == [True, True, False]
    assert '"code":"internal"' in failed.err


def test_the_state_of_the_history_is_shown_with_what_was_done_to_it(agent: Cli) -> None:
    agent("branch", "create", "agent-42", "try")
    for number in range(3):
        agent("sql", "agent-42", f"INSERT INTO fact (text) VALUES ('{number}')")
    before = agent("maintenance", "status").out
    header, main, tried = before.splitlines()[:3]
    assert header.split()[:2] == ["branch", "head"]
    assert main.split()[:5] == ["agent-42@main", "5", "0", "0", "5+0+0"]
    assert tried.split()[:2] == ["agent-42@try", "2"]
    agent("compact", "agent-42@main")
    after = agent("maintenance", "status", "agent-42")
    assert after.out.splitlines()[1].split()[4:7] == ["5+0+0", "1", "0"]
    done = next(line for line in after.out.splitlines() if line.startswith("compact"))
    assert "agent-42@main" in done
    assert "1 bases written" in done
    shown = agent("maintenance", "status", "--json").json
    assert shown["background"]["on"] is True
    (database,) = shown["databases"]
    main, tried = database["branches"]
    assert (main["packs"], main["bases"], main["packs_above_base"], main["depth"]) == ([5, 0, 0], 1, 0, 0)
    assert (tried["head_txid"], tried["packs_above_base"], tried["depth"]) == (2, 0, 1)
    assert main["objects"] == 7
    assert database["bytes"] > main["bytes"] > 0
    assert database["bytes_shipped"] > 0
    assert (
        database["write_amplification"] == round(database["bytes_written"] / database["bytes_shipped"], 3) > 0
    )
    agent("maintenance", "status", "nobody", code=3)


def test_background_work_is_switched_off_by_a_setting(agent: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMOTURN_MAINTENANCE", "off")
    assert "MEMOTURN_MAINTENANCE" in agent("config").out
    assert agent("maintenance", "status", "--json").json["background"]["on"] is False
    monkeypatch.setenv("MEMOTURN_MAINTENANCE", "perhaps")
    assert "on or off" in agent("config", code=2).err


def test_what_cannot_be_meant_is_said(agent: Cli) -> None:
    agent("verify", "nobody", code=3)
    agent("verify", "agent-42@nowhere", code=3)
    agent("verify", "agent-42", "--at", "99", code=3)
    agent("verify", "agent-42", "--points", "few", code=2)
    agent("verify", "--at", "1", code=1)
