"""The examples of every page of the documentation run, and print what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, RUN, SHOWN, Shell, as_pattern, blocks_of, calls_of, run_page

PAGES = sorted((ROOT / "docs").glob("*.md"))
WITH_EXAMPLES = [
    page for page in PAGES if {block.language for block in blocks_of(page)} & {"python", "console"}
]
OWN_TEST = {"operations.md"}
"""Pages whose commands are shown for a store that has seen more than an example can; see `test_operations.py`."""


@pytest.mark.parametrize("page", [p for p in WITH_EXAMPLES if p.name not in OWN_TEST], ids=lambda p: p.stem)
def test_every_example_of_the_page_holds(page: Path, tmp_path: Path) -> None:
    assert run_page(page, tmp_path) <= {*RUN, *SHOWN}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda p: p.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_each_concept_has_a_page() -> None:
    concepts = {
        "quickstart",
        "branching",
        "point-in-time-recovery",
        "memories",
        "consistency",
        "tokens",
        "configuration",
    }
    assert concepts <= {page.stem for page in WITH_EXAMPLES}


def test_a_false_example_is_found(tmp_path: Path) -> None:
    for number, body in enumerate(
        (
            "```python\nassert 1 == 2\n```\n",
            "```console\n$ echo one\ntwo\n```\n",
            "```console\n$ echo one\n```\n",
        )
    ):
        page = tmp_path / f"{number}.md"
        page.write_text(body)
        (tmp_path / str(number)).mkdir()
        with pytest.raises(AssertionError):
            run_page(page, tmp_path / str(number))


def test_what_a_page_leaves_open_may_be_anything(tmp_path: Path) -> None:
    assert as_pattern("a … z\n").fullmatch("a b c z\n")
    assert not as_pattern("a … z\n").fullmatch("a\nz\n")
    assert as_pattern("a\n…\nz\n").fullmatch("a\nb\nc\nz\n")
    assert as_pattern("a  b\n").fullmatch("a      b\n")
    assert calls_of("$ one \\\n    --two   # why\nout\n$ three\n") == [
        ("one \\\n    --two", "out\n"),
        ("three", ""),
    ]
    assert Shell(tmp_path).call("memoturn --version").startswith("memoturn ")
