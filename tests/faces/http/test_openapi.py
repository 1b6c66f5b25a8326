"""The OpenAPI document is the table of routes, and what the server answers is what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

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
from memoturn.faces.wire.routes import ROUTES
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
        yield server


@schemathesis.serializer("application/vnd.sqlite3", "application/x-ndjson")
def as_they_are(_context: object, value: object) -> bytes:
    """Bytes as they are, and anything else as a line of JSON."""
    data = getattr(value, "data", value)
    return data if isinstance(data, bytes) else msgspec.json.encode(data, enc_hook=str) + b"\n"


# What ends databases, or waits, is left out of the crowd; the rest is asked for real.
@SCHEMA.exclude(operation_id=["maintenance.gc", "maintenance.verify"]).parametrize()
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_what_is_answered_is_what_the_document_says(case: schemathesis.Case, seeded: Running) -> None:
    if "db" in (case.path_parameters or {}) and len(case.path_parameters["db"]) % 2:
        case.path_parameters["db"] = "seed"
    if (case.headers or {}).get("Memoturn-Min-Txid"):
        case.headers["Memoturn-Min-Txid"] = "0"
    response = case.call(base_url=seeded.url, headers={"Authorization": seeded.http.headers["Authorization"]})
    case.validate_response(response, checks=CHECKS)
    if case.operation.method == "get" and case.operation.path.startswith("/v1/db/"):
        assert "memoturn-txid" in response.headers
