"""`memoturn branch`: forks, and what is known of them."""

from __future__ import annotations

from typing import Annotated

import typer

from memoturn.base.clock import format_time, ms_of
from memoturn.base.names import Address as BranchAddress
from memoturn.base.names import parse_address
from memoturn.faces.cli.command import Group, command
from memoturn.faces.cli.diff import tell
from memoturn.faces.cli.errors import UsageError
from memoturn.faces.cli.output import cell
from memoturn.faces.cli.session import Session
from memoturn.faces.cli.values import Exact, branch_address, nearest, parse_count, parse_ttl
from memoturn.faces.wire import BranchInfo, RewindResult

app = typer.Typer(cls=Group, no_args_is_help=True, help="Fork, checkpoint, rewind and promote branches.")

Address = Annotated[str, typer.Argument(metavar="DB[@BRANCH]", help="The database, or one of its branches.")]
Branch = Annotated[
    str | None, typer.Argument(metavar="BRANCH", help="The branch, if not the default one or given with @.")
]
Ttl = Annotated[
    str | None, typer.Option("--ttl", metavar="TIME", help="Time to live: seconds, or 30m, 1h, 7d.")
]


@command(app, "create")
def create(
    session: Session,
    db: Annotated[
        str, typer.Argument(metavar="DB[@BRANCH[:POSITION]]", help="What to fork, now or in its past.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new branch's name.")],
    from_: Annotated[
        str | None, typer.Option("--from", metavar="BRANCH", help="Fork this branch, not the default one.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", metavar="NAME", help="Fork it at a checkpoint.")
    ] = None,
    txid: Annotated[str | None, typer.Option("--txid", metavar="N", help="Fork it at a txid.")] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Fork it at a time, such as 2026-11-22T10:00:00Z."),
    ] = None,
    ttl: Ttl = None,
    exact: Exact = False,
) -> None:
    """Fork a branch. With --ttl it is a burner, which expires by itself."""
    address = parse_address(db)
    if from_ is not None and address.branch not in (None, from_):
        raise UsageError(f"{db!r} and --from {from_} name two branches to fork; give one of them")
    if sum(given is not None for given in (checkpoint, txid, at, address.position)) > 1:
        raise UsageError("give one of --checkpoint, --txid, --at and a position in the address, or none")
    fork = session.db(address).branch.create(
        name,
        from_=from_,
        checkpoint=checkpoint,
        txid=None if txid is None else parse_count("--txid", txid),
        at=at,
        ttl=None if ttl is None else parse_ttl(ttl),
        exact=exact,
    )
    info = fork.forked or fork.branch.get()
    expires = f", expires at {cell(info.ttl_at)}" if info.ttl_at else ""
    session.say(
        info,
        f"created branch {address.database}@{info.name} from {info.parent} at txid {info.fork_txid}{expires}",
        *nearest(info.exact, info.fork_txid),
        txid=info.head_txid,
    )


@command(app, "list")
def list_(session: Session, db: Address) -> None:
    """List the branches of a database; heads are those that have been shipped."""
    found = list(session.db(parse_address(db).database).branch.list())
    session.table(
        found,
        ("", "branch", "head", "parent", "fork", "created", "expires", "checkpoints"),
        [
            (
                "*" if info.is_default else "",
                info.name,
                info.head_txid,
                info.parent,
                info.fork_txid,
                info.created_at,
                info.ttl_at,
                len(info.checkpoints),
            )
            for info in found
        ],
    )


@command(app, "show")
def show(session: Session, db: Address, branch: Branch = None) -> None:
    """Show one branch."""
    info = session.db(branch_address(db, branch)).branch.get()
    _details(session, info)


def _details(session: Session, info: BranchInfo) -> None:
    marks = [f"{name} ({txid})" for name, txid in sorted(info.checkpoints.items(), key=lambda item: item[1])]
    session.details(
        info,
        [
            ("branch", info.name),
            ("default", info.is_default),
            ("head", info.head_txid),
            ("parent", f"{info.parent} at txid {info.fork_txid}" if info.parent else None),
            ("created", info.created_at),
            ("expires", info.ttl_at or "never"),
            ("checkpoints", ", ".join(marks) or None),
            ("epoch", info.epoch),
        ],
        txid=info.head_txid,
    )


