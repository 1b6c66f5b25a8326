"""Which positions of a branch can be restored: its own and those that it inherited, told by manifests alone.

Naming a position, `restore_points` and the second look after a write all ask this one module, so that what is
declared is what can be named. A branch answers for its own positions, and for what it needs of its parent; for
everything else that it inherited the parent answers, down to the branch's floor.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Literal, NamedTuple

from memoturn.base.errors import BranchNotFoundError
from memoturn.base.txids import EMPTY, TXID
from memoturn.manifest.coverage import kept
from memoturn.manifest.model import Manifest, Parent
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import first_own

ParentOf = Callable[[Parent, TXID], Manifest]
Kind = Literal["exact", "snapshot", "checkpoint", "fork"]


class Run(NamedTuple):
    """Positions from `first` to `last`, each of which can be restored, and the manifest that they are told by.

    Of kind `exact` it may be many; of the others it is one: a snapshot, a checkpoint, or what the branch began with.
    """

    first: TXID
    last: TXID
    kind: Kind
    holder: Manifest


class Restorable(NamedTuple):
    """Runs that ascend and share no position."""

    runs: tuple[Run, ...]

    def has(self, txid: TXID) -> bool:
        """Whether the position can be restored."""
        run = self.at_or_below(txid)
        return run is not None and txid <= run.last

    def at_or_below(self, txid: TXID) -> Run | None:
        """The last run that does not begin beyond `txid`."""
        place = self._place(txid)
        return self.runs[place - 1] if place else None

    def nearest(self, txid: TXID) -> tuple[TXID, ...]:
        """The positions next to one that cannot be restored: one below and one above, as far as there are."""
        place = self._place(txid)
        below = [min(txid, run.last) for run in self.runs[max(place - 1, 0) : place]]
        return (*below, *(run.first for run in self.runs[place : place + 1]))

    def _place(self, txid: TXID) -> int:
        return bisect_right(self.runs, txid, key=lambda run: run.first)


def restorable(manifest: Manifest, parent_of: ParentOf) -> Restorable:
    """What can be restored of a branch, up to the manifest's head."""
    runs: tuple[Run, ...] = ()
    for below, forked_at in reversed(list(_ancestry(manifest, parent_of))):
        floor = below.floor_txid
        clipped = (
            run._replace(first=max(run.first, floor), last=min(run.last, forked_at))
            for run in runs
            if run.last >= floor and run.first <= forked_at
        )
        # A tombstone that is given up passes on what lies further up, and has nothing of its own but what is pinned.
        own = () if below.removal is not None else _own(below)
        runs = tuple(_apart(chain(clipped, own)))
    return Restorable(runs)


def is_exact(manifest: Manifest, txid: TXID, parent_of: ParentOf) -> bool:
    """Whether a position lies in an exact window, its branch's own or that of the parent which answers for it.

    If it does, this costs less than `restorable`; if it does not, it may still be a point of its own.
    """
    below: Manifest | None = manifest
    while below is not None:
        if txid >= first_own(below):
            return below.removal is None and below.exact_txid <= txid <= below.head_txid
        if txid < below.floor_txid:
            return False
        below = _above(below, parent_of)
    return False


def _ancestry(manifest: Manifest, parent_of: ParentOf) -> Iterator[tuple[Manifest, TXID]]:
    """A branch and those above it, each with the txid at which it was forked; up to one that is gone."""
    below: Manifest | None = manifest
    while below is not None:
        yield below, EMPTY if below.parent is None else below.parent.fork_txid
        below = _above(below, parent_of)


def _above(manifest: Manifest, parent_of: ParentOf) -> Manifest | None:
    """The parent; None if there is none, or if it was removed, because nothing needed it any more."""
    parent = manifest.parent
    if parent is None:
        return None
    try:
        return parent_of(parent, parent.fork_txid)
    except BranchNotFoundError:
        return None


def _own(manifest: Manifest) -> Iterator[Run]:
    """What the branch itself answers for."""
    first, head, floor = first_own(manifest), manifest.head_txid, manifest.floor_txid
    begin = max(first, manifest.exact_txid)
    points: dict[TXID, Kind] = {}
    if manifest.parent is not None:
        # Positions of the parent that the branch keeps from being removed; one that it was reset to is not its own.
        positions = [t for t in (head, *manifest.checkpoints.values()) if t < manifest.exact_txid]
        needed = kept(manifest, manifest.exact_txid, positions).inherited
        points.update((txid, "fork") for txid in needed if floor <= txid < first)
    if head < first:
        points[head] = "fork"
    names = map(SegmentName.parse, manifest.segments)
    points.update((s.max_txid, "snapshot") for s in names if s.is_base and floor <= s.max_txid < begin)
    points.update((txid, "checkpoint") for txid in manifest.checkpoints.values() if txid < begin)
    for txid, kind in points.items():
        yield Run(txid, txid, kind, manifest)
    if begin <= head:
        yield Run(begin, head, "exact", manifest)


def _apart(runs: Iterable[Run]) -> Iterator[Run]:
    """In order, without the points that lie in an exact window; of two at one txid the branch's own stays."""
    # The sort is stable, and begins with what the parent says.
    ordered = sorted(runs, key=lambda run: (run.first, run.first - run.last))
    longest: Run | None = None
    for run in ordered:
        if longest is None or run.first > longest.last:
            if longest is not None:
                yield longest
            longest = run
        elif longest.last == run.last == run.first and longest.kind != "exact":
            longest = run
    if longest is not None:
        yield longest
