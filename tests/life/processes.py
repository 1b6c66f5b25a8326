"""The server and the command line as processes of their own, as users run them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tests.bucket.services import free_port

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """That of this process, without its settings, and with others."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("MEMOTURN_")}
    source = [str(ROOT / "src"), *filter(None, [found.get("PYTHONPATH")])]
    return found | {"PYTHONPATH": os.pathsep.join(source), "NO_PROXY": "127.0.0.1,localhost"} | more


def memoturn(*words: str, env: Mapping[str, str], cwd: Path) -> str:
    """Call the command line; what it prints on stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "memoturn.faces.cli", *words],
        env=dict(env), cwd=cwd, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def rows(printed: str) -> list[dict[str, Any]]:
    """The rows of `memoturn sql --json`."""
    found: list[dict[str, Any]] = msgspec.json.decode(printed)["rows"]
    return found


class Server:
    """A server that runs. What it has printed is in `log`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    def kill(self) -> None:
        """As the machine's power fails: nothing of it runs any more."""
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(30) == -signal.SIGKILL

    def stop(self) -> None:
        """As an operator does it. It has to have finished by itself."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log.read_text()


@contextlib.contextmanager
def serving(env: Mapping[str, str], cwd: Path, log: Path) -> Iterator[Server]:
    """A server that is ready; the block may end it itself."""
    port = free_port()
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "memoturn.faces.cli", "serve"],
            env={**env, "MEMOTURN_LISTEN": f"127.0.0.1:{port}"}, cwd=cwd, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
                break
            time.sleep(0.05)
        yield Server(process, url, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
