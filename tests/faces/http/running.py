"""A real server on a real socket, in a thread of the test; and what tests ask of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import httpx

from memoturn.base.embedding import Embedder
from memoturn.base.settings import AuthSettings, ServerSettings, Settings
from memoturn.faces.http.serve import Listening, serve

FREE = ServerSettings(listen="127.0.0.1:0", control_per_second=0)
"""Any free port, and as many calls as come."""


class Running(NamedTuple):
    """A server, and a client of it."""

    url: str
    http: httpx.Client
    spool: Path

    def sql(self, db: str, *stmts: str, **headers: str) -> Any:
        """Run statements; the answer's JSON."""
        done = self.http.post(f"/v1/db/{db}/sql", json={"stmts": [{"q": q} for q in stmts]}, headers=headers)
        assert done.status_code == 200, done.text
        return done.json()


@contextmanager
def running(
    store: str,
    spool: Path,
    server: ServerSettings = FREE,
    settings: Settings | None = None,
    auth: AuthSettings | None = None,
    embedder: Embedder | None = None,
) -> Iterator[Running]:
    """A server that is there within the block, and has shipped and let go of the store after it."""
    told: SimpleQueue[Listening | BaseException] = SimpleQueue()

    def run() -> None:
        try:
            serve(
                store,
                settings or Settings(),
                server,
                auth or AuthSettings(),
                spool,
                embedder,
                told.put,
            )
        except BaseException as error:
            told.put(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    listening = told.get(timeout=120)
    if isinstance(listening, BaseException):
        thread.join()
        raise listening
    try:
        with httpx.Client(base_url=listening.url, timeout=60) as http:
            yield Running(listening.url, http, spool)
    finally:
        listening.stop()
        thread.join(timeout=60)
        assert not thread.is_alive()
