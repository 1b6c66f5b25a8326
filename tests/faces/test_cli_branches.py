"""`memoturn branch` and `memoturn undo`: both positional forms, addresses, answers for people and programs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.faces.conftest import Cli

BRANCH_FIELDS = {
    "name",
    "head_txid",
    "parent",
    "fork_txid",
    "created_at",
    "ttl_at",
    "is_default",
    "checkpoints",
    "epoch",
}


def facts(cli: Cli, address: str = "agent-42") -> list[str]:
    rows = cli("sql", address, "SELECT text FROM fact ORDER BY id", "--json").json["rows"]
    return [row["text"] for row in rows]


def learn(cli: Cli, text: str, address: str = "agent-42") -> None:
    cli("sql", address, "INSERT INTO fact (text) VALUES (?)", text)


@pytest.mark.parametrize(
    "words", [("agent-42",), ("agent-42", "main"), ("agent-42@main",), ("agent-42@main", "main")]
)
def test_checkpoint_and_rewind_in_every_form(agent: Cli, words: tuple[str, ...]) -> None:
    done = agent("branch", "checkpoint", *words, "before-task")
    assert done.err == "txid: 2\n"
    learn(agent, "hates tea")
    rewound = agent("branch", "rewind", *words, "before-task")
    assert rewound.out.startswith(
        f"rewound {words[0] if '@' in words[0] or len(words) == 1 else 'agent-42@main'} "
    )
    assert rewound.err == "txid: 4\n"
    assert facts(agent) == ["likes tea"]


def test_rewind_takes_a_txid_and_a_time(agent: Cli) -> None:
    learn(agent, "hates tea")
    assert agent("branch", "rewind", "agent-42", "1", "--json").json["restored_txid"] == 1
    assert facts(agent) == []
    now = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    assert agent("branch", "rewind", "agent-42", "main", now, "--json").json["restored_txid"] == 4
    last = agent("branch", "rewind", "agent-42", "3", "--json").json
    assert set(last) == {"txid", "restored_txid", "undo", "exact"}
    assert (last["txid"], last["restored_txid"]) == (6, 3)
    assert facts(agent) == ["likes tea", "hates tea"]


def test_a_rewind_can_be_undone_and_that_too(agent: Cli) -> None:
    learn(agent, "hates tea")
    done = agent("branch", "rewind", "agent-42", "2")
    back = agent("undo", "agent-42", done.undo)
    assert facts(agent) == ["likes tea", "hates tea"]
    token = back.out.split()[-1]
    assert agent("undo", "agent-42", token, "--json").json["what"] == "rewind"
    assert facts(agent) == ["likes tea"]


def test_checkpoints_are_listed_moved_and_deleted(agent: Cli) -> None:
    agent("branch", "checkpoint", "agent-42", "a")
    agent("branch", "checkpoint", "agent-42", "a")
    learn(agent, "hates tea")
    agent("branch", "checkpoint", "agent-42", "a", code=4)
    agent("branch", "checkpoint", "agent-42", "b")
    listed = agent("branch", "checkpoints", "list", "agent-42", "--json").json
    assert listed == [{"name": "a", "txid": 2}, {"name": "b", "txid": 3}]
    assert agent("branch", "checkpoint", "agent-42", "main", "a", "--move", "--json").json == {
        "name": "a",
        "txid": 3,
    }
    agent("branch", "checkpoints", "delete", "agent-42", "main", "a")
    agent("branch", "checkpoints", "delete", "agent-42@main", "b")
    assert agent("branch", "checkpoints", "list", "agent-42", "main", "--json").json == []
    agent("branch", "checkpoints", "delete", "agent-42", "b", code=3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["likes tea", "hates tea"]),
        (("--checkpoint", "before-task"), ["likes tea"]),
        (("--txid", "2"), ["likes tea"]),
        (("--txid", "1"), []),
        (("--from", "main", "--txid", "2"), ["likes tea"]),
    ],
)
def test_a_fork_begins_where_it_is_told(agent: Cli, options: tuple[str, ...], expected: list[str]) -> None:
    agent("branch", "checkpoint", "agent-42", "before-task")
    learn(agent, "hates tea")
    made = agent("branch", "create", "agent-42", "fork", *options, "--json").json
    assert set(made) == BRANCH_FIELDS | {"exact"}
    assert (made["name"], made["parent"], made["is_default"]) == ("fork", "main", False)
    assert facts(agent, "agent-42@fork") == expected
    learn(agent, "only here", "agent-42@fork")
    assert facts(agent) == ["likes tea", "hates tea"]


def test_a_fork_of_a_time_and_of_an_address(agent: Cli) -> None:
    between = agent("branch", "history", "agent-42", "--json").json[0]["time"]
    learn(agent, "hates tea")
    agent("branch", "create", "agent-42", "then", "--at", between)
    assert facts(agent, "agent-42@then") == ["likes tea"]
    agent("branch", "create", "agent-42@main:2", "there")
    assert facts(agent, "agent-42@there") == ["likes tea"]
    agent("branch", "create", "agent-42@there", "of-a-fork")
    assert agent("branch", "show", "agent-42@of-a-fork", "--json").json["parent"] == "there"


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("3600", 3600), ("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604800)]
)
def test_a_time_to_live_in_any_unit(agent: Cli, ttl: str, seconds: int) -> None:
    made = agent("branch", "create", "agent-42", "burner", "--ttl", ttl, "--json").json
    left = datetime.fromisoformat(made["ttl_at"]) - datetime.now(UTC)
    assert seconds - 30 < left.total_seconds() <= seconds
    assert "expires at 20" in agent("branch", "create", "agent-42", "second", "--ttl", ttl).out


def test_a_life_is_extended_or_made_endless(agent: Cli) -> None:
    agent("branch", "create", "agent-42", "burner", "--ttl", "60")
    longer = agent("branch", "extend", "agent-42", "burner", "--ttl", "2h", "--json").json
    assert datetime.fromisoformat(longer["ttl_at"]) > datetime.now(UTC) + timedelta(minutes=100)
    assert agent("branch", "extend", "agent-42@burner", "--no-ttl").out == "branch burner lives for good\n"
    assert agent("branch", "show", "agent-42", "burner", "--json").json["ttl_at"] is None


def test_branches_are_listed_with_the_default_one_marked(agent: Cli) -> None:
    agent("branch", "create", "agent-42", "try")
    lines = agent("branch", "list", "agent-42").out.splitlines()
    assert lines[0].split()[:4] == ["branch", "head", "parent", "fork"]
    assert [line[0] for line in lines[1:]] == ["*", " "]
    listed = agent("branch", "list", "agent-42", "--json").json
    assert [branch["name"] for branch in listed] == ["main", "try"]
    assert all(set(branch) == BRANCH_FIELDS for branch in listed)


def test_history_and_restore_points(agent: Cli) -> None:
    agent("branch", "checkpoint", "agent-42", "here")
    agent("branch", "rewind", "agent-42", "1")
    entries = agent("branch", "history", "agent-42", "--json").json
    assert [(e["txid"], e["kind"], e["base_txid"], e["checkpoints"]) for e in entries] == [
        (3, "rewind", 1, []),
        (2, "commit", None, ["here"]),
        (1, "commit", None, []),
    ]
    assert len(agent("branch", "history", "agent-42", "main", "--limit", "2", "--json").json) == 2
    assert len(agent("branch", "history", "agent-42", "--limit", "0").out.splitlines()) == 4
    points = agent("branch", "restore-points", "agent-42", "--json").json
    assert [(r["branch"], r["from_txid"], r["to_txid"]) for r in points["ranges"]] == [("main", 0, 3)]
    assert points["points"] == []
    table = agent("branch", "restore-points", "agent-42").out.splitlines()
    assert table[0].split() == ["what", "branch", "from", "to", "from", "time", "to", "time", "checkpoints"]
    assert table[1].split()[:5] == ["every", "txid", "main", "0", "3"]


def test_promote_reset_and_delete_can_be_undone(agent: Cli) -> None:
    agent("branch", "create", "agent-42", "try")
    learn(agent, "hates tea", "agent-42@try")

    promoted = agent("branch", "promote", "agent-42", "try")
    assert facts(agent) == ["likes tea", "hates tea"]
    agent("undo", "agent-42", promoted.undo)
    assert facts(agent) == ["likes tea"]

    reset = agent("branch", "reset", "agent-42@try")
    assert facts(agent, "agent-42@try") == ["likes tea"]
    agent("undo", "agent-42", reset.undo)
    assert facts(agent, "agent-42@try") == ["likes tea", "hates tea"]

    deleted = agent("branch", "delete", "agent-42", "try")
    agent("sql", "agent-42@try", "SELECT 1", code=3)
    agent("undo", "agent-42", deleted.undo)
    assert facts(agent, "agent-42@try") == ["likes tea", "hates tea"]


def test_shapes_of_promote_delete_and_undo(agent: Cli) -> None:
    agent("branch", "create", "agent-42", "try")
    promoted = agent("branch", "promote", "agent-42@try", "--json").json
    assert set(promoted) == {"default_branch", "undo"}
    assert set(agent("undo", "agent-42", promoted["undo"], "--json").json) == {"what", "name", "txid", "undo"}
    assert set(agent("branch", "delete", "agent-42@try", "--json").json) == {"name", "undo"}


def test_the_calls_that_the_product_pages_promise(cli: Cli) -> None:
    for database in ("agent-42", "acme--alice"):
        cli("db", "create", database)
        cli("sql", database, "CREATE TABLE fact (id INTEGER PRIMARY KEY, text)")
    for line in (
        "branch create agent-42 try-migration --ttl 3600",
        "branch checkpoint agent-42 before-task",
        "branch rewind agent-42 before-task",
        "branch list agent-42",
        "branch checkpoint acme--alice main before-autonomous-run",
        "branch rewind acme--alice main before-autonomous-run",
        "branch create acme--alice experiment --ttl 3600",
    ):
        cli(*line.split())
    # "rewind also accepts a raw txid"
    cli("branch", "rewind", "acme--alice", "main", "1")
    assert cli("branch", "show", "acme--alice", "experiment", "--json").json["ttl_at"] is not None


def test_what_is_older_than_the_window_goes_to_a_snapshot_and_is_said(
    agent: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(agent, "hates tea")
    monkeypatch.setenv("MEMOTURN_PITR_RETENTION_SECS", "0")
    assert agent("retain", "agent-42", "--json").json[0]["exact_txid"] == 3
    learn(agent, "drinks water")
    table = agent("branch", "restore-points", "agent-42").out.splitlines()
    assert [line.split()[:5] for line in table[1:]] == [["every", "txid", "main", "3", "4"]]
    refused = agent("branch", "rewind", "agent-42", "2", code=3)
    assert "the nearest that can be restored: 3" in refused.err
    assert "`memoturn branch restore-points agent-42`" in refused.err


def test_the_nearest_snapshot_is_taken_unless_it_has_to_be_exact(agent: Cli) -> None:
    from memoturn import Memoturn
    from memoturn.base.txids import TXID
    from memoturn.history.bases import write_base
    from memoturn.history.budget import Budget
    from memoturn.manifest import rules
    from tests.support import branch_of

    for fact in ("hates tea", "drinks water", "sleeps"):
        learn(agent, fact)
    with Memoturn("file:./data") as mt:
        branch = branch_of(mt.db("agent-42"))
        env = branch._env
        manifest = env.manifests.read(branch.key).record
        for txid in (2, 4):
            manifest, _ = write_base(env, branch.db_uuid, manifest, TXID(txid), Budget(env.clock))
        env.manifests.update(branch.key, lambda m: rules.raise_exact(m, TXID(4)))
    asked = agent("sql", "agent-42@main:3", "SELECT text FROM fact")
    assert asked.out == "text\nlikes tea\n"
    assert asked.err == "txid: 2\nnote: txid 2 is the nearest that is retained; what was asked for is not\n"
    assert agent("sql", "agent-42@main:3", "SELECT 1", "--json").json["exact"] is False
    for words in (
        ("sql", "agent-42@main:3", "SELECT 1"),
        ("branch", "rewind", "agent-42", "3"),
        ("branch", "create", "agent-42", "x", "--txid", "3"),
        ("export", "agent-42@main:3", "out.sqlite"),
    ):
        words = ("db", *words) if words[0] == "export" else words
        error = agent(*words, "--exact", "--json", code=3).error
        assert error["code"] == "txid_not_retained"
        assert "the nearest that can be restored: 2, 4" in error["error"]
    made = agent("branch", "create", "agent-42", "x", "--txid", "3", "--json").json
    assert (made["fork_txid"], made["exact"]) == (2, False)
    done = agent("branch", "rewind", "agent-42", "3")
    assert "txid 2 is the nearest that is retained" in done.out
    assert facts(agent) == ["likes tea"]
