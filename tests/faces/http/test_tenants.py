"""Every route, with every kind of credential, for one's own name and for others': what is not allowed is refused.

The table below says what each route needs. It is written by hand, so that a route that comes without an entry fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from memoturn.base.settings import AuthSettings, ServerSettings
from memoturn.faces.http.access import Target, refusal
from memoturn.faces.http.call import Call, Context
from memoturn.faces.http.dispatch import line_of
from memoturn.faces.http.keys import new_platform_key, new_signing_key
from memoturn.faces.http.tokens import Credential
from memoturn.faces.wire.paths import path_of
from memoturn.faces.wire.routes import BY_NAME, LINES, RAW, ROUTES, SQLITE, Route
from tests.conftest import Opener
from tests.faces.http.running import Running, running
from tests.support import engine_of

NEEDS = {
    "open": ["open.healthz", "open.readyz", "open.openapi", "open.docs"],
    "read": [
        "databases.get", "databases.diff", "databases.export", "databases.usage",
        "branches.list", "branches.get", "branches.checkpoints", "branches.history", "branches.restore_points",
        "maintenance.database",
        "db.where", "db.sql", "kv.list", "kv.get",
        "docs.collections", "docs.find", "docs.count", "docs.explain", "docs.indexes", "docs.get",
        "vectors.collections", "vectors.search", "vectors.get",
        "turns.sessions", "turns.search_all", "turns.window", "turns.search",
        "memory.profiles", "memory.recall", "memory.get", "memory.sessions", "memory.export",
    ],
    "write": [
        "db.sync", "kv.put", "kv.delete",
        "docs.insert", "docs.update", "docs.delete", "docs.create_index", "docs.drop_index",
        "vectors.upsert", "vectors.delete", "turns.append", "turns.delete",
        "memory.ingest", "memory.forget", "memory.end_session", "memory.embed", "memory.import",
    ],
    "admin": [
        "databases.delete", "databases.undo",
        "branches.create", "branches.delete", "branches.extend", "branches.checkpoint", "branches.delete_checkpoint",
        "branches.rewind", "branches.reset", "branches.promote",
        "maintenance.compact", "maintenance.retain",
    ],
    "mint": ["tokens.create", "tokens.create_ns"],
    "platform": [
        "databases.create", "databases.list", "databases.import",
        "maintenance.status", "maintenance.verify", "maintenance.gc", "maintenance.why_retained",
        "maintenance.sync", "server.metrics",
    ],
}  # fmt: skip
NEED_OF = {name: need for need, names in NEEDS.items() for name in names}

MAY = {
    "read": {"db:read", "db:write", "db:admin", "ns:read", "ns:write", "ns:admin"},
    "write": {"db:write", "db:admin", "ns:write", "ns:admin"},
    "admin": {"db:admin", "ns:admin"},
    "mint": {"ns:admin"},
    "platform": set[str](),
}
OWN, SAME_NS, OTHER, MISSING = "acme--alice", "acme--bob", "globex--alice", "globex--alicf"


class Tenants(NamedTuple):
    """A server with two tenants, and credentials for the first one."""

    server: Running
    platform: str
    tokens: dict[str, str]


def bearer(credential: str | None) -> dict[str, str]:
    return {} if credential is None else {"Authorization": f"Bearer {credential}"}


def mint(server: Running, by: str, path: str, scope: str, **more: Any) -> str:
    done = server.http.post(f"{path}/tokens", json={"scope": scope, **more}, headers=bearer(by))
    assert done.status_code == 201, done.text
    return str(done.json()["token"])


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    directory = tmp_path_factory.mktemp("tenants")
    platform = new_platform_key()
    auth = AuthSettings("on", platform, new_signing_key())
    with running(f"file:{directory}/store", directory / "spool", auth=auth) as server:
        for name in (OWN, SAME_NS, OTHER):
            made = server.http.post("/v1/databases", json={"name": name}, headers=bearer(platform))
            assert made.status_code == 201
            done = server.http.post(
                f"/v1/db/{name}/sql", json={"stmts": [{"q": "CREATE TABLE t(v)"}]}, headers=bearer(platform)
            )
            assert done.status_code == 200
        tokens = {}
        for scope in ("read", "write", "admin"):
            tokens[f"db:{scope}"] = mint(server, platform, f"/v1/databases/{OWN}", scope)
            tokens[f"ns:{scope}"] = mint(server, platform, "/v1/namespaces/acme", scope)
        yield Tenants(server, platform, tokens)


def ask(server: Running, route: Route, database: str, credential: str | None, **sent: Any) -> httpx.Response:
    """Call a route about a database, or its namespace; bodies say nothing that could be done."""
    ns, _, profile = database.partition("--")
    names = {"db": database, "profile": profile, "ns": "scratch" if route.about == "database" else ns}
    names |= {
        "branch": "nowhere",
        "checkpoint": "nowhere",
        "collection": "c",
        "session": "s",
        "id": "x",
        "key": "k",
    }
    bodies = {None: None, RAW: b"v", LINES: b"not json\n", SQLITE: b"no database"}
    try:
        body = bodies[route.body]
    except (KeyError, TypeError):
        body = b'{"nonsense": 1}'
    headers = bearer(credential) | sent.pop("headers", {})
    return server.http.request(
        route.method, path_of(route, names), content=sent.pop("content", body), headers=headers, **sent
    )


def answer(response: httpx.Response, name: str) -> tuple[int, dict[str, str], str]:
    """What a caller can compare: all but the time, the number of the request, and the name."""
    headers = {k: v for k, v in response.headers.items() if k not in ("date", "memoturn-request-id")}
    return (
        response.status_code,
        headers,
        response.text.replace(name, "NAME").replace(name.partition("--")[0], "NS"),
    )


def was_refused(response: httpx.Response) -> bool:
    missing = response.status_code == 404 and response.json()["code"] == "database_not_found"
    return response.status_code in (401, 403) or missing


def test_every_route_has_its_entry_and_needs_what_that_says() -> None:
    assert set(NEED_OF) == {route.name for route in ROUTES}
    assert {route.name: route.need for route in ROUTES} == NEED_OF


CLOSED = [route for route in ROUTES if NEED_OF.get(route.name) != "open"]


@pytest.mark.parametrize("route", CLOSED, ids=lambda route: route.name)
def test_without_a_valid_credential_nothing_is_answered(tenants: Tenants, route: Route) -> None:
    good = tenants.tokens["db:admin"]
    for credential in (None, "x", good[:-2], good + "x", tenants.platform[:-1], good.replace(".", "")):
        for database in (OWN, MISSING):
            refused = ask(tenants.server, route, database, credential)
            assert refused.status_code == 401, (credential, refused.text)
            assert refused.json()["code"] == "unauthorized"
            assert refused.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("name", NEEDS["open"])
def test_open_routes_ask_nobody(tenants: Tenants, name: str) -> None:
    for credential in (None, "x", tenants.tokens["db:read"]):
        assert ask(tenants.server, BY_NAME[name], OWN, credential).status_code == 200


@pytest.mark.parametrize("route", CLOSED, ids=lambda route: route.name)
def test_a_token_may_what_its_scope_allows_on_its_own_name(tenants: Tenants, route: Route) -> None:
    need = NEED_OF[route.name]
    for kind, token in tenants.tokens.items():
        if route.name == "databases.delete" and kind in MAY[need]:
            continue  # It has tests of its own.
        response = ask(tenants.server, route, OWN, token)
        if route.about == "namespace" and kind.startswith("db:"):
            assert (response.status_code, response.json()["code"]) == (404, "not_found"), kind
        elif kind in MAY[need]:
            assert not was_refused(response), (kind, response.text)
        else:
            assert (response.status_code, response.json()["code"]) == (403, "forbidden"), kind
            assert route.about is None or response.headers.get("memoturn-txid", "0") == "0"


@pytest.mark.parametrize("route", [r for r in CLOSED if r.about is not None], ids=lambda route: route.name)
def test_another_tenants_name_answers_as_one_that_is_not_there(tenants: Tenants, route: Route) -> None:
    code = "not_found" if route.about == "namespace" else "database_not_found"
    missing_one = "globey--alice" if route.about == "namespace" else MISSING
    for kind, token in tenants.tokens.items():
        other = ask(tenants.server, route, OTHER, token)
        missing = ask(tenants.server, route, missing_one, token)
        assert answer(other, OTHER) == answer(missing, missing_one), kind
        assert (other.status_code, other.json()["code"]) == (404, code), kind


@pytest.mark.parametrize("route", [r for r in CLOSED if r.about == "database"], ids=lambda route: route.name)
def test_a_database_token_does_not_reach_its_neighbours_in_the_namespace(
    tenants: Tenants, route: Route
) -> None:
    refused = ask(tenants.server, route, SAME_NS, tenants.tokens["db:admin"])
    assert (refused.status_code, refused.json()["code"]) == (404, "database_not_found")


@pytest.mark.parametrize("name", ["databases.get", "kv.get", "memory.recall", "branches.list"])
def test_the_answer_to_a_missing_name_is_the_one_that_the_platform_gets(tenants: Tenants, name: str) -> None:
    """Where the operation itself says that a name is missing, a stranger is told the same in the same bytes."""
    route = BY_NAME[name]
    stranger = ask(tenants.server, route, MISSING, tenants.tokens["ns:admin"])
    if route.name == "memory.recall":
        assert stranger.status_code == 404  # The platform gets an empty list: to recall creates nothing.
    else:
        assert answer(stranger, MISSING) == answer(
            ask(tenants.server, route, MISSING, tenants.platform), MISSING
        )


def test_the_platform_may_ask_everything(tenants: Tenants) -> None:
    for route in CLOSED:
        if route.name not in ("databases.delete", "databases.create"):
            response = ask(tenants.server, route, OWN, tenants.platform)
            assert not was_refused(response), (route.name, response.text)


WRITES = [
    "INSERT INTO t VALUES (1)",
    "CREATE TABLE u(v)",
    "DROP TABLE t",
    "DELETE FROM t",
    "PRAGMA user_version=7",
]


@pytest.mark.parametrize("q", WRITES)
def test_a_read_token_cannot_write_by_sql(tenants: Tenants, q: str) -> None:
    http, platform = tenants.server.http, bearer(tenants.platform)
    before = http.get(f"/v1/db/{OWN}", headers=platform).json()["txid"]
    for kind in ("db:read", "ns:read"):
        for stmts in ([{"q": q}], [{"q": "SELECT 1"}, {"q": q}]):
            done = http.post(f"/v1/db/{OWN}/sql", json={"stmts": stmts}, headers=bearer(tenants.tokens[kind]))
            assert (done.status_code, done.json()["code"]) == (403, "forbidden"), done.text
    assert http.get(f"/v1/db/{OWN}", headers=platform).json()["txid"] == before


def test_no_header_and_no_parameter_leads_to_another_tenants_database(tenants: Tenants) -> None:
    http, token = tenants.server.http, tenants.tokens["ns:admin"]
    secret = "globex-secret"
    done = http.put(f"/v1/db/{OTHER}/kv/s/{secret}", content=secret, headers=bearer(tenants.platform))
    assert done.status_code == 200
    own, main = f"/v1/databases/{OWN}", f"{OTHER}@main"
    data = f"/v1/db/{OWN}/kv/s/{secret}"
    who = bearer(token)
    tries = [
        http.get(f"{own}/diff", params={"from": main, "to": f"{main}:0"}, headers=who),
        http.get(f"{own}/diff", params={"to": main}, headers=who),
        http.get(data, headers=who | {"Memoturn-Branch": main}),
        http.get(data, headers=who | {"Memoturn-At": main}),
        http.get(f"/v1/db/{OWN}@main/../{OTHER}/kv/s/{secret}", headers=who),
        http.get(f"/v1/db/{OWN}%2F..%2F{OTHER}/kv/s/{secret}", headers=who),
        http.get("/v1/memory/acme/..%2Fglobex--alice/sessions", headers=who),
        http.post(f"{own}/branches", json={"name": "b", "from": main}, headers=who),
        http.post(f"{own}/branches/main/rewind", json={"to": f"{main}:0"}, headers=who),
    ]
    for response in tries:
        assert response.status_code in (400, 404), (response.request.url, response.text)
        assert not re.search(secret, response.text.replace(str(response.request.url.path), ""))


def test_an_undo_token_of_another_tenant_undoes_nothing(tenants: Tenants) -> None:
    http = tenants.server.http
    rewound = http.post(
        f"/v1/databases/{OTHER}/branches/main/rewind", json={"to": 0}, headers=bearer(tenants.platform)
    ).json()
    tried = http.post(
        f"/v1/databases/{OWN}/undo",
        json={"token": rewound["undo"]},
        headers=bearer(tenants.tokens["db:admin"]),
    )
    assert tried.status_code == 400
    back = http.post(
        f"/v1/databases/{OTHER}/undo", json={"token": rewound["undo"]}, headers=bearer(tenants.platform)
    )
    assert back.status_code == 200


def test_a_refusal_waits_in_the_callers_own_line(open_store: Opener, tmp_path: Path) -> None:
    """Behind another tenant's work it would take that one's place, and take as long as there is some."""
    context = Context(engine_of(open_store()), ServerSettings(), tmp_path)
    call = Call(context, BY_NAME["kv.get"], {"db": OTHER, "ns": "s", "key": "k"}, b"")
    call.locate()
    call.who = Credential("admin", OWN, "1")
    assert line_of(call) == OTHER
    call.refusal = refusal("read", call.who, Target(OTHER))
    assert line_of(call) == OWN


# Minting.


def test_an_admin_of_a_namespace_mints_for_it_and_for_nobody_else(tenants: Tenants) -> None:
    admin, http = tenants.tokens["ns:admin"], tenants.server.http
    for path in (f"/v1/databases/{SAME_NS}", "/v1/namespaces/acme"):
        token = mint(tenants.server, admin, path, "admin", expires_in=60)
        assert http.get(f"/v1/db/{SAME_NS}", headers=bearer(token)).status_code == 200
    for path in (f"/v1/databases/{OTHER}", "/v1/namespaces/globex"):
        refused = http.post(f"{path}/tokens", json={"scope": "read"}, headers=bearer(admin))
        assert refused.status_code == 404
    longer = http.post(
        "/v1/namespaces/acme/tokens", json={"scope": "read", "expires_in": 200_000}, headers=bearer(admin)
    )
    assert (longer.status_code, longer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "wish",
    [{"scope": "root"}, {}, {"scope": "read", "expires_in": 0}, {"scope": "read", "expires_in": -5},
     {"scope": "read", "expires_in": 1e12}, {"scope": "read", "expires_in": "1h"}, {"scope": "read", "ns": "globex"}],
)  # fmt: skip
def test_a_token_that_makes_no_sense_is_not_minted(tenants: Tenants, wish: dict[str, Any]) -> None:
    for path in (f"/v1/databases/{OWN}", "/v1/namespaces/acme"):
        refused = tenants.server.http.post(f"{path}/tokens", json=wish, headers=bearer(tenants.platform))
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("ns", ["acme--x", "acme-", "ACME", ".."])
def test_a_token_for_what_is_no_namespace_is_not_minted(tenants: Tenants, ns: str) -> None:
    refused = tenants.server.http.post(
        f"/v1/namespaces/{ns.replace('.', '%2E')}/tokens",
        json={"scope": "read"},
        headers=bearer(tenants.platform),
    )
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


def test_a_token_is_minted_for_a_database_that_is_there(tenants: Tenants) -> None:
    refused = tenants.server.http.post(
        "/v1/databases/nobody/tokens", json={"scope": "read"}, headers=bearer(tenants.platform)
    )
    assert (refused.status_code, refused.json()["code"]) == (404, "database_not_found")


# The end of a token.


@pytest.fixture
def doomed(tenants: Tenants) -> str:
    """The name of a database that a test may delete."""
    done = tenants.server.http.post(
        "/v1/databases", json={"name": "acme--doomed"}, headers=bearer(tenants.platform)
    )
    assert done.status_code in (201, 409)
    return "acme--doomed"


@pytest.mark.parametrize("again", ["gone", "undone", "created again", "imported again"])
def test_deleting_a_database_ends_every_token_minted_before(
    tenants: Tenants, doomed: str, again: str
) -> None:
    http, platform = tenants.server.http, bearer(tenants.platform)
    path = f"/v1/databases/{doomed}"
    tokens = [mint(tenants.server, tenants.platform, path, scope) for scope in ("read", "write", "admin")]
    for token in tokens:
        assert http.get(path, headers=bearer(token)).status_code == 200
    kept = http.put(
        f"/v1/db/{doomed}/kv/s/k", content=b"1", headers=bearer(tokens[1]) | {"Idempotency-Key": "first"}
    )
    assert kept.status_code == 200

    copy = http.get(f"{path}/export", headers=platform).content
    gone = http.delete(path, headers=bearer(tokens[2]))
    assert gone.status_code == 200
    if again == "undone":
        assert (
            http.post(f"{path}/undo", json={"token": gone.json()["undo"]}, headers=platform).status_code
            == 200
        )
    elif again == "created again":
        assert http.post("/v1/databases", json={"name": doomed}, headers=platform).status_code == 201
    elif again == "imported again":
        assert http.post(f"{path}/import", content=copy, headers=platform).status_code == 201

    for token in tokens:
        for route in ROUTES:
            if route.need != "open":
                for database in (doomed, OTHER, MISSING):
                    refused = ask(tenants.server, route, database, token)
                    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized"), route.name
    replayed = http.put(
        f"/v1/db/{doomed}/kv/s/k", content=b"1", headers=bearer(tokens[1]) | {"Idempotency-Key": "first"}
    )
    assert replayed.status_code == 401

    if again != "gone":
        fresh = mint(tenants.server, tenants.platform, path, "read")
        assert http.get(path, headers=bearer(fresh)).status_code == 200
    assert http.get("/v1/memory/acme", headers=bearer(tenants.tokens["ns:read"])).status_code == 200


def test_a_namespace_goes_on_when_one_of_its_profiles_is_forgotten(tenants: Tenants, doomed: str) -> None:
    http, token = tenants.server.http, bearer(tenants.tokens["ns:admin"])
    assert http.delete(f"/v1/databases/{doomed}", headers=token).status_code == 200
    remembered = http.post(
        "/v1/memory/acme/doomed/memories",
        json={"memories": [{"type": "fact", "topic_key": "t", "summary": "s"}]},
        headers=token,
    )
    assert remembered.status_code == 200, remembered.text


def test_what_a_token_may_not_send_is_not_read(tenants: Tenants) -> None:
    """A body that nobody may send is refused before it is taken; it would fill the disk otherwise."""
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 1
            yield bytes(1 << 20)

    try:
        refused = tenants.server.http.post(
            f"/v1/databases/{OWN}/import", content=body(), headers=bearer(tenants.tokens["db:admin"])
        )
    except httpx.TransportError:
        pass  # The answer may be lost, as the server hangs up on whoever goes on sending.
    else:
        assert refused.status_code == 403
    assert sent < 64
