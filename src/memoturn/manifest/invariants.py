"""What every write of a manifest keeps true, as predicates over (old, new) that the register and tests call.

A write that only adds to the end, as nearly all do, is checked from there on: the cost of a check must not grow
with the age of the branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from memoturn.base.errors import InternalError
from memoturn.base.txids import TXID
from memoturn.manifest.coverage import missing
from memoturn.manifest.model import CatalogEntry, Manifest, Stretch
from memoturn.manifest.segment_name import SegmentName


def check_manifest(old: Manifest | None, new: Manifest) -> None:
    """Raise `InternalError` if `new` may not follow `old`; a new incarnation follows nothing."""
    if old is not None and old.incarnation != new.incarnation:
        if old.deleted_at is None and old.ttl_at is None:
            _broken("a living branch is never replaced", old, new)
        old = None
    if old is not None:
        if new.head_txid < old.head_txid:
            _broken("the head never moves back", old, new)
        if new.epoch < old.epoch:
            _broken("the epoch never falls", old, new)
        if new.floor_txid < old.floor_txid:
            _broken("the floor never falls", old, new)
        if new.exact_txid < old.exact_txid:
            _broken("the exact window never reaches back", old, new)
        if new.parent != old.parent:
            _broken("the parent never changes", old, new)
    if old is None or not (_extends(old.timeline, new.timeline) and _extends(old.segments, new.segments)):
        _check_timeline(new.timeline, old, new)
        _check_packs_apart(new.segments, old, new)
        if new.deleted_at is None and (new.segments or new.head_txid >= new.timeline[0].from_txid):
            _check_covered(old, new)
    else:
        added = new.timeline[len(old.timeline) :]
        if added:
            if added[0].from_txid <= old.head_txid:
                _broken("what was committed keeps its content", old, new)
            _check_timeline((old.timeline[-1], *added), old, new)
        _check_contiguous(new.segments[len(old.segments) :], old.head_txid, added, old, new)
    if new.checkpoints and max(new.checkpoints.values()) > new.head_txid:
        _broken("a checkpoint names a position that there is", old, new)


def check_catalog(old: CatalogEntry | None, new: CatalogEntry) -> None:
    """Raise `InternalError` if `new` may not follow `old`."""
    if old is not None and old.db_uuid != new.db_uuid and old.deleted_at is None and old.ttl_at is None:
        raise InternalError(f"a living database is never replaced: {old} -> {new}")


def _extends(old: Sequence[object], new: Sequence[object]) -> bool:
    return old is new or new[: len(old)] == old


def _check_packs_apart(segments: Sequence[str], old: Manifest | None, new: Manifest) -> None:
    last = 0
    for name in map(SegmentName.parse, segments):
        if not name.is_base:
            if name.min_txid <= last:
                _broken("packs follow each other without overlap", old, new)
            last = name.max_txid
    if last > new.head_txid:
        _broken("the head is the last txid", old, new)


def _check_covered(old: Manifest | None, new: Manifest) -> None:
    """What can be restored has its commits: the exact window, the head and the checkpoints."""
    positions = [new.head_txid, *new.checkpoints.values()]
    gap = missing(new, new.exact_txid, positions)
    if gap is not None:
        _broken(f"txids of the segments are contiguous, but {gap} is missing", old, new)


def _check_timeline(stretches: Sequence[Stretch], old: Manifest | None, new: Manifest) -> None:
    for earlier, later in pairwise(stretches):
        # Only the first stretch may be empty: a branch can be rewound before its first commit.
        first_possible = earlier.from_txid if earlier is new.timeline[0] else earlier.from_txid + 1
        if later.from_txid < first_possible or later.at < earlier.at:
            _broken("stretches begin one after another", old, new)
        if later.base == "self" and later.base_txid >= later.from_txid:
            _broken("a rewind goes back", old, new)


def _check_contiguous(
    segments: Sequence[str], last: TXID, added: Sequence[Stretch], old: Manifest | None, new: Manifest
) -> None:
    """Every txid beyond `last` up to the head is in exactly one pack, or in a base, or is a rewind."""
    if not segments and len(added) == new.head_txid - last:
        if [stretch.from_txid for stretch in added] != [*range(last + 1, new.head_txid + 1)]:
            _broken("between segments there are rewinds only", old, new)
        return
    names = [SegmentName.parse(text) for text in segments]
    elsewhere = {name.max_txid for name in names if name.is_base}
    elsewhere.update([stretch.from_txid for stretch in added])
    for name in names:
        if name.is_base:
            continue
        if name.min_txid <= last:
            _broken("packs follow each other without overlap", old, new)
        _check_gap(last, name.min_txid, elsewhere, old, new)
        last = name.max_txid
    if last > new.head_txid:
        _broken("the head is the last txid", old, new)
    _check_gap(last, new.head_txid + 1, elsewhere, old, new)


def _check_gap(last: int, following: int, elsewhere: set[TXID], old: Manifest | None, new: Manifest) -> None:
    for txid in range(last + 1, following):
        if txid not in elsewhere:
            _broken(f"txids of the segments are contiguous, but {txid} is missing", old, new)


def _broken(rule: str, old: Manifest | None, new: Manifest) -> None:
    raise InternalError(f"manifest of {new.branch_id!r}: {rule}\nold: {old}\nnew: {new}")
