"""Branches: create, checkpoint, rewind, reset, promote, delete, expiry. Each is one conditional write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from memoturn.base.clock import time_of, time_or_none
from memoturn.base.errors import (
    AlreadyExistsError,
    BranchExpiredError,
    BranchNotFoundError,
    ConflictError,
    NameBeingFreedError,
)
from memoturn.base.names import Position, check_checkpoint_name, check_name
from memoturn.base.results.branches import (
    BranchInfo,
    CheckpointInfo,
    DeleteResult,
    HistoryEntry,
    PromoteResult,
    RestorePoint,
    RestorePoints,
    RestoreRange,
    RewindResult,
)
from memoturn.base.txids import TXID, UnixMs
from memoturn.bucket import ObjectNotFound
from memoturn.database.branch import Branch
from memoturn.database.events import events
from memoturn.database.positions import Named
from memoturn.database.times import time_of as position_time
from memoturn.manifest import keys, rules
from memoturn.manifest.model import Manifest
from memoturn.manifest.register import Held
from memoturn.manifest.restorable import Run, restorable
from memoturn.manifest.timeline import first_own
from memoturn.node.engine import Engine
from memoturn.operations import default, second_look
from memoturn.operations.positions import find
from memoturn.operations.undo import Undo

_PATIENCE: Final = 10
_MOMENT: Final = 0.02

# Creating.


def create(
    engine: Engine,
    database: str,
    name: str,
    source: str | None = None,
    position: Position | None = None,
    ttl: float | None = None,
    exact: bool = False,
) -> BranchInfo:
    """Fork a branch: `source` (the default branch if None), at its head or at a position in its past.

    A position that has gone out of retention means the nearest before it that can be restored, unless `exact` is set.
    `ttl`, in seconds, makes it a burner branch. Raises `AlreadyExistsError`, `TxidNotRetainedError`,
    `CheckpointNotFoundError` and what finding the source raises.
    """
    check_name("branch", name)
    parent = engine.branch(database, source)
    now, began = engine.clock.now_ms(), engine.clock.monotonic()
    ttl_at = rules.ttl_at(ttl, now)
    if position is None:
        named = Named(parent.settle_head(), True)
    else:
        named = find(engine, parent, position, exact)
        if named.txid > parent.manifest().head_txid:
            parent.settle_head()
    child = rules.fork(
        parent.manifest(),
        parent.db_uuid,
        named.txid,
        name,
        f"b_{engine.ids.ulid(now)}",
        now,
        ttl_at,
        not_before=parent.head().time or UnixMs(0),
    )
    key = keys.manifest_key(parent.db_uuid, name)
    try:
        held = engine.manifests.create(key, child)
    except AlreadyExistsError:
        held = _create_over(engine, parent.db_uuid, key, child, now)
    if second_look.is_late(engine, began):
        second_look.after_fork(engine, key, child)
    return replace(_info(held.record, is_default=False), exact=named.exact)


def _create_over(engine: Engine, db_uuid: str, key: str, child: Manifest, now: UnixMs) -> Held[Manifest]:
    """Take the name of a tombstone, which is kept elsewhere first for those who descend from it."""
    for attempt in range(_PATIENCE):
        try:
            old = engine.manifests.read(key).record
            rules.reborn(old, child, now)
        except NameBeingFreedError:
            if attempt + 1 == _PATIENCE:
                raise
            engine.clock.sleep(_MOMENT)
            continue
        except ObjectNotFound:
            with contextlib.suppress(AlreadyExistsError):
                return engine.manifests.create(key, child)
            continue
        engine.forget(db_uuid, old.branch_id)
        _keep_former(engine, db_uuid, rules.tombstone(old, now))

        def over(current: Manifest, old: Manifest = old) -> Manifest:
            if current.incarnation != old.incarnation:
                raise AlreadyExistsError(
                    f"branch {current.branch_id!r} exists already; somebody just created it"
                )
            # It may have come back to life for a while, or its owner may have shipped: that must be kept as well.
            return rules.reborn(current, child, now) if current.seq == old.seq else current

        try:
            held = engine.manifests.update(key, over)
        except (ObjectNotFound, NameBeingFreedError):
            continue
        if held.record.incarnation == child.incarnation:
            return held
    raise ConflictError(f"branch {child.branch_id!r} is being changed by others; try again")


def _keep_former(engine: Engine, db_uuid: str, tombstone: Manifest) -> None:
    """Put a tombstone where those who descend from it look when its name is taken.

    One that is there already may come from somebody who saw an earlier state, and was overtaken: of a branch that
    was taken back, has changed and was deleted again, or whose history has begun to be removed.
    """

    def state(manifest: Manifest) -> tuple[int, int, int, bool]:
        return manifest.head_txid, manifest.epoch, manifest.deleted_at or 0, manifest.removal is not None

    def newer(there: Manifest) -> Manifest:
        if state(there) >= state(tombstone):
            return there
        return replace(tombstone, seq=there.seq, write_ids=there.write_ids)

    key = keys.former_manifest_key(db_uuid, tombstone.branch_id, tombstone.incarnation)
    engine.manifests.create_or(key, tombstone, newer)


# Looking.


def get(engine: Engine, database: str, name: str | None = None) -> BranchInfo:
    """One branch, the default one unless it is named, with the head that readers see."""
    entry = engine.entry(database)
    branch = engine.branch(database, name)
    head = branch.head().txid
    info = _info(branch.manifest(), branch.branch_id == entry.default_branch)
    return replace(info, head_txid=head)


def list_(engine: Engine, database: str) -> Iterator[BranchInfo]:
    """The living branches of a database in order of their names. Heads are those in the bucket."""
    entry = engine.entry(database)
    for found in engine.bucket.list(keys.branches_prefix(entry.db_uuid)):
        engine.look()
        name = keys.branch_of(found.key)
        if name is None:
            continue
        try:
            held = engine.manifest(database, entry.db_uuid, name)
        except (BranchNotFoundError, BranchExpiredError):
            continue
        yield _info(held.record, name == entry.default_branch)


def history(engine: Engine, database: str, name: str | None = None) -> Iterator[HistoryEntry]:
    """The branch's own txids, newest first."""
    branch = engine.branch(database, name)
    manifest, tail = branch.newest_with_tail()
    for event in events(engine.env, branch.db_uuid, manifest, tail):
        yield HistoryEntry(
            event.txid,
            event.kind,
            time_of(event.time),
            event.pages,
            event.bytes,
            event.base_txid,
            event.checkpoints,
        )


