"""Whatever comes in, the server answers or hangs up, tells nothing of its inside, and nothing stays held."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoturn.base.settings import Settings
from memoturn.faces.http.call import Context
from memoturn.faces.http.pipeline import Pipeline
from memoturn.operations.opening import open_engine
from tests.faces.http.running import FREE, Running, running
from tests.faces.http.test_limits import FOREVER

CODES = {200, 201, 204, 304, 400, 401, 403, 404, 405, 408, 409, 410, 413, 429, 431, 503}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that does not wait long."""
    directory = tmp_path_factory.mktemp("hostile")
    with running(f"file:{directory}/store", directory / "spool", replace(FREE, request_secs=3)) as server:
        server.http.post("/v1/databases", json={"name": "a"}).raise_for_status()
        server.sql("a", "CREATE TABLE t(x)")
        yield server


def connect(server: Running) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def exchange(server: Running, sent: bytes) -> bytes:
    """What comes back until the server hangs up."""
    with connect(server) as connection:
        connection.sendall(sent)
        found = b""
        while piece := connection.recv(65536):
            found += piece
        return found


def settled(server: Running) -> None:
    """Wait until nothing is in flight but this question itself."""
    while b"memoturn_requests_in_flight 1.0" not in server.http.get("/metrics").content:
        pass


def writable(server: Running) -> None:
    assert server.http.put("/v1/db/a/kv/n/k", content=b"1").status_code == 200


# Connections.


def test_a_head_that_does_not_end_is_hung_up_on(target: Running) -> None:
    assert exchange(target, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n").startswith(b"HTTP/1.1 408 ")
    assert exchange(target, b"").startswith(b"HTTP/1.1 408 ")


def test_a_body_that_does_not_come_is_refused(target: Running) -> None:
    head = b"PUT /v1/db/a/kv/n/k HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 10\r\n\r\n123"
    answer = exchange(target, head)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer
    settled(target)
    writable(target)


REFUSED = b"POST /v1/databases HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2000000\r\n\r\n"
"""Of its body half is too much."""


def answered(connection: socket.socket) -> bytes:
    """The next answer on a connection: its status line, for a body that has come with the head."""
    found = b""
    while b"\r\n\r\n" not in found or not found.endswith(b"}"):
        piece = connection.recv(65536)
        assert piece, found
        found += piece
    return found.partition(b"\r\n")[0]


def test_what_is_left_of_a_refused_body_is_no_request(target: Running) -> None:
    with connect(target) as connection:
        for _ in range(2):
            connection.sendall(REFUSED + bytes(200_000))
            assert answered(connection) == b"HTTP/1.1 413 Request Entity Too Large"
            for _ in range(18):
                connection.sendall(bytes(100_000))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert answered(connection) == b"HTTP/1.1 200 OK"


def test_a_refused_body_that_does_not_end_is_hung_up_on(target: Running) -> None:
    with connect(target) as connection:
        connection.sendall(REFUSED + bytes(1000))
        assert answered(connection) == b"HTTP/1.1 413 Request Entity Too Large"
        assert connection.recv(1) == b""
    settled(target)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PUT /v1/db/a/kv/n/k HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"PUT /v1/db/a/kv/n/k HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET /v1/db/\xff HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"GET http://localhost/v1/db/a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(target: Running, sent: bytes) -> None:
    answer = exchange(target, sent)
    assert answer[:11] in (b"HTTP/1.1 40", b"HTTP/1.1 20")
    assert answer[9:12] == b"200" or json.loads(answer.partition(b"\r\n\r\n")[2])["code"]
    writable(target)


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v1/db/a/sql HTTP/1.1\r\nhost: loc",
        b"PUT /v1/db/a/kv/n/k HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nabc",
        b"POST /v1/databases/x/import HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000000\r\n\r\n"
        + bytes(2_000_000),
        b"GET /v1/databases/a/export HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /v1/db/a/kv/n/k HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ],
)
def test_who_leaves_early_leaves_nothing_behind(target: Running, sent: bytes) -> None:
    for linger in (b"\x01\x00\x00\x00\x00\x00\x00\x00", b"\x00" * 8):
        with connect(target) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.sendall(sent)
    settled(target)
    writable(target)
    assert list(target.spool.glob("*")) == []


