"""Who may do what: a pure decision from what a route needs, who asks, and which name is meant.

It looks at nothing else, least of all at what there is. So whoever asks for the name of another tenant gets the same
answer whether that exists or not; and because the name is judged before the scope, nobody learns from a `forbidden`
what they could not see. A route says what it needs in `Need`; one that says nothing is refused.
"""

from __future__ import annotations

from typing import Final, NamedTuple, get_args

from memoturn.base.errors import (
    DatabaseNotFoundError,
    ForbiddenError,
    MemoturnError,
    NotFoundError,
    UnauthorizedError,
)
from memoturn.base.names import namespace_of
from memoturn.base.results.tokens import Scope
from memoturn.faces.http.tokens import Credential
from memoturn.faces.wire.routes import Need
from memoturn.node.engine import Engine
from memoturn.operations import databases

NEEDS: Final = frozenset(get_args(Need))
_RANKS: Final[dict[str, int]] = {scope: rank for rank, scope in enumerate(get_args(Scope))}


class Target(NamedTuple):
    """What a request is about: a database, a namespace, or with neither the installation as a whole."""

    database: str | None = None
    namespace: str | None = None


WHOLE: Final = Target()


def refusal(need: Need | None, who: Credential, target: Target) -> MemoturnError | None:
    """Why the request is refused; None if it may go ahead."""
    if need == "open":
        return None
    if need is None or need not in NEEDS:
        return ForbiddenError("this route says of nobody that they may use it")
    if who.is_platform:
        return None
    if target == WHOLE:
        return ForbiddenError("this needs the platform key; a token reaches a database or a namespace only")
    if not covers(who, target):
        return missing(target)
    if need == "platform":
        return ForbiddenError("this needs the platform key")
    if need == "mint":
        if who.ns is None:
            return ForbiddenError(
                "a token of a database cannot mint others; use the platform key, or an admin token of its namespace"
            )
        need = "admin"
    if _RANKS[who.scope] < _RANKS[need]:
        return ForbiddenError(f"this needs scope {need}, and the token has scope {who.scope}")
    return None


def covers(who: Credential, target: Target) -> bool:
    """Whether a token reaches as far as the name that is meant."""
    if target.namespace is not None:
        return who.ns == target.namespace
    if target.database is None:
        return False
    if who.ns is not None:
        return who.ns == namespace_of(target.database)
    return who.db == target.database


def missing(target: Target) -> MemoturnError:
    """The answer where a name does not exist, and where it is none of the caller's business."""
    if target.database is not None:
        return DatabaseNotFoundError(f"there is no database {target.database!r}")
    return NotFoundError(f"there is no namespace {target.namespace!r}")


def check_life(engine: Engine, who: Credential) -> None:
    """Raise `UnauthorizedError` if the database that a token was minted for has been deleted since.

    Whatever the request is about: a token that is void learns nothing, not even which names are not its own.
    """
    if who.db is None:
        return
    try:
        if databases.life(engine, who.db) == who.life:
            return
    except DatabaseNotFoundError:
        pass
    raise UnauthorizedError("the token was minted for a database that has been deleted since; mint a new one")
