"""Names for positions, and going back to them: `branch checkpoint`, `branch rewind`, `undo`."""

from __future__ import annotations

from typing import Annotated

import typer

from memoturn.faces.cli.command import Group, command
from memoturn.faces.cli.session import Session
from memoturn.faces.cli.values import Exact, branch_address, branch_and_word, nearest

app = typer.Typer(cls=Group, no_args_is_help=True, help="List and delete the checkpoints of a branch.")

Database = Annotated[str, typer.Argument(metavar="DB[@BRANCH]", help="The database, or one of its branches.")]
Branch = Annotated[
    str | None, typer.Argument(metavar="BRANCH", help="The branch, if not the default one or given with @.")
]


def checkpoint(
    session: Session,
    db: Database,
    words: Annotated[
        list[str],
        typer.Argument(metavar="[BRANCH] NAME", help="The branch, if not the default one, and the name."),
    ],
    move: Annotated[bool, typer.Option("--move", help="Move the name here if it stands elsewhere.")] = False,
) -> None:
    """Name the head of a branch, to come back to it."""
    address, name = branch_and_word(db, words, "the checkpoint's name")
    done = session.db(address).branch.checkpoint(name, move=move)
    session.say(done, f"checkpoint {done.name} of {address} is at txid {done.txid}", txid=done.txid)


def rewind(
    session: Session,
    db: Database,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[BRANCH] TO",
            help="The branch, if not the default one, and where to: a checkpoint, a txid or a time.",
        ),
    ],
    exact: Exact = False,
) -> None:
    """Give a branch the content that it had; prints the token that undoes it."""
    address, to = branch_and_word(db, words, "where to: a checkpoint, a txid or a time")
    done = session.db(address).branch.rewind(to, exact=exact)
    session.say(
        done,
        f"rewound {address} to {to}: txid {done.txid} has the content of txid {done.restored_txid}",
        *nearest(done.exact, done.restored_txid),
        f"to undo: memoturn undo {address.database} {done.undo}",
        txid=done.txid,
    )


def undo(
    session: Session,
    db: Annotated[str, typer.Argument(metavar="DB", help="The database's name.")],
    token: Annotated[
        str, typer.Argument(metavar="TOKEN", help="What rewind, reset, promote or delete has printed.")
    ],
) -> None:
    """Take back a rewind, a reset, a promotion or a deletion."""
    name = branch_address(db).database
    done = session.memory().databases.undo(name, token)
    again = [] if done.undo is None else [f"to undo that: memoturn undo {name} {done.undo}"]
    session.say(done, f"took back: {done.what} of {done.name}", *again, txid=done.txid)


@command(app, "list")
def list_(session: Session, db: Database, branch: Branch = None) -> None:
    """List the checkpoints of a branch, the oldest position first."""
    found = session.db(branch_address(db, branch)).branch.checkpoints()
    session.table(found, ("checkpoint", "txid"), [(mark.name, mark.txid) for mark in found])


@command(app, "delete")
def delete(
    session: Session,
    db: Database,
    words: Annotated[
        list[str],
        typer.Argument(metavar="[BRANCH] NAME", help="The branch, if not the default one, and the name."),
    ],
) -> None:
    """Forget a checkpoint's name; the history stays."""
    address, name = branch_and_word(db, words, "the checkpoint's name")
    session.db(address).branch.delete_checkpoint(name)
    session.say({"name": name}, f"deleted checkpoint {name} of {address}")
