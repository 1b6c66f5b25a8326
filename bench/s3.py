"""A real S3 server of our own on loopback, where one is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KEY = "memoturn-bench"
_ROOT = Path(__file__).parent.parent


@contextmanager
def server(scratch: Path) -> Iterator[str | None]:
    """The URL of a bucket on a fresh versitygw, with credentials in the environment; None without versitygw."""
    program = shutil.which("versitygw", path=f"{_ROOT / '.tools' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        yield None
        return
    directory = scratch / "s3"
    (directory / "bench").mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _KEY,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
    }
    before = {name: os.environ.get(name) for name in variables}
    process = subprocess.Popen(
        [program, "--access", _KEY, "--secret", _KEY, "--port", f"127.0.0.1:{port}", "posix", str(directory)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port)
        os.environ.update(variables)
        yield "s3://bench/store"
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        process.terminate()
        process.wait()


def _wait(port: int) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the S3 server did not answer")
