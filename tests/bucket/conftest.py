"""One bucket of every kind, for the tests that hold of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memoturn.base.clock import SystemClock
from memoturn.base.ids import Ids
from memoturn.bucket import Bucket, open_bucket


@pytest.fixture(params=["memory", "file"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bucket]:
    url = "memory:" if request.param == "memory" else f"file://{tmp_path}/bucket"
    opened = open_bucket(url, clock=SystemClock(), ids=Ids())
    yield opened
    opened.close()