@command(app, "delete")
def delete(session: Session, db: Address, branch: Branch = None) -> None:
    """Delete a branch; its children stay. Prints the token that undoes it."""
    address = _named(db, branch)
    done = session.db(address).branch.delete()
    session.say(
        done,
        f"deleted branch {address}",
        f"to undo: memoturn undo {address.database} {done.undo}",
    )


@command(app, "history")
def history(
    session: Session,
    db: Address,
    branch: Branch = None,
    limit: Annotated[
        str, typer.Option("--limit", metavar="N", help="Show the newest N entries; 0 shows all.")
    ] = "50",
) -> None:
    """Show the txids of a branch, newest first."""
    most = parse_count("--limit", limit)
    found = []
    for entry in session.db(branch_address(db, branch)).branch.history():
        found.append(entry)
        if len(found) == most:
            break
    session.table(
        found,
        ("txid", "kind", "time", "pages", "bytes", "content of", "checkpoints"),
        [
            (
                e.txid,
                e.kind,
                format_time(ms_of(e.time)),
                e.pages,
                e.bytes,
                e.base_txid,
                ", ".join(e.checkpoints) or None,
            )
            for e in found
        ],
    )


@command(app, "restore-points")
def restore_points(session: Session, db: Address, branch: Branch = None) -> None:
    """Show which positions of a branch can be restored: every txid of a range, and single ones below."""
    points = session.db(branch_address(db, branch)).branch.restore_points()
    rows: list[tuple[int, tuple[object, ...]]] = [
        (r.from_txid, ("every txid", r.branch, r.from_txid, r.to_txid, r.from_time, r.to_time, None))
        for r in points.ranges
    ]
    rows += [
        (p.txid, (p.why, p.branch, p.txid, p.txid, p.time, p.time, ", ".join(p.checkpoints) or None))
        for p in points.points
    ]
    session.table(
        points,
        ("what", "branch", "from", "to", "from time", "to time", "checkpoints"),
        [
            (*row[:4], *(format_time(ms_of(moment)) for moment in row[4:6]), row[6])  # type: ignore[arg-type]
            for _, row in sorted(rows, key=lambda pair: pair[0])
        ],
    )


@command(app, "reset")
def reset(session: Session, db: Address, branch: Branch = None) -> None:
    """Give a branch the content of its parent's head; prints the token that undoes it."""
    address = branch_address(db, branch)
    done: RewindResult = session.db(address).branch.reset()
    session.say(
        done,
        f"reset {address}: txid {done.txid} has the parent's content of txid {done.restored_txid}",
        f"to undo: memoturn undo {address.database} {done.undo}",
        txid=done.txid,
    )


@command(app, "promote")
def promote(
    session: Session,
    db: Address,
    branch: Branch = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show what differs from the branch that is the default now."),
    ] = False,
) -> None:
    """Make a branch the database's default one; prints the token that undoes it."""
    address = _named(db, branch)
    if dry_run:
        would = session.db(address).branch.promote(dry_run=True)
        session.say(
            would,
            f"would promote {address}: {address.database} stands for {would.default_branch} now",
            *tell(would.diff),
        )
        return
    done = session.db(address).branch.promote()
    session.say(
        done,
        f"promoted {address}: {address.database} now stands for it",
        f"to undo: memoturn undo {address.database} {done.undo}",
    )


@command(app, "extend")
def extend(
    session: Session,
    db: Address,
    branch: Branch = None,
    ttl: Ttl = None,
    no_ttl: Annotated[bool, typer.Option("--no-ttl", help="Let the branch live for good.")] = False,
) -> None:
    """Give a branch a new time to live from now on, or none."""
    if (ttl is None) == (not no_ttl):
        raise UsageError("say how long the branch is to live: --ttl 2h, or --no-ttl for good")
    info = session.db(branch_address(db, branch)).branch.extend(None if ttl is None else parse_ttl(ttl))
    until = f"until {cell(info.ttl_at)}" if info.ttl_at else "for good"
    session.say(info, f"branch {info.name} lives {until}", txid=info.head_txid)


def _named(db: str, branch: str | None) -> BranchAddress:
    address = branch_address(db, branch)
    if address.branch is None:
        raise UsageError(f"name the branch: {db}@BRANCH, or {db} BRANCH")
    return address
