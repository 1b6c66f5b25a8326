"""The deadline of what may take long really ends it: it is looked at all the time, and nothing is left behind."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from memoturn import Memoturn
from memoturn.base.deadline import Deadline
from memoturn.faces.http.call import Call, Context
from memoturn.faces.http.work import Sent, perform
from memoturn.faces.wire.routes import BY_NAME
from tests.faces.http.running import FREE, Running, running
from tests.support import engine_of

ROWS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 60000) "
WRONG = "it was stopped"


class AfterLooks(Deadline):
    """Is over when it has been looked at so many times; or never, and counts."""

    def __init__(self, most: int | None = None) -> None:
        super().__init__(why=WRONG)
        self.most = most
        self.looks = 0

    def is_over(self, now: float) -> bool:
        self.looks += 1
        return self.most is not None and self.looks > self.most


def file_of(path: Path, before: str = "") -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"{before}; CREATE TABLE t(a INTEGER PRIMARY KEY, b); CREATE INDEX i ON t(b)"
        )
        connection.execute(f"INSERT INTO t {ROWS} SELECT i, hex(randomblob(30)) FROM n")
        connection.commit()
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Memoturn]:
    """Databases of some megabytes: `a`, of which its branch `b` differs in every row."""
    with Memoturn("memory:") as mt:
        mt.databases.import_file("a", file_of(tmp_path / "a.sqlite"))
        mt.db("a").branch.create("b").sql("UPDATE t SET b = b || 'x'")
        yield mt


def done(store: Memoturn, call: Call, deadline: AfterLooks) -> Sent:
    call.deadline = deadline
    call.locate()
    with deadline:
        sent = perform(call)
    assert isinstance(sent, Sent)
    return sent


@pytest.mark.parametrize(
    ("route", "query", "before", "least"),
    [
        ("databases.import", b"", "", 25),
        ("databases.import", b"", "PRAGMA page_size=1024", 40),
        ("databases.import", b"", "PRAGMA journal_mode=wal", 30),
        ("databases.diff", b"from=main&to=b", "", 5000),
        ("databases.list", b"", "", 1),
        ("branches.list", b"", "", 2),
        ("maintenance.status", b"", "", 3),
    ],
)
def test_what_takes_long_looks_all_the_time_and_stops(
    store: Memoturn, tmp_path: Path, route: str, query: bytes, before: str, least: int
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    context = Context(engine_of(store), FREE, scratch)

    def call(database: str) -> Call:
        found = Call(context, BY_NAME[route], {"db": database}, query)
        found.spooled = file_of(tmp_path / f"{database}.sqlite", before) if "import" in route else None
        return found

    name = "new" if "import" in route else "a"
    whole = AfterLooks()
    assert done(store, call(name), whole).status in (200, 201)
    assert whole.looks >= least
    for looks in {0, whole.looks // 4, whole.looks // 2, whole.looks - 1}:
        stopped = AfterLooks(looks)
        sent = done(store, call(f"new-{looks}" if "import" in route else "a"), stopped)
        assert sent.status == 408, sent
        assert WRONG.encode() in sent.body  # type: ignore[operator]
        # Once to stop it, and once more on the way out, or by those who work side by side.
        assert stopped.looks <= looks + 5
        assert list(scratch.iterdir()) == []
    assert {info.name for info in store.databases.list()} == {"a", *({"new"} if "import" in route else ())}
    assert store.db("a").sql("SELECT count(*) AS n FROM t") == [{"n": 60000}]


def test_long_requests_have_a_deadline_of_their_own(tmp_path: Path) -> None:
    with running(f"file:{tmp_path}/store", tmp_path / "spool") as server:
        content = file_of(tmp_path / "a.sqlite").read_bytes()
        server.http.post("/v1/databases/a/import", content=content).raise_for_status()
        server.http.post("/v1/databases/a/branches", json={"name": "b"}).raise_for_status()
        server.sql("a@b", "UPDATE t SET b = b || 'x'")
    settings = replace(FREE, long_request_secs=0.02)
    with running(f"file:{tmp_path}/store", tmp_path / "spool", settings) as server:
        for answer in (
            server.http.get("/v1/databases/a/diff", params={"from": "main", "to": "b"}),
            server.http.post("/v1/databases/c/import", content=content),
        ):
            assert (answer.status_code, answer.json()["code"]) == (408, "request_timeout")
            assert "0.02 seconds (MEMOTURN_LONG_REQUEST_SECS)" in answer.json()["error"]
        assert server.http.get("/v1/databases/c").status_code == 404
        assert list(server.spool.iterdir()) == []
        # Those are not long, and have their time.
        assert server.sql("a", "SELECT sum(length(b)) > 1 AS yes FROM t")["results"][0]["rows"] == [
            {"yes": 1}
        ]


def test_a_slow_body_of_a_long_request_is_told_its_own_limit(tmp_path: Path) -> None:
    with running("memory:", tmp_path, replace(FREE, long_request_secs=0.2)) as server:
        answer = talk(
            server,
            b"POST /v1/databases/c/import HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n"
            b"connection: close\r\n\r\n123",
        )
        assert b"408" in answer.partition(b"\r\n")[0]
        said = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
        assert said["error"] == "the body did not come within 0.2 seconds (MEMOTURN_LONG_REQUEST_SECS)"


def test_an_export_that_is_not_taken_ends_at_its_deadline(tmp_path: Path) -> None:
    with running("memory:", tmp_path, replace(FREE, long_request_secs=1)) as server:
        server.http.post("/v1/databases", json={"name": "a"}).raise_for_status()
        server.sql("a", "CREATE TABLE t(x)", *["INSERT INTO t VALUES (zeroblob(16000000))"] * 4)
        with connected(server) as connection:
            connection.sendall(b"GET /v1/databases/a/export HTTP/1.1\r\nhost: localhost\r\n\r\n")
            found = len(connection.recv(1000))
            while b"memoturn_requests_in_flight 1.0" not in server.http.get("/metrics").content:
                pass
            while piece := connection.recv(1 << 20):
                found += len(piece)
        assert found < 64_000_000
        assert server.sql("a", "INSERT INTO t VALUES (1)")["txid"] == 2


def connected(server: Running) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def talk(server: Running, sent: bytes) -> bytes:
    with connected(server) as connection:
        connection.sendall(sent)
        found = b""
        while piece := connection.recv(65536):
            found += piece
        return found
