"""The server as a process: it opens the store, listens, works, and on a signal finishes what it has begun."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import uvicorn

from memoturn.base.embedding import Embedder
from memoturn.base.errors import InvalidRequestError, UnavailableError
from memoturn.base.settings import AuthSettings, ServerSettings, Settings
from memoturn.faces.http import startup
from memoturn.faces.http.app import application
from memoturn.faces.http.call import Context
from memoturn.faces.http.metrics import Metrics, Requests
from memoturn.faces.http.pipeline import Pipeline
from memoturn.faces.http.protocol import bounded
from memoturn.faces.http.tokens import Tokens
from memoturn.faces.http.traces import tracer
from memoturn.operations.measures import measure
from memoturn.operations.opening import open_engine

_BACKLOG = 2048
_SWITCH_SECS = 0.0005
"""How long a thread may keep the interpreter while others want it."""


class Listening(NamedTuple):
    """What a server tells when it is about to take requests."""

    url: str
    store: str
    auth: bool
    warnings: list[str]
    stop: Callable[[], None]
    """Ends it as a signal does; from any thread."""


def serve(
    store: str,
    settings: Settings,
    server: ServerSettings,
    auth: AuthSettings,
    spool: Path,
    embedder: Embedder | None = None,
    tell: Callable[[Listening], None] | None = None,
) -> None:
    """Serve a store until a signal comes. Raises `UnconfiguredError` and `UnavailableError` before it listens."""
    host, port = parse_listen(server.listen)
    start = startup.check(auth, host)
    listener = _listen(host, port)
    with contextlib.closing(listener), contextlib.closing(open_engine(store, settings)) as engine:
        tokens = None if start.keys is None else Tokens(start.keys, engine.clock, engine.ids)
        requests = Requests()
        metrics = Metrics(requests, partial(measure, engine))
        context = Context(engine, server, spool, embedder, tokens, requests, metrics, tracer())
        app = application(context)
        config = uvicorn.Config(
            app,
            http=bounded(server.header_bytes, server.request_secs),
            loop="uvloop" if sys.platform != "win32" else "asyncio",
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, int(server.shutdown_secs)),
            backlog=_BACKLOG,
        )
        runner = _Server(config, app.state.pipeline)
        bound_host, bound_port = listener.getsockname()[:2]
        if tell is not None:
            shown = f"[{bound_host}]" if ":" in bound_host else bound_host
            tell(
                Listening(
                    f"http://{shown}:{bound_port}", store, tokens is not None, start.warnings, runner.stop
                )
            )
        sys.setswitchinterval(_SWITCH_SECS)
        # What was loaded so far lives as long as the server: looking through it again takes 20 ms each time.
        gc.collect()
        gc.freeze()
        with _deaf_to_signals(), asyncio.Runner(loop_factory=config.get_loop_factory()) as loop:
            loop.run(runner.serve(sockets=[listener]))
        gc.unfreeze()
        if not runner.started:
            raise UnavailableError("the server could not start; the log says why")


@contextlib.contextmanager
def _deaf_to_signals() -> Iterator[None]:
    """uvicorn raises a signal again when it has finished: that must not end a process that has not shipped yet."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """One that says so before it stops."""

    def __init__(self, config: uvicorn.Config, pipeline: Pipeline) -> None:
        super().__init__(config)
        self._pipeline = pipeline

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._pipeline.is_closing = True
        super().handle_exit(sig, frame)

    def stop(self) -> None:
        """End as a signal does; from any thread."""
        self._pipeline.is_closing = True
        self.should_exit = True


def parse_listen(text: str) -> tuple[str, int]:
    """The host and port of `host:port`; `[::1]:8080` for IPv6. Raises `InvalidRequestError`."""
    host, colon, port = text.rpartition(":")
    bare = host.startswith("[") and host.endswith("]")
    if (
        not colon
        or not (port.isascii() and port.isdigit())
        or int(port) > 65535
        or (":" in host and not bare)
    ):
        raise InvalidRequestError(
            f"MEMOTURN_LISTEN {text!r} is no address; write host:port, such as 127.0.0.1:8080 or [::1]:8080"
        )
    return host.strip("[]"), int(port)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `UnavailableError`."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(_BACKLOG)  # From now on nobody is turned away, and waits at most for the start.
        except BaseException:
            listener.close()
            raise
        return listener
    except OSError as error:
        raise UnavailableError(f"nothing can listen at {host}:{port}: {error.strerror}") from error
