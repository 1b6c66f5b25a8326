"""`memoturn token`: credentials for databases and namespaces of a server."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from memoturn.faces.cli.command import Group, command
from memoturn.faces.cli.errors import UsageError
from memoturn.faces.cli.output import cell
from memoturn.faces.cli.session import Session
from memoturn.faces.cli.values import parse_ttl
from memoturn.faces.wire import Minted

app = typer.Typer(cls=Group, no_args_is_help=True, help="Mint tokens on a server.")

_SCOPES = ("read", "write", "admin")

Scope = Annotated[
    str, typer.Option("--scope", metavar="SCOPE", help="read, write, or admin, which also forks and rewinds.")
]
Expires = Annotated[
    str | None,
    typer.Option("--expires-in", metavar="TIME", help="Seconds, or 30m, 1h, 7d; a day unless it is said."),
]


@command(app, "create")
def create(
    session: Session,
    db: Annotated[str, typer.Argument(metavar="DB", help="The database.")],
    scope: Scope = "read",
    expires_in: Expires = None,
) -> None:
    """Mint a token for a database; deleting the database ends it."""
    _say(
        session, session.tokens().create(db, _scope(scope), expires_in=_seconds(expires_in)), f"database {db}"
    )


@command(app, "create-ns")
def create_ns(
    session: Session,
    ns: Annotated[str, typer.Argument(metavar="NS", help="The namespace.")],
    scope: Scope = "read",
    expires_in: Expires = None,
) -> None:
    """Mint a token for a namespace with all of its profiles."""
    _say(
        session,
        session.tokens().create_ns(ns, _scope(scope), expires_in=_seconds(expires_in)),
        f"namespace {ns}",
    )


def _say(session: Session, minted: Minted, what: str) -> None:
    """The token alone on stdout, so that a script can take it; what it is good for beside it."""
    session.say(minted, minted.token)
    if not session.as_json:
        session.remark(
            f"scope {minted.scope} on {what}, until {cell(minted.expires_at)}; it is shown this once"
        )


def _scope(text: str) -> Any:
    if text not in _SCOPES:
        raise UsageError(f"--scope {text!r} is unknown; it is {', '.join(_SCOPES)}")
    return text


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(parse_ttl(text))
    except UsageError:
        raise UsageError(
            f"--expires-in {text!r} is no length of time; write seconds, or 30m, 1h, 7d"
        ) from None
