"""Sending an answer: at once, or piece by piece as whoever asked takes it; and for no longer than that may take."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from memoturn.base.deadline import Deadline
from memoturn.base.errors import RequestTimeoutError
from memoturn.faces.http import logs
from memoturn.faces.http.call import Call, Stream
from memoturn.faces.http.callers import Receive, left
from memoturn.faces.http.dispatch import Dispatch
from memoturn.faces.http.work import Sent

Send = Callable[[Any], Coroutine[Any, Any, None]]
Headers = list[tuple[bytes, bytes]]

_BUFFERED: Final = 65_536
"""What is shorter goes out without waiting for whoever asked."""


class Sender:
    """Sends answers; those that come in pieces have each made by a thread."""

    def __init__(self, dispatch: Dispatch, secs: float, monotonic: Callable[[], float]) -> None:
        self._dispatch = dispatch
        self._secs = secs
        self._monotonic = monotonic

    async def send(
        self, sent: Sent, more: Headers, head_only: bool, call: Call | None, receive: Receive, send: Send
    ) -> bool:
        """Send the answer with `more` headers; returns whether whoever asked has left before its end."""
        await send({"type": "http.response.start", "status": sent.status, "headers": [*sent.headers, *more]})
        if head_only:
            await send({"type": "http.response.body", "body": b""})
            return False
        if isinstance(sent.body, Stream):
            assert call is not None
            return await self._stream(sent.body, call, receive, send)
        if len(sent.body) < _BUFFERED:
            await send({"type": "http.response.body", "body": sent.body})
            return False
        try:
            async with asyncio.timeout(self._secs):
                await send({"type": "http.response.body", "body": sent.body})
        except TimeoutError:
            return True  # Whoever asked does not take the answer; the connection is closed.
        return False

    async def _stream(self, stream: Stream, call: Call, receive: Receive, send: Send) -> bool:
        leaving = asyncio.ensure_future(left(receive))
        pieces = stream.pieces
        try:
            while not leaving.done():
                piece = await self._dispatch.submit(call, partial(next, pieces, None), call.deadline)
                if piece is None:
                    await send({"type": "http.response.body", "body": b""})
                    return False
                async with asyncio.timeout(max(call.deadline.due - self._monotonic(), 0.0)):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        # Its head has gone out already: all that can be told, by closing the connection, is that it ends early.
        except (TimeoutError, RequestTimeoutError):
            pass
        except Exception as error:
            logs.request_id.set(call.request_id)
            logs.fault(error)
        finally:
            leaving.cancel()
            close = getattr(pieces, "close", None)
            if close is not None:
                with contextlib.suppress(Exception):
                    await self._dispatch.submit(call, close, Deadline())
        return True
