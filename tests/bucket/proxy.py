"""A proxy on the loopback that loses, spoils and invents answers, to see what a store's client makes of it."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


class Fault(Enum):
    """What becomes of one request."""

    ANSWER_LOST = "passed on, and the connection closed instead of an answer"
    FAILED_AFTER = "passed on, and answered with 503"
    REQUEST_LOST = "not passed on, and the connection closed"
    FAILED_BEFORE = "not passed on, and answered with 503"
    CONFLICT = "not passed on, and answered with 409"

    @property
    def passes_on(self) -> bool:
        return self in (Fault.ANSWER_LOST, Fault.FAILED_AFTER)


class Proxy:
    """Passes requests on to `target`; those of a method in `faults` meet the faults there, one each."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[str] = []
        self.lock = threading.Lock()

    def next_fault(self, method: str) -> Fault | None:
        with self.lock:
            self.requests.append(method)
            waiting = self.faults.get(method)
            return waiting.pop(0) if waiting else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.next_fault(self.command)
        status, headers, answer = 503, [("Content-Type", "text/plain")], b"spoiled"
        if fault is None or fault.passes_on:
            real = self.pass_on(body)
            if fault is None:
                status, headers, answer = real
        if fault is Fault.CONFLICT:
            status = 409
        if fault in (Fault.ANSWER_LOST, Fault.REQUEST_LOST):
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - the names http.server calls

    def pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.proxy.target, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            answer = response.read()
            kept = HOP_BY_HOP - ({"content-length"} if self.command == "HEAD" else set())
            return response.status, [h for h in response.getheaders() if h[0].lower() not in kept], answer
        finally:
            connection.close()


@contextlib.contextmanager
def proxied(target: str) -> Iterator[tuple[str, Proxy]]:
    """The proxy before `target`, a URL, and the URL that takes its place."""
    proxy = Proxy(target)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
