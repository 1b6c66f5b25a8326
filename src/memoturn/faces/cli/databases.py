"""`memoturn db`: databases as wholes."""

from __future__ import annotations

from typing import Annotated

import typer

from memoturn.faces.cli.command import Group, command
from memoturn.faces.cli.output import cell, progress, size
from memoturn.faces.cli.session import Session
from memoturn.faces.cli.values import Exact, nearest, parse_ttl
from memoturn.faces.wire import DatabaseInfo

app = typer.Typer(cls=Group, no_args_is_help=True, help="Create, import, export and delete databases.")

Name = Annotated[str, typer.Argument(metavar="DB", help="The database's name.")]
Ttl = Annotated[
    str | None, typer.Option("--ttl", metavar="TIME", help="Time to live: seconds, or 30m, 1h, 7d.")
]


@command(app, "create")
def create(session: Session, db: Name, ttl: Ttl = None) -> None:
    """Create an empty database with one branch, main."""
    info = session.memory(create=True).databases.create(db, None if ttl is None else parse_ttl(ttl))
    expires = f", which expires at {cell(info.ttl_at)}" if info.ttl_at else ""
    session.say(info, f"created database {info.name}{expires}")


@command(app, "list")
def list_(session: Session) -> None:
    """List the databases."""
    found = list(session.memory().databases.list())
    session.table(
        found,
        ("name", "default branch", "created", "expires"),
        [(info.name, info.default_branch, info.created_at, info.ttl_at) for info in found],
    )


@command(app, "show")
def show(session: Session, db: Name) -> None:
    """Show one database."""
    info: DatabaseInfo = session.memory().databases.get(db)
    session.details(
        info,
        [
            ("name", info.name),
            ("default branch", info.default_branch),
            ("created", info.created_at),
            ("expires", info.ttl_at or "never"),
            ("uuid", info.db_uuid),
        ],
    )


@command(app, "delete")
def delete(session: Session, db: Name) -> None:
    """Delete a database with all of its branches; prints the token that undoes it."""
    done = session.memory().databases.delete(db)
    session.say(done, f"deleted database {done.name}", f"to undo: memoturn undo {done.name} {done.undo}")


@command(app, "import")
def import_(
    session: Session,
    db: Name,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A SQLite file; it is not changed.")],
) -> None:
    """Create a database from a SQLite file, of any page size and in any journal mode."""
    memory = session.memory(create=True)
    with progress(f"importing {file}", shown=not session.as_json) as advance:
        done = memory.databases.import_file(db, file, advance)
    session.say(
        done, f"imported {file} as {done.name}: {done.pages:,} pages, {size(done.bytes)}", txid=done.txid
    )


@command(app, "export")
def export(
    session: Session,
    db: Annotated[
        str, typer.Argument(metavar="DB[@BRANCH[:POSITION]]", help="What to export, now or in its past.")
    ],
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write; it must not exist yet.")],
    exact: Exact = False,
) -> None:
    """Write a database, as it is or as it was, as a plain SQLite file."""
    handle = session.db(db, exact)
    with progress(f"exporting {db}", shown=not session.as_json) as advance:
        done = handle.export(file, advance)
    session.say(
        done,
        f"exported {db} to {done.path}: {done.pages:,} pages, {size(done.bytes)}",
        *nearest(done.exact, done.txid),
        txid=done.txid,
    )