def restore_points(engine: Engine, database: str, name: str | None = None) -> RestorePoints:
    """Which positions can be restored: what is not among them goes to the nearest below, or is refused."""
    branch = engine.branch(database, name)
    manifest, tail = branch.newest_with_tail()
    found = RestorePoints([], [])

    def time(run: Run, txid: TXID) -> datetime:
        return time_of(position_time(engine.env, branch.db_uuid, run.holder, txid))

    for run in restorable(manifest, engine.env.manifest_of).runs:
        holder = run.holder
        if run.kind == "exact":
            times = time(run, run.first), time(run, run.last)
            found.ranges.append(RestoreRange(holder.branch_id, run.first, run.last, *times))
        else:
            marks = tuple(sorted(mark for mark, txid in holder.checkpoints.items() if txid == run.first))
            when = time(run, run.first)
            found.points.append(RestorePoint(holder.branch_id, run.first, when, run.kind, marks))
    above = [commit.header for commit in tail if commit.txid > manifest.head_txid]
    if above:
        first, since = int(above[0].max_txid), time_of(above[0].timestamp_ms)
        shipped = found.ranges[-1] if found.ranges else None
        if shipped is not None and (shipped.branch, shipped.to_txid) == (branch.branch_id, first - 1):
            first, since = shipped.from_txid, shipped.from_time
            found.ranges.pop()
        until = time_of(above[-1].timestamp_ms)
        found.ranges.append(RestoreRange(branch.branch_id, first, above[-1].max_txid, since, until))
    return found


# Checkpoints.


def checkpoint(
    engine: Engine, database: str, branch_id: str | None, name: str, move: bool = False
) -> CheckpointInfo:
    """Name the head. The same name at the same txid changes nothing.

    Raises `ConflictError` if the name stands elsewhere, unless `move` is set.
    """
    check_checkpoint_name(name)
    now = engine.clock.now_ms()
    branch = engine.branch(database, branch_id)
    manifest = branch.change(lambda m: rules.checkpoint(m, name, m.head_txid, move, now))
    return CheckpointInfo(name, manifest.checkpoints[name])


def checkpoints(engine: Engine, database: str, branch_id: str | None = None) -> list[CheckpointInfo]:
    """The branch's checkpoints, the oldest position first."""
    manifest = engine.manifests.read(engine.branch(database, branch_id).key).record
    rules.check_living(manifest, engine.clock.now_ms())
    found = manifest.checkpoints
    return [CheckpointInfo(name, txid) for name, txid in sorted(found.items(), key=lambda item: item[::-1])]


def delete_checkpoint(engine: Engine, database: str, branch_id: str | None, name: str) -> None:
    """Forget a name. Raises `CheckpointNotFoundError`."""
    now = engine.clock.now_ms()
    engine.branch(database, branch_id).change(lambda m: rules.drop_checkpoint(m, name, now))


# Moving the head.


