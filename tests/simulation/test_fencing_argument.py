"""The fencing argument names the code that it rests on; what it names must be there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import memoturn
from memoturn.database import recovery
from memoturn.database.branch import Branch
from memoturn.database.environment import Environment
from memoturn.manifest import rules
from memoturn.manifest.register import Register

TEXT = (Path(__file__).parents[2] / "docs" / "fencing.md").read_text()
SOURCE = Path(memoturn.__file__).parent
OWNERS: dict[str, Any] = {
    "Branch": Branch,
    "Environment": Environment,
    "Register": Register,
    "recovery": recovery,
    "rules": rules,
}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z_/]+\.py)`", TEXT))))
def test_every_file_of_the_argument_exists(path: str) -> None:
    assert (SOURCE / path).is_file()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([A-Za-z]+\.[a-z_]+)`", TEXT))))
def test_every_name_of_the_argument_exists(name: str) -> None:
    owner, _, attribute = name.partition(".")
    assert hasattr(OWNERS[owner], attribute)


def test_only_a_take_over_raises_the_epoch() -> None:
    callers = [
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if "rules.take(" in path.read_text() or "epoch=manifest.epoch + 1" in path.read_text()
    ]
    assert len(callers) == 2, callers
    assert "manifest/rules.py" in callers
