"""Object stores that run on this machine for the length of the tests, one of every provider's protocol.

A tool is looked for in `.tools/` of the repository and on the PATH; a store whose tool is missing is skipped.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import NamedTuple

import boto3  # type: ignore[import-untyped]
import pytest

from tests.bucket import gcs_server

TOOLS = Path(__file__).parents[2] / ".tools"
BUCKET = "memoturn-tests"
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Service(NamedTuple):
    """A running store: the URL of its one bucket, and the options to open it with."""

    url: str
    options: Mapping[str, str]
    endpoint: str


def tool(name: str) -> str:
    """The path of an installed tool; skips the test without it."""
    for directory in (TOOLS / "bin", TOOLS / "npm" / "node_modules" / ".bin"):
        if (directory / name).exists():
            return str(directory / name)
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (see .ci/run)")
    return found


def _ports() -> Iterator[int]:
    """Ports that the system gives to nobody by itself, each worker of the tests its own, from anywhere on."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = range(10_000 + worker % 16, 32_000, 16)
    begin = os.getpid() % len(own)
    while True:
        yield from own[begin:]
        begin = 0


_next_ports = _ports()


def free_port() -> int:
    """A port of the loopback on which nobody listens, and that nobody takes before its asker does."""
    for port in _next_ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is always a next one")


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path, env: Mapping[str, str] | None = None) -> Iterator[None]:
    """A process that listens on a port of the loopback, ended with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=env)
        try:
            _wait_until_listening(process, port, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} does not listen: {log.read_text()[-2000:]}")


def _s3(port: int) -> Service:
    endpoint = f"http://127.0.0.1:{port}"
    options = {
        "endpoint": endpoint,
        "access_key_id": "testing",
        "secret_access_key": "testing-secret",
        "region": "us-east-1",
    }
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=options["access_key_id"],
        aws_secret_access_key=options["secret_access_key"],
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()
    return Service(f"s3://{BUCKET}", options, endpoint)


@contextlib.contextmanager
def moto(directory: Path) -> Iterator[Service]:
    """Amazon S3 as moto imitates it."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("moto_server.py")), str(port)]
    with running(command, port, directory / "log"):
        yield _s3(port)


@contextlib.contextmanager
def versitygw(directory: Path) -> Iterator[Service]:
    """A real S3 server over files."""
    port = free_port()
    (directory / "data").mkdir()
    try:
        os.setxattr(directory / "data", "user.memoturn", b"1")
    except OSError:
        # Its other mode keeps ETags in files beside the objects, and reads then mix two writes.
        pytest.skip("versitygw needs a file system with extended attributes")
    command = [
        tool("versitygw"), "--access", "testing", "--secret", "testing-secret", "--quiet",
        "--port", f"127.0.0.1:{port}", "posix", str(directory / "data"),
    ]  # fmt: skip
    with running(command, port, directory / "log"):
        yield _s3(port)


@contextlib.contextmanager
def azurite(directory: Path) -> Iterator[Service]:
    """Azure Blob Storage as Microsoft's own emulator has it."""
    port = free_port()
    command = [
        tool("azurite-blob"), "--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry",
        "--blobHost", "127.0.0.1", "--blobPort", str(port),
    ]  # fmt: skip
    with running(command, port, directory / "log"):
        endpoint = f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}"
        _create_container(endpoint)
        options = {"account_name": AZURITE_ACCOUNT, "account_key": AZURITE_KEY, "endpoint": endpoint}
        yield Service(f"az://{BUCKET}", options, endpoint)


def _create_container(endpoint: str) -> None:
    date, version = formatdate(usegmt=True), "2021-08-06"
    to_sign = "\n".join(
        [
            "PUT",
            *[""] * 11,
            f"x-ms-date:{date}",
            f"x-ms-version:{version}",
            f"/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{BUCKET}",
            "restype:container",
        ]
    )
    digest = hmac.new(base64.b64decode(AZURITE_KEY), to_sign.encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    request = urllib.request.Request(
        f"{endpoint}/{BUCKET}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": version,
            "Content-Length": "0",
            "Authorization": f"SharedKey {AZURITE_ACCOUNT}:{signature}",
        },
    )
    _send(request)


@contextlib.contextmanager
def gcs(directory: Path) -> Iterator[Service]:
    """Google Cloud Storage's protocol, spoken by a server of our own."""
    with gcs_server.serve(BUCKET) as endpoint:
        account = {
            "gcs_base_url": endpoint,
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        options = {"service_account_key": json.dumps(account), "allow_http": "true"}
        yield Service(f"gs://{BUCKET}", options, endpoint)


def _send(request: urllib.request.Request) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(request, timeout=30).close()
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{request.full_url}: {error.code} {error.read()[:500]!r}") from error


SERVICES: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Service]]] = {
    "moto": moto,
    "versitygw": versitygw,
    "azurite": azurite,
    "gcs": gcs,
}

# A proxy of the surroundings has no business between a test and its own loopback.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
