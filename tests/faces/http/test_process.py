"""The server as people run it: a process, with its settings in variables, that ends well when it is asked to."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000000)"
SLOW = f"{NUMBERS} INSERT INTO t SELECT max(i) FROM n"


@contextmanager
def served(
    directory: Path, *words: str, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A process, and a client of it; the process has to be ended by the block."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MEMOTURN_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "memoturn.faces.cli", "--json", "serve", "--listen", "127.0.0.1:0", *words],
        cwd=directory,
        env=environ | {"MEMOTURN_CONTROL_PER_SECOND": "0"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, f"it did not start: {process.stderr.read()}"
        told = json.loads(line)
        with httpx.Client(base_url=told["url"], timeout=60) as http:
            yield process, http
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def sql(http: httpx.Client, q: str, **headers: str) -> httpx.Response:
    return http.post("/v1/db/a/sql", json={"stmts": [{"q": q}]}, headers=headers)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_asked_to_stop_finishes_ships_and_lets_go(
    tmp_path: Path, how: signal.Signals
) -> None:
    with served(tmp_path, MEMOTURN_SHIP_INTERVAL_MS="3600000") as (process, http):
        http.post("/v1/databases", json={"name": "a"}).raise_for_status()
        sql(http, "CREATE TABLE t(x)")
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(sql(http, SLOW)))
        asking.start()
        with httpx.Client(base_url=http.base_url) as other:
            while b"memoturn_requests_in_flight 2.0" not in other.get("/metrics").content:
                pass
        process.send_signal(how)
        asking.join()
        assert (answers[0].status_code, answers[0].json()["txid"]) == (200, 2)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (0, 130), err
        assert "AUTHENTICATION IS OFF" in err
        assert "Traceback" not in err
    # Another disk, the same bucket: it has all that was acknowledged, and nobody holds the branch.
    (tmp_path / "data" / "node").rename(tmp_path / "away")
    with served(tmp_path) as (_, http):
        assert sql(http, "SELECT x FROM t").json()["results"][0]["rows"] == [{"x": 2000000}]
        assert sql(http, "INSERT INTO t VALUES (1)").json()["txid"] == 3


def test_what_does_not_end_is_given_up_when_the_server_has_to_stop(tmp_path: Path) -> None:
    with served(tmp_path, MEMOTURN_URL="memory:", MEMOTURN_SHUTDOWN_SECS="1") as (process, http):
        http.post("/v1/databases", json={"name": "a"}).raise_for_status()
        endless = f"{NUMBERS.replace(' LIMIT 2000000', '')} SELECT max(i) FROM n"
        statuses: list[int] = []

        def ask() -> None:
            with contextlib.suppress(httpx.HTTPError):
                statuses.append(sql(http, endless).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        with httpx.Client(base_url=http.base_url) as other:
            while b"memoturn_requests_in_flight 2.0" not in other.get("/metrics").content:
                pass
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)  # The deadline of the request is 30 seconds away.
        asking.join()
        assert 200 not in statuses
        assert "Traceback" not in err


def test_a_server_that_was_killed_has_lost_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    with served(tmp_path, MEMOTURN_SHIP_INTERVAL_MS="3600000") as (process, http):
        http.post("/v1/databases", json={"name": "a"}).raise_for_status()
        sql(http, "CREATE TABLE t(x)")
        for i in range(20):
            sql(http, f"INSERT INTO t VALUES ({i})").raise_for_status()
        process.kill()
        process.wait()
    with served(tmp_path) as (_, http):
        read = sql(http, "SELECT count(*) AS n FROM t")
        assert (read.json()["results"][0]["rows"], read.headers["memoturn-txid"]) == ([{"n": 20}], "21")


def test_a_server_does_not_start_unsafely(tmp_path: Path) -> None:
    def says(*words: str, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "memoturn.faces.cli", "serve", *words],
            cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode not in (0, None)
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "MEMOTURN_AUTH" in says("--listen", "0.0.0.0:0")
    assert "MEMOTURN_PLATFORM_KEY" in says("--listen", "127.0.0.1:0", MEMOTURN_AUTH="on")
    assert "MEMOTURN_LISTEN" in says("--listen", "nowhere")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "nothing can listen" in says("--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert "is a server itself" in says("--url", "http://127.0.0.1:1")


def test_every_request_is_logged_where_that_is_wanted(tmp_path: Path) -> None:
    with served(tmp_path, MEMOTURN_URL="memory:", MEMOTURN_LOG_REQUESTS="on", MEMOTURN_ATUH="on") as (
        process,
        http,
    ):
        http.post("/v1/databases", json={"name": "secret-name"})
        answer = http.get("/v1/db/secret-name/kv/n/secret-key")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert "warning: MEMOTURN_ATUH is no setting; is MEMOTURN_AUTH meant?" in err
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    mine = next(line for line in lines if line.get("request_id") == answer.headers["memoturn-request-id"])
    assert (mine["route"], mine["status"], mine["code"]) == ("/v1/db/{db}/kv/{ns}/{key...}", 404, "not_found")
    assert "secret" not in err
