"""Tokens for databases and namespaces."""

from __future__ import annotations

from memoturn.base.names import check_name
from memoturn.base.results.tokens import Minted, Scope
from memoturn.faces.client.call import Call, as_type, call
from memoturn.faces.wire import requests

_minted = as_type(Minted)


def create(database: str, scope: Scope, expires_in: int | None) -> Call[Minted]:
    body = requests.MintToken(scope, expires_in)
    return call("tokens.create", {"db": check_name("database", database)}, _minted, body=body)


def create_ns(ns: str, scope: Scope, expires_in: int | None) -> Call[Minted]:
    body = requests.MintToken(scope, expires_in)
    return call("tokens.create_ns", {"ns": check_name("namespace", ns)}, _minted, body=body)
