"""Every change of a record, as a pure function of (record, wish) that returns the new record or raises.

Nothing here reads a clock or a bucket, so each rule can be applied again to whatever another writer left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from memoturn.base.errors import (
    AlreadyExistsError,
    BranchExpiredError,
    BranchNotFoundError,
    CheckpointNotFoundError,
    ConflictError,
    DatabaseNotFoundError,
    FencedError,
    InvalidRequestError,
    NameBeingFreedError,
    TxidNotRetainedError,
)
from memoturn.base.txids import EMPTY, TXID, UnixMs
from memoturn.manifest.coverage import kept, missing
from memoturn.manifest.model import CatalogEntry, Manifest, Owner, Parent, Stretch
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import check_position, stretch_at

MAX_CHECKPOINTS = 1000
_ANY_TIME = UnixMs(0)

# Guards.


def check_living(manifest: Manifest, now: UnixMs) -> None:
    """Raise unless the branch exists and its time has not run out."""
    if manifest.deleted_at is not None:
        raise BranchNotFoundError(f"branch {manifest.branch_id!r} was deleted")
    if manifest.ttl_at is not None and manifest.ttl_at <= now:
        raise BranchExpiredError(
            f"branch {manifest.branch_id!r} expired; create it again, or fork without a ttl"
        )


def check_existing(entry: CatalogEntry, name: str, now: UnixMs) -> None:
    """Raise unless the database exists and its time has not run out."""
    if entry.deleted_at is not None or (entry.ttl_at is not None and entry.ttl_at <= now):
        raise DatabaseNotFoundError(f"there is no database {name!r}")


def check_incarnation(manifest: Manifest, incarnation: str) -> None:
    """Raise unless the manifest still belongs to the branch that the caller opened."""
    if manifest.incarnation != incarnation:
        raise BranchNotFoundError(
            f"branch {manifest.branch_id!r} was deleted, and its name was taken again by another branch"
        )


# Births.


def root(branch_id: str, incarnation: str, now: UnixMs, ttl_at: UnixMs | None = None) -> Manifest:
    """The manifest of a branch that starts empty."""
    return Manifest(
        branch_id=branch_id,
        incarnation=incarnation,
        parent=None,
        head_txid=EMPTY,
        timeline=(Stretch(TXID(1), "empty", EMPTY, now),),
        ttl_at=ttl_at,
    )


def imported(first: Manifest, base: SegmentName) -> Manifest:
    """A branch that starts from a base which was written before it."""
    return replace(first, head_txid=base.max_txid, segments=(str(base),))


def fork(
    parent: Manifest,
    db_uuid: str,
    fork_txid: TXID,
    branch_id: str,
    incarnation: str,
    now: UnixMs,
    ttl_at: UnixMs | None,
    not_before: UnixMs = _ANY_TIME,
) -> Manifest:
    """The manifest of a child that continues `parent` from `fork_txid`.

    `not_before` is the time of the parent's last commit: along a branch times ascend, whatever clocks do.
    """
    check_living(parent, now)
    check_position(parent, fork_txid)
    return Manifest(
        branch_id=branch_id,
        incarnation=incarnation,
        parent=Parent(db_uuid, parent.branch_id, parent.incarnation, fork_txid),
        head_txid=fork_txid,
        timeline=(
            Stretch(TXID(fork_txid + 1), "parent", fork_txid, max(now, not_before, parent.timeline[-1].at)),
        ),
        ttl_at=ttl_at,
    )


def reborn(old: Manifest, new: Manifest, now: UnixMs) -> Manifest:
    """`new` in the place of `old`, which must be a tombstone or expired; the register's fields run on."""
    if old.deleted_at is None and (old.ttl_at is None or old.ttl_at > now):
        raise AlreadyExistsError(
            f"branch {old.branch_id!r} exists already; choose another name, or delete it first"
        )
    if old.removal == "name":
        raise NameBeingFreedError(
            f"the name {old.branch_id!r} is just being freed; try again, or run a garbage collection if that does "
            "not help within its grace period"
        )
    return replace(new, seq=old.seq, write_ids=old.write_ids)


# Ownership and commits.


def check_epoch(manifest: Manifest, epoch: int) -> None:
    """Raise `FencedError` if a later writer has taken the branch over."""
    if manifest.epoch > epoch:
        owner = manifest.owner.node_id if manifest.owner else "another node"
        raise FencedError(
            f"branch {manifest.branch_id!r} was taken over by {owner} (epoch {manifest.epoch}, ours was {epoch})"
        )


def take(manifest: Manifest, owner: Owner, recovered: SegmentName | None, now: UnixMs) -> Manifest:
    """A new owner under the next epoch, together with what was recovered from the last owner's log."""
    check_living(manifest, now)
    taken = replace(manifest, epoch=manifest.epoch + 1, owner=owner)
    return taken if recovered is None else append(taken, taken.epoch, recovered)


