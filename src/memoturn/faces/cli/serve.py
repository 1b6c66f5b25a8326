"""`memoturn serve`: the store over HTTP, until a signal comes."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from memoturn.faces.cli.errors import UsageError
from memoturn.faces.cli.session import Session, embedder_of
from memoturn.faces.cli.settings import misspelt

if TYPE_CHECKING:
    from memoturn.faces.http.serve import Listening

_TRACES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""OpenTelemetry's own variables that say where traces go."""


def serve(
    session: Session,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="HOST:PORT", help="Where to listen; else MEMOTURN_LISTEN."),
    ] = None,
) -> None:
    """Serve the store over HTTP. Ctrl-C, or SIGTERM, finishes what was begun, ships it, and ends."""
    try:
        from memoturn.faces.http import logs, traces
        from memoturn.faces.http.serve import serve as run
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed; pip install 'memoturn[server]'") from None
    url, home, settings, _, embedding, auth, server, _ = session.configuration
    if url.startswith("http"):
        raise UsageError(f"{url} is a server itself; name a store, such as --url file:./data")
    if listen is not None:
        server = replace(server, listen=listen)
    if url.startswith("memory"):
        spool = Path(tempfile.gettempdir()) / "memoturn"
    else:
        spool = (Path(settings.data_dir) if home is None else home) / "spool"

    def tell(listening: Listening) -> None:
        session.say(
            {"url": listening.url, "store": listening.store, "auth": listening.auth},
            f"listening at {listening.url}",
            f"data in {listening.store}",
            f"authentication is {'on' if listening.auth else 'off'}",
            f"what can be asked: {listening.url}/docs",
        )
        sys.stdout.flush()
        for warning in (*listening.warnings, *misspelt(os.environ)):
            print(f"warning: {warning}", file=sys.stderr, flush=True)

    logs.set_up()
    if any(os.environ.get(name) for name in _TRACES):
        traces.export()
    run(url, settings, server, auth, spool, embedder_of(embedding), tell)
