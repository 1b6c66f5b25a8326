"""The application: a pipeline for requests, and the pages that need no database, inside Litestar."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send

from memoturn.base.errors import MemoturnError
from memoturn.faces.http import docs, openapi
from memoturn.faces.http.call import Context
from memoturn.faces.http.pipeline import Pipeline
from memoturn.faces.http.spool import sweep
from memoturn.faces.wire.answers import Health
from memoturn.faces.wire.routes import HTML, JSON


def application(context: Context) -> Litestar:
    """The ASGI application. It works from its startup on, and finishes what it has begun at its shutdown.

    The engine stays open: whoever has opened it closes it.
    """
    pipeline = Pipeline(context)
    document, page = openapi.encoded(), docs.page()

    def readyz() -> tuple[int, str, bytes]:
        if pipeline.is_closing:
            return 503, JSON, msgspec.json.encode(Health("closing"))
        try:
            context.engine.check_open()
        except MemoturnError:
            return 503, JSON, msgspec.json.encode(Health("unavailable"))
        return 200, JSON, msgspec.json.encode(Health("ok"))

    pipeline.pages = {
        "open.healthz": lambda: (200, JSON, msgspec.json.encode(Health("ok"))),
        "open.readyz": readyz,
        "open.openapi": lambda: (200, JSON, document),
        "open.docs": lambda: (200, HTML, page),
    }

    # Litestar's own routing takes paths without their escapes, and so cannot tell a slash in a name from one
    # between names.
    @asgi("/", is_mount=True, copy_scope=False)
    async def everything(scope: Scope, receive: Receive, send: Send) -> None:
        await pipeline.handle(scope, receive, send)  # type: ignore[arg-type]

    @asynccontextmanager
    async def life(_app: Litestar) -> AsyncIterator[None]:
        sweep(context.spool)
        pipeline.start()
        try:
            yield
        finally:
            await pipeline.stop()

    app = Litestar([everything], lifespan=[life], openapi_config=None, logging_config=None)
    app.state.pipeline = pipeline
    return app