def test_work_for_nobody_is_stopped(tmp_path: Path) -> None:
    with running("memory:", tmp_path) as server:  # It would take 30 seconds.
        server.http.post("/v1/databases", json={"name": "a"})
        server.sql("a", "CREATE TABLE t(x)")
        body = json.dumps({"stmts": [{"q": f"INSERT INTO t {FOREVER}"}]}).encode()
        with connect(server) as connection:
            head = b"POST /v1/db/a/sql HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)
            while b"memoturn_requests_in_flight 2.0" not in server.http.get("/metrics").content:
                pass
        settled(server)
        writable(server)


# Content.


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"stmts":' * 50_000,
        b'{"stmts":[{"q":"SELECT ?","params":[' + b"[" * 5000 + b"]" * 5000 + b"]}]}",
        b'{"stmts":[{"q":"SELECT 1","params":[1e999]}]}',
        b'{"stmts":[{"q":"SELECT \xff"}]}',
        b'{"stmts":[{"q":"SELECT \\ud800"}]}',
        b'{"stmts":[{"q":"SELECT ?","params":[123456789012345678901234567890]}]}',
        b'{"stmts":[{"q":"SELECT ?","params":{"$base64":"AA=="}}]}',
        b'{"stmts":{}}',
        b"null",
        b"\xef\xbb\xbf{}",
        b'{"stmts":[{"q":"SELECT CAST(x\'ff80\' AS TEXT)"}]}',
        b'{"stmts":[{"q":"SELECT 1e999, -1e999, 9223372036854775807, zeroblob(3), NULL"}]}',
        b'{"stmts":[{"q":"SELECT char(0) || char(55296) AS x"}]}',
    ],
)
def test_strange_bodies_are_answered(target: Running, body: bytes) -> None:
    for path in ("/v1/db/a/sql", "/v1/db/a/docs/c/insert", "/v1/memory/n/p/memories", "/v1/databases"):
        answer = target.http.post(path, content=body)
        assert answer.status_code in CODES, answer.text
        assert "Traceback" not in answer.text
        answer.json()
    writable(target)


@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "X"]),
    path=st.lists(
        st.sampled_from(["v1", "db", "databases", "a", "a@main", "a@main:1", "kv", "n", "%2F", "%00", "..", "%", ""])
        | st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#?"), max_size=9),
        max_size=7,
    ),
    query=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=20),
    headers=st.dictionaries(
        st.sampled_from(
            ["memoturn-branch", "memoturn-at", "memoturn-exact", "idempotency-key", "if-match", "if-none-match",
             "memoturn-meta", "memoturn-durability", "authorization", "content-type", "content-encoding", "accept"]
        ),
        st.binary(max_size=20).map(lambda b: bytes(c for c in b if c not in (0, 10, 13))),
        max_size=4,
    ),
    body=st.binary(max_size=50),
)  # fmt: skip
def test_whatever_is_asked_is_answered(
    target: Running, method: str, path: list[str], query: str, headers: dict[str, bytes], body: bytes
) -> None:
    line = f"{method} /{'/'.join(path)}?{query} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n".encode()
    fields = b"".join(b"%s: %s\r\n" % (name.encode(), value) for name, value in headers.items())
    answer = exchange(target, line + fields + b"content-length: %d\r\n\r\n" % len(body) + body)
    assert int(answer[9:12]) in CODES, answer
    assert b"Traceback" not in answer


