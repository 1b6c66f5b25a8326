"""What the server takes: a process of its own, asked by this one on the same machine, beside a bare application."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.load import Connection, latencies, per_second, request
from bench.measure import Figure, Times, measure, ratio, us
from memoturn import Memoturn

GET = request("GET", "/v1/db/a/kv/n/k")
MANY = 100_000
HOT = 1_000
_SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n"
_FREE = {"MEMOTURN_CONTROL_PER_SECOND": "0", "MEMOTURN_MAINTENANCE": "off"}


def figures(big: Path, scratch: Path) -> Iterator[Figure]:
    """`big` is an SQLite file of 1 GiB."""
    with _served(f"file:{scratch}/served", _FREE) as served, _bare() as bare:
        yield from _one_connection(served.url)
        yield _gets(served.url, bare)
        yield _writes(served.url)
    # The query is to be stopped at its deadline, so the server that runs it has one of 10 s.
    with _served(f"file:{scratch}/beside", {**_FREE, "MEMOTURN_REQUEST_SECS": "10"}) as served:
        yield from _beside(served.url, big)
    yield from _many_databases()


class _Server:
    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def resident_mib(self) -> float:
        """Memory that the process has in use."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextlib.contextmanager
def _served(store: str, environment: dict[str, str]) -> Iterator[_Server]:
    command = [sys.executable, "-m", "memoturn.faces.cli", "--json", "--url", store, "serve"]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        try:
            url = json.loads(process.stdout.readline())["url"]
            _wait_until_ready(url)
            yield _Server(process, url)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _wait_until_ready(url: str) -> None:
    for _ in range(1000):
        with contextlib.suppress(OSError, RuntimeError):
            connection = Connection(url)
            connection.ask("GET", "/readyz")
            connection.close()
            return
        time.sleep(0.005)
    raise RuntimeError(f"{url} is not ready")


@contextlib.contextmanager
def _bare() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-m", "bench.bare"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        for _ in range(1000):
            with contextlib.suppress(OSError):
                Connection(url).call(GET)
                break
            time.sleep(0.005)
        try:
            yield url
        finally:
            process.terminate()
            process.wait(10)


def _one_connection(url: str) -> Iterator[Figure]:
    connection = Connection(url)
    connection.ask("POST", "/v1/databases", {"name": "a"})
    connection.call(request("PUT", "/v1/db/a/kv/n/k", b"v" * 100))
    create = {"stmts": [{"q": "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT)"}]}
    connection.ask("POST", "/v1/db/a/sql", create)
    write = request("POST", "/v1/db/a/sql", {"stmts": [{"q": "INSERT INTO t(x) VALUES ('value')"}]})
    rng = random.Random(1)
    vectors = [[rng.uniform(-1, 1) for _ in range(256)] for _ in range(1200)]

    def fact(number: int) -> bytes:
        one = {
            "type": "fact",
            "topic_key": f"topic.{number}",
            "summary": f"the user said on day {number} that place {number * 7919 % 1000} is worth a visit",
            "embedding": vectors[number % 1200],
        }
        return request("POST", "/v1/memory/acme/alice/memories", {"memories": [one]})

    facts = [fact(number) for number in range(1000)]
    asked = [
        request(
            "POST",
            "/v1/memory/acme/alice/recall",
            {"query": f"which place on day {n}", "embedding": vectors[n], "k": 10},
        )
        for n in range(200)
    ]
    names = itertools.count()
    found: list[tuple[str, float, Callable[[int], object], int]] = [
        ("KV get", 250, lambda _: connection.call(GET), 5000),
        ("SQL write", 600, lambda _: connection.call(write), 2000),
        (
            "branch create",
            500,
            lambda _: connection.call(
                request("POST", "/v1/databases/a/branches", {"name": f"b{next(names)}"})
            ),
            1000,
        ),
        ("ingest of a fact with a 256-dim vector", 1000, lambda n: connection.call(facts[n]), 900),
        ("recall at 1,000 memories", 2500, lambda n: connection.call(asked[n % 200]), 1000),
    ]
    for name, goal, call, count in found:
        times = measure(call, count)
        yield Figure(
            f"HTTP: {name}, one connection", f"p50 ≤ {goal / 1000:g} ms", str(times), "", times.p50 <= goal
        )
    connection.close()


