"""The installed command in processes of its own: pipes, other processes, start-up, completion."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
MEMOTURN = [sys.executable, "-m", "memoturn.faces.cli"]


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("MEMOTURN_")}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*words: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*MEMOTURN, *words],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment() | variables,
        )

    return call


def test_a_task_from_checkpoint_to_undo(run: Run) -> None:
    assert run("db", "create", "agent-42").returncode == 0
    made = run("sql", "agent-42", stdin="CREATE TABLE fact (text); INSERT INTO fact VALUES ('likes tea');")
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "txid: 1\n")
    assert run("branch", "checkpoint", "agent-42", "before-task").returncode == 0
    assert run("sql", "agent-42", "DELETE FROM fact").returncode == 0
    rewound = run("branch", "rewind", "agent-42", "main", "before-task")
    assert rewound.stderr == "txid: 3\n"
    assert run("sql", "agent-42", "SELECT text FROM fact").stdout == "text\nlikes tea\n"
    token = rewound.stdout.split()[-1]
    assert run("undo", "agent-42", token).returncode == 0
    assert run("sql", "agent-42", "SELECT text FROM fact").stdout == "text\n"
    missing = run("branch", "rewind", "agent-42", "never")
    assert missing.returncode == 3
    assert missing.stdout == ""
    assert missing.stderr.startswith("error: ")


def test_variables_choose_the_store(run: Run, tmp_path: Path) -> None:
    assert run("db", "create", "a", MEMOTURN_URL="file:./one").returncode == 0
    assert run("db", "create", "b", MEMOTURN_OBJECT_STORE="file://./two/objects").returncode == 0
    assert run("db", "create", "c", MEMOTURN_DATA_DIR="./three").returncode == 0
    for store in ("one", "two", "three"):
        assert run("db", "list", "--url", f"file:./{store}", "--json").stdout.count("name") == 1


def test_a_reader_that_leaves_early_is_no_failure_to_explain(run: Run, tmp_path: Path) -> None:
    run("db", "create", "agent-42")
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT i FROM n"
    with subprocess.Popen(
        [*MEMOTURN, "sql", "agent-42", many],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_a_terminal_without_unicode_loses_nothing(run: Run) -> None:
    run("db", "create", "agent-42")
    for words, expected in (
        ((), "a\n\\xe9\n"),
        (("--json",), '{"columns":["a"],"types":[null],"rows":[{"a":"é"}],"txid":0,"exact":true}\n'),
    ):
        asked = run("sql", "agent-42", "SELECT 'é' AS a", *words, PYTHONIOENCODING="ascii")
        assert (asked.returncode, asked.stdout) == (0, expected)


def test_a_call_loads_neither_pydantic_nor_rich(run: Run, tmp_path: Path) -> None:
    run("db", "create", "agent-42")
    program = (
        "import sys\nfrom memoturn.faces.cli.main import app\n"
        "try: app(['sql', 'agent-42', 'SELECT 1', '--json'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print([name for name in ('pydantic', 'rich', 'asyncio', 'obstore') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment()
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_the_program(run: Run, shell: str) -> None:
    script = run("completions", shell).stdout
    assert "_MEMOTURN_COMPLETE" in script
    asked = run(
        _MEMOTURN_COMPLETE=f"complete_{shell}",
        COMP_WORDS="memoturn branch che",
        COMP_CWORD="2",
        _TYPER_COMPLETE_ARGS="memoturn branch che",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert "checkpoint" in asked.stdout
    assert "rewind" not in asked.stdout


def test_on_a_terminal_tables_are_drawn_and_progress_is_shown(run: Run, tmp_path: Path) -> None:
    run("db", "create", "agent-42")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*MEMOTURN, "db", "list"],
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env=environment() | {"TERM": "xterm"},
    )
    os.close(theirs)
    drawn = b""
    try:
        while piece := os.read(ours, 65536):
            drawn += piece
    except OSError:
        pass  # What Linux says when the last writer has gone.
    os.close(ours)
    assert process.wait() == 0
    assert "──" in drawn.decode()
    assert "agent-42" in drawn.decode()