def rewind(
    engine: Engine, database: str, branch_id: str | None, to: Position, exact: bool = False
) -> RewindResult:
    """Give the branch the content that it had at a position; nothing is lost, and it can be undone.

    A position that has gone out of retention means the nearest before it that can be restored, unless `exact` is set.
    Raises `CheckpointNotFoundError` or `TxidNotRetainedError`.
    """
    branch = engine.branch(database, branch_id)
    now, began = engine.clock.now_ms(), engine.clock.monotonic()
    named = find(engine, branch, to, exact)
    before: Manifest | None = None

    def wish(manifest: Manifest, last: UnixMs) -> Manifest:
        nonlocal before
        before = manifest
        return rules.rewind(manifest, named.txid, now, not_before=last)

    manifest = branch.move_head(wish)
    if before is not None and named.txid < first_own(before) and second_look.is_late(engine, began):
        second_look.after_rewind(engine, branch, before, named.txid)
    return _rewound(database, branch, manifest, named.exact)


def reset(engine: Engine, database: str, branch_id: str | None) -> RewindResult:
    """Give the branch the content of its parent's head. Raises `ConflictError` if it has no parent."""
    branch = engine.branch(database, branch_id)
    parent = branch.manifest().parent
    if parent is None:
        raise ConflictError(f"branch {branch.branch_id!r} has no parent to be reset to; rewind it instead")
    living = engine.branch(database, parent.branch_id)
    if living.incarnation != parent.incarnation:
        raise ConflictError(
            f"branch {parent.branch_id!r}, the parent, was deleted; rewind the branch instead"
        )
    began = engine.clock.monotonic()
    parent_txid = living.settle_head()
    now = engine.clock.now_ms()
    manifest = branch.move_head(lambda m, last: rules.reset(m, parent_txid, now, not_before=last))
    if second_look.is_late(engine, began):
        second_look.after_reset(engine, branch, manifest)
    return _rewound(database, branch, manifest, True)


def _rewound(database: str, branch: Branch, manifest: Manifest, exact: bool) -> RewindResult:
    began = manifest.timeline[-1]
    before = TXID(began.from_txid - 1)
    undo = Undo("rewind", database, branch.db_uuid, branch.branch_id, branch.incarnation, before)
    return RewindResult(began.from_txid, began.base_txid, undo.token(), exact)


# The rest of a life.


def promote(engine: Engine, database: str, branch_id: str) -> PromoteResult:
    """Make the branch the database's default one; a burner stops being one, since its new name must not expire.

    Raises `BranchNotFoundError` or `BranchExpiredError`, and then leaves a burner its ttl.
    """
    branch = engine.branch(database, branch_id)
    before = default.promote(engine, database, branch)
    undo = Undo("promote", database, branch.db_uuid, before, "", None)
    return PromoteResult(branch.branch_id, undo.token())


def extend(engine: Engine, database: str, branch_id: str | None, ttl: float | None) -> BranchInfo:
    """Let the branch live `ttl` seconds from now, or for good if None."""
    now = engine.clock.now_ms()
    ttl_at = rules.ttl_at(ttl, now)
    branch = engine.branch(database, branch_id)
    if ttl_at is not None:
        default.check_another(engine, database, branch.branch_id, "may not expire")
    before = branch.manifest().ttl_at
    manifest = branch.change(lambda m: rules.set_ttl(m, ttl_at, now))
    if ttl_at is not None:
        try:
            default.check_another(engine, database, branch.branch_id, "may not expire")
        except ConflictError:
            default.take_back_ttl(engine, database, branch, manifest, before)
            raise
    return _info(manifest, branch.branch_id == engine.entry(database).default_branch)


def delete(engine: Engine, database: str, branch_id: str) -> DeleteResult:
    """Delete a branch; its children keep what they need.

    A process of this machine that writes it hands it over first. Raises `ConflictError` for the default branch, and
    `BusyError` if it is not handed over.
    """
    entry = engine.entry(database)
    default.check_another(engine, database, branch_id, "cannot be deleted")
    branch = engine.branch(database, branch_id)
    now = engine.clock.now_ms()
    manifest = branch.move_head(lambda m, _: rules.delete(m, now))
    engine.forget(entry.db_uuid, branch_id)
    try:
        default.check_another(engine, database, branch_id, "cannot be deleted")
    except ConflictError:
        engine.manifests.update(
            branch.key, lambda m: rules.undelete(m, manifest.incarnation) if m.seq == manifest.seq else m
        )
        raise
    undo = Undo("delete-branch", database, entry.db_uuid, branch_id, manifest.incarnation, None)
    return DeleteResult(branch_id, undo.token())


def _info(manifest: Manifest, is_default: bool) -> BranchInfo:
    parent = manifest.parent
    return BranchInfo(
        manifest.branch_id,
        manifest.head_txid,
        None if parent is None else parent.branch_id,
        None if parent is None else parent.fork_txid,
        time_of(manifest.created_at),
        time_or_none(manifest.ttl_at),
        is_default,
        dict(manifest.checkpoints),
        manifest.epoch,
    )
