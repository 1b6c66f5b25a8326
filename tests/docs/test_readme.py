"""The README's Python runs as it stands, and its commands print what it says they print."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_every_block_of_the_readme_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    ran = set()
    for language, body in BLOCKS:
        if language == "python":
            exec(compile(body, "README.md", "exec"), names)
        elif language == "console":
            for command, expected in _calls(body):
                assert _as_pattern(expected).fullmatch(_run(command)), command
        ran.add(language)
    assert ran == {"python", "console", "sh"}


def test_the_makes_of_the_readme_are_targets() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)", README))
    assert {"demo", "test", "bench"} <= named <= targets


def test_the_readme_has_room_for_the_bench() -> None:
    before, _, rest = README.partition("<!-- bench:begin -->\n")
    assert "## Measured" in before
    assert "<!-- bench:end -->" in rest


def test_the_readme_names_every_setting(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "memoturn.faces.cli", "config"], capture_output=True, text=True, cwd=tmp_path
    )
    settings = re.findall(r"^MEMOTURN_\w+", shown.stdout, re.MULTILINE)
    assert len(settings) == 36
    assert [name for name in settings if f"`{name}`" not in README] == []


def _calls(body: str) -> list[tuple[str, str]]:
    """Each command of a console block with the lines below it."""
    calls = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
    return [(command, printed) for command, _, printed in (call.partition("\n") for call in calls)]


def _run(command: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MEMOTURN_")}
    words = shlex.split(command)
    assert words[0] == "memoturn"
    done = subprocess.run(
        [sys.executable, "-m", "memoturn.faces.cli", *words[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    return done.stdout


def _as_pattern(expected: str) -> re.Pattern[str]:
    """An ellipsis stands for anything, a run of spaces for any other."""
    parts = [re.sub(r"(\\ )+", " +", re.escape(part)) for part in expected.split("…")]
    return re.compile("[^\n]*".join(parts))
