"""`memoturn vectors`: collections of vectors."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
import typer

from memoturn.base.errors import NotFoundError
from memoturn.faces.cli.command import Group, command
from memoturn.faces.cli.errors import UsageError
from memoturn.faces.cli.kv import Address, Branch
from memoturn.faces.cli.session import Session
from memoturn.faces.cli.values import parse_count, parse_object

app = typer.Typer(cls=Group, no_args_is_help=True, help="Upsert, search, get and delete vectors.")

Collection = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The vector's id.")]


@command(app, "upsert")
def upsert(
    session: Session,
    db: Branch,
    collection: Collection,
    id_: Annotated[
        str | None,
        typer.Argument(
            metavar="ID", help='The id; without one, lines of {"id": …, "vector": […]} are read from stdin.'
        ),
    ] = None,
    vector: Annotated[
        str | None, typer.Argument(metavar="VECTOR", help="The numbers, such as [0.1, 0.2].")
    ] = None,
    meta: Annotated[
        str | None, typer.Option("--meta", metavar="JSON", help="A JSON object to keep with the vector.")
    ] = None,
) -> None:
    """Keep vectors, each in place of the one of its id; the first fixes the dimension."""
    if id_ is None:
        items = _lines()
    elif vector is None:
        raise UsageError("give the vector after its id")
    else:
        kept = None if meta is None else parse_object("--meta", meta)
        items = [{"id": id_, "vector": _json("VECTOR", vector), "meta": kept}]
    done = session.db(db).vectors.upsert_many(collection, items)
    session.say(done, f"kept {done.upserted:,} in {collection}", txid=done.txid)


@command(app, "search")
def search(
    session: Session,
    db: Address,
    collection: Collection,
    vector: Annotated[str, typer.Argument(metavar="VECTOR", help="The numbers, such as [0.1, 0.2].")],
    k: Annotated[str, typer.Option("-k", metavar="N", help="How many, at most 1000.")] = "10",
    filter_: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help="Only where the metadata fits.")
    ] = None,
    metric: Annotated[str, typer.Option("--metric", metavar="NAME", help="cosine or l2.")] = "cosine",
) -> None:
    """List the nearest vectors, the nearest first."""
    wanted = None if filter_ is None else parse_object("--filter", filter_)
    found = session.db(db).vectors.search(
        collection,
        _json("VECTOR", vector),
        parse_count("-k", k),
        wanted,
        metric=metric,  # type: ignore[arg-type]
    )
    rows = [(hit.id, f"{hit.distance:.6f}", None if hit.meta is None else _text(hit.meta)) for hit in found]
    session.table(found, ("id", "distance", "meta"), rows)
    session.txid(found.txid)


@command(app, "get")
def get(session: Session, db: Address, collection: Collection, id_: Id) -> None:
    """Print a vector and its metadata."""
    found = session.db(db).vectors.get(collection, id_)
    if found is None:
        raise NotFoundError(f"collection {collection!r} has no vector {id_!r}")
    meta = None if found.meta is None else _text(found.meta)
    session.details(found, [("id", found.id), ("vector", _text(found.vector)), ("meta", meta)])


@command(app, "delete")
def delete(session: Session, db: Branch, collection: Collection, id_: Id) -> None:
    """Remove a vector."""
    done = session.db(db).vectors.delete(collection, id_)
    if not done.deleted:
        raise NotFoundError(f"collection {collection!r} has no vector {id_!r}")
    session.say(done, f"deleted {id_}", txid=done.txid)


@command(app, "collections")
def collections(session: Session, db: Address) -> None:
    """List the collections."""
    found = session.db(db).vectors.collections()
    rows = [(one.name, one.dimension, one.vectors) for one in found]
    session.table(found, ("collection", "dimension", "vectors"), rows)


def _json(what: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise UsageError(f"{what} is no JSON: {error}") from error


def _lines() -> list[Any]:
    if sys.stdin.isatty():
        raise UsageError("give an id and a vector, or lines of JSON on stdin")
    try:
        return msgspec.json.Decoder().decode_lines(sys.stdin.buffer.read())
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise UsageError(f"stdin is not lines of JSON: {error}") from error


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
