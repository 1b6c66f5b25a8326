"""`memoturn diff`, and what a promotion would change."""

from __future__ import annotations

import pytest

from memoturn.base.results.diffs import Diff
from memoturn.faces.cli import diff as told
from memoturn.faces.embedded.client import Database
from tests.faces.conftest import Cli


@pytest.fixture
def forked(agent: Cli) -> Cli:
    """A store with a branch `try` on which one fact is another, one is new, and a key was put."""
    agent("branch", "create", "agent-42", "try")
    agent("sql", "agent-42@try", "UPDATE fact SET text = 'likes coffee'")
    agent("sql", "agent-42@try", "INSERT INTO fact (text) VALUES ('has a cat'), (NULL)")
    agent("kv", "put", "agent-42@try", "scratch", "plan", "go")
    return agent


def test_a_summary_comes_first_and_then_the_rows(forked: Cli) -> None:
    done = forked("diff", "agent-42", "agent-42@try")
    assert done.out.splitlines() == [
        "agent-42@main at txid 2 -> agent-42@try at txid 5",
        "  table fact    2 added, 1 changed",
        "  keys scratch  1 set",
        "",
        "table fact",
        "  ~ id=1  text: likes tea -> likes coffee",
        "  + id=2  text=has a cat",
        "  + id=3  text=NULL",
        "",
        "keys scratch",
        "  + plan  go",
    ]
    assert done.err == "txid: 5\n"


def test_the_other_way_round_and_with_positions(forked: Cli) -> None:
    done = forked("diff", "agent-42@try:3", "agent-42@main:1")
    assert "  table fact  1 removed" in done.out.splitlines()
    assert "no difference" in forked("diff", "agent-42@try:2", "agent-42").out


def test_a_limit_leaves_the_counts_exact(forked: Cli) -> None:
    out = forked("diff", "agent-42", "agent-42@try", "--limit", "1").out.splitlines()
    assert "  table fact    2 added, 1 changed" in out
    assert "  … and 2 more" in out
    forked("diff", "agent-42", "agent-42@try", "--limit", "0", code=1)
    forked("diff", "agent-42", "agent-42@try", "--limit", "x", code=2)


def test_one_table_alone(forked: Cli) -> None:
    done = forked("diff", "agent-42", "agent-42@try", "--table", "fact", "--json").json
    assert (len(done["tables"]), done["kv"]) == (1, [])
    assert forked("diff", "agent-42", "agent-42@try", "--table", "nope", code=1).err.startswith(
        "error: there is no"
    )


def test_json_for_programs(forked: Cli) -> None:
    done = forked("diff", "agent-42", "agent-42@try", "--json").json
    assert done["before"]["txid"] == 2
    (table,) = done["tables"]
    assert (table["added"], table["removed"], table["changed"]) == (2, 0, 1)
    assert table["rows"][0] == {
        "kind": "changed",
        "key": {"id": 1},
        "before": {"id": 1, "text": "likes tea"},
        "after": {"id": 1, "text": "likes coffee"},
    }


def test_exit_codes(forked: Cli) -> None:
    forked("diff", "agent-42", "agent-42@nowhere", code=3)
    forked("diff", "agent-42", "agent-42@main:99", code=3)
    forked("diff", "agent-42", "other", code=1)
    forked("diff", "agent-42", code=2)


def test_a_dry_run_of_a_promotion_changes_nothing(forked: Cli) -> None:
    out = forked("branch", "promote", "agent-42", "try", "--dry-run").out.splitlines()
    assert out[0] == "would promote agent-42@try: agent-42 stands for main now"
    assert "  + id=2  text=has a cat" in out
    assert forked("db", "show", "agent-42", "--json").json["default_branch"] == "main"
    done = forked("branch", "promote", "agent-42", "try", "--dry-run", "--json").json
    assert (done["default_branch"], done["would_be"], done["diff"]["tables"][0]["added"]) == (
        "main",
        "try",
        2,
    )


def test_colours_on_a_terminal_only(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    db.sql("INSERT INTO t VALUES ('\x1b[2J')")
    found: Diff = db.at(1).diff("x")
    monkeypatch.setattr(told.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "  \x1b[32m+ rowid=1  v=\\x1b[2J\x1b[0m" in list(told.tell(found))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "  + rowid=1  v=\\x1b[2J" in list(told.tell(found))
