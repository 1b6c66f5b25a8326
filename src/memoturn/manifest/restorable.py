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
from memoturn.base.txids import TXID
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
    """What can be restored on a living branch, up to the manifest's head."""
    head = manifest.head_txid
    return Restorable(tuple(_runs(manifest, head, (head, *manifest.checkpoints.values()), parent_of)))


def _runs(manifest: Manifest, until: TXID, positions: Iterable[TXID], parent_of: ParentOf) -> Iterator[Run]:
    """The runs of a branch that ends at `until`, of which `positions` are kept at any age."""
    first, floor = first_own(manifest), manifest.floor_txid
    begin = max(first, manifest.exact_txid)
    points: dict[TXID, Kind] = {}
    if first and until < first:
        points[until] = "fork"
    names = map(SegmentName.parse, manifest.segments)
    points.update((s.max_txid, "snapshot") for s in names if s.is_base and floor <= s.max_txid < begin)
    if manifest.deleted_at is None:
        points.update((txid, "checkpoint") for txid in manifest.checkpoints.values() if txid < begin)
    inherited: tuple[Run, ...] = ()
    if manifest.parent is not None:
        below = [txid for txid in positions if txid < begin]
        needed = kept(manifest, manifest.exact_txid, below, until).inherited
        points.update((txid, "fork") for txid in needed if txid >= floor and txid not in points)
        inherited = tuple(_inherited(manifest, manifest.parent, needed, parent_of))
    own = [Run(begin, until, "exact", manifest)] if begin <= until else []
    held = [Run(txid, txid, kind, manifest) for txid, kind in points.items() if txid <= until]
    yield from _apart(chain(inherited, held, own))


def _inherited(
    manifest: Manifest, parent: Parent, needed: frozenset[TXID], parent_of: ParentOf
) -> Iterator[Run]:
    """What the parent answers for. One that was deleted is kept up to the last position that is needed of it."""
    try:
        above = parent_of(parent, parent.fork_txid)
    except BranchNotFoundError:
        return  # It was removed, because nothing needed it any more.
    if above.deleted_at is None:
        runs = restorable(above, parent_of).runs
    else:
        runs = tuple(_runs(above, max(needed), needed, parent_of)) if needed else ()
    for run in runs:
        first, last = max(run.first, manifest.floor_txid), min(run.last, parent.fork_txid)
        if first <= last:
            yield run._replace(first=first, last=last)


def _apart(runs: Iterable[Run]) -> Iterator[Run]:
    """In order, without the points that lie on a longer run, or on one that came later."""
    # The sort is stable and begins with what the parent says: of two points at one txid, the branch's own stays.
    ordered = sorted(runs, key=lambda run: (run.first, run.first - run.last))
    longest: Run | None = None
    for run in ordered:
        if longest is None or run.first > longest.last:
            if longest is not None:
                yield longest
            longest = run
        elif longest.first == longest.last == run.last:
            longest = run
    if longest is not None:
        yield longest
