"""What `.ci/run` makes of tools that are missing, and of tools that cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "run"
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
    for name, body in {"make": "echo make $* NO_SKIPS=$NO_SKIPS", **programs}.items():
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
    assert "make test NO_SKIPS=0" in done.stdout


def test_where_all_tools_are_nothing_is_skipped(tmp_path: Path) -> None:
    done = run(tmp_path, go="exit 0", npm="exit 0")
    assert done.returncode == 0, done.stderr
    assert "SKIPPED" not in done.stdout
    assert "make test NO_SKIPS=1" in done.stdout


@pytest.mark.parametrize(("value", "failed"), [("1", True), ("0", False)])
def test_a_test_that_is_skipped_has_failed_where_nothing_may_be(
    tmp_path: Path, value: str, failed: bool
) -> None:
    (tmp_path / "test_skipped.py").write_text(
        "import pytest\n"
        "def test_in_itself():\n    pytest.skip('no tool')\n"
        "@pytest.mark.skipif(True, reason='no luck')\ndef test_by_a_mark():\n    pass\n"
        "@pytest.mark.xfail\ndef test_that_is_known_to_fail():\n    assert False\n"
    )
    (tmp_path / "test_module.py").write_text(
        "import pytest\npytest.skip('no way', allow_module_level=True)\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.no_skips", "-p", "no:cacheprovider", "-rs"),
            *("--continue-on-collection-errors", tmp_path),
        ],
        cwd=ROOT,
        env={**os.environ, "NO_SKIPS": value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == failed, done.stdout
    for why in ("no tool", "no luck", "no way"):
        assert why in done.stdout
    assert ("1 failed, 1 xfailed, 2 errors" if failed else "3 skipped, 1 xfailed") in done.stdout, done.stdout


@pytest.mark.parametrize("program", ["go", "npm"])
def test_a_tool_that_cannot_be_installed_is_a_failure(tmp_path: Path, program: str) -> None:
    done = run(tmp_path, **{program: "echo no such module; exit 1"})
    assert done.returncode != 0
    assert "FAILED" in done.stdout
    assert "no such module" in done.stdout
    assert "make test" not in done.stdout
