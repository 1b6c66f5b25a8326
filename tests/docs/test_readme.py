"""The README's Python runs as it stands, and its commands print what it says they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT, run_page

README = (ROOT / "README.md").read_text()


def test_every_block_of_the_readme_holds(tmp_path: Path) -> None:
    assert run_page(ROOT / "README.md", tmp_path) == {"python", "console", "sh"}


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
    assert len(settings) == 45
    assert [name for name in settings if f"`{name}`" not in README] == []
