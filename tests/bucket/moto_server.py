"""moto as an S3 server, one request at a time: it looks at a condition first and writes later, which tells on races.

Run with the port as its argument.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import (  # type: ignore[import-untyped]
    DomainDispatcherApplication,
    create_backend_app,
)
from werkzeug.serving import run_simple

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_ONE = threading.Lock()
_moto = DomainDispatcherApplication(create_backend_app)


def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    with _ONE:
        return list(_moto(environ, start_response))


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), answer, threaded=True)