def append(manifest: Manifest, epoch: int, segment: SegmentName) -> Manifest:
    """Link a pack of new commits, and move the head to the last of them."""
    check_epoch(manifest, epoch)
    if manifest.deleted_at is not None:
        raise BranchNotFoundError(f"branch {manifest.branch_id!r} was deleted")
    if manifest.head_txid >= segment.max_txid:
        return manifest  # Only the owner moves the head under its epoch: an earlier try has landed.
    if segment.min_txid != manifest.head_txid + 1:
        raise ConflictError(
            f"segment {segment} does not continue branch {manifest.branch_id!r} at {manifest.head_txid}"
        )
    return replace(manifest, head_txid=segment.max_txid, segments=(*manifest.segments, str(segment)))


# History: what maintenance may change, on any node, beside the owner.


def merge_segments(manifest: Manifest, merged: Sequence[SegmentName], into: SegmentName) -> Manifest:
    """Put one pack in the place of packs that follow each other. Raises `ConflictError` if one of them is gone."""
    if str(into) in manifest.segments:
        return manifest
    gone = {str(name) for name in merged}
    if manifest.deleted_at is not None or not gone.issubset(manifest.segments):
        raise ConflictError(f"what was merged into {into} is no longer part of branch {manifest.branch_id!r}")
    return replace(
        manifest, segments=_in_order((*(s for s in manifest.segments if s not in gone), str(into)))
    )


def add_base(manifest: Manifest, base: SegmentName) -> Manifest:
    """Link a base of a position that the branch has, or had: then it is of no use, and nothing changes."""
    if str(base) in manifest.segments or base.max_txid > manifest.head_txid:
        return manifest
    if manifest.deleted_at is not None and not manifest.segments:
        return manifest
    return replace(manifest, segments=_in_order((*manifest.segments, str(base))))


def drop_bases(manifest: Manifest, bases: Iterable[SegmentName]) -> Manifest:
    """Unlink bases within the exact window that packs make up for; one without which a position is lost stays.

    So does one that stands for what may have been let go of since it was written: a position of the parent, or one
    below the exact window.
    """
    for base in bases:
        without = tuple(s for s in manifest.segments if s != str(base))
        if len(without) == len(manifest.segments) or not serves_reads_only(manifest, base.max_txid):
            continue
        thinner = replace(manifest, segments=without)
        if missing(thinner, manifest.exact_txid) is None:
            manifest = thinner
    return manifest


def serves_reads_only(manifest: Manifest, txid: TXID) -> bool:
    """Whether what a base at `txid` stands on is a position of this branch in the exact window.

    Then it can be restored without the base.
    """
    first, exact = manifest.timeline[0].from_txid, manifest.exact_txid
    stretch = stretch_at(manifest, txid)
    if txid == stretch.from_txid:
        return stretch.base == "self" and txid > exact and stretch.base_txid >= max(first, exact)
    return txid > exact


def raise_exact(manifest: Manifest, txid: TXID) -> Manifest:
    """From now on only snapshots and checkpoints can be named below `txid`, which must have a base or be a start."""
    if txid <= manifest.exact_txid:
        return manifest
    if txid > manifest.head_txid:
        raise ConflictError(f"txid {txid} is ahead of branch {manifest.branch_id!r} at {manifest.head_txid}")
    return replace(manifest, exact_txid=txid)


def raise_floor(manifest: Manifest, txid: TXID) -> Manifest:
    """From now on only checkpoints can be named below `txid`, which is in no exact window."""
    if txid <= manifest.floor_txid:
        return manifest
    if txid > manifest.exact_txid:
        raise ConflictError(f"the floor of branch {manifest.branch_id!r} cannot pass {manifest.exact_txid}")
    return replace(manifest, floor_txid=txid)


def cut(manifest: Manifest, exact: TXID, floor: TXID, pins: Iterable[TXID]) -> Manifest:
    """Unlink what no position needs that is retained from `exact` and `floor` on, checkpointed or pinned.

    `exact` and `floor` are those that were in force a grace period ago, so that whoever named a position before they
    were raised can be seen among the `pins`: positions of this branch that other branches stand on.
    """
    exact, floor = min(exact, manifest.exact_txid), min(floor, manifest.floor_txid)
    names = [SegmentName.parse(text) for text in manifest.segments]
    snapshots = [s for s in names if s.is_base and s.max_txid >= floor]
    needed = kept(manifest, exact, [*manifest.checkpoints.values(), *pins])
    segments = needed.segments.union(snapshots)
    stretches = needed.stretches.union(stretch_at(manifest, s.max_txid).from_txid for s in snapshots)
    return _keep_only(manifest, segments, stretches)


