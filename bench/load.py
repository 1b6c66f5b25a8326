"""A load over HTTP/1.1 that takes little work of its own: bytes that were made before, on raw sockets.

`python -m bench.load URL PATH FILE` posts a file.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.measure import Times, times_of


def request(method: str, path: str, body: bytes | object = b"") -> bytes:
    """A whole request; `body` is sent as it is, or as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = b"" if isinstance(body, bytes) else b"content-type: application/json\r\n"
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(data)}\r\n".encode()
    return head + kind + b"\r\n" + data


class Connection:
    """One connection that is kept open."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def call(self, sent: bytes) -> bytes:
        """Send a request and read its answer; returns the body. Raises `RuntimeError` if it is an error."""
        self.socket.sendall(sent)
        while True:
            self._read += self.socket.recv(1 << 16)
            answer = self.answer()
            if answer is not None:
                return answer

    def answer(self) -> bytes | None:
        """The body of the answer that has come, or None if it is not whole yet."""
        end = self._read.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self._read[:end].lower()
        start = head.find(b"content-length: ")
        length = int(head[start + 16 : head.find(b"\r", start + 16) % (len(head) + 1)]) if start >= 0 else 0
        if len(self._read) < end + 4 + length:
            return None
        body, self._read = self._read[end + 4 : end + 4 + length], self._read[end + 4 + length :]
        if not head.startswith(b"http/1.1 2"):
            raise RuntimeError(f"{head.decode()}\n{body.decode()}")
        return body

    def ask(self, method: str, path: str, body: bytes | object = b"") -> Any:
        """`call` once; the JSON of the answer, None if it is empty."""
        answer = self.call(request(method, path, body))
        return json.loads(answer) if answer else None

    def post_file(self, path: str, file: Path) -> bytes:
        """Post a file; returns the body of the answer."""
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {file.stat().st_size}\r\n\r\n"
        self.socket.sendall(head.encode())
        with file.open("rb") as source:
            self.socket.sendfile(source)
        return self.call(b"")

    def close(self) -> None:
        """Let go of it."""
        self.socket.close()


def per_second(url: str, requests: Sequence[Callable[[int], bytes]], seconds: float) -> float:
    """Answers a second, with one connection for each of `requests`, which make its next request from a number."""
    connections = [Connection(url) for _ in requests]
    with selectors.DefaultSelector() as selector:
        for place, connection in enumerate(connections):
            connection.socket.setblocking(False)
            selector.register(connection.socket, selectors.EVENT_READ, place)
            connection.socket.send(requests[place](0))
        count, numbers = 0, [0] * len(requests)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            for key, _ in selector.select(1.0):
                connection = connections[key.data]
                connection._read += connection.socket.recv(1 << 16)
                if connection.answer() is not None:
                    count += 1
                    numbers[key.data] += 1
                    connection.socket.send(requests[key.data](numbers[key.data]))
        took = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return count / took


def latencies(connection: Connection, sent: bytes, until: Callable[[], bool], pause: float = 0.002) -> Times:
    """One request after another, with a pause between them, until there is enough."""
    samples = []
    while not until():
        start = time.perf_counter_ns()
        connection.call(sent)
        samples.append(time.perf_counter_ns() - start)
        time.sleep(pause)
    return times_of(samples)


if __name__ == "__main__":
    server, path, name = sys.argv[1:]
    Connection(server).post_file(path, Path(name))
