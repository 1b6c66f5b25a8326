"""What every write of a manifest keeps true, as predicates over (old, new) that the register and tests call."""

from __future__ import annotations

from itertools import pairwise

from memoturn.base.errors import InternalError
from memoturn.manifest.model import CatalogEntry, Manifest
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import began_by_rewind


def check_manifest(old: Manifest | None, new: Manifest) -> None:
    """Raise `InternalError` if `new` may not follow `old`; a new incarnation follows nothing."""
    if old is not None and old.incarnation != new.incarnation:
        if old.deleted_at is None and old.ttl_at is None:
            _broken("a living branch is never replaced", old, new)
        old = None
    if old is None:
        _check_whole(new)
        return
    if new.head_txid < old.head_txid:
        _broken("the head never moves back", old, new)
    if new.epoch < old.epoch:
        _broken("the epoch never falls", old, new)
    if new.floor_txid < old.floor_txid:
        _broken("the floor never falls", old, new)
    if new.parent != old.parent:
        _broken("the parent never changes", old, new)
    if new.timeline is not old.timeline or new.segments is not old.segments or new.head_txid != old.head_txid:
        _check_whole(new)
    if new.checkpoints is not old.checkpoints:
        _check_pins(new)


def check_catalog(old: CatalogEntry | None, new: CatalogEntry) -> None:
    """Raise `InternalError` if `new` may not follow `old`."""
    if old is not None and old.db_uuid != new.db_uuid and old.deleted_at is None and old.ttl_at is None:
        raise InternalError(f"a living database is never replaced: {old} -> {new}")


def _check_whole(new: Manifest) -> None:
    stretches = new.timeline
    for earlier, later in pairwise(stretches):
        # Only the first stretch may be empty: a branch can be rewound before its first commit.
        earliest = earlier.from_txid if earlier is stretches[0] else earlier.from_txid + 1
        if later.from_txid < earliest or later.at < earlier.at:
            _broken("stretches begin one after another", None, new)
        if later.base == "self" and later.base_txid >= later.from_txid:
            _broken("a rewind goes back", None, new)
    _check_contiguous(new)
    _check_pins(new)


def _check_contiguous(new: Manifest) -> None:
    """Packs in order, without overlap; a txid between two of them is a rewind, which has no commit."""
    last = new.timeline[0].from_txid - 1
    started = False
    for text in new.segments:
        segment = SegmentName.parse(text)
        if segment.is_base:
            continue
        if segment.min_txid <= last and started:
            _broken("packs do not overlap", None, new)
        if started or new.floor_txid == 0:
            _check_gap(new, last, segment.min_txid)
        last, started = segment.max_txid, True
    if last > new.head_txid:
        _broken("the head is the last txid", None, new)
    if started or new.floor_txid == 0:
        _check_gap(new, last, new.head_txid + 1)


def _check_gap(new: Manifest, last: int, following: int) -> None:
    bases = {segment.max_txid for segment in map(SegmentName.parse, new.segments) if segment.is_base}
    for txid in range(last + 1, following):
        if not began_by_rewind(new, txid) and txid not in bases:  # type: ignore[arg-type]
            _broken(f"txids of the segments are contiguous, but {txid} is missing", None, new)


def _check_pins(new: Manifest) -> None:
    for name, txid in new.checkpoints.items():
        if not 0 <= txid <= new.head_txid:
            _broken(f"pins are covered, but checkpoint {name!r} is not", None, new)


def _broken(rule: str, old: Manifest | None, new: Manifest) -> None:
    raise InternalError(f"manifest of {new.branch_id!r}: {rule}\nold: {old}\nnew: {new}")