def cut_tombstone(manifest: Manifest, pins: Iterable[TXID]) -> Manifest:
    """Unlink what no living descendant of a deleted branch needs. From then on it cannot be taken back."""
    if manifest.deleted_at is None:
        raise ConflictError(f"branch {manifest.branch_id!r} lives")
    needed = kept(manifest, TXID(manifest.head_txid + 1), pins)
    left = _keep_only(manifest, needed.segments, needed.stretches)
    return left if left.removal is not None else replace(left, removal="history")


def touch(manifest: Manifest) -> Manifest:
    """The same once more: whoever has read the manifest before and writes it now has to read it again."""
    return replace(manifest)


def free_name(manifest: Manifest) -> Manifest:
    """The last state of a tombstone: its object goes next, and until then its name cannot be taken.

    Each call is a write of its own: whoever made it, and nobody else, may delete the object.
    """
    if manifest.deleted_at is None or manifest.removal is None or manifest.segments:
        raise ConflictError(f"branch {manifest.branch_id!r} still has history")
    return replace(manifest, removal="name")


def _keep_only(manifest: Manifest, segments: frozenset[SegmentName], stretches: frozenset[TXID]) -> Manifest:
    left = tuple(s for s in manifest.segments if SegmentName.parse(s) in segments)
    # The first stretch tells when the branch was created and where it came from.
    timeline = tuple(s for i, s in enumerate(manifest.timeline) if i == 0 or s.from_txid in stretches)
    if left == manifest.segments and timeline == manifest.timeline:
        return manifest
    return replace(manifest, segments=left, timeline=timeline)


def _in_order(segments: Iterable[str]) -> tuple[str, ...]:
    """Ascending by their last txid; a base comes after a pack that ends where it stands."""

    def place(text: str) -> tuple[TXID, bool, int]:
        name = SegmentName.parse(text)
        return name.max_txid, name.is_base, name.epoch

    return tuple(sorted(segments, key=place))


# What users ask for.


def checkpoint(manifest: Manifest, name: str, txid: TXID, move: bool, now: UnixMs) -> Manifest:
    """Name a position. The same name at the same txid changes nothing."""
    check_living(manifest, now)
    check_position(manifest, txid)
    there = manifest.checkpoints.get(name)
    if there == txid:
        return manifest
    if there is not None and not move:
        raise ConflictError(
            f"checkpoint {name!r} stands at txid {there} already; take another name, or move it to txid {txid}"
        )
    if there is None and len(manifest.checkpoints) >= MAX_CHECKPOINTS:
        raise ConflictError(
            f"branch {manifest.branch_id!r} has {MAX_CHECKPOINTS} checkpoints; delete one first"
        )
    return replace(manifest, checkpoints={**manifest.checkpoints, name: txid})


def checkpoint_txid(manifest: Manifest, name: str) -> TXID:
    """Where the checkpoint stands. Raises `CheckpointNotFoundError`."""
    try:
        return manifest.checkpoints[name]
    except KeyError:
        known = ", ".join(sorted(manifest.checkpoints)[:8]) or "none"
        raise CheckpointNotFoundError(
            f"branch {manifest.branch_id!r} has no checkpoint {name!r}; it has: {known}"
        ) from None


def drop_checkpoint(manifest: Manifest, name: str, now: UnixMs) -> Manifest:
    """Forget a name; the position stays as long as history is retained."""
    check_living(manifest, now)
    checkpoint_txid(manifest, name)
    return replace(manifest, checkpoints={k: v for k, v in manifest.checkpoints.items() if k != name})


def rewind(manifest: Manifest, to_txid: TXID, now: UnixMs, not_before: UnixMs = _ANY_TIME) -> Manifest:
    """The next txid starts from the content at `to_txid` of the branch itself.

    `not_before` is the time of the branch's last commit: along a branch times ascend, whatever clocks do.
    """
    check_living(manifest, now)
    check_position(manifest, to_txid)
    return _begin_stretch(manifest, "self", to_txid, max(now, not_before))


def reset(manifest: Manifest, parent_txid: TXID, now: UnixMs, not_before: UnixMs = _ANY_TIME) -> Manifest:
    """The next txid starts from the content at `parent_txid` of the parent. `not_before` is as for `rewind`."""
    check_living(manifest, now)
    if manifest.parent is None:
        raise ConflictError(f"branch {manifest.branch_id!r} has no parent to be reset to; rewind it instead")
    return _begin_stretch(manifest, "parent", parent_txid, max(now, not_before))


def _begin_stretch(manifest: Manifest, base: str, base_txid: TXID, at: UnixMs) -> Manifest:
    head = TXID(manifest.head_txid + 1)
    began = max(at, manifest.timeline[-1].at)
    stretch = Stretch(head, "self" if base == "self" else "parent", base_txid, began)
    return replace(manifest, head_txid=head, timeline=(*manifest.timeline, stretch))