def test_a_fault_tells_nothing(target: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    from memoturn.faces.http import handlers

    def fails(_call: object) -> Any:
        raise RuntimeError("the secret of the inside")

    monkeypatch.setitem(handlers.HANDLERS, "db.where", fails)
    answer = target.http.get("/v1/db/a")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert int(answer.headers["memoturn-txid"]) >= 1


# Leaving at every step.

CALLS = (
    ("POST", "/v1/db/a/sql", b'{"stmts":[{"q":"INSERT INTO t VALUES (1)"}]}', [(b"idempotency-key", b"k")]),
    ("PUT", "/v1/db/a/kv/n/k", b"value", []),
    ("GET", "/v1/db/a/kv/n/k", b"", [(b"memoturn-min-txid", b"1")]),
    ("GET", "/v1/databases/a/export", b"", []),
    ("POST", "/v1/databases/b/import", b"no database", []),
    ("POST", "/v1/databases/a/branches/main/checkpoint", b'{"name":"c","move":true}', []),
)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0]} {call[1]}")
@pytest.mark.parametrize("cancelled", [False, True])
def test_leaving_at_any_step_leaves_nothing_held(call: Any, cancelled: bool, tmp_path: Path) -> None:
    """The connection goes away, or the task is cancelled, at the n-th thing that the server awaits, for every n."""
    engine = open_engine("memory:", Settings())
    context = Context(engine, FREE, tmp_path / "spool")

    async def one(pipeline: Pipeline, request: Any, leave_at: int, key: int = 0) -> bool:
        """Whether the request ended before it came to that step."""
        method, path, body, headers = request
        # Each has a key of its own, or the first answer would be given again.
        headers = [
            (name, b"%d" % leave_at if name == b"idempotency-key" else value) for name, value in headers
        ]
        steps = 0
        pieces = [body[:5], body[5:]]
        gone = asyncio.Event()
        task: asyncio.Task[None]

        def step() -> None:
            nonlocal steps
            steps += 1
            if steps == leave_at:
                gone.set()
                if cancelled:
                    task.cancel()

        async def receive() -> dict[str, Any]:
            step()
            await asyncio.sleep(0)
            if gone.is_set() or not pieces:
                await gone.wait()
                return {"type": "http.disconnect"}
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(_message: dict[str, Any]) -> None:
            step()
            await asyncio.sleep(0)

        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [(b"host", b"localhost"), *headers], "client": ("127.0.0.1", 1),
        }  # fmt: skip
        task = asyncio.ensure_future(pipeline.handle(scope, receive, send))
        ticks = 0
        while not task.done():
            ticks += 1
            # Between what the server itself awaits there are the turns in which it waits for a thread.
            if leave_at < 0 and ticks == -leave_at:
                gone.set()
                if cancelled:
                    task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(task, return_exceptions=True)
        return steps < leave_at if leave_at > 0 else ticks < -leave_at

    async def main() -> None:
        pipeline = Pipeline(context)
        pipeline.start()
        for setting_up in (
            ("POST", "/v1/databases", b'{"name":"a"}', []),
            ("POST", "/v1/db/a/sql", b'{"stmts":[{"q":"CREATE TABLE t(x)"}]}', []),
            ("PUT", "/v1/db/a/kv/n/k", b"value", []),
        ):
            assert await one(pipeline, setting_up, 99)
        for n in range(1, 40):
            ended = [await one(pipeline, call, leave_at, leave_at) for leave_at in (n, -n)]
            assert pipeline.admission.in_flight == 0
            # Whoever comes again with the key of one who left is not kept waiting for him.
            assert all([await one(pipeline, call, 99, key) for key in (n, -n)])
            if all(ended):
                break
        assert await one(pipeline, ("PUT", "/v1/db/a/kv/n/k", b"value", []), 99)
        await pipeline.stop()
        assert pipeline.busy == 0
        assert list((tmp_path / "spool").glob("*")) == []

    with closing(engine):
        asyncio.run(main())
