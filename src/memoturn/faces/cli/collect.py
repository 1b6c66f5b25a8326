"""`memoturn gc`: what nothing needs any more is removed. `memoturn why-retained`: who needs what is left."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from memoturn.faces.cli.output import cell, counting, size, write_table
from memoturn.faces.cli.session import Session
from memoturn.faces.wire import GcResult

_SHOWN: Final = 50
_FATES: Final = {
    (False, "removed"): "removed",
    (True, "removed"): "would be removed",
    (False, "waits"): "waits",
    (True, "waits"): "waits",
    (False, "kept"): "kept",
    (True, "kept"): "kept",
}


def gc(
    session: Session,
    db: Annotated[
        str | None,
        typer.Argument(metavar="DB", help="One database; else all, and what is left of deleted ones."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be removed, and why.")
    ] = False,
) -> None:
    """Remove what no branch has needed for a grace period, and count what none needs now.

    What a run counts is removed by the first run after the grace period (MEMOTURN_GC_GRACE_SECS). Run it as often as
    you like, from anywhere; one that is interrupted is taken up by the next.
    """
    memory = session.memory()
    with counting("collecting", shown=not session.as_json) as advance:
        done = memory.maintenance.gc(db, dry_run=dry_run, progress=advance)
    if session.as_json:
        session.say(done)
        return
    if done.groups:
        write_table(
            ("what", "objects", "size", "because of"),
            [(_FATES[dry_run, g.fate], g.objects, size(g.bytes), g.kind) for g in done.groups],
        )
    if dry_run and done.examples:
        print()
        write_table(
            ("object", "what", "size", "why"),
            [(e.key, _FATES[dry_run, e.fate], size(e.bytes), e.why) for e in done.examples[:_SHOWN]],
        )
        if len(done.examples) > _SHOWN:
            print("… and more; --json lists up to a thousand")
    for line in _summary(done):
        print(line)


def _summary(done: GcResult) -> list[str]:
    databases = "1 database" if done.databases == 1 else f"{done.databases:,} databases"
    verb = "would remove" if done.dry_run else "removed"
    lines = [
        f"{verb} {done.removed:,} of {done.objects:,} objects, {size(done.removed_bytes)} of {size(done.bytes)}, "
        f"in {databases}"
    ]
    if done.expired:
        lines.append(f"{done.expired:,} expired branches or databases {_became(done)} tombstones")
    if done.unlinked:
        lines.append(f"history was unlinked from {done.unlinked:,} manifests")
    if done.freed:
        lines.append(f"{verb} {done.freed:,} manifests of deleted branches")
    if done.waiting:
        lines.append(
            f"{done.waiting:,} objects, {size(done.waiting_bytes)}, wait for their grace period of "
            f"{done.grace_secs:g} s"
        )
    if done.ready_at is not None and done.dry_run:
        lines.append("a run without --dry-run counts them; one after the grace period removes them")
    elif done.ready_at is not None:
        lines.append(
            f"run `memoturn gc` again after {cell(done.ready_at)}: it goes on with what this one counted"
        )
    return lines


def _became(done: GcResult) -> str:
    return "would become" if done.dry_run else "are now"


def why_retained(
    session: Session,
    key: Annotated[
        str, typer.Argument(metavar="OBJECT", help="A key in the store, such as db/d_…/b_…/ltx/0/1-5-1.ltx.")
    ],
) -> None:
    """Tell who needs an object of the store, or why it is still there."""
    found = session.memory().maintenance.why_retained(key)
    if session.as_json:
        session.say(found)
        return
    print(f"{found.key}: {found.state}, {size(found.bytes)}, written {cell(found.modified_at)}")
    write_table(("branch", "why"), [(holder.branch, holder.why) for holder in found.holders])
