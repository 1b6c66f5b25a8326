"""Tokens for databases and namespaces."""

from __future__ import annotations

from memoturn.base.errors import UnconfiguredError
from memoturn.base.names import check_namespace
from memoturn.faces.http.call import Answer, Call
from memoturn.faces.http.tokens import Tokens
from memoturn.faces.wire import requests
from memoturn.operations import databases


def for_database(call: Call) -> Answer:
    tokens, wish = _tokens(call), call.read(requests.MintToken)
    life = databases.life(call.engine, call.database)
    return Answer(tokens.mint(call.who, wish.scope, wish.expires_in, db=call.database, life=life))


def for_namespace(call: Call) -> Answer:
    tokens, wish = _tokens(call), call.read(requests.MintToken)
    return Answer(tokens.mint(call.who, wish.scope, wish.expires_in, ns=check_namespace(call.names["ns"])))


def _tokens(call: Call) -> Tokens:
    if call.context.tokens is None:
        raise UnconfiguredError(
            "authentication is off, so there are no tokens; set MEMOTURN_AUTH=on (`memoturn init` makes the keys)"
        )
    return call.context.tokens


HANDLERS = {"tokens.create": for_database, "tokens.create_ns": for_namespace}
