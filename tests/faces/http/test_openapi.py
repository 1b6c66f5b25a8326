"""The OpenAPI document is the table of routes, and what the server answers is what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from memoturn.base.settings import AuthSettings
from memoturn.faces.http import docs
from memoturn.faces.http.keys import new_platform_key, new_signing_key
from memoturn.faces.http.openapi import encoded
from memoturn.faces.wire.paths import path_of
from memoturn.faces.wire.routes import BY_NAME, ROUTES
from tests.faces.http.running import Running, running

DOCUMENT = msgspec.json.decode(encoded())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def test_the_document_is_the_table() -> None:
    told = {
        (operation["operationId"], method.upper(), path)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }
    assert told == {(route.name, route.method, route.path.replace("...}", "}")) for route in ROUTES}


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


def test_the_server_tells_the_document(server: Running) -> None:
    assert server.http.get("/openapi.json").json() == DOCUMENT


def test_each_operation_says_what_it_takes() -> None:
    for route in ROUTES:
        path = route.path.replace("...}", "}")
        operation = DOCUMENT["paths"][path][route.method.lower()]
        named = {one["name"].lower() for one in operation["parameters"]}
        assert named == {
            *re.findall(r"\{(\w+)\}", path),
            *(query.name for query in route.query),
            *route.headers,
        }
        assert ("requestBody" in operation) == (route.body is not None)
        assert str(route.status) in operation["responses"]


def test_the_page_needs_nothing_from_elsewhere(server: Running) -> None:
    answer = server.http.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.content == docs.page()
    assert re.findall(rb"(?:src|href)=(?!['\"]?(?:#|/openapi))[^ >]*", answer.content) == []
    assert b"<script" not in answer.content
    for before, after in pairwise([one.name for one in ROUTES if one.plane == "data"]):
        assert answer.content.index(f"'{before}'".encode()) < answer.content.index(f"'{after}'".encode())


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with authentication, and something to find: what is asked at random is mostly not there."""
    directory = tmp_path_factory.mktemp("asked")
    auth = AuthSettings("on", new_platform_key(), new_signing_key())
    with running(f"file:{directory}/store", directory / "spool", auth=auth) as server:
        server.http.headers["Authorization"] = f"Bearer {auth.platform_key}"
        server.http.post("/v1/databases", json={"name": "seed"})
        server.sql("seed", "CREATE TABLE t(x)")
        server.http.post("/v1/databases/seed/branches/main/checkpoint", json={"name": "c"})
        server.http.put("/v1/db/seed/kv/n/k", content=b"value")
        server.http.post("/v1/db/seed/docs/c/insert", json={"documents": [{"_id": "a"}]})
        server.http.post("/v1/db/seed/vectors/c", json={"items": [{"id": "a", "vector": [1, 0]}]})
        server.http.post("/v1/db/seed/memory/s/turns", json={"turns": [{"role": "user", "content": "tea"}]})
        server.http.post("/v1/memory/n/p/memories", json={"memories": [{"type": "event", "summary": "tea"}]})
        yield server


@schemathesis.serializer("application/vnd.sqlite3", "application/x-ndjson")
def as_they_are(_context: object, value: object) -> bytes:
    """Bytes as they are, and anything else as a line of JSON."""
    data = getattr(value, "data", value)
    return data if isinstance(data, bytes) else msgspec.json.encode(data, enc_hook=str) + b"\n"


THERE: Final = {
    "db": "seed", "branch": "main", "checkpoint": "c", "ns": "n", "profile": "p", "collection": "c", "session": "s",
    "key": "k", "id": "a",
}  # fmt: skip
"""Names of what is there."""


@SCHEMA.parametrize()
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_what_is_answered_is_what_the_document_says(case: schemathesis.Case, seeded: Running) -> None:
    if case.operation.method != "delete":  # What is there stays there.
        for name, value in case.path_parameters.items():
            if len(str(value)) % 2:
                case.path_parameters[name] = THERE[name]
    if len(repr(case.body)) % 2:
        case.headers.clear()  # With a position or a branch made up nothing is found.
    if case.headers.get("Memoturn-Min-Txid"):
        case.headers["Memoturn-Min-Txid"] = "0"  # Nothing is waited for.
    response = case.call(base_url=seeded.url, headers={"Authorization": seeded.http.headers["Authorization"]})
    case.validate_response(response, checks=CHECKS)


class Done(NamedTuple):
    """A call that succeeds: `what` is what stands in its path beside `THERE`, `body` is JSON, or bytes."""

    route: str
    body: Any = None
    what: dict[str, str] = {}  # noqa: RUF012
    query: dict[str, str] = {}  # noqa: RUF012


STMTS: Final = [
    {"q": "CREATE TABLE t(x)"},
    {"q": "INSERT INTO t VALUES (?), (1e999)", "params": [{"$base64": "AA=="}]},
    {"q": "SELECT * FROM t"},
]
LINE: Final = b'{"type": "fact", "topic_key": "home", "summary": "lives in Bonn"}\n'


