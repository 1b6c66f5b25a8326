"""What a server as a process tells of itself: on stderr, at /metrics, and to a collector of OpenTelemetry."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from memoturn import Memoturn
from tests.life.processes import environment, serving

Received = SimpleQueue[tuple[str, bytes]]


@pytest.fixture
def collector() -> Iterator[tuple[str, Received]]:
    """The URL of something that takes traces, and what it was sent."""
    received: Received = SimpleQueue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def test_a_server_tells_its_requests_to_the_log_and_to_a_collector(
    tmp_path: Path, collector: tuple[str, Received]
) -> None:
    url, received = collector
    env = environment(
        MEMOTURN_URL=f"file:{tmp_path}/store", MEMOTURN_LOG_REQUESTS="on", OTEL_EXPORTER_OTLP_ENDPOINT=url
    )
    with serving(env, tmp_path, tmp_path / "log") as server:
        with Memoturn(server.url) as mt:
            mt.databases.create("x")
            mt.db("x").kv.put("space", "marked-key", b"marked-value")
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert 'memoturn_requests_total{route="kv.put",status="200"} 1.0' in answer.read().decode()
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{server.url}/v1/db/x/kv/space/marked-key-2", timeout=10)
        server.stop()

    told = (tmp_path / "log").read_text()
    assert "AUTHENTICATION IS OFF" in told
    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    put = next(line for line in lines if line.get("route") == "/v1/db/{db}/kv/{ns}/{key...}")
    assert (put["event"], put["method"], put["status"]) == ("request", "PUT", 200)

    sent = b""
    while not received.empty():
        path, body = received.get()
        assert path == "/v1/traces"
        sent += body
    assert b"PUT /v1/db/{db}/kv/{ns}/{key...}" in sent
    assert put["request_id"].encode() in sent
    for text in (told.encode(), sent):
        assert b"marked" not in text
