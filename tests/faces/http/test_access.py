"""The decision who may do what: every need, every scope, and whose name it is."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoturn.base.errors import (
    DatabaseNotFoundError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    UnauthorizedError,
)
from memoturn.base.names import namespace_of, profile_address
from memoturn.base.results.tokens import Scope
from memoturn.faces.http import access
from memoturn.faces.http.access import NEEDS, WHOLE, Target, refusal
from memoturn.faces.http.tokens import PLATFORM, Credential
from memoturn.operations import databases
from memoturn.operations.undo import undo
from tests.conftest import Opener
from tests.support import engine_of

SCOPES = get_args(Scope)
OWN = Target("acme--alice")
OTHER = Target("globex--alice")


def db_token(scope: Scope) -> Credential:
    return Credential(scope, db="acme--alice", life="1")


def ns_token(scope: Scope) -> Credential:
    return Credential(scope, ns="acme")


# What a token of each scope may do where its name reaches; the rest is forbidden.
MAY: dict[str, dict[str, set[str]]] = {
    "open": {"db": set(SCOPES), "ns": set(SCOPES)},
    "read": {"db": {"read", "write", "admin"}, "ns": {"read", "write", "admin"}},
    "write": {"db": {"write", "admin"}, "ns": {"write", "admin"}},
    "admin": {"db": {"admin"}, "ns": {"admin"}},
    "mint": {"db": set(), "ns": {"admin"}},
    "platform": {"db": set(), "ns": set()},
}


def test_the_table_names_every_need() -> None:
    assert set(MAY) == NEEDS


@pytest.mark.parametrize("need", MAY)
@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_may_on_its_own_name_what_its_scope_says(need: access.Need, scope: Scope) -> None:
    for kind, who in (("db", db_token(scope)), ("ns", ns_token(scope))):
        error = refusal(need, who, OWN)
        assert (error is None) == (scope in MAY[need][kind]), kind
        assert error is None or type(error) is ForbiddenError


@pytest.mark.parametrize("need", sorted(NEEDS - {"open"}))
@pytest.mark.parametrize("scope", SCOPES)
def test_the_name_of_another_tenant_is_missing_for_every_need_and_scope(
    need: access.Need, scope: Scope
) -> None:
    for who in (db_token(scope), ns_token(scope)):
        error = refusal(need, who, OTHER)
        assert type(error) is DatabaseNotFoundError
        assert str(error) == "there is no database 'globex--alice'"
        assert type(refusal(need, who, Target(namespace="globex"))) is NotFoundError
        assert type(refusal(need, who, WHOLE)) is ForbiddenError


@pytest.mark.parametrize("need", sorted(NEEDS))
def test_the_platform_may_do_everything(need: access.Need) -> None:
    for target in (OWN, OTHER, WHOLE, Target(namespace="acme")):
        assert refusal(need, PLATFORM, target) is None


def test_a_route_that_says_nothing_is_refused_even_to_the_platform() -> None:
    assert type(refusal(None, PLATFORM, WHOLE)) is ForbiddenError
    assert type(refusal("everything", PLATFORM, WHOLE)) is ForbiddenError  # type: ignore[arg-type]


def test_a_database_token_does_not_reach_its_namespace() -> None:
    assert type(refusal("read", db_token("admin"), Target(namespace="acme"))) is NotFoundError
    assert refusal("read", ns_token("read"), Target(namespace="acme")) is None


@pytest.mark.parametrize(
    "name", ["acme", "acme-", "acmex--alice", "xacme--alice", "globex--acme--alice", "alice"]
)
def test_a_namespace_is_not_a_prefix(name: str) -> None:
    assert refusal("read", ns_token("admin"), Target(name)) is not None


def test_a_name_with_two_separators_lies_in_the_namespace_before_the_first() -> None:
    assert refusal("read", ns_token("read"), Target("acme--x--y")) is None


NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)


@given(NAMES, NAMES)
def test_each_profile_lies_in_its_namespace_and_in_no_other(ns: str, profile: str) -> None:
    try:
        database = profile_address(ns, profile).database
    except InvalidRequestError:
        return
    assert namespace_of(database) == ns


def test_a_token_ends_with_the_life_of_its_database(open_store: Opener) -> None:
    mt = open_store()
    mt.databases.create("x")
    engine = engine_of(mt)
    first = Credential("read", "x", databases.life(engine, "x"))
    access.check_life(engine, first)

    deleted = mt.databases.delete("x")
    with pytest.raises(UnauthorizedError):
        access.check_life(engine, first)

    undo(engine, "x", deleted.undo)
    with pytest.raises(UnauthorizedError):
        access.check_life(engine, first)
    second = Credential("read", "x", databases.life(engine, "x"))
    access.check_life(engine, second)

    mt.databases.delete("x")
    mt.databases.create("x")
    for token in (first, second):
        with pytest.raises(UnauthorizedError):
            access.check_life(engine, token)
    access.check_life(engine, Credential("read", "x", databases.life(engine, "x")))


def test_a_token_is_void_also_by_the_clock_of_a_node_that_is_wrong(open_store: Opener) -> None:
    mt = open_store()
    mt.databases.create("x", ttl=60)
    engine = engine_of(mt)
    token = Credential("read", "x", databases.life(engine, "x"))
    engine.clock.advance(61)
    with pytest.raises(UnauthorizedError):
        access.check_life(engine, token)
    engine.clock.advance(-3600)
    mt.databases.delete("x")
    mt.databases.create("x")
    with pytest.raises(UnauthorizedError):
        access.check_life(engine, token)
    access.check_life(engine, Credential("read", ns="acme"))
    access.check_life(engine, PLATFORM)
