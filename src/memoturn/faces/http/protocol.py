"""uvicorn's reading of HTTP, with an end to heads that do not end: in length, and in time.

What is left of a body that was refused is no head of another request. It is read and thrown away, so that whoever
sends it reads the refusal, up to some length and for as long as a head may take; then the connection is closed.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_REST: Final = 16 << 20
_CODES: Final = {b"400": b"invalid_request", b"408": b"request_timeout", b"431": b"payload_too_large"}


def bounded(header_bytes: int, secs: float) -> type[HttpToolsProtocol]:
    """A protocol that closes a connection whose next head is longer, or is not there in time once it has begun."""

    class Bounded(HttpToolsProtocol):
        _head_bytes = 0
        _head_timer: asyncio.TimerHandle | None = None
        _is_whole = True
        """Whether the last request has come to its end."""
        _rest_timer: asyncio.TimerHandle | None = None
        _rest_bytes = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._await_head()

        def data_received(self, data: bytes) -> None:
            answered = self.cycle is not None and self.cycle.response_complete
            if answered and not self._is_whole:
                self._rest_bytes += len(data)
                if self._rest_bytes > _REST:
                    self.transport.close()
                    return
            elif answered and self._head_timer is None:
                self._await_head()
            if self._head_timer is not None:
                self._head_bytes += len(data)
                if self._head_bytes > header_bytes and self._head_length(data) > header_bytes:
                    self._refuse(
                        b"431 Request Header Fields Too Large", b"the head of the request is too long"
                    )
                    return
            super().data_received(data)

        def _head_length(self, data: bytes) -> int:
            """How long the head is so far; what follows it does not count."""
            end = data.find(b"\r\n\r\n")
            return self._head_bytes if end < 0 else self._head_bytes - len(data) + end

        def on_headers_complete(self) -> None:
            self._forget_timer()
            self._is_whole = False
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._is_whole = True
            self._forget_rest()
            super().on_message_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self._is_whole and not self.transport.is_closing():
                self._rest_bytes = 0
                self._rest_timer = self.loop.call_later(secs, self.transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_timer()
            self._forget_rest()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            self._refuse(b"400 Bad Request", b"that is no HTTP request")

        def _await_head(self) -> None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(secs, self._too_slow)

        def _forget_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _forget_rest(self) -> None:
            if self._rest_timer is not None:
                self._rest_timer.cancel()
                self._rest_timer = None

        def _too_slow(self) -> None:
            self._head_timer = None
            if not self.transport.is_closing():
                self._refuse(b"408 Request Timeout", b"the head of the request did not come in time")

        def _refuse(self, status: bytes, why: bytes) -> None:
            self._forget_timer()
            body = b'{"error":"%s","code":"%s"}' % (why, _CODES[status[:3]])
            self.transport.write(
                b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                % (status, len(body), body)
            )
            self.transport.close()

    return Bounded
