"""How calls fail: the exit code of each class, a hint for people, one object for programs."""

from __future__ import annotations

import time

import pytest

from memoturn.base import errors
from memoturn.base.errors import MemoturnError
from memoturn.faces.cli.errors import Exit, exit_code
from tests.faces.conftest import Cli


def every_error(kind: type[MemoturnError] = MemoturnError) -> list[type[MemoturnError]]:
    return [kind, *(deeper for below in kind.__subclasses__() for deeper in every_error(below))]


def test_every_error_has_an_exit_code() -> None:
    by_status = {
        400: Exit.REFUSED, 401: Exit.REFUSED, 403: Exit.REFUSED, 413: Exit.REFUSED, 500: Exit.REFUSED,
        404: Exit.NOT_FOUND, 410: Exit.NOT_FOUND, 409: Exit.CONFLICT,
        408: Exit.UNREACHABLE, 429: Exit.UNREACHABLE, 503: Exit.UNREACHABLE,
    }  # fmt: skip
    for kind in every_error():
        expected = Exit.REFUSED if kind.code == "unconfigured" else by_status[kind.status]
        assert exit_code(kind("x")) == expected, kind
    assert len(every_error()) > 20
    assert exit_code(errors.BusyError("x")) == Exit.UNREACHABLE


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        ("db create Agent-42", 1, "invalid_request"),
        ("sql agent-42 SELEC", 1, "invalid_request"),
        ("branch checkpoint agent-42 123", 1, "invalid_request"),
        ("undo agent-42 nonsense", 1, "invalid_request"),
        ("branch create agent-42 x --ttl 0", 1, "invalid_request"),
        ("db show nobody", 3, "database_not_found"),
        ("branch show agent-42 nowhere", 3, "branch_not_found"),
        ("branch rewind agent-42 never", 3, "checkpoint_not_found"),
        ("branch rewind agent-42 99", 3, "txid_not_retained"),
        ("sql agent-42@main:2001-01-01T00:00:00Z x", 3, "txid_not_retained"),
        ("db import shop nothing.sqlite", 3, "not_found"),
        ("--url http://127.0.0.1:9 db import shop nothing.sqlite", 3, "not_found"),
        ("memory import acme alice nothing.jsonl", 3, "not_found"),
        ("db create agent-42", 4, "already_exists"),
        ("branch create agent-42 main", 4, "already_exists"),
        ("branch delete agent-42 main", 4, "conflict"),
        ("branch reset agent-42", 4, "conflict"),
        ("--url file:/proc/memoturn db create x", 5, "unavailable"),
        ("--url http://127.0.0.1:9 db list", 5, "unavailable"),
        ("--url ./data db list", 2, "invalid_request"),
        ("branch create agent-42 x --ttl soon", 2, "invalid_request"),
        ("branch create agent-42 x --txid two", 2, "invalid_request"),
        ("branch create agent-42 x --txid 1 --checkpoint c", 2, "invalid_request"),
        ("branch create agent-42@main:1 x --txid 1", 2, "invalid_request"),
        ("branch create agent-42@main x --from other", 2, "invalid_request"),
        ("branch rewind agent-42 main here too", 2, "invalid_request"),
        ("branch rewind agent-42@main other here", 2, "invalid_request"),
        ("branch checkpoint agent-42@main:1 c", 2, "invalid_request"),
        ("branch promote agent-42", 2, "invalid_request"),
        ("branch delete agent-42", 2, "invalid_request"),
        ("branch extend agent-42 main", 2, "invalid_request"),
        ("branch extend agent-42 main --ttl 1h --no-ttl", 2, "invalid_request"),
        ("branch history agent-42 --limit few", 2, "invalid_request"),
        ("completions csh", 2, "invalid_request"),
        ("branch rewind agent-42", 2, "invalid_request"),
        ("branch nonsense", 2, "invalid_request"),
        ("nonsense", 2, "invalid_request"),
        ("db list --nonsense", 2, "invalid_request"),
    ],
)
def test_failures_for_programs_and_people(agent: Cli, words: str, code: int, name: str) -> None:
    failed = agent(*words.split(), "--json", code=code)
    assert failed.error["code"] == name
    assert set(failed.error) == {"error", "code"}
    told = agent(*words.split(), code=code)
    assert told.out == ""
    assert failed.error["error"] in told.err


def test_hints_name_a_command_that_helps(agent: Cli) -> None:
    assert "`memoturn db list`" in agent("db", "show", "nobody", code=3).err
    assert "`memoturn branch list agent-42`" in agent("sql", "agent-42@x", "SELECT 1", code=3).err
    assert (
        "`memoturn branch checkpoints list agent-42@main`"
        in agent("sql", "agent-42@main:never", "SELECT 1", code=3).err
    )
    assert (
        "`memoturn branch restore-points agent-42`" in agent("branch", "rewind", "agent-42", "99", code=3).err
    )
    assert "`memoturn branch rewind --help`" in agent("branch", "rewind", code=2).err
    agent("branch", "checkpoint", "agent-42", "c")
    agent("sql", "agent-42", "INSERT INTO fact (text) VALUES ('likes milk')")
    assert "hint: --move moves it\n" in agent("branch", "checkpoint", "agent-42", "c", code=4).err
    assert "txid 3" in agent("branch", "checkpoint", "agent-42", "c", "--move").out


def test_an_expired_branch_is_not_found(agent: Cli) -> None:
    agent("branch", "create", "agent-42", "brief", "--ttl", "2s")
    time.sleep(2)
    assert agent("sql", "agent-42@brief", "SELECT 1", "--json", code=3).error["code"] == "branch_expired"


def test_a_fault_of_ours_shows_no_traceback(agent: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("somewhere deep")

    monkeypatch.setattr("memoturn.faces.embedded.client.Database.sql", fail)
    failed = agent("sql", "agent-42", "SELECT 1", "--json", code=1)
    assert failed.error == {
        "error": "a fault in Memoturn: ZeroDivisionError: somewhere deep",
        "code": "internal",
    }


def test_without_a_command_there_is_help(cli: Cli) -> None:
    for words in ((), ("db",), ("branch",), ("branch", "checkpoints")):
        assert "Usage: memoturn" in cli(*words, code=2).err
    assert (
        "Usage: memoturn branch rewind [OPTIONS] DB[@BRANCH] [BRANCH] TO\n"
        in cli("branch", "rewind", "--help").out
    )
    assert "DB[@BRANCH[:POSITION]] [SQL] [PARAMS...]" in cli("sql", "--help").out
    listed = cli("--help").out
    assert all(
        f"\n  {name} " in listed for name in ("db", "branch", "undo", "sql", "config", "demo", "completions")
    )
    assert cli("--version").out.startswith("memoturn ")
