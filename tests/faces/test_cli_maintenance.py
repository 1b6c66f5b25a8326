"""`memoturn verify`: what is whole, what is not, and how a script can tell."""

from __future__ import annotations

from pathlib import Path

from tests.faces.conftest import Cli


def pack_of(store: Path) -> Path:
    return max(store.rglob("*.ltx"), key=lambda path: path.stat().st_mtime_ns)


def test_everything_or_one_database_or_one_branch_is_verified(agent: Cli) -> None:
    agent("branch", "create", "agent-42", "try")
    done = agent("verify")
    header, *rows = done.out.splitlines()
    assert header.split() == ["database", "branch", "txid", "pages", "size", "restored"]
    assert [row.split()[:3] for row in rows] == [
        ["agent-42", "main", "1"], ["agent-42", "main", "2"], ["agent-42", "try", "2"]
    ]  # fmt: skip
    assert all(row.endswith("as recorded") for row in rows)
    assert len(agent("verify", "agent-42@try").out.splitlines()) == 2
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
    assert "1 of 2 positions cannot be restored" in done.err
    assert pack.name in done.err
    assert "replica" in done.err
    failed = agent("verify", "--json", code=1)
    assert [one["ok"] for one in failed.json] == [True, False]
    assert '"code":"internal"' in failed.err


def test_what_cannot_be_meant_is_said(agent: Cli) -> None:
    agent("verify", "nobody", code=3)
    agent("verify", "agent-42@nowhere", code=3)
    agent("verify", "agent-42", "--at", "99", code=3)
    agent("verify", "agent-42", "--points", "few", code=2)
    agent("verify", "--at", "1", code=1)
