"""Reading the body of a request: so much of it and no more, and not for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from memoturn.base.errors import PayloadTooLargeError, RequestTimeoutError
from memoturn.base.settings import ServerSettings
from memoturn.faces.http.call import Call
from memoturn.faces.http.callers import Gone, Receive
from memoturn.faces.http.lanes import Lane
from memoturn.faces.http.spool import spool
from memoturn.faces.wire.routes import LINES, SQLITE, Route


def allowed(route: Route, settings: ServerSettings) -> tuple[float, str]:
    """How many seconds a request may take, its body included, and the setting that says so."""
    if route.long:
        return settings.long_request_secs, "MEMOTURN_LONG_REQUEST_SECS"
    return settings.request_secs, "MEMOTURN_REQUEST_SECS"


async def take_body(call: Call, receive: Receive, long: Lane) -> None:
    """Read the body, into memory, or by threads of the lane `long` into a file.

    Raises `Gone`, `PayloadTooLargeError` and `RequestTimeoutError`.
    """
    route, settings = call.route, call.context.settings
    if route.body in (SQLITE, LINES):
        most, name = settings.import_bytes, "MEMOTURN_IMPORT_BYTES"
    elif route.plane == "control":
        most, name = settings.control_body_bytes, "MEMOTURN_CONTROL_BODY_BYTES"
    else:
        most, name = settings.body_bytes, "MEMOTURN_BODY_BYTES"
    too_large = PayloadTooLargeError(f"the body has more than {most} bytes ({name}); send less at a time")
    said = call.headers.get("content-length")
    if said is not None and said.isdigit() and int(said) > most:
        raise too_large
    left = call.deadline.due - call.engine.clock.monotonic()
    try:
        async with asyncio.timeout(max(left, 0.0)):
            if route.body in (SQLITE, LINES):
                pieces = _pieces(receive, most, too_large)
                await spool(call, pieces, long)
                return
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            body = message.get("body", b"")
            if message.get("more_body"):
                collected = bytearray(body)
                async for piece in _pieces(receive, most - len(body), too_large):
                    collected += piece
                body = collected
            if len(body) > most:
                raise too_large
            call.body = body
    except TimeoutError:
        secs, setting = allowed(route, settings)
        raise RequestTimeoutError(f"the body did not come within {secs:g} seconds ({setting})") from None


async def _pieces(receive: Receive, most: int, too_large: PayloadTooLargeError) -> Any:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        piece = message.get("body", b"")
        most -= len(piece)
        if most < 0:
            raise too_large
        yield piece
        if not message.get("more_body"):
            return
