"""Log lines and spans tell which request it was and what came of it, and nothing that users keep."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from memoturn.base.errors import CorruptError, InvalidRequestError
from memoturn.faces.http import logs
from memoturn.faces.http.traces import NO_TRACER, tracer

SECRET = "marked-secret"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    out = io.StringIO()
    level = logging.getLogger("memoturn").level
    handler = logs.set_up(out)
    yield out
    logging.getLogger().removeHandler(handler)
    logging.getLogger("memoturn").setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in stream.getvalue().splitlines()]


def test_a_line_tells_which_request_it_was_and_what_came_of_it(stream: io.StringIO) -> None:
    token = logs.request_id.set("r_1")
    try:
        logs.answered("GET", "/v1/db/{db}/kv/{ns}/{key...}", 404, 0.0123456, "not_found", db="x")
    finally:
        logs.request_id.reset(token)
    logs.answered("GET", None, 404, 0.001)
    first, second = lines(stream)
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info", "event": "request", "request_id": "r_1", "method": "GET",
        "route": "/v1/db/{db}/kv/{ns}/{key...}", "status": 404, "ms": 12.346, "code": "not_found", "db": "x",
    }  # fmt: skip
    assert "request_id" not in second


def test_of_an_unforeseen_error_the_line_has_the_place_and_not_the_words(stream: io.StringIO) -> None:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(f"near {SECRET}") from error
    except ValueError as error:
        logs.fault(error)
        logging.getLogger("memoturn").warning("it failed", exc_info=error)
    for line in lines(stream):
        assert line["error"] == "ValueError"
        assert line["cause"]["error"] == "KeyError"
        assert line["at"][0].startswith("faces/http/test_logs.py:") or "test_logs.py:" in line["at"][0]
    assert SECRET not in stream.getvalue()


def test_of_ours_it_has_the_code_and_of_damage_what_is_damaged(stream: io.StringIO) -> None:
    logs.fault(InvalidRequestError(f"{SECRET} is no position"))
    logs.fault(CorruptError("db/d_1/b_1/ltx/0/1-2-1.ltx: bytes do not match"))
    refused, damaged = lines(stream)
    assert refused["code"] == "invalid_request"
    assert "db/d_1/b_1/ltx/0/1-2-1.ltx" in damaged["says"]
    assert SECRET not in stream.getvalue()


def test_of_other_libraries_it_has_who_it_was_and_not_what_it_said(stream: io.StringIO) -> None:
    logging.getLogger("asyncio").error("task raised ValueError(%r)", SECRET)
    logging.getLogger("asyncio").info("nothing")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    first, second = lines(stream)
    assert (first["event"], second["event"]) == ("asyncio", "Invalid HTTP request received.")
    assert SECRET not in stream.getvalue()


def test_on_a_terminal_lines_are_for_people() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    handler = logs.set_up(out)
    try:
        logs.answered("GET", "/healthz", 200, 0.001)
    finally:
        logging.getLogger().removeHandler(handler)
    assert "request method=GET route=/healthz status=200 ms=1.0" in out.getvalue()


def test_a_request_is_a_span_that_continues_its_callers_trace() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    span = tracer(provider).begin({"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"})
    assert span is not None
    span.end("GET", "/v1/db/{db}/sql", 500, "internal", "r_1")
    (finished,) = exporter.get_finished_spans()
    assert f"{finished.context.trace_id:032x}" == trace_id
    assert finished.name == "GET /v1/db/{db}/sql"
    assert finished.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 500,
        "http.route": "/v1/db/{db}/sql",
        "memoturn.request_id": "r_1",
        "error.type": "internal",
    }
    assert finished.events == ()


def test_without_opentelemetry_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert tracer() is NO_TRACER
    assert NO_TRACER.begin({}) is None
