"""One bucket of every kind, for the tests that hold of all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memoturn.base.clock import SystemClock
from memoturn.base.ids import Ids
from memoturn.bucket import Bucket, open_bucket
from tests.bucket.services import SERVICES, Service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Service]]:
    """Starts a store when it is first asked for; all end with the tests."""
    with contextlib.ExitStack() as stack:
        started: dict[str, Service] = {}

        def start(name: str) -> Service:
            if name not in started:
                started[name] = stack.enter_context(SERVICES[name](tmp_path_factory.mktemp(name)))
            return started[name]

        yield start


@pytest.fixture(params=["memory", "file", *SERVICES])
def bucket(
    request: pytest.FixtureRequest, tmp_path: Path, service: Callable[[str], Service]
) -> Iterator[Bucket]:
    clock, ids = SystemClock(), Ids()
    if request.param == "memory":
        opened = open_bucket("memory:", clock=clock, ids=ids)
    elif request.param == "file":
        opened = open_bucket(f"file://{tmp_path}/bucket", clock=clock, ids=ids)
    else:
        store = service(request.param)
        opened = open_bucket(f"{store.url}/{ids.token()}", clock=clock, ids=ids, options=store.options)
    yield opened
    opened.close()
