"""Servers for tests: one for all that only ask, as each starts in a third of a second."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.faces.http.running import Running, running

_names = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server on a store of files."""
    directory = tmp_path_factory.mktemp("served")
    with running(f"file:{directory}/store", directory / "spool") as found:
        yield found


@pytest.fixture
def name(server: Running) -> str:
    """The name of a new, empty database on the server."""
    chosen = f"db-{next(_names)}"
    server.http.post("/v1/databases", json={"name": chosen}).raise_for_status()
    return chosen
