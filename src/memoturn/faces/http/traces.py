"""Traces by OpenTelemetry, where `memoturn[otel]` is installed; nothing at all, and at no cost, where it is not.

A request is one span: its route, its status, the code of its error and its request id, continuing the trace that the
caller's `traceparent` names. No path, no body, no message and no exception is recorded, for they may hold what users
keep. Where spans go is said by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, …).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol


class Span(Protocol):
    """A request under way."""

    def end(self, method: str, route: str | None, status: int, code: str | None, request_id: str) -> None:
        """It was answered."""


class Tracer(Protocol):
    """Begins spans."""

    def begin(self, headers: Mapping[str, str]) -> Span | None:
        """A request has come with these headers, their names in lower case; None if nobody wants to know."""


class _NoTracer:
    def begin(self, headers: Mapping[str, str]) -> None:
        return None


NO_TRACER: Final[Tracer] = _NoTracer()


def export() -> None:
    """Set OpenTelemetry up to send spans where its own variables say, if it is installed."""
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        return
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def tracer(provider: Any = None) -> Tracer:
    """What traces go to: `provider`, or what OpenTelemetry was set up with; nothing where it was not."""
    try:
        from opentelemetry import trace
        from opentelemetry.propagate import extract
    except ImportError:
        return NO_TRACER
    if provider is None and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return NO_TRACER
    spans = trace.get_tracer("memoturn", tracer_provider=provider)
    kind, failed = trace.SpanKind.SERVER, trace.StatusCode.ERROR

    class OtelSpan:
        __slots__ = ("_span",)

        def __init__(self, span: trace.Span) -> None:
            self._span = span

        def end(self, method: str, route: str | None, status: int, code: str | None, request_id: str) -> None:
            span = self._span
            span.update_name(method if route is None else f"{method} {route}")
            span.set_attribute("http.request.method", method)
            span.set_attribute("http.response.status_code", status)
            span.set_attribute("memoturn.request_id", request_id)
            if route is not None:
                span.set_attribute("http.route", route)
            if code is not None:
                span.set_attribute("error.type", code)
            if status >= 500:
                span.set_status(failed)
            span.end()

    class OtelTracer:
        def begin(self, headers: Mapping[str, str]) -> OtelSpan:
            return OtelSpan(spans.start_span("request", context=extract(headers), kind=kind))

    return OtelTracer()
