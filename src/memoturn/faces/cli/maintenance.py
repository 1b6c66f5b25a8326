"""`memoturn verify`: whether what is kept can be restored. `memoturn compact`: in fewer and better places.

`memoturn retain`: only as much of it as the retention windows ask for.
"""

from __future__ import annotations

from typing import Annotated

import typer

from memoturn.base.errors import CorruptError
from memoturn.faces.cli.command import Group, command
from memoturn.faces.cli.output import progress, size, write_table
from memoturn.faces.cli.session import Session
from memoturn.faces.cli.values import parse_count


def verify(
    session: Session,
    db: Annotated[
        str | None,
        typer.Argument(
            metavar="DB[@BRANCH]", help="A database with all its branches, or one; else everything."
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="POSITION", help="A checkpoint, a txid or a time to restore."),
    ] = None,
    points: Annotated[
        str, typer.Option("--points", metavar="N", help="How many random positions of each branch.")
    ] = "2",
) -> None:
    """Restore positions from the store alone, and compare checksums and integrity.

    Of each branch that is its head, and --at or some random positions. Ends with 1 if anything cannot be restored.
    """
    count = parse_count("--points", points)
    memory = session.memory()
    with progress("restoring", shown=not session.as_json) as advance:
        found = memory.maintenance.verify(db, at=at, points=count, progress=advance)
    session.table(
        found,
        ("database", "branch", "txid", "pages", "size", "restored"),
        [
            (one.database, one.branch, one.txid, one.pages, size(one.bytes), one.problem or "as recorded")
            for one in found
        ],
    )
    damaged = [one for one in found if not one.ok]
    if damaged:
        one = damaged[0]
        raise CorruptError(
            f"{len(damaged)} of {len(found)} positions cannot be restored as they were, such as txid {one.txid} of "
            f"{one.database}@{one.branch}: {one.problem}. Bring the object that is named back from a replica or an "
            "earlier version of the bucket, then verify again; until then, positions that do verify can be forked "
            "or rewound to"
        )


def compact(
    session: Session,
    db: Annotated[
        str, typer.Argument(metavar="DB[@BRANCH]", help="A database with all its branches, or one of them.")
    ],
) -> None:
    """Merge packs, write bases and shorten deep chains; every position stays as it is."""
    memory = session.memory()
    with progress("compacting", shown=not session.as_json) as advance:
        done = memory.maintenance.compact(db, progress=advance)
    session.table(
        done,
        ("branch", "merges", "bases written", "dropped", "bytes written", "packs now", "bases now"),
        [
            (b.name, b.merges, b.bases_written, b.bases_dropped, size(b.bytes_written), b.packs, b.bases)
            for b in done.branches
        ],
    )
    if not session.as_json:
        print(f"wrote {size(done.bytes_written)} for {size(done.bytes_of_commits)} of commits")


def retain(
    session: Session,
    db: Annotated[str, typer.Argument(metavar="DB", help="The database, with all its branches.")],
) -> None:
    """Let go of history beyond the retention windows; snapshots of each day take its place."""
    memory = session.memory()
    with progress("writing snapshots", shown=not session.as_json) as advance:
        done = memory.maintenance.retain(db, progress=advance)
    session.table(
        done,
        ("branch", "every txid from", "snapshots from", "snapshots written", "bytes written"),
        [(b.name, b.exact_txid, b.floor_txid, len(b.bases), size(b.bytes_written)) for b in done],
    )


app = typer.Typer(cls=Group, no_args_is_help=True, help="What is done in the background.")


@command(app, "status")
def status(
    session: Session,
    db: Annotated[str | None, typer.Argument(metavar="DB", help="One database; else all.")] = None,
) -> None:
    """Show what each branch consists of, and the background work that was done on it.

    The work is what the processes of this machine have noted. What runs now is known to its own process only.
    """
    found = session.memory().maintenance.status(db)
    if session.as_json:
        session.say(found)
        return
    write_table(
        (
            "branch",
            "head",
            "every txid from",
            "snapshots from",
            "packs",
            "bases",
            "above base",
            "depth",
            "size",
        ),
        [
            (
                f"{one.name}@{branch.name}",
                branch.head_txid,
                branch.exact_txid,
                branch.floor_txid,
                "+".join(map(str, branch.packs)),
                branch.bases,
                branch.packs_above_base,
                branch.depth,
                size(branch.bytes),
            )
            for one in found.databases
            for branch in one.branches
        ],
    )
    print()
    write_table(
        ("work", "on", "last done", "took", "what came of it"),
        [
            (
                work.kind,
                one.name if work.branch is None else f"{one.name}@{work.branch}",
                work.time,
                f"{work.seconds:.2f} s",
                work.what if work.error is None else f"{work.error} ({work.failures} times in a row)",
            )
            for one in found.databases
            for work in one.work
            if work.time is not None
        ],
    )
    for one in found.databases:
        if one.bytes_shipped:
            print(
                f"\n{one.name}: {size(one.bytes_written)} written by compaction for {size(one.bytes_shipped)} of "
                f"commits, {one.write_amplification:.2f} times"
            )