def successes(said: dict[str, Any]) -> Iterator[Done]:
    """Calls of all routes, in an order in which each finds what it needs; `said` are the answers before."""
    yield Done("databases.create", {"name": "seed"})
    yield Done("databases.list")
    yield Done("databases.get")
    yield Done("db.sql", {"stmts": STMTS})
    yield Done("db.where")
    yield Done("db.sync")
    yield Done("kv.put", b"value", query={"ttl": "3600"})
    yield Done("kv.get")
    yield Done("kv.get", query={"entry": "true"})
    yield Done("kv.list")
    yield Done("docs.insert", {"documents": [{"_id": "a", "n": 1}, {"n": [2, {"x": None}]}]})
    yield Done("docs.create_index", {"path": "n"})
    yield Done("docs.collections")
    yield Done("docs.find", {"filter": {"n": {"$gte": 1}}, "sort": {"n": -1}})
    yield Done("docs.count")
    yield Done("docs.explain", {"filter": {"n": 1}})
    yield Done("docs.get")
    yield Done("docs.indexes")
    yield Done("docs.update", {"filter": {"n": 1}, "update": {"$set": {"m": 1}}})
    yield Done("vectors.upsert", {"items": [{"id": "a", "vector": [0.0, 1.0], "meta": {"of": 1}}]})
    yield Done("vectors.collections")
    yield Done("vectors.search", {"vector": [1, 1]})
    yield Done("vectors.get")
    turns = [{"role": "user", "content": "tea, please", "embedding": [1, 0]}]
    yield Done("turns.append", {"turns": turns})
    yield Done("turns.sessions")
    yield Done("turns.window")
    yield Done("turns.search", {"query": "tea"})
    yield Done("turns.search_all", {"vector": [1, 0]})
    facts = [
        {"type": "fact", "topic_key": "diet", "summary": say, "session_id": "s"} for say in ("tea", "milk")
    ]
    yield Done("memory.ingest", {"memories": [*facts, {"type": "task", "summary": "buy", "session_id": "s"}]})
    yield Done("memory.profiles")
    yield Done("memory.recall", {"query": "milk", "include_superseded": True})
    remembered = {"id": said["memory.ingest"]["memories"][0]["id"]}
    yield Done("memory.get", what=remembered)
    yield Done("memory.sessions")
    yield Done("memory.export")
    yield Done("memory.import", LINE)
    yield Done("memory.end_session", query={"turns": "true"})
    yield Done("memory.forget", what=remembered)
    yield Done("memory.embed")
    yield Done("branches.checkpoint", {"name": "c"})
    yield Done("branches.create", {"name": "b", "checkpoint": "c", "ttl": 60})
    yield Done("branches.list")
    yield Done("branches.get", what={"branch": "b"})
    yield Done("branches.extend", {"ttl": None}, what={"branch": "b"})
    yield Done("branches.checkpoints")
    yield Done("branches.history")
    yield Done("branches.restore_points")
    yield Done("db.sql", {"stmts": [{"q": "ALTER TABLE t ADD y"}, {"q": "INSERT INTO t VALUES (1, 2)"}]})
    yield Done("databases.diff", query={"from": "b", "to": "main"})
    yield Done("branches.rewind", {"to": "c"})
    yield Done("databases.undo", {"token": said["branches.rewind"]["undo"]})
    yield Done("branches.reset", what={"branch": "b"})
    yield Done("branches.promote", {"dry_run": True}, what={"branch": "b"})
    yield Done("branches.promote", what={"branch": "b"})
    yield Done("databases.undo", {"token": said["branches.promote"]["undo"]})
    yield Done("branches.delete", what={"branch": "b"})
    yield Done("branches.delete_checkpoint")
    yield Done("databases.export")
    yield Done("databases.import", said["databases.export"], what={"db": "copy"})
    yield Done("databases.usage")
    yield Done("tokens.create", {"scope": "read"})
    yield Done("tokens.create_ns", {"scope": "admin", "expires_in": 60})
    yield Done("maintenance.status")
    yield Done("maintenance.database")
    yield Done("maintenance.compact")
    yield Done("maintenance.retain")
    yield Done("maintenance.verify", {"points": 1})
    yield Done("maintenance.gc", {"dry_run": True})
    yield Done("maintenance.why_retained", query={"key": "catalog/seed.json"})
    yield Done("maintenance.sync")
    yield Done("server.metrics")
    yield Done("docs.drop_index", query={"path": "n"})
    yield Done("docs.delete", {"filter": {}})
    yield Done("vectors.delete")
    yield Done("turns.delete")
    yield Done("kv.delete")
    yield Done("databases.delete", what={"db": "copy"})
    for page in ("healthz", "readyz", "openapi", "docs"):
        yield Done(f"open.{page}")


class Flat:
    """Makes the same vector of every text."""

    name = "flat"

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [[1.0, 0.0] for _ in texts]


def test_what_succeeds_is_answered_as_the_document_says(tmp_path: Path) -> None:
    auth, said = AuthSettings("on", new_platform_key(), new_signing_key()), dict[str, Any]()
    with running(f"file:{tmp_path}/store", tmp_path / "spool", auth=auth, embedder=Flat()) as server:
        server.http.headers["Authorization"] = f"Bearer {auth.platform_key}"
        for route_name, body, what, query in successes(said):
            route = BY_NAME[route_name]
            sent = (
                {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
            )
            answer = server.http.request(route.method, path_of(route, THERE | what), params=query, **sent)
            assert answer.is_success, (route_name, answer.text)
            SCHEMA[route.path.replace("...}", "}")][route.method].validate_response(answer)
            is_json = answer.headers.get("content-type") == "application/json"
            said[route_name] = answer.json() if is_json else answer.content
    assert said.keys() == BY_NAME.keys()
