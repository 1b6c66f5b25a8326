"""The command line in this process: what it prints, and how it ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from typer.testing import CliRunner

from memoturn.faces.cli.main import app


class Outcome(NamedTuple):
    """One call of the CLI."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What was printed for a program, one line of it."""
        assert self.out.count("\n") == 1
        return msgspec.json.decode(self.out)

    @property
    def error(self) -> Any:
        """The error that was printed for a program."""
        assert self.out == ""
        return msgspec.json.decode(self.err)

    @property
    def undo(self) -> str:
        """The undo token among the lines for people."""
        line = next(line for line in self.out.splitlines() if line.startswith("to undo"))
        return line.split()[-1]


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Calls `memoturn` in an empty directory, without settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MEMOTURN_")]:
        monkeypatch.delenv(name)

    def call(*words: str, stdin: str | bytes | None = None, code: int | None = 0) -> Outcome:
        done = CliRunner().invoke(app, list(words), input=stdin)
        assert "Traceback" not in done.output
        if code is not None:
            assert done.exit_code == code, done.output
        return Outcome(done.exit_code, done.stdout, done.stderr)

    return call


@pytest.fixture
def agent(cli: Cli) -> Cli:
    """The same, on a store that has a database `agent-42` with one fact, at txid 2."""
    cli("db", "create", "agent-42")
    cli("sql", "agent-42", "CREATE TABLE fact (id INTEGER PRIMARY KEY, text)")
    cli("sql", "agent-42", "INSERT INTO fact (text) VALUES ('likes tea')")
    return cli
