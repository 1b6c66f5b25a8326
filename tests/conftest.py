"""Stores for the tests of all rooms above the bucket; each is closed when its test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

from memoturn.base.settings import MaintenanceSettings, Settings
from memoturn.faces.embedded.client import Database, Memoturn
from tests.no_skips import pytest_make_collect_report, pytest_runtest_makereport
from tests.support import ManualClock

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport"]

# How long an example takes says how busy the machine is, not whether a property holds.
settings.register_profile(
    "memoturn",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("memoturn")

QUIET: Final = Settings(maintenance=MaintenanceSettings(on=False))

Opener = Callable[..., Memoturn]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def open_store(clock: ManualClock) -> Iterator[Opener]:
    """Opens stores, by the clock of the test and without background work unless it says otherwise."""
    opened: list[Memoturn] = []

    def open_(url: str = "memory:", **options: Any) -> Memoturn:
        opened.append(Memoturn(url, **{"clock": clock, "settings": QUIET, **options}))
        return opened[-1]

    yield open_
    for mt in reversed(opened):
        mt.close()


@pytest.fixture
def mt(open_store: Opener) -> Memoturn:
    """An empty store in memory."""
    return open_store()


@pytest.fixture
def db(mt: Memoturn) -> Database:
    """A database `x` in memory with an empty table `t(v)` at txid 1."""
    mt.databases.create("x")
    handle = mt.db("x")
    handle.sql("CREATE TABLE t(v)")
    return handle


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"file:{tmp_path}/store"
