"""Every noun over HTTP: what is asked is done, and each answer tells the txid."""

from __future__ import annotations

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
        {"columns": ["x"], "rows": [{"x": {"$base64": "AP8="}}, {"x": {"$float": "inf"}}]}
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