def _gets(url: str, bare: str) -> Figure:
    ours, theirs = 0.0, 0.0
    for _ in range(3):
        ours = max(ours, per_second(url, [lambda _: GET] * 32, 3))
        theirs = max(theirs, per_second(bare, [lambda _: GET] * 32, 3))
    return Figure(
        "HTTP: KV gets a second, 32 connections, against the bare framework",
        "≥ 0.5×",
        f"{ours / theirs:.2f}× ({ours:,.0f} a second)",
        f"{theirs:,.0f} a second",
        ours >= 0.5 * theirs,
    )


def _writes(url: str) -> Figure:
    connection = Connection(url)
    for number in range(32):
        connection.ask("POST", "/v1/databases", {"name": f"w{number}"})
        connection.ask("POST", f"/v1/db/w{number}/sql", {"stmts": [{"q": "CREATE TABLE t(x)"}]})
    connection.close()
    body = {"stmts": [{"q": "INSERT INTO t VALUES ('value')"}]}
    sent = [request("POST", f"/v1/db/w{number}/sql", body) for number in range(32)]
    one, many = 0.0, 0.0
    for _ in range(3):
        one = max(one, per_second(url, [lambda _: sent[0]], 2))
        many = max(many, per_second(url, [lambda _, each=each: each for each in sent], 3))  # type: ignore[misc]
    return Figure(
        "HTTP: writes a second, 32 connections on 32 databases, against one connection",
        "≥ 3×",
        f"{many / one:.2f}× ({many:,.0f} a second)",
        f"{one:,.0f} a second",
        many >= 3 * one,
    )


def _beside(url: str, big: Path) -> Iterator[Figure]:
    """KV gets of one tenant while another one keeps the server busy."""
    connection, other = Connection(url), Connection(url)
    for name in ("a", "other"):
        connection.ask("POST", "/v1/databases", {"name": name})
    connection.call(request("PUT", "/v1/db/a/kv/n/k", b"v" * 100))
    idle = latencies(connection, GET, _after(5))

    def slow() -> None:
        with contextlib.suppress(RuntimeError):  # It is stopped at its deadline.
            other.ask("POST", "/v1/db/other/sql", {"stmts": [{"q": _SLOW}]})

    def load() -> None:
        # A process of its own: as a thread it would take the interpreter from the one that measures.
        sending = [sys.executable, "-m", "bench.load", url, "/v1/databases/imported/import", str(big)]
        subprocess.run(sending, check=True)

    for name, work in (("another tenant runs a query of 10 s", slow), ("a file of 1 GiB is imported", load)):
        times = _while(work, connection)
        yield Figure(
            f"HTTP: p99 of KV gets while {name}, against idle",
            "≤ 3×",
            f"{ratio(times.p99, idle.p99)} ({us(times.p99)})",
            us(idle.p99),
            times.p99 <= 3 * idle.p99,
        )


def _after(seconds: float) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


def _while(work: Callable[[], None], connection: Connection) -> Times:
    thread = threading.Thread(target=work)
    thread.start()
    times = latencies(connection, GET, lambda: not thread.is_alive())
    thread.join()
    return times


def _many_databases() -> Iterator[Figure]:
    """On a store in memory, so that making them takes no hour; what is measured needs no disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        store = f"file:{directory}/store"
        with Memoturn(store) as mt:
            for number in range(MANY):
                mt.databases.create(f"d{number}")
        start = time.perf_counter()
        with _served(store, {**_FREE, "MEMOTURN_HOT_CAP": str(HOT)}) as served:
            ready = time.perf_counter() - start
            connection = Connection(served.url)
            empty = served.resident_mib()
            for number in range(0, MANY, MANY // HOT):
                connection.call(request("PUT", f"/v1/db/d{number}/kv/n/k", b"value"))
            connection.close()
            full = served.resident_mib()
    yield Figure(
        f"HTTP: start to ready on a bucket of {MANY:,} databases",
        "≤ 2 s",
        f"{ready:.2f} s",
        "",
        ready <= 2,
    )
    yield Figure(
        f"HTTP: memory with {MANY:,} databases, {HOT:,} of them hot",
        "≤ 1 GiB",
        f"{full:.0f} MiB ({empty:.0f} before the first was used)",
        "",
        full <= 1024,
    )
