"""Every noun over HTTP: what is asked is done, and each answer tells the txid."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from memoturn.faces.http.handlers import HANDLERS
from memoturn.faces.wire.routes import ROUTES
from tests.faces.http.running import Running

PAGES = {"open.healthz", "open.readyz", "open.openapi", "open.docs"}


def test_databases_come_and_go_and_come_back(server: Running) -> None:
    http = server.http
    made = http.post("/v1/databases", json={"name": "come-and-go"})
    assert (made.status_code, made.json()["default_branch"]) == (201, "main")
    again = http.post("/v1/databases", json={"name": "come-and-go"})
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")
    server.sql("come-and-go", "CREATE TABLE t(x)")
    assert http.get("/v1/databases/come-and-go").headers["memoturn-txid"] == "1"
    gone = http.delete("/v1/databases/come-and-go")
    missing = http.get("/v1/databases/come-and-go")
    assert (missing.status_code, missing.json()["code"]) == (404, "database_not_found")
    assert missing.headers["memoturn-txid"] == "0"
    back = http.post("/v1/databases/come-and-go/undo", json={"token": gone.json()["undo"]})
    assert (back.status_code, back.headers["memoturn-txid"]) == (200, "1")


def test_databases_are_listed_page_by_page(server: Running) -> None:
    for i in range(5):
        server.http.post("/v1/databases", json={"name": f"page-{i}"})
    found, cursor = list[str](), "page-"
    while cursor is not None:
        page = server.http.get("/v1/databases", params={"limit": 2, "cursor": cursor}).json()
        found += [one["name"] for one in page["databases"]]
        cursor = page["cursor"]
    assert [one for one in found if one.startswith("page-")] == [f"page-{i}" for i in range(5)]


def test_sql_is_one_transaction_with_one_txid(server: Running, name: str) -> None:
    done = server.sql(name, "CREATE TABLE t(x)", "INSERT INTO t VALUES (1), (x'00ff'), (9e999)")
    assert done["txid"] == 1
    read = server.http.post(
        f"/v1/db/{name}/sql", json={"stmts": [{"q": "SELECT x FROM t WHERE x IS NOT ?", "params": [1]}]}
    )
    assert read.json()["results"] == [
        {"columns": ["x"], "types": [None], "rows": [{"x": {"$base64": "AP8="}}, {"x": {"$float": "inf"}}]}
    ]
    broken = server.http.post(
        f"/v1/db/{name}/sql",
        json={"stmts": [{"q": "INSERT INTO t VALUES (2)"}, {"q": "INSERT INTO nothing VALUES (2)"}]},
    )
    assert (broken.status_code, broken.json()["kind"], broken.headers["memoturn-txid"]) == (400, "sql", "1")
    assert server.sql(name, "SELECT count(*) AS n FROM t")["results"][0]["rows"] == [{"n": 3}]


def test_values_of_keys_are_the_bodies(server: Running, name: str) -> None:
    http, place = server.http, f"/v1/db/{name}/kv/scratch/a%2Fb/ü//"
    put = http.put(
        place, content=b"\x00\xff", headers={"Memoturn-Meta": '{"by": "\\u00fc"}'}, params={"ttl": "60"}
    )
    assert put.status_code == 200
    got = http.get(place)
    assert (got.content, got.headers["etag"], got.headers["memoturn-txid"]) == (
        b"\x00\xff",
        f'"{put.json()["version"]}"',
        "1",
    )
    assert got.headers["memoturn-meta"] == '{"by":"\\u00fc"}'
    assert got.headers["memoturn-expires-at"].endswith("Z")
    assert http.get(place, headers={"If-None-Match": got.headers["etag"]}).status_code == 304
    entry = http.get(place, params={"entry": "true"}).json()
    assert (entry["value"], entry["meta"]) == ("AP8=", {"by": "ü"})
    assert http.head(place).headers["content-length"] == "2"
    listed = http.get(f"/v1/db/{name}/kv/scratch", params={"prefix": "a/"}).json()
    assert [one["key"] for one in listed["keys"]] == ["a/b/ü//"]
    missing = http.get(f"/v1/db/{name}/kv/scratch/none")
    assert (missing.status_code, missing.json()["code"], missing.headers["memoturn-txid"]) == (
        404,
        "not_found",
        "1",
    )
    assert http.delete(place).json() == {"deleted": True, "txid": 2}


def test_a_key_is_put_on_condition(server: Running, name: str) -> None:
    http, place = server.http, f"/v1/db/{name}/kv/locks/one"
    first = http.put(place, content=b"a", headers={"If-None-Match": "*"})
    assert http.put(place, content=b"b", headers={"If-None-Match": "*"}).json()["code"] == "conflict"
    second = http.put(place, content=b"c", headers={"If-Match": first.headers["etag"]})
    assert second.status_code == 200
    assert http.delete(place, headers={"If-Match": first.headers["etag"]}).status_code == 409
    assert http.get(place).content == b"c"


def test_branches_fork_checkpoint_rewind_and_undo(server: Running, name: str) -> None:
    http, main = server.http, f"/v1/databases/{name}/branches/main"
    server.sql(name, "CREATE TABLE t(x)")
    assert http.post(f"{main}/checkpoint", json={"name": "before"}).json() == {"name": "before", "txid": 1}
    server.sql(name, "INSERT INTO t VALUES (1)")
    fork = http.post(f"/v1/databases/{name}/branches", json={"name": "try", "ttl": 60})
    assert (fork.status_code, fork.json()["parent"], fork.headers["memoturn-txid"]) == (201, "main", "2")
    back = http.post(f"{main}/rewind", json={"to": "before"}).json()
    assert (back["txid"], back["restored_txid"]) == (3, 1)
    assert server.sql(name, "SELECT * FROM t")["results"][0]["rows"] == []
    assert server.sql(f"{name}@try", "SELECT * FROM t")["results"][0]["rows"] == [{"x": 1}]
    assert server.sql(name, "SELECT * FROM t", **{"Memoturn-At": "2"})["results"][0]["rows"] == [{"x": 1}]
    assert server.sql(name, "SELECT * FROM t", **{"Memoturn-Branch": "try"})["results"][0]["rows"] == [
        {"x": 1}
    ]
    undone = http.post(f"/v1/databases/{name}/undo", json={"token": back["undo"]})
    assert undone.headers["memoturn-txid"] == "4"
    assert http.get(f"{main}/checkpoints").json() == {"checkpoints": [{"name": "before", "txid": 1}]}
    forgotten = http.delete(f"{main}/checkpoints/before")
    assert (forgotten.status_code, forgotten.content, forgotten.headers["memoturn-txid"]) == (204, b"", "4")
    history = http.get(f"{main}/history", params={"limit": 3}).json()
    assert ([one["txid"] for one in history["history"]], history["cursor"]) == ([4, 3, 2], 2)
    assert http.patch(f"/v1/databases/{name}/branches/try", json={"ttl": None}).json()["ttl_at"] is None
    would = http.post(f"/v1/databases/{name}/branches/try/promote", json={"dry_run": True}).json()
    assert (would["default_branch"], would["would_be"]) == ("main", "try")
    assert http.post(f"/v1/databases/{name}/branches/try/promote").json()["default_branch"] == "try"
    assert {one["name"] for one in http.get(f"/v1/databases/{name}/branches").json()["branches"]} == {
        "main",
        "try",
    }
    assert http.post(f"/v1/databases/{name}/branches/try/reset").status_code == 200
    assert http.get(f"{main}/restore-points").json()["ranges"][0]["from_txid"] == 0
    difference = http.get(f"/v1/databases/{name}/diff", params={"from": "main", "to": "main:1"}).json()
    assert difference["tables"][0]["removed"] == 1
    assert http.delete(main).json()["name"] == "main"


def test_health_is_told_without_a_database(server: Running) -> None:
    assert server.http.get("/healthz").json() == {"status": "ok"}
    assert server.http.get("/readyz").json() == {"status": "ok"}


def test_a_path_that_is_not_there_and_a_method_that_is_not_possible_say_so(server: Running) -> None:
    missing = server.http.get("/v1/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    refused = server.http.put("/v1/databases")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST, GET")


def test_every_route_has_its_handler() -> None:
    assert {route.name for route in ROUTES if route.plane != "open"} == set(HANDLERS)
    assert {route.name for route in ROUTES if route.plane == "open"} == PAGES


def test_documents_are_inserted_found_changed_and_removed(server: Running, name: str) -> None:
    def post(verb: str, body: object) -> Any:
        done = server.http.post(f"/v1/db/{name}/docs/people/{verb}", json=body)
        assert done.status_code == 200, done.text
        assert done.headers["memoturn-txid"] == str(done.json()["txid"])
        return done.json()

    assert post("insert", {"documents": [{"_id": "a", "age": 1}, {"_id": "b", "age": 2}]})["ids"] == [
        "a",
        "b",
    ]
    assert post("indexes", {"path": "age"})["changed"]
    assert server.http.get(f"/v1/db/{name}/docs/people/indexes").json()["indexes"] == ["age"]
    assert post("explain", {"filter": {"age": 1}})["indexes"] == ["age"]
    assert post("find", {"filter": {"age": {"$gt": 1}}})["documents"] == [{"_id": "b", "age": 2}]
    assert post("find", {"sort": {"age": -1}, "limit": 1}) == {
        "documents": [{"_id": "b", "age": 2}],
        "more": True,
        "txid": 2,
    }
    assert post("count", {})["count"] == 2
    assert post("update", {"filter": {"_id": "a"}, "update": {"$inc": {"age": 10}}})["modified"] == 1
    assert server.http.get(f"/v1/db/{name}/docs/people/documents/a").json()["document"]["age"] == 11
    missing = server.http.get(f"/v1/db/{name}/docs/people/documents/z")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert post("delete", {"filter": {"age": 2}})["deleted"] == 1
    assert server.http.delete(f"/v1/db/{name}/docs/people/indexes", params={"path": "age"}).json()["changed"]
    assert server.http.get(f"/v1/db/{name}/docs").json()["collections"] == ["people"]


def test_vectors_are_kept_and_found(server: Running, name: str) -> None:
    http, place = server.http, f"/v1/db/{name}/vectors/notes"
    items = [{"id": "x", "vector": [1, 0], "meta": {"kind": 1}}, {"id": "y/z", "vector": [0, 1]}]
    assert http.post(place, json={"items": items}).json()["upserted"] == 2
    found = http.post(f"{place}/search", json={"vector": [0, 1], "k": 1}).json()
    assert [hit["id"] for hit in found["hits"]] == ["y/z"]
    assert http.get(f"{place}/entries/y%2Fz").json()["vector"] == [0.0, 1.0]
    assert http.get(f"/v1/db/{name}/vectors").json()["collections"][0]["dimension"] == 2
    assert http.delete(f"{place}/entries/x").json()["deleted"]
    assert http.get(f"{place}/entries/x").status_code == 404


def test_turns_are_appended_and_found(server: Running, name: str) -> None:
    http, place = server.http, f"/v1/db/{name}/memory/s%201"
    turns = [
        {"role": "user", "content": "I like green tea", "created_at": "2026-01-02T03:04:05Z"},
        {"role": "assistant", "content": "Noted"},
    ]
    assert http.post(f"{place}/turns", json={"turns": turns}).json()["seqs"] == [1, 2]
    window = http.get(f"{place}/turns", params={"last": 1}).json()
    assert [turn["content"] for turn in window["turns"]] == ["Noted"]
    for path in (f"{place}/search", f"/v1/db/{name}/memory/search"):
        found = http.post(path, json={"query": "tea"}).json()["turns"]
        assert (found[0]["session"], found[0]["created_at"]) == ("s 1", "2026-01-02T03:04:05Z")
    sessions = http.get(f"/v1/db/{name}/memory", params={"limit": 1}).json()
    assert (sessions["sessions"][0]["turns"], sessions["cursor"]) == (2, "s 1")
    assert http.get(f"/v1/db/{name}/memory", params={"cursor": "s 1"}).json()["cursor"] is None
    assert http.delete(place).json()["turns"] == 2


def test_memories_are_ingested_recalled_moved_and_forgotten(server: Running) -> None:
    http, place = server.http, "/v1/memory/acme/alice"
    empty = http.post(f"{place}/recall", json={"query": "tea"})
    assert (empty.status_code, empty.json()["hits"], empty.headers["memoturn-txid"]) == (200, [], "0")
    fact = {"type": "fact", "topic_key": "diet", "summary": "eats vegetarian food", "session_id": "s"}
    done = http.post(
        f"{place}/memories", json={"memories": [fact, {"type": "task", "summary": "book", "session_id": "s"}]}
    )
    assert (done.status_code, done.headers["memoturn-txid"]) == (200, "1")
    first = done.json()["memories"][0]["id"]
    http.post(f"{place}/memories", json={"memories": [{**fact, "summary": "eats steak"}]})
    hits = http.post(f"{place}/recall", json={"query": "steak or not?", "k": 1}).json()["hits"]
    assert hits[0]["summary"] == "eats steak"
    past = http.post(f"{place}/recall", json={"topic_key": "diet", "as_of": 1}).json()
    assert (past["hits"][0]["id"], past["txid"]) == (first, 1)
    then = http.post("/v1/memory/acme/alice@main:1/recall", json={"topic_key": "diet"}).json()
    assert then["hits"][0]["id"] == first
    assert len(http.get(f"{place}/memories/{first}").json()["chain"]) == 2
    assert http.get(f"{place}/memories/mem_none").json()["code"] == "not_found"
    assert http.get("/v1/memory/acme").json() == {"profiles": ["alice"]}
    assert http.get(f"{place}/sessions").json()["sessions"][0]["memories"] == 3
    lines = http.get(f"{place}/export")
    assert (lines.headers["content-type"], len(lines.text.splitlines())) == ("application/x-ndjson", 3)
    moved = http.post("/v1/memory/acme/bob/import", content=lines.content)
    assert moved.json()["created"] == 3
    assert http.post("/v1/memory/acme/bob/import", content=lines.content).json() == {
        **moved.json(),
        "created": 0,
        "known": 3,
    }
    broken = http.post("/v1/memory/acme/bob/import", content=b'{"type": "fact", "summary": "x"}\n{')
    assert (broken.status_code, "line 2" in broken.json()["error"]) == (400, True)
    assert http.delete(f"{place}/sessions/s", params={"turns": "true"}).json()["tasks"] == 1
    assert http.delete(f"{place}/memories/{first}").json()["forgotten"]
    refused = http.post(f"{place}/embed")
    assert (refused.status_code, "embedder" in refused.json()["error"]) == (400, True)


def test_a_database_goes_out_as_a_file_and_comes_in_again(server: Running, name: str, tmp_path: Path) -> None:
    server.sql(name, "CREATE TABLE t(x)", "INSERT INTO t VALUES (randomblob(3000000))")
    server.sql(name, "DELETE FROM t")
    with server.http.stream("GET", f"/v1/databases/{name}/export", params={"at": "1"}) as answer:
        content = b"".join(answer.iter_bytes())
        assert (answer.headers["memoturn-txid"], answer.headers["memoturn-read-exact"]) == ("1", "true")
        assert int(answer.headers["content-length"]) == len(content)
    (tmp_path / "copy.sqlite").write_bytes(content)
    with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as copy:
        assert copy.execute("SELECT length(x) FROM t").fetchall() == [(3000000,)]
    put = server.http.post(f"/v1/databases/{name}-copy/import", content=content)
    assert (put.status_code, put.headers["memoturn-txid"], put.json()["bytes"]) == (201, "1", len(content))
    assert server.sql(f"{name}-copy", "SELECT length(x) AS n FROM t")["results"][0]["rows"] == [
        {"n": 3000000}
    ]
    refused = server.http.post(f"/v1/databases/{name}-other/import", content=b"no database at all")
    assert (refused.status_code, "body-" in refused.text) == (400, False)
    again = server.http.post(f"/v1/databases/{name}/import", content=content)
    assert (again.status_code, again.json()["code"], again.headers["memoturn-txid"]) == (
        409,
        "already_exists",
        "2",
    )
    assert list(server.spool.iterdir()) == []


def test_maintenance_is_done_by_hand(server: Running, name: str) -> None:
    server.sql(name, "CREATE TABLE t(x)")
    http = server.http
    assert http.post(f"/v1/db/{name}/sync").json() == {"txid": 1}
    assert http.post(f"/v1/databases/{name}/maintenance/compact").json()["database"] == name
    assert http.post(f"/v1/databases/{name}/maintenance/compact", json={"branch": "none"}).status_code == 404
    assert http.post(f"/v1/databases/{name}/maintenance/retain").json() == {"branches": []}
    assert http.post("/v1/maintenance/verify", json={"address": name}).json()["verified"][0]["ok"]
    assert http.post("/v1/maintenance/gc", json={"database": name, "dry_run": True}).json()["dry_run"]
    assert http.get(f"/v1/databases/{name}/maintenance").json()["databases"][0]["name"] == name
    assert len(http.get("/v1/maintenance").json()["databases"]) > 1
    usage = http.get(f"/v1/databases/{name}/usage").json()
    assert (usage["branches"], usage["objects"] > 1, usage["bytes"] > 0) == (1, True, True)
    why = http.get("/v1/maintenance/why-retained", params={"key": f"catalog/{name}.json"})
    assert why.json()["state"] == "alive"
    assert http.get("/v1/maintenance/why-retained").status_code == 400
    assert http.post("/v1/maintenance/sync").status_code == 204
    assert b"memoturn_requests_total" in http.get("/metrics").content


def test_tokens_need_authentication(server: Running, name: str) -> None:
    refused = server.http.post(f"/v1/databases/{name}/tokens", json={"scope": "read"})
    assert (refused.status_code, refused.json()["code"]) == (503, "unconfigured")


def test_a_tilde_stands_for_the_default_branch(server: Running, name: str) -> None:
    at = f"/v1/databases/{name}"
    server.sql(name, "CREATE TABLE t (v)")
    assert server.http.post(f"{at}/branches/~/checkpoint", json={"name": "c"}).json() == {
        "name": "c",
        "txid": 1,
    }
    assert server.http.get(f"{at}/branches/~").json()["name"] == "main"
    server.sql(name, "DROP TABLE t")
    told = server.http.get(f"{at}/diff", params={"from": "~:c", "to": "~"}).json()
    assert (told["before"]["txid"], told["after"]["txid"]) == (1, 2)
    server.http.post(f"{at}/branches", json={"name": "other"}).raise_for_status()
    server.http.post(f"{at}/branches/other/promote").raise_for_status()
    assert server.http.get(f"{at}/branches/~").json()["name"] == "other"
    for refused in (
        server.http.delete(f"{at}/branches/~"),
        server.http.post(f"{at}/branches/~/promote"),
        server.http.post(f"{at}/branches", json={"name": "~"}),
        server.http.get(f"{at}/diff", params={"from": "~:a b"}),
    ):
        assert refused.status_code in (400, 404), refused.text
