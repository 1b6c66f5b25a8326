"""Stores in which nothing happens in the background: what these tests look at happens by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from memoturn.base.settings import MaintenanceSettings, Settings
from memoturn.faces.embedded.client import Memoturn
from tests.conftest import Opener
from tests.support import ManualClock


@pytest.fixture
def open_store(clock: ManualClock) -> Iterator[Opener]:
    """Opens stores, by the test's clock and without background work unless it says otherwise."""
    opened: list[Memoturn] = []

    def open_(url: str = "memory:", **options: Any) -> Memoturn:
        quiet = Settings(maintenance=MaintenanceSettings(on=False))
        opened.append(Memoturn(url, **{"clock": clock, "settings": quiet, **options}))
        return opened[-1]

    yield open_
    for mt in reversed(opened):
        mt.close()