def delete(manifest: Manifest, now: UnixMs) -> Manifest:
    """Leave a tombstone. Children keep what they need."""
    check_living(manifest, now)
    return replace(manifest, deleted_at=now)


def expire(manifest: Manifest, now: UnixMs) -> Manifest:
    """Leave a tombstone of a branch whose time has run out; one that lives on is left alone."""
    if manifest.deleted_at is not None or manifest.ttl_at is None or manifest.ttl_at > now:
        return manifest
    return replace(manifest, deleted_at=manifest.ttl_at)


def tombstone(manifest: Manifest, now: UnixMs) -> Manifest:
    """What is left of a branch that was deleted or has expired, or never should have been."""
    return manifest if manifest.deleted_at is not None else replace(manifest, deleted_at=now)


def undelete(manifest: Manifest, incarnation: str) -> Manifest:
    """Take a tombstone back, unless the name has been given away meanwhile or its history was removed."""
    if manifest.incarnation != incarnation:
        raise ConflictError(
            f"branch {manifest.branch_id!r} was created again meanwhile; delete that one first"
        )
    if manifest.deleted_at is None:
        return manifest
    if manifest.removal is not None:
        raise TxidNotRetainedError(
            f"branch {manifest.branch_id!r} was deleted so long ago that its history is being removed"
        )
    return replace(manifest, deleted_at=None)


def set_ttl(manifest: Manifest, ttl_at: UnixMs | None, now: UnixMs) -> Manifest:
    """Move or remove the time at which the branch expires."""
    check_living(manifest, now)
    return replace(manifest, ttl_at=ttl_at)


def give_back_ttl(manifest: Manifest, ttl_at: UnixMs | None) -> Manifest:
    """`set_ttl` by whoever took it away and failed: also for a branch that was deleted or has expired meanwhile."""
    return replace(manifest, ttl_at=ttl_at)


# The catalog.


def promote(entry: CatalogEntry, name: str, branch_id: str, now: UnixMs) -> CatalogEntry:
    """The database's name stands for this branch; written even if it did, so that no other takes it back."""
    check_existing(entry, name, now)
    return replace(entry, default_branch=branch_id)


def delete_database(entry: CatalogEntry, name: str, now: UnixMs) -> CatalogEntry:
    """Leave a tombstone that remembers when."""
    check_existing(entry, name, now)
    return replace(entry, deleted_at=now)


def undelete_database(entry: CatalogEntry, name: str, db_uuid: str) -> CatalogEntry:
    """Take the tombstone back, unless the name has been given away meanwhile."""
    if entry.db_uuid != db_uuid:
        raise ConflictError(f"database {name!r} was created again meanwhile; delete that one first")
    if entry.collected:
        raise TxidNotRetainedError(f"database {name!r} was deleted so long ago that it is being removed")
    if entry.deleted_at is None:
        return entry
    return replace(entry, deleted_at=None, deletions=entry.deletions + 1)


def expire_database(entry: CatalogEntry, now: UnixMs) -> CatalogEntry:
    """Leave a tombstone of a database whose time has run out; one that lives on is left alone."""
    if entry.deleted_at is not None or entry.ttl_at is None or entry.ttl_at > now:
        return entry
    return replace(entry, deleted_at=entry.ttl_at)


def collect_database(entry: CatalogEntry, db_uuid: str, deleted_at: UnixMs) -> CatalogEntry:
    """From now on the deletion of that time cannot be taken back; when it was stays known."""
    if entry.db_uuid != db_uuid or entry.deleted_at != deleted_at or entry.collected:
        return entry
    return replace(entry, collected=True)


def reborn_database(old: CatalogEntry, new: CatalogEntry, name: str, now: UnixMs) -> CatalogEntry:
    """`new` in the place of `old`, which must be a tombstone or expired."""
    if old.deleted_at is None and (old.ttl_at is None or old.ttl_at > now):
        raise AlreadyExistsError(f"database {name!r} exists already; choose another name, or delete it first")
    return replace(new, seq=old.seq, write_ids=old.write_ids)


def ttl_at(ttl_seconds: float | None, now: UnixMs) -> UnixMs | None:
    """When something with this time to live expires, in unix milliseconds. Raises for a ttl that is not positive."""
    if ttl_seconds is None:
        return None
    if type(ttl_seconds) not in (int, float) or not 0 < ttl_seconds <= 10 * 365 * 86400:
        raise InvalidRequestError(
            f"a ttl of {ttl_seconds!r} is not possible; give seconds, more than 0, up to ten years"
        )
    return UnixMs(now + round(ttl_seconds * 1000))
