"""Each limit has a setting, and says what it was and how to go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from memoturn.base.errors import OverloadedError
from memoturn.base.settings import ServerSettings
from memoturn.faces.http.admission import Admission
from memoturn.faces.http.call import Answer, Call
from memoturn.faces.http.handlers import HANDLERS
from memoturn.faces.http.idempotency import FirstAnswers, Kept
from memoturn.faces.http.serve import parse_listen
from tests.faces.http.running import FREE, Running, running

FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
SLOW = f"INSERT INTO t {FOREVER.replace('FROM n)', 'FROM n LIMIT 3000000)')}"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Running]:
    """A server with small limits."""
    settings = replace(
        FREE,
        body_bytes=1000,
        control_body_bytes=200,
        import_bytes=5000,
        header_bytes=4096,
        results=2,
    )
    with running("memory:", tmp_path, settings) as server:
        server.http.post("/v1/databases", json={"name": "a"}).raise_for_status()
        server.sql("a", "CREATE TABLE t(x)")
        yield server


def refused(answer: httpx.Response, status: int, code: str, says: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert says in answer.json()["error"]


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_have_a_length(small: Running, chunked: bool) -> None:
    def body(size: int) -> bytes | Iterator[bytes]:
        return iter([b" " * (size // 2), b" " * (size - size // 2)]) if chunked else b" " * size

    assert small.http.put("/v1/db/a/kv/n/k", content=body(1000)).status_code == 200
    refused(
        small.http.put("/v1/db/a/kv/n/k", content=body(1001)), 413, "payload_too_large", "MEMOTURN_BODY_BYTES"
    )
    refused(
        small.http.post("/v1/databases", content=body(201)),
        413,
        "payload_too_large",
        "MEMOTURN_CONTROL_BODY_BYTES",
    )
    refused(
        small.http.post("/v1/databases/b/import", content=body(5001)),
        413,
        "payload_too_large",
        "MEMOTURN_IMPORT_BYTES",
    )
    assert list(small.spool.glob("*")) == []


def test_a_head_has_a_length(small: Running) -> None:
    assert small.http.get("/healthz", headers={"x": "y" * 3000}).status_code == 200
    answer = small.http.get("/healthz", headers={"x": "y" * 5000})
    refused(answer, 431, "payload_too_large", "head")


def test_work_is_stopped_at_the_deadline(tmp_path: Path) -> None:
    with running("memory:", tmp_path, replace(FREE, request_secs=2)) as server:
        server.http.post("/v1/databases", json={"name": "a"}).raise_for_status()
        server.sql("a", "CREATE TABLE t(x)")
        answer = server.http.post("/v1/db/a/sql", json={"stmts": [{"q": FOREVER}]})
        refused(answer, 408, "request_timeout", "MEMOTURN_REQUEST_SECS")
        assert answer.headers["memoturn-txid"] == "1"
        write = server.http.post("/v1/db/a/sql", json={"stmts": [{"q": f"INSERT INTO t {FOREVER}"}]})
        refused(write, 408, "request_timeout", "MEMOTURN_REQUEST_SECS")
        # The branch can be written at once: nothing of it is held.
        assert server.sql("a", "INSERT INTO t VALUES (1)")["txid"] == 2


def test_work_that_cannot_stop_is_answered_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def waits(_call: Call) -> Answer:
        goes_on.wait(60)
        return Answer(None, 0)

    monkeypatch.setitem(HANDLERS, "db.where", waits)
    with running("memory:", tmp_path, replace(FREE, request_secs=2)) as server:
        server.http.post("/v1/databases", json={"name": "a"}).raise_for_status()
        refused(server.http.get("/v1/db/a"), 408, "request_timeout", "MEMOTURN_REQUEST_SECS")
        goes_on.set()
        assert server.sql("a", "SELECT 1")["txid"] == 0


def test_limits_of_what_is_found_are_clamped(small: Running) -> None:
    for i in range(4):
        small.http.put(f"/v1/db/a/kv/n/{i}", content=b"")
    assert len(small.http.get("/v1/db/a/kv/n", params={"limit": 4}).json()["keys"]) == 2
    refused(small.http.get("/v1/db/a/kv/n", params={"limit": 0}), 400, "invalid_request", "limit")
    small.http.post("/v1/db/a/docs/c/insert", json={"documents": [{}, {}, {}]})
    assert len(small.http.post("/v1/db/a/docs/c/find", json={"limit": 9}).json()["documents"]) == 2
    for i in range(4):
        small.http.post("/v1/databases", json={"name": f"b{i}"}).raise_for_status()
        vector = {"id": f"{i}", "vector": [1, i]}
        small.http.post("/v1/db/a/vectors/c", json={"items": [vector]}).raise_for_status()
        turn = {"role": "user", "content": f"tea {i}"}
        for session in (f"s{i}", "s"):
            small.http.post(f"/v1/db/a/memory/{session}/turns", json={"turns": [turn]}).raise_for_status()
        event = {"type": "event", "summary": f"tea {i}"}
        small.http.post("/v1/memory/n/p/memories", json={"memories": [event]}).raise_for_status()
    for path, body, field in (
        ("/v1/db/a/vectors/c/search", {"vector": [1, 1], "k": 9}, "hits"),
        ("/v1/db/a/memory/search", {"query": "tea", "k": 9}, "turns"),
        ("/v1/db/a/memory/s/search", {"query": "tea", "k": 9}, "turns"),
        ("/v1/db/a/memory/s/turns?last=9", None, "turns"),
        ("/v1/db/a/memory?limit=9", None, "sessions"),
        ("/v1/memory/n/p/recall", {"query": "tea", "k": 9}, "hits"),
        ("/v1/databases?limit=9", None, "databases"),
        ("/v1/databases/a/branches/main/history?limit=9", None, "history"),
    ):
        answer = small.http.get(path) if body is None else small.http.post(path, json=body)
        assert len(answer.json()[field]) == 2, answer.text


def test_a_page_of_sessions_that_was_cut_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memoturn.operations.reading.MAX_LIMIT", 2)
    with running("memory:", tmp_path, replace(FREE, results=5000)) as server:
        server.http.post("/v1/databases", json={"name": "a"}).raise_for_status()
        for session in "abc":
            turn = {"role": "user", "content": "x"}
            server.http.post(f"/v1/db/a/memory/{session}/turns", json={"turns": [turn]}).raise_for_status()
        page = server.http.get("/v1/db/a/memory", params={"limit": 3000}).json()
        assert ([one["session"] for one in page["sessions"]], page["cursor"]) == (["a", "b"], "b")


def test_calls_about_databases_have_a_rate(tmp_path: Path) -> None:
    with running("memory:", tmp_path, replace(FREE, control_per_second=3)) as server:
        answers = [server.http.get("/v1/databases") for _ in range(4)]
        assert [answer.status_code for answer in answers][:3] == [200, 200, 200]
        while answers[-1].status_code == 200:  # Each third of a second that it took so far allows one more.
            answers.append(server.http.get("/v1/databases"))
        refused(answers[-1], 429, "overloaded", "3 calls a second")
        assert answers[-1].headers["retry-after"] == "1"
        assert 0 < answers[-1].json()["retry_after"] <= 1
        assert server.http.get("/v1/db/none").status_code == 404


def test_a_rate_is_that_of_each_caller_and_comes_back() -> None:
    now = 0.0
    admission = Admission(9, 2, lambda: now)
    for caller in ("a", "b"):
        admission.control(caller)
        admission.control(caller)
        with pytest.raises(OverloadedError) as refusal:
            admission.control(caller)
        assert refusal.value.retry_after == 0.5
    now = 0.5
    admission.control("a")
    with pytest.raises(OverloadedError):
        admission.control("a")
    now = 9.0
    admission.control("a")
    admission.control("a")
    with pytest.raises(OverloadedError):
        admission.control("a")


def test_no_more_than_so_many_are_in_flight(tmp_path: Path) -> None:
    with running("memory:", tmp_path, replace(FREE, in_flight=2, request_secs=2)) as server:
        server.http.post("/v1/databases", json={"name": "a"})

        def insist() -> httpx.Response:
            while True:
                answer = server.http.post("/v1/db/a/sql", json={"stmts": [{"q": FOREVER}]})
                if answer.status_code != 429:
                    return answer

        with ThreadPoolExecutor(2) as pool:
            slow = [pool.submit(insist) for _ in "ab"]
            answer = server.http.get("/v1/db/a")
            while answer.status_code == 200 and not all(one.done() for one in slow):
                answer = server.http.get("/v1/db/a")
            refused(answer, 429, "overloaded", "2 requests")
            assert (answer.headers["retry-after"], answer.headers["memoturn-txid"]) == ("1", "0")
            assert server.http.get("/healthz").status_code == 200
            assert [one.result().status_code for one in slow] == [408, 408]
        assert server.http.get("/v1/db/a").status_code == 200


def test_no_more_than_so_many_writes_of_a_database_wait_and_others_go_on(tmp_path: Path) -> None:
    with running("memory:", tmp_path, replace(FREE, queued=3)) as server:
        for one in ("a", "b"):
            server.http.post("/v1/databases", json={"name": one})
            server.sql(one, "CREATE TABLE t(x)")
        body = {"stmts": [{"q": SLOW}]}
        with ThreadPoolExecutor(12) as pool:
            answers = [pool.submit(server.http.post, "/v1/db/a/sql", json=body) for _ in range(12)]
            other = server.http.post("/v1/db/b/sql", json={"stmts": [{"q": "INSERT INTO t VALUES (1)"}]})
            assert other.status_code == 200
            statuses = sorted(one.result().status_code for one in answers)
        assert statuses.count(200) >= 3
        assert set(statuses) == {200, 429}
        full = next(one.result() for one in answers if one.result().status_code == 429)
        refused(full, 429, "overloaded", "3 writes")
        assert full.headers["retry-after"] == "1"
        done = server.sql("a", "SELECT count(*) AS n FROM t")["results"][0]["rows"]
        assert done == [{"n": statuses.count(200)}]


def test_a_slow_tenant_keeps_nobody_from_reading(tmp_path: Path) -> None:
    with running("memory:", tmp_path, replace(FREE, request_secs=3)) as server:
        for one in ("slow", "quick"):
            server.http.post("/v1/databases", json={"name": one})
        server.http.put("/v1/db/quick/kv/n/k", content=b"1")
        with ThreadPoolExecutor(8) as pool:
            body = {"stmts": [{"q": FOREVER}]}
            slow = [pool.submit(server.http.post, "/v1/db/slow/sql", json=body) for _ in range(8)]
            done = 0
            while not all(one.done() for one in slow):
                assert server.http.get("/v1/db/quick/kv/n/k").content == b"1"
                assert (
                    server.http.post("/v1/db/quick/sql", json={"stmts": [{"q": "SELECT 1"}]}).status_code
                    == 200
                )
                done += 1
        assert done > 3, "one more could follow the last of the slow"
        assert {one.result().status_code for one in slow} == {408}


def test_first_answers_are_kept_within_their_bounds() -> None:
    import asyncio

    async def fill(kept: FirstAnswers, keys: int, size: int) -> list[bool]:
        for i in range(keys):
            place = ("caller", "route", str(i))
            assert await kept.begin(place, b"") is None
            kept.end(place, Kept(200, [], bytes(size)))
        return [await kept.begin(("caller", "route", str(i)), b"") is not None for i in (0, keys - 1)]

    assert asyncio.run(fill(FirstAnswers(10, 1 << 20), 20, 10)) == [False, True]
    assert asyncio.run(fill(FirstAnswers(1000, 100_000), 20, 10_000)) == [False, True]
    assert asyncio.run(fill(FirstAnswers(0, 0), 3, 10)) == [False, False]


@pytest.mark.parametrize(("text", "where"), [("[::1]:80", ("::1", 80)), ("localhost:0", ("localhost", 0))])
def test_where_to_listen_is_read(text: str, where: tuple[str, int]) -> None:
    assert parse_listen(text) == where


@pytest.mark.parametrize("text", ["8080", "host", "::1:80", "host:http", "host:99999", ""])
def test_where_nothing_can_listen_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="MEMOTURN_LISTEN"):
        parse_listen(text)


def test_the_defaults_are_those_of_the_design() -> None:
    found = ServerSettings()
    assert (found.body_bytes, found.control_body_bytes, found.request_secs) == (32 << 20, 1 << 20, 30)
    assert (found.in_flight, found.control_per_second, found.results, found.queued) == (1024, 10, 1000, 256)
