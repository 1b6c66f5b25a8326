"""What the framework itself takes: an application with one route that answers the same bytes."""

from __future__ import annotations

import socket

import uvicorn
from litestar import Litestar, get


@get("/v1/db/a/kv/n/k", media_type="application/octet-stream")
async def value() -> bytes:
    """What a key holds."""
    return b"v" * 100


def main() -> None:
    """Serve on a free port, which is told."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        Litestar([value]), loop="uvloop", http="httptools", log_config=None, access_log=False
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
