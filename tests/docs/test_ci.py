"""What `.ci/run` makes of tools that are missing, and of tools that cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "run"
TOOLS = ("bash", "dirname", "mkdir", "sed", "tail", "timeout", "touch")


def run(root: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run the script with nothing on the path but the tools that it takes for granted, and `programs`."""
    path = root / "bin"
    path.mkdir()
    (root / ".ci").mkdir()
    shutil.copy(SCRIPT, root / ".ci" / "run")
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (path / tool).symlink_to(found)
    for name, body in {"make": "echo make $*", **programs}.items():
        (path / name).write_text(f"#!{path / 'bash'}\n{body}\n")
        (path / name).chmod(0o755)
    return subprocess.run(
        [path / "bash", root / ".ci" / "run"],
        env={**os.environ, "PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_where_go_and_npm_are_missing_that_is_said_and_the_rest_is_run(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("SKIPPED") == 2
    assert "make test" in done.stdout


@pytest.mark.parametrize("program", ["go", "npm"])
def test_a_tool_that_cannot_be_installed_is_a_failure(tmp_path: Path, program: str) -> None:
    done = run(tmp_path, **{program: "echo no such module; exit 1"})
    assert done.returncode != 0
    assert "FAILED" in done.stdout
    assert "no such module" in done.stdout
    assert "make test" not in done.stdout
