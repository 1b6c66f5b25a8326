"""The OpenAPI document, written from the table of routes; nothing in it is said twice."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Final

import msgspec

from memoturn.faces.wire import headers
from memoturn.faces.wire.answers import SHAPES
from memoturn.faces.wire.errors import BY_CODE, ErrorBody
from memoturn.faces.wire.routes import JSON, RAW, ROUTES, SQLITE, Query, Route

_REF: Final = "#/components/schemas/{name}"
_NAMES: Final = re.compile(r"\{(\w+)(\.\.\.)?\}")
_DATABASE: Final = r"^[a-z0-9][a-z0-9._-]{0,62}$"

_SAYS: Final = {
    "db": "`name`; in the data plane also `name@branch` and `name@branch:position`.",
    "branch": "A branch; `~` is the one that the database's name stands for.",
    "checkpoint": "A checkpoint.",
    "ns": "A namespace.",
    "profile": "A profile; also `profile@branch` and `profile@branch:position`.",
    "key": "A key. What is no letter or digit is best escaped; slashes may stand as they are.",
    "collection": "A collection.",
    "id": "An id.",
    "session": "A session.",
}
_HEADERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    headers.BRANCH: ("The branch, if the path names none.", {"type": "string", "pattern": _DATABASE}),
    headers.AT: ("A position in the past: a checkpoint, a txid or a time (RFC 3339).", {"type": "string"}),
    headers.EXACT: ("Refuse a position of which only an older snapshot is left.", {"type": "boolean"}),
    headers.MIN_TXID: ("Wait until the branch is that far.", {"type": "integer", "minimum": 0}),
    headers.CONSISTENCY: (
        "`primary` looks at the store first; `cached`, the default, may be half a second old on a remote store.",
        {"type": "string", "enum": ["primary", "cached"], "default": "cached"},
    ),
    headers.DURABILITY: (
        "`durable` is answered once the object store has it.",
        {"type": "string", "enum": ["standard", "durable"]},
    ),
    headers.IDEMPOTENCY_KEY: (
        "The same key again gives the first answer again. `Memoturn-First-Try: 1.5` beside it says how many seconds "
        "ago it was sent first: a server that was started since refuses, for it cannot know what became of that.",
        {"type": "string", "minLength": 1, "maxLength": 255},
    ),
    headers.IF_MATCH: ("Only if the key has this version: its ETag.", {"type": "string"}),
    headers.IF_NONE_MATCH: (
        "`*` when putting: only if the key is absent. An ETag when getting.",
        {"type": "string"},
    ),
    headers.META: ("A JSON object, in ASCII, that is kept with the value.", {"type": "string"}),
}


def encoded() -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(document(ROUTES))


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document of some routes."""
    routes = list(routes)
    kinds = [kind for route in routes for kind in (*_kinds(route.body), *_kinds(route.answer))]
    _, schemas = msgspec.json.schema_components(dict.fromkeys([*kinds, ErrorBody]), ref_template=_REF)
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(_NAMES.sub(r"{\1}", route.path), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Memoturn",
            "version": version("memoturn"),
            "summary": "Memory for AI agents that can be forked, checkpointed and rewound as one unit.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Error": {
                    "description": "What went wrong, and what would work.",
                    "headers": {"Memoturn-Txid": _TXID, "Retry-After": _RETRY_AFTER},
                    "content": {JSON: {"schema": {"$ref": _REF.format(name="ErrorBody")}}},
                }
            },
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A token, or the platform key."}
            },
        },
    }


_TXID: Final = {
    "description": "The position that was read, or the head after a write; 0 where there is no such branch.",
    "schema": {"type": "integer", "minimum": 0},
}
_RETRY_AFTER: Final = {
    "description": "Seconds after which another try may help.",
    "schema": {"type": "integer", "minimum": 1},
}


def _kinds(of: Any) -> list[Any]:
    """The types of JSON among what a route takes or answers, as they are on the wire."""
    return [
        SHAPES[kind].wire if kind in SHAPES else kind
        for kind in (of if isinstance(of, tuple) else (of,))
        if kind is not None and not isinstance(kind, str)
    ]


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.name.partition(".")[0]],
        "summary": route.says,
        "x-memoturn-needs": route.need,
        "parameters": [
            *(_path_parameter(name) for name, _ in _NAMES.findall(route.path)),
            *(_query_parameter(query) for query in route.query),
            *(_header_parameter(name) for name in route.headers),
        ],
        "responses": {str(route.status): _response(route), **_errors(route)},
    }
    if route.plane == "open":
        operation["security"] = []
    if route.name == "kv.get":
        operation["responses"]["304"] = {"description": "The value has this ETag still."}
    if route.body is not None:
        operation["requestBody"] = {"required": not route.optional_body, "content": _content(route.body)}
    return operation


def _response(route: Route) -> dict[str, Any]:
    response: dict[str, Any] = {"description": "Done."}
    if route.about in ("database", "profile"):
        response["headers"] = {"Memoturn-Txid": _TXID}
    if route.answer is not None:
        response["content"] = _content(route.answer)
    return response


def _errors(route: Route) -> dict[str, Any]:
    statuses = {kind.status for kind in BY_CODE.values()} | {405}
    if route.plane == "open":
        statuses = {400, 403, 405, 429, 500, 503}
    return {str(status): {"$ref": "#/components/responses/Error"} for status in sorted(statuses)}


def _content(of: Any) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for media in of if isinstance(of, tuple) else (of,):
        if isinstance(media, str):
            binary = media in (RAW, SQLITE)
            content[media] = {"schema": {"type": "string", "format": "binary"} if binary else {}}
    schemas = [{"$ref": _REF.format(name=kind.__name__)} for kind in _kinds(of)]
    if schemas:
        content[JSON] = {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}
    return content


def _path_parameter(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": _SAYS[name],
        "schema": {"type": "string", "minLength": 1},
    }


def _query_parameter(query: Query) -> dict[str, Any]:
    kinds = {str: "string", int: "integer", float: "number", bool: "boolean"}
    schema: dict[str, Any] = {"type": kinds[query.kind]}
    if query.default is not None:
        schema["default"] = query.default
    return {
        "name": query.name,
        "in": "query",
        "required": query.required,
        "description": query.says,
        "schema": schema,
    }


def _header_parameter(name: str) -> dict[str, Any]:
    says, schema = _HEADERS[name]
    return {
        "name": "-".join(word.capitalize() for word in name.split("-")),
        "in": "header",
        "required": False,
        "description": says,
        "schema": schema,
    }
