"""`memoturn docs`: JSON documents in collections."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
import typer

from memoturn.faces.cli.command import Group, command
from memoturn.faces.cli.errors import UsageError
from memoturn.faces.cli.kv import Address, Branch
from memoturn.faces.cli.output import write_json
from memoturn.faces.cli.session import Session
from memoturn.faces.cli.values import parse_count, parse_object

app = typer.Typer(cls=Group, no_args_is_help=True, help="Insert, find, update and delete documents.")
indexes = typer.Typer(
    cls=Group, no_args_is_help=True, help="Make, list and drop the indexes of a collection."
)
app.add_typer(indexes, name="indexes")

Collection = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection.")]
Path = Annotated[str, typer.Argument(metavar="PATH", help="A dotted path, such as address.city.")]
Filter = Annotated[
    str | None, typer.Argument(metavar="FILTER", help='Which documents, such as {"age": {"$gte": 18}}.')
]
Wanted = Annotated[
    str, typer.Argument(metavar="FILTER", help="Which documents, as a JSON object; {} means all of them.")
]
Sort = Annotated[
    str | None, typer.Option("--sort", metavar="JSON", help='Paths and 1 or -1, such as {"age": -1}.')
]


@command(app, "insert")
def insert(
    session: Session,
    db: Branch,
    collection: Collection,
    documents: Annotated[
        str | None,
        typer.Argument(
            metavar="JSON", help="A document or a list of them; - or nothing reads stdin, one or many lines."
        ),
    ] = None,
) -> None:
    """Insert documents, all or none; prints their ids."""
    done = session.db(db).docs.insert(collection, _documents(documents))
    session.say(done, *done.ids, txid=done.txid)


@command(app, "find")
def find(
    session: Session,
    db: Address,
    collection: Collection,
    filter_: Filter = None,
    sort: Sort = None,
    limit: Annotated[str, typer.Option("--limit", metavar="N", help="Documents, at most 1000.")] = "100",
    skip: Annotated[str, typer.Option("--skip", metavar="N", help="Pass over so many first.")] = "0",
    count: Annotated[bool, typer.Option("--count", help="Only say how many there are.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Only say which indexes are used, and how.")
    ] = False,
) -> None:
    """Print the documents that fit, one a line."""
    docs, wanted = session.db(db).docs, _object("FILTER", filter_)
    if explain:
        plan = docs.explain(collection, wanted, sort=_object("--sort", sort))
        session.say(plan, f"indexes: {', '.join(plan.indexes) or 'none'}", *plan.plan, txid=plan.txid)
        return
    if count:
        number = docs.count(collection, wanted)
        session.say({"count": number}, str(number))
        return
    found = docs.find(
        collection,
        wanted,
        sort=_object("--sort", sort),
        limit=parse_count("--limit", limit),
        skip=parse_count("--skip", skip),
    )
    if session.as_json:
        write_json({"documents": list(found), "more": found.more, "txid": found.txid})
    else:
        for document in found:
            write_json(document)
        if found.more:
            print(f"more: --skip {int(skip) + len(found)}", file=sys.stderr)
    session.txid(found.txid)


@command(app, "update")
def update(
    session: Session,
    db: Branch,
    collection: Collection,
    filter_: Wanted,
    update: Annotated[
        str, typer.Argument(metavar="UPDATE", help='What to change, such as {"$inc": {"visits": 1}}.')
    ],
) -> None:
    """Change every document that fits, all or none."""
    done = session.db(db).docs.update(
        collection, parse_object("FILTER", filter_), parse_object("UPDATE", update)
    )
    session.say(done, f"{done.matched:,} matched, {done.modified:,} changed", txid=done.txid)


@command(app, "delete")
def delete(session: Session, db: Branch, collection: Collection, filter_: Wanted) -> None:
    """Delete every document that fits."""
    done = session.db(db).docs.delete(collection, parse_object("FILTER", filter_))
    session.say(done, f"{done.deleted:,} deleted", txid=done.txid)


@command(app, "collections")
def collections(session: Session, db: Address) -> None:
    """List the collections."""
    found = session.db(db).docs.collections()
    session.say(found, *found)


@command(indexes, "create")
def create_index(session: Session, db: Branch, collection: Collection, path: Path) -> None:
    """Index what is at a path."""
    done = session.db(db).docs.create_index(collection, path)
    session.say(done, f"{path} {'is indexed' if done.changed else 'was indexed already'}", txid=done.txid)


@command(indexes, "list")
def list_indexes(session: Session, db: Address, collection: Collection) -> None:
    """List the paths that are indexed."""
    found = session.db(db).docs.indexes(collection)
    session.say(found, *found)


@command(indexes, "drop")
def drop_index(session: Session, db: Branch, collection: Collection, path: Path) -> None:
    """Forget an index."""
    done = session.db(db).docs.drop_index(collection, path)
    session.say(
        done, f"{path} {'is no longer indexed' if done.changed else 'was not indexed'}", txid=done.txid
    )


def _object(option: str, text: str | None) -> dict[str, Any] | None:
    return None if text is None else parse_object(option, text)


def _documents(text: str | None) -> Any:
    """A document, a list of them, or one a line."""
    if text is None or text == "-":
        if sys.stdin.isatty():
            raise UsageError("give a document, or - and documents on stdin")
        given: str | bytes = sys.stdin.buffer.read()
    else:
        given = text
    try:
        return msgspec.json.decode(given)
    except (msgspec.MsgspecError, UnicodeError) as error:
        whole = error
    try:
        return msgspec.json.Decoder().decode_lines(given)
    except (msgspec.MsgspecError, UnicodeError):
        raise UsageError(f"that is no JSON: {whole}") from whole
