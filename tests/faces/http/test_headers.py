"""What headers ask for, and what they tell: txids, positions, durability, idempotency, and who asks from where."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from memoturn.base.settings import AuthSettings, CommitSettings, Settings
from memoturn.faces.http.keys import new_platform_key, new_signing_key
from memoturn.faces.wire.routes import ROUTES
from tests.faces.http.running import FREE, Running, running


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/db/{db}/sql", {"stmts": [{"q": "SELEC"}]}),
        ("POST", "/v1/db/{db}/sql", {"stmts": []}),
        ("POST", "/v1/db/{db}/sql", {"nothing": 1}),
        ("GET", "/v1/db/{db}/kv/n/missing", None),
        ("GET", "/v1/db/{db}/kv/n?limit=none", None),
        ("POST", "/v1/db/{db}/docs/c/find", {"filter": {"$what": 1}}),
        ("GET", "/v1/databases/{db}/branches/main/checkpoints", None),
        ("DELETE", "/v1/databases/{db}/branches/main/checkpoints/none", None),
        ("POST", "/v1/databases/{db}/branches/main/rewind", {"to": "none"}),
        ("POST", "/v1/databases/{db}/branches/main/reset", None),
        ("GET", "/v1/databases/{db}/export?at=999", None),
        ("DELETE", "/v1/databases/{db}/branches/main", None),
        ("GET", "/v1/databases/{db}", None),
    ],
)
def test_every_answer_of_a_database_tells_its_txid(
    server: Running, name: str, method: str, path: str, body: object
) -> None:
    server.sql(name, "CREATE TABLE t(x)")
    answer = server.http.request(method, path.replace("{db}", name), json=body)
    assert answer.headers["memoturn-txid"] == "1", answer.text


def test_an_answer_about_no_database_tells_that_there_is_none(server: Running, name: str) -> None:
    server.sql(name, "CREATE TABLE t(x)")
    for path in (
        "/v1/db/nobody/kv/n/k",
        f"/v1/db/{name}@none/kv/n/k",
        "/v1/databases/NOBODY",
        f"/v1/db/{name}/nothing",
    ):
        assert server.http.get(path).headers["memoturn-txid"] == "0", path


def test_reads_wait_for_the_txid_that_they_ask_for(server: Running, name: str) -> None:
    server.sql(name, "CREATE TABLE t(x)")
    with ThreadPoolExecutor() as pool:
        early = pool.submit(server.sql, name, "SELECT count(*) AS n FROM t", **{"Memoturn-Min-Txid": "2"})
        server.sql(name, "INSERT INTO t VALUES (1)")
        assert early.result()["results"][0]["rows"] == [{"n": 1}]


def test_a_txid_that_does_not_come_is_refused_with_how_far_it_is(tmp_path: Path) -> None:
    with running("memory:", tmp_path, replace(FREE, min_txid_secs=0.05)) as server:
        server.http.post("/v1/databases", json={"name": "a"})
        server.sql("a", "CREATE TABLE t(x)")
        late = server.http.get("/v1/db/a", headers={"Memoturn-Min-Txid": "7"})
        assert (late.status_code, late.json()["code"], late.json()["txid"]) == (503, "unavailable", 1)
        assert (late.headers["memoturn-txid"], late.headers["retry-after"]) == ("1", "1")


def test_what_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    asked = {"Memoturn-Min-Txid": "1"}
    with running("memory:", tmp_path, replace(FREE, min_txid_secs=0.05)) as server:
        server.http.post("/v1/databases", json={"name": "a"}).raise_for_status()
        for path, code in (
            ("/v1/db/nobody/kv/n/k", "database_not_found"),
            ("/v1/db/a@none", "branch_not_found"),
        ):
            answer = server.http.get(path, headers=asked)
            assert (answer.status_code, answer.json()["code"]) == (404, code)
        # A profile that is not there is an empty one, and not as far as that.
        empty = server.http.post("/v1/memory/acme/nobody/recall", json={"query": "x"}, headers=asked)
        assert (empty.status_code, empty.json()["code"]) == (503, "unavailable")


@pytest.mark.parametrize(
    "headers",
    [
        {"Memoturn-Min-Txid": "-1"},
        {"Memoturn-Min-Txid": "two"},
        {"Memoturn-Consistency": "eventual"},
        {"Memoturn-Durability": "none"},
        {"Memoturn-Branch": "Ä"},
        {"Memoturn-Branch": "other"},
        {"Memoturn-At": "1"},
        {"Memoturn-At": ""},
        {"Memoturn-Exact": "perhaps"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_a_header_that_cannot_be_meant_is_refused(
    server: Running, name: str, headers: dict[str, str]
) -> None:
    answer = server.http.get(
        f"/v1/db/{name}@main:0",
        headers={key: value.encode() for key, value in headers.items()},  # type: ignore[arg-type]
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_headers_name_the_branch_and_the_position(server: Running, name: str) -> None:
    server.sql(name, "CREATE TABLE t(x)")
    server.sql(name, "DROP TABLE t")
    there = {"Memoturn-Branch": "main", "Memoturn-At": "1", "Memoturn-Consistency": "primary"}
    assert server.sql(name, "SELECT * FROM t", **there)["txid"] == 1
    refused = server.http.put(f"/v1/db/{name}/kv/n/k", content=b"", headers={"Memoturn-At": "1"})
    assert (refused.status_code, "read-only" in refused.json()["error"]) == (400, True)


def test_durable_is_answered_when_the_store_has_it(tmp_path: Path) -> None:
    # Nothing is shipped in the background for as long as this takes.
    settings = Settings(commit=CommitSettings(ship_interval_ms=3_600_000))

    def shipped() -> int:
        return int(server.http.get("/v1/databases/a/branches").json()["branches"][0]["head_txid"])

    with running(f"file:{tmp_path}/store", tmp_path / "spool", settings=settings) as server:
        server.http.post("/v1/databases", json={"name": "a"})
        server.http.put("/v1/db/a/kv/n/k", content=b"1")
        assert shipped() == 0
        server.http.put("/v1/db/a/kv/n/k", content=b"2", headers={"Memoturn-Durability": "durable"})
        assert shipped() == 2
        server.sql("a", "CREATE TABLE t(x)", **{"Memoturn-Durability": "standard"})
        assert shipped() == 2
        server.http.post("/v1/db/a/sync")
        assert shipped() == 3


# Idempotency.


def test_a_key_gives_the_first_answer_again(server: Running, name: str) -> None:
    server.sql(name, "CREATE TABLE t(x)")
    key = {"Idempotency-Key": f"k-{name}"}
    body = {"stmts": [{"q": "INSERT INTO t VALUES (1)"}]}
    first = server.http.post(f"/v1/db/{name}/sql", json=body, headers=key)
    again = server.http.post(f"/v1/db/{name}/sql", json=body, headers=key)
    assert (again.json(), again.headers["memoturn-txid"], again.headers["memoturn-replayed"]) == (
        first.json(),
        "2",
        "true",
    )
    assert "memoturn-replayed" not in first.headers
    assert server.sql(name, "SELECT count(*) AS n FROM t")["results"][0]["rows"] == [{"n": 1}]
    other = server.http.post(f"/v1/db/{name}/sql", json={"stmts": [{"q": "SELECT 1"}]}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize("path", ["/v1/memory/lines/keyed/import", "/v1/databases/keyed-import/import"])
def test_a_key_of_a_large_body_is_for_that_body(server: Running, path: str) -> None:
    def sent(body: bytes) -> httpx.Response:
        return server.http.post(path, content=body, headers={"Idempotency-Key": "one"})

    lines = [b'{"type": "event", "summary": "day %d"}\n' % number * 40_000 for number in range(2)]
    first = sent(lines[0])
    assert (sent(lines[0]).json(), sent(lines[0]).status_code) == (first.json(), first.status_code)
    assert sent(lines[0]).headers["memoturn-replayed"] == "true"
    other = sent(lines[1])
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


def test_a_key_that_is_older_than_the_server_is_not_taken_for_new(server: Running, name: str) -> None:
    server.sql(name, "CREATE TABLE t(x)")
    body = {"stmts": [{"q": "INSERT INTO t VALUES (1)"}]}

    def insert(key: str, age: str) -> httpx.Response:
        told = {"Idempotency-Key": f"{key}-{name}", "Memoturn-First-Try": age}
        return server.http.post(f"/v1/db/{name}/sql", json=body, headers=told)

    for _ in range(2):  # It is not kept: what becomes of the key is for whoever sends it to say.
        unsure = insert("old", "999999")
        assert (unsure.status_code, unsure.json()["code"], "retry-after" in unsure.headers) == (
            503,
            "unavailable",
            False,
        )
        assert unsure.headers["memoturn-txid"] == "1"
    assert insert("new", "0.000").json()["txid"] == 2
    assert insert("new", "999999").headers["memoturn-replayed"] == "true"
    assert server.sql(name, "SELECT count(*) AS n FROM t")["results"][0]["rows"] == [{"n": 1}]
    for age in ("soon", "-1", "1e9", "nan", ""):
        assert insert("bad", age).status_code == 400


def test_a_refusal_is_a_first_answer_too(server: Running, name: str) -> None:
    key = {"Idempotency-Key": f"r-{name}"}
    body = {"stmts": [{"q": "INSERT INTO t VALUES (1)"}]}
    assert server.http.post(f"/v1/db/{name}/sql", json=body, headers=key).status_code == 400
    server.sql(name, "CREATE TABLE t(x)")
    assert server.http.post(f"/v1/db/{name}/sql", json=body, headers=key).status_code == 400


def test_duplicates_at_once_are_done_once(server: Running, name: str) -> None:
    server.sql(name, "CREATE TABLE t(x)")
    key = {"Idempotency-Key": f"d-{name}"}
    body = {"stmts": [{"q": "INSERT INTO t VALUES (1)"}]}
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(
                lambda _: server.http.post(f"/v1/db/{name}/sql", json=body, headers=key).json(), range(16)
            )
        )
    assert all(answer == answers[0] for answer in answers)
    assert server.sql(name, "SELECT count(*) AS n FROM t")["results"][0]["rows"] == [{"n": 1}]


def test_each_credential_and_each_route_has_its_own_keys(tmp_path: Path) -> None:
    auth = AuthSettings("on", new_platform_key(), new_signing_key())
    with running("memory:", tmp_path, auth=auth) as server:
        server.http.headers["Authorization"] = f"Bearer {auth.platform_key}"
        for one in ("a", "b"):
            server.http.post("/v1/databases", json={"name": one})
        server.http.put("/v1/db/a/kv/n/k", content=b"1", headers={"Idempotency-Key": "x"})
        deleted = server.http.delete("/v1/db/a/kv/n/k", headers={"Idempotency-Key": "x"})
        assert deleted.json()["deleted"]
        token = server.http.post("/v1/databases/b/tokens", json={"scope": "write"}).json()["token"]
        bearer = {"Authorization": f"Bearer {token}", "Idempotency-Key": "x"}
        assert server.http.put("/v1/db/b/kv/n/k", content=b"2", headers=bearer).status_code == 200


@pytest.mark.parametrize("by_header", [True, False])
def test_what_was_done_and_could_not_be_shipped_is_not_done_again(tmp_path: Path, by_header: bool) -> None:
    store = tmp_path / "store"
    settings = Settings(
        commit=CommitSettings("standard" if by_header else "durable", ship_interval_ms=3_600_000)
    )
    durable = {"Memoturn-Durability": "durable"} if by_header else {}
    key = {"Idempotency-Key": "x", **durable}
    with running(f"file:{store}", tmp_path / "spool", settings=settings) as server:
        server.http.post("/v1/databases", json={"name": "a"})
        server.sql("a", "CREATE TABLE t(x)")
        server.http.post("/v1/db/a/sync")
        (store / "objects" / "db").rename(store / "objects" / "away")
        (store / "objects" / "db").write_bytes(b"")
        body = {"stmts": [{"q": "INSERT INTO t VALUES (1)"}]}
        first = server.http.post("/v1/db/a/sql", json=body, headers=key)
        assert (first.status_code, first.headers["retry-after"]) == (503, "1")
        assert "the work was done" in first.json()["error"]
        keyless = server.http.put("/v1/db/a/kv/n/k", content=b"", headers=durable)
        assert (keyless.status_code, "retry-after" in keyless.headers) == (503, False)
        still = server.http.post("/v1/db/a/sql", json=body, headers=key)
        assert (still.status_code, still.headers["retry-after"]) == (503, "1")
        (store / "objects" / "db").unlink()
        (store / "objects" / "away").rename(store / "objects" / "db")
        again = server.http.post("/v1/db/a/sql", json=body, headers=key)
        assert (again.status_code, again.headers["memoturn-replayed"]) == (200, "true")
        assert server.sql("a", "SELECT count(*) AS n FROM t")["results"][0]["rows"] == [{"n": 1}]
        assert server.http.get("/v1/databases/a/branches").json()["branches"][0]["head_txid"] == 3


# Who asks.


def test_tokens_reach_what_they_say_and_nothing_else(tmp_path: Path) -> None:
    auth = AuthSettings("on", new_platform_key(), new_signing_key())
    with running("memory:", tmp_path, auth=auth) as server:
        http = server.http
        platform = {"Authorization": f"Bearer {auth.platform_key}"}
        assert http.get("/v1/databases").status_code == 401
        assert http.get("/v1/databases").headers["www-authenticate"] == "Bearer"
        assert http.get("/healthz").status_code == 200
        for one in ("a", "b"):
            http.post("/v1/databases", json={"name": one}, headers=platform)
        minted = http.post(
            "/v1/databases/a/tokens", json={"scope": "read", "expires_in": 60}, headers=platform
        )
        assert (minted.status_code, minted.json()["db"]) == (201, "a")
        bearer = {"Authorization": f"Bearer {minted.json()['token']}"}
        read = http.post("/v1/db/a/sql", json={"stmts": [{"q": "SELECT 1"}]}, headers=bearer)
        assert read.status_code == 200
        for stmts in (["CREATE TABLE t(x)"], ["SELECT 1", "CREATE TABLE t(x)"]):
            body = {"stmts": [{"q": q} for q in stmts]}
            refused = http.post("/v1/db/a/sql", json=body, headers=bearer)
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), stmts
        assert http.put("/v1/db/a/kv/n/k", content=b"", headers=bearer).status_code == 403
        other, none = (http.get(f"/v1/db/{one}/kv/n/k", headers=bearer) for one in ("b", "nobody"))
        assert other.text.replace("'b'", "'nobody'") == none.text
        hidden = {"date", "memoturn-request-id", "content-length"}
        told = [{k: v for k, v in one.headers.items() if k not in hidden} for one in (other, none)]
        assert (told[0], other.status_code, none.status_code) == (told[1], 404, 404)
        http.delete("/v1/databases/a", headers=platform)
        http.post("/v1/databases", json={"name": "a"}, headers=platform)
        void = http.get("/v1/db/a/kv/n/k", headers=bearer)
        assert (void.status_code, void.json()["code"]) == (401, "unauthorized")


def test_every_route_but_the_open_ones_wants_a_credential(tmp_path: Path) -> None:
    auth = AuthSettings("on", new_platform_key(), new_signing_key())
    with running("memory:", tmp_path, auth=auth) as server:
        for route in ROUTES:
            path = route.path.replace("{key...}", "k").format_map(_Ones())
            answer = server.http.request(route.method, path)
            assert (answer.status_code == 401) == (route.need != "open"), route.name


class _Ones(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "one"


def test_pages_of_other_sites_are_refused_without_authentication(server: Running) -> None:
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        answer = server.http.get("/v1/databases", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
