"""One suite, three clients: on a store, on a server, and on a server with an event loop."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from memoturn import AsyncMemoturn, Memoturn
from tests.faces.http.running import running

KINDS = ("embedded", "http", "async")
_names = itertools.count(1)


class Awaited:
    """An async client as if it were none: what it would have awaited is run on a loop in a thread."""

    def __init__(self, portal: BlockingPortal, target: Any) -> None:
        self._portal = portal
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if inspect.iscoroutine(value):
            return self._done(value)
        return self._calling(value) if inspect.ismethod(value) else self._shown(value)

    def __repr__(self) -> str:
        return repr(self._target).replace("Async", "", 1)

    def _calling(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            result = method(*given, **named)
            if inspect.isasyncgen(result):
                return self._each(result)
            return self._done(result) if inspect.iscoroutine(result) else self._shown(result)

        return call

    def _done(self, coroutine: Any) -> Any:
        async def wait() -> Any:
            return await coroutine

        return self._shown(self._portal.call(wait))

    def _each(self, generator: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._portal.call(generator.__anext__)
                except StopAsyncIteration:
                    return
        finally:
            self._portal.call(generator.aclose)

    def _shown(self, value: Any) -> Any:
        ours = type(value).__module__.startswith("memoturn.faces.client.aio")
        return Awaited(self._portal, value) if ours else value


@pytest.fixture(scope="session", params=KINDS)
def mt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a store of its own, on which all tests of a kind work."""
    home = tmp_path_factory.mktemp(str(request.param))
    with ExitStack() as stack:
        if request.param == "embedded":
            yield stack.enter_context(Memoturn(f"file:{home}/store"))
            return
        server = stack.enter_context(running(f"file:{home}/store", home / "spool"))
        if request.param == "http":
            yield stack.enter_context(Memoturn(server.url))
            return
        portal = stack.enter_context(start_blocking_portal())
        client = AsyncMemoturn(server.url)
        stack.callback(portal.call, client.close)
        yield Awaited(portal, client)


@pytest.fixture
def name(mt: Any) -> str:
    """The name of a new, empty database."""
    chosen = f"db-{next(_names)}"
    mt.databases.create(chosen)
    return chosen


@pytest.fixture
def db(mt: Any, name: str) -> Any:
    """A handle to a new, empty database."""
    return mt.db(name)


@pytest.fixture
def profile(mt: Any) -> Any:
    """A handle to a profile that has nothing yet."""
    return mt.memory("acme", f"p{next(_names)}")
