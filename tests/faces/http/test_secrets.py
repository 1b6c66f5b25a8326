"""What users keep, and what they prove themselves with, is in no log line, no metric and no span.

Marked texts are sent wherever a request can hold one, well formed and not, allowed and not, to a server that logs
every request and traces it; then all that it has told of itself is searched for the mark.
"""

from __future__ import annotations

import io
import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from memoturn.base.settings import AuthSettings
from memoturn.faces.http import handlers, logs
from memoturn.faces.http.call import Answer, Call
from memoturn.faces.http.keys import new_signing_key
from memoturn.faces.wire.paths import path_of
from memoturn.faces.wire.routes import ROUTES
from tests.faces.http.running import FREE, Running, running

MARK = "zqxmarkzqx"
PLATFORM = f"mtp_{MARK}_abcdefghijklmnopqrstuvwxyz0123456789"
SPANS = InMemorySpanExporter()


@pytest.fixture(scope="module")
def told() -> Iterator[io.StringIO]:
    """All that is logged while these tests run."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(SPANS))
    trace.set_tracer_provider(provider)
    out = io.StringIO()
    level = logging.getLogger("memoturn").level
    handler = logs.set_up(out, logging.DEBUG)
    yield out
    logging.getLogger().removeHandler(handler)
    logging.getLogger("memoturn").setLevel(level)


@pytest.fixture(scope="module")
def server(told: io.StringIO, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("secrets")
    auth = AuthSettings("on", PLATFORM, new_signing_key())
    settings = replace(FREE, log_requests=True)
    with running(f"file:{directory}/store", directory / "spool", settings, auth=auth) as found:
        found.http.headers["Authorization"] = f"Bearer {PLATFORM}"
        yield found


def send_marks(server: Running) -> list[str]:
    """Put the mark everywhere; returns what must not be told either, as it was made on the way."""
    http = server.http
    assert http.post("/v1/databases", json={"name": "acme--alice"}).status_code == 201
    data, memory = "/v1/db/acme--alice", "/v1/memory/acme/alice"
    worked = [
        http.post(f"{data}/sql", json={"stmts": [{"q": f"CREATE TABLE {MARK}(v)"}]}),
        http.post(f"{data}/sql", json={"stmts": [{"q": f"INSERT INTO {MARK} VALUES (?)", "params": [MARK]}]}),
        http.put(f"{data}/kv/{MARK}/{MARK}", content=MARK, headers={"Memoturn-Meta": json.dumps({MARK: MARK})}),
        http.get(f"{data}/kv/{MARK}/{MARK}", headers={"Idempotency-Key": MARK, "X-Mark": MARK}),
        http.post(f"{data}/docs/{MARK}/insert", json={"documents": [{"_id": MARK, MARK: MARK}]}),
        http.post(f"{data}/docs/{MARK}/find", json={"filter": {MARK: MARK}}),
        http.post(f"{data}/vectors/{MARK}", json={"items": [{"id": MARK, "vector": [1, 2], "meta": {MARK: 1}}]}),
        http.post(f"{data}/memory/{MARK}/turns", json={"turns": [{"role": "user", "content": MARK}]}),
        http.post(f"{memory}/memories", json={"memories": [{"type": "fact", "topic_key": MARK, "summary": MARK}]}),
        http.post(f"{memory}/recall", json={"query": MARK}),
        http.post("/v1/databases/acme--alice/branches/main/checkpoint", json={"name": MARK}),
    ]  # fmt: skip
    assert [response.text for response in worked if response.status_code >= 300] == []
    token = http.post("/v1/databases/acme--alice/tokens", json={"scope": "read"}).json()["token"]
    for who in (
        f"Bearer {token}",
        f"Bearer {token}{MARK}",
        f"Basic {MARK}",
        MARK,
        f"Bearer {MARK}.{MARK}.{MARK}",
    ):
        http.get(f"{data}/kv/{MARK}/{MARK}", headers={"Authorization": who})
        http.put(f"{data}/kv/{MARK}/{MARK}", content=MARK, headers={"Authorization": who})
    marked: dict[str, Any] = {
        "content": json.dumps({MARK: MARK}), "params": {MARK: MARK},
        "headers": {"Memoturn-At": MARK, "Memoturn-Branch": MARK, "Memoturn-Min-Txid": MARK, "traceparent": MARK,
                    "baggage": f"{MARK}={MARK}", "tracestate": f"{MARK}={MARK}", "User-Agent": MARK, "Cookie": MARK},
    }  # fmt: skip
    names = dict.fromkeys(
        ("branch", "checkpoint", "collection", "session", "id", "key", "ns", "profile"), MARK
    )
    for route in ROUTES:
        for database in ("acme--alice", "acme--nobody"):
            path = path_of(route, names | {"db": database})
            http.request(route.method, path, **marked)
            http.request(route.method, path, content=f'{{"{MARK}'.encode() + b"\xff")
            http.request(route.method, path, content=f"{MARK}\n" * 3)
    http.get(f"/{MARK}/{MARK}?{MARK}={MARK}")
    http.request("OPTIONS", f"{data}/{MARK}")
    for raw in (f"{MARK} / HTTP/1.1\r\n\r\n", f"GET /{MARK}\r\n\r\n", f"GET / HTTP/1.1\r\n{MARK}\r\n\r\n"):
        with socket.create_connection((http.base_url.host, http.base_url.port), 5) as connection:
            connection.sendall(raw.encode())
            connection.recv(1000)
    return [token, token.split(".")[1], token.split(".")[2]]


def test_no_mark_is_told(server: Running, told: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = [MARK, *send_marks(server)]

    def breaks(call: Call) -> Answer:
        try:
            raise KeyError(MARK)
        except KeyError as error:
            raise ValueError(f"{MARK}: {call.names}") from error

    monkeypatch.setitem(handlers.HANDLERS, "kv.get", breaks)
    broken = server.http.get(f"/v1/db/acme--alice/kv/{MARK}/{MARK}")
    assert (broken.status_code, broken.json()["code"]) == (500, "internal")
    logging.getLogger("asyncio").error("exception was never retrieved: %s", MARK)

    metrics = server.http.get("/metrics")
    assert metrics.status_code == 200
    spans = "\n".join(span.to_json() for span in SPANS.get_finished_spans())
    lines = told.getvalue()
    assert "kv.get" in metrics.text
    assert '"event":"request"' in lines
    assert '"event":"fault"' in lines
    assert "/v1/db/{db}/kv/{ns}/{key...}" in lines
    assert "/v1/db/{db}/kv/{ns}/{key...}" in spans
    assert broken.headers["memoturn-request-id"] in lines
    assert broken.headers["memoturn-request-id"] in spans
    for where, text in (("log", lines), ("metrics", metrics.text), ("spans", spans), ("answer", broken.text)):
        for secret in secrets:
            at = text.find(secret)
            assert at < 0, f"{where}: …{text[max(at - 300, 0) : at + 100]}…"

    # Else nothing would have been found because nothing had happened.
    requests = [line for line in map(json.loads, lines.splitlines()) if line["event"] == "request"]
    assert {200, 201, 400, 401, 403, 404, 500} <= {line["status"] for line in requests}
    assert len({line["request_id"] for line in requests}) > 200
