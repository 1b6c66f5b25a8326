"""Opening a store: the engine with the guard that makes user SQL harmless on every connection."""

from __future__ import annotations

from functools import partial

from memoturn.base.clock import Clock
from memoturn.base.ids import Ids
from memoturn.base.settings import Settings
from memoturn.models.guard import protect
from memoturn.node.engine import Engine


def open_engine(url: str, settings: Settings, clock: Clock | None = None, ids: Ids | None = None) -> Engine:
    """The engine of a store. Raises `UnavailableError`, `UnconfiguredError` and `InvalidRequestError`."""
    return Engine(
        url, settings, prepare=partial(protect, settings=settings.sql, clock=clock), clock=clock, ids=ids
    )
