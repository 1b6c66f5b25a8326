"""A server that does as it is told: answers, keeps silent, or hangs up, step by step; and what it was asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

Step = Callable[[socket.socket], bool]
"""Does something on a connection; whether that goes on."""


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Scripted:
    """Where it is, and what it was asked."""

    url: str
    asked: list[Asked] = field(default_factory=list)

    @property
    def keys(self) -> list[str | None]:
        """The idempotency keys that came."""
        return [one.headers.get("idempotency-key") for one in self.asked]


def answer(status: int, body: object = b"", **headers: str) -> Step:
    """Answer with JSON, or with bytes."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(
        f"{name}: {value}\r\n" for name, value in ({"content-length": str(len(content))} | told).items()
    )

    def step(connection: socket.socket) -> bool:
        connection.sendall(f"HTTP/1.1 {status} x\r\n{head}\r\n".encode() + content)
        return True

    return step


def refusal(status: int, code: str, kind: str | None = None, **headers: str) -> Step:
    """Answer with an error."""
    body = {"error": f"it is {code}", "code": code} | ({} if kind is None else {"kind": kind})
    return answer(status, body, **headers)


def hang_up(connection: socket.socket) -> bool:
    """Close without an answer."""
    return False


def half(content: bytes, length: int) -> Step:
    """Promise more than comes."""

    def step(connection: socket.socket) -> bool:
        connection.sendall(
            f"HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nmemoturn-txid: 1\r\n\r\n".encode() + content
        )
        return False

    return step


@contextlib.contextmanager
def scripted(*steps: Step) -> Iterator[Scripted]:
    """Takes the steps one by one, each for one request; afterwards it hangs up."""
    left = list(steps)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Scripted(f"http://127.0.0.1:{listener.getsockname()[1]}")
        open_: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                open_.append(connection)
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection: socket.socket) -> None:
            with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError, ValueError):
                while (asked := _request(stream)) is not None:
                    server.asked.append(asked)
                    if not (left.pop(0) if left else hang_up)(connection):
                        connection.shutdown(socket.SHUT_RDWR)
                        return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            for connection in open_:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _request(stream: object) -> Asked | None:
    read = stream.readline  # type: ignore[attr-defined]
    first = read().decode()
    if not first:
        return None
    method, target, _ = first.split(" ")
    headers = {}
    while (line := read().decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(read(), 16):
            body += stream.read(size)  # type: ignore[attr-defined]
            read()
        read()
    else:
        body = stream.read(int(headers.get("content-length", 0)))  # type: ignore[attr-defined]
    return Asked(method, target, headers, body)
