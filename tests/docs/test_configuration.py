"""docs/configuration.md names every setting, once, with the default that it has."""

from __future__ import annotations

import re
from collections import Counter

from memoturn.faces.cli.settings import configure
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "configuration.md").read_text()
TOLD = re.findall(r"^\| `(MEMOTURN_\w+)` \| (.+?) \|", PAGE, re.MULTILINE)
SHOWN = {setting.name: setting.value for setting in configure(None, {}).shown}
PLACES = {"MEMOTURN_OBJECT_STORE", "MEMOTURN_DATA_DIR"}
"""Shown as the absolute paths that they come to."""


def test_every_setting_has_its_row() -> None:
    assert Counter(name for name, _ in TOLD) == Counter(list(SHOWN))


def test_the_defaults_are_those_that_are() -> None:
    for name, told in TOLD:
        if name not in PLACES:
            value = "none" if SHOWN[name] is None else str(SHOWN[name])
            assert told.replace(",", "").strip("`") == value, name


def test_every_setting_that_any_page_names_is_one() -> None:
    for page in [
        *(ROOT / "docs").glob("*.md"),
        ROOT / "README.md",
        ROOT / "compose.yaml",
        ROOT / "Dockerfile",
    ]:
        named = set(re.findall(r"MEMOTURN_[A-Z_]*[A-Z]", page.read_text()))
        assert named <= set(SHOWN), page.name
