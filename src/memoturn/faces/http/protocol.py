"""uvicorn's reading of HTTP, with an end to heads that do not end: in length, and in time."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def bounded(header_bytes: int, secs: float) -> type[HttpToolsProtocol]:
    """A protocol that closes a connection whose next head is longer, or is not there in time once it has begun."""

    class Bounded(HttpToolsProtocol):
        _head_bytes = 0
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._await_head()

        def data_received(self, data: bytes) -> None:
            if self._head_timer is None and self.cycle is not None and self.cycle.response_complete:
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
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_timer()
            super().connection_lost(exc)

        def _await_head(self) -> None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(secs, self._too_slow)

        def _forget_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _too_slow(self) -> None:
            self._head_timer = None
            if not self.transport.is_closing():
                self._refuse(b"408 Request Timeout", b"the head of the request did not come in time")

        def _refuse(self, status: bytes, why: bytes) -> None:
            self._forget_timer()
            code = b"request_timeout" if status.startswith(b"408") else b"payload_too_large"
            body = b'{"error":"%s","code":"%s"}' % (why, code)
            self.transport.write(
                b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                % (status, len(body), body)
            )
            self.transport.close()

    return Bounded
