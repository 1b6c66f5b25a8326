"""`memoturn kv`: keys and values."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from memoturn.base.errors import NotFoundError
from memoturn.faces.cli.command import Group, command
from memoturn.faces.cli.errors import UsageError
from memoturn.faces.cli.output import size, write_raw
from memoturn.faces.cli.session import Session
from memoturn.faces.cli.values import parse_count, parse_object, parse_ttl

app = typer.Typer(cls=Group, no_args_is_help=True, help="Put, get, list and delete keys.")

Address = Annotated[
    str, typer.Argument(metavar="DB[@BRANCH[:POSITION]]", help="The database, now or in its past.")
]
Branch = Annotated[str, typer.Argument(metavar="DB[@BRANCH]", help="The database, and a branch of it.")]
Namespace = Annotated[str, typer.Argument(metavar="NS", help="The namespace.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The key.")]
IfVersion = Annotated[
    str | None, typer.Option("--if-version", metavar="N", help="Only if the key still has this version.")
]


@command(app, "put")
def put(
    session: Session,
    db: Branch,
    ns: Namespace,
    key: Key,
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="The value; - or nothing reads it from stdin.")
    ] = None,
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="TIME", help="Time to live: seconds, or 30m, 1h, 7d.")
    ] = None,
    meta: Annotated[
        str | None, typer.Option("--meta", metavar="JSON", help="A JSON object to keep with the value.")
    ] = None,
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Only if the key is absent.")] = False,
    if_version: IfVersion = None,
) -> None:
    """Put a value under a key; prints its new version."""
    done = session.db(db).kv.put(
        ns,
        key,
        _stdin() if value is None or value == "-" else value,
        ttl=None if ttl is None else parse_ttl(ttl),
        meta=None if meta is None else parse_object("--meta", meta),
        if_absent=if_absent,
        if_version=_version(if_version),
    )
    session.say(done, f"put {key}, version {done.version}", txid=done.txid)


@command(app, "get")
def get(session: Session, db: Address, ns: Namespace, key: Key) -> None:
    """Print the value of a key, byte for byte; with --json also its version, metadata and expiry."""
    found = session.db(db).kv.entry(ns, key)
    if found is None:
        raise NotFoundError(f"there is no key {key!r} in namespace {ns!r}")
    if session.as_json:
        session.say(found, txid=found.txid)
    else:
        write_raw(found.value)
        session.txid(found.txid)


@command(app, "delete")
def delete(session: Session, db: Branch, ns: Namespace, key: Key, if_version: IfVersion = None) -> None:
    """Remove a key."""
    done = session.db(db).kv.delete(ns, key, if_version=_version(if_version))
    if not done.deleted:
        raise NotFoundError(f"there is no key {key!r} in namespace {ns!r}")
    session.say(done, f"deleted {key}", txid=done.txid)


@command(app, "list")
def list_(
    session: Session,
    db: Address,
    ns: Namespace,
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="TEXT", help="Only keys that begin with it.")
    ] = "",
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="CURSOR", help="Go on after a page that ended with it.")
    ] = None,
    limit: Annotated[
        str, typer.Option("--limit", metavar="N", help="Keys on the page, at most 1000.")
    ] = "100",
) -> None:
    """List keys in the order of their bytes."""
    page = session.db(db).kv.list(ns, prefix, cursor=cursor, limit=parse_count("--limit", limit))
    rows = [(one.key, size(one.size), one.version, one.expires_at) for one in page.keys]
    session.table(page, ("key", "size", "version", "expires"), rows)
    if page.cursor is not None and not session.as_json:
        print(f"more: --cursor {page.cursor}", file=sys.stderr)
    session.txid(page.txid)


def _version(text: str | None) -> int | None:
    return None if text is None else parse_count("--if-version", text)


def _stdin() -> bytes:
    if sys.stdin.isatty():
        raise UsageError("give a value, or - and the value on stdin")
    return sys.stdin.buffer.read()
