"""How far back a branch can be restored: a pure plan of where its boundaries rise, and which bases that takes.

Above `exact_txid` every txid can be restored, by packs; from `floor_txid` on the snapshots, which are bases. Ages are
those of positions, by the times that the branch has given them. A boundary rises to a base and never beyond the last
position at the beginning of its window, so that every moment within the window can be restored, or has a snapshot
before it. What is below is unlinked by a collector, a grace period later.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from msgspec.structs import replace

from memoturn.base.settings import MIB
from memoturn.base.txids import EMPTY, TXID, UnixMs
from memoturn.manifest import rules
from memoturn.manifest.coverage import has_base_at, kept, lineage
from memoturn.manifest.model import Manifest
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import first_own, stretch_at

DAY_MS: Final = 24 * 3600 * 1000
SLOT_MS: Final = DAY_MS // 4
"""Of the bases that volume has brought, the snapshot tier keeps the last one of each slot."""

SMALL: Final = MIB
"""Bytes of a base that is written for a day or for a pin without weighing what it saves."""


class Moment(NamedTuple):
    """A position of the branch's own, and when it came to be."""

    txid: TXID
    time: UnixMs


class Windows(NamedTuple):
    """The times at which the two windows begin, and what time it is."""

    fine: UnixMs
    snapshots: UnixMs
    now: UnixMs


class Weights(Protocol):
    """What the plan asks about positions: which of them have pages, and what segments weigh."""

    def has_pages(self, txid: TXID) -> bool:
        """Whether a position is more than an empty database, of which there can be no base."""

    def pack(self, pack: SegmentName) -> int:
        """Bytes of a pack."""

    def base(self, manifest: Manifest, txid: TXID) -> int:
        """About the bytes of a base at a position."""


class Plan(NamedTuple):
    """Write `bases` first, then raise the boundaries and drop `extra`, bases that the snapshot tier does without."""

    bases: tuple[TXID, ...]
    exact: TXID
    floor: TXID
    extra: tuple[SegmentName, ...]


def plan(
    manifest: Manifest,
    moments: Sequence[Moment],
    windows: Windows,
    pins: Collection[TXID],
    weights: Weights,
) -> Plan:
    """What retention does next with a branch.

    `moments` are its positions from `exact_txid` on, ascending, and of what is below those that have a base; they may
    end with the first one that lies within the fine window. `pins` are the positions on which others stand.
    """
    times = dict(moments)
    inside = [moment for moment in moments if moment.txid >= manifest.exact_txid]
    aged = bisect_right(inside, windows.fine, key=lambda moment: moment.time)
    days = _last_of_days(inside, aged, windows)
    names = [SegmentName.parse(text) for text in manifest.segments]
    based = {name.max_txid for name in names if name.is_base}

    def needed(exact: TXID) -> list[TXID]:
        passed = [day for day in days if day.txid < exact]
        young = [day.txid for day in passed if day.time > windows.snapshots]
        old = [day.txid for day in passed if day.time <= windows.snapshots]
        # The state at the beginning of the window is that of the last day before it.
        before = old[-1:] if times.get(exact, windows.now) > windows.snapshots else []
        return [*(txid for txid in old if txid in based), *before, *young, exact]

    exact = manifest.exact_txid
    for target in _targets(manifest, inside[:aged], days, based, windows):
        missing = [txid for txid in needed(target) if txid not in based]
        if _is_worth(manifest, target, missing, pins, weights):
            exact = target
            break
    days_bases = [txid for txid in needed(exact) if txid not in based] if exact > manifest.exact_txid else []
    keep = {*needed(exact), *pins, *manifest.checkpoints.values()}
    extra = _extra(names, manifest.exact_txid, exact, keep, times)
    thinner = replace(manifest, segments=tuple(s for s in manifest.segments if s not in set(map(str, extra))))
    with_bases = _with_bases(thinner, days_bases)
    bases = [*days_bases, *_bases_of_pins(with_bases, exact, pins, weights)]

    snapshots = ((based | {*days_bases}) - {base.max_txid for base in extra}) & times.keys()
    old = [t for t in snapshots if manifest.floor_txid < t <= exact and times[t] <= windows.snapshots]
    return Plan(tuple(sorted(bases)), exact, max([manifest.floor_txid, *old]), extra)


def apply(manifest: Manifest, done: Plan) -> Manifest:
    """Raise the boundaries, if all bases are there that this takes; else the branch is planned anew."""
    if manifest.deleted_at is not None and not manifest.segments:
        return manifest
    if not all(has_base_at(manifest, txid) for txid in done.bases):
        return manifest
    if done.exact > manifest.exact_txid and not has_base_at(manifest, done.exact):
        return manifest
    manifest = rules.drop_bases(manifest, done.extra)
    return rules.raise_floor(rules.raise_exact(manifest, done.exact), done.floor)


def _last_of_days(inside: Sequence[Moment], aged: int, windows: Windows) -> list[Moment]:
    """The last position of each day that is over, as far as it is older than the fine window."""
    days = [one for one, after in pairwise(inside[: aged + 1]) if one.time // DAY_MS != after.time // DAY_MS]
    if 0 < aged == len(inside) and inside[-1].time // DAY_MS < windows.now // DAY_MS:
        days.append(inside[-1])
    return days


def _targets(
    manifest: Manifest, aged: Sequence[Moment], days: Iterable[Moment], based: set[TXID], windows: Windows
) -> list[TXID]:
    """Where the exact window might begin, the best first: at a base, or at the end of a day.

    Not at two bases of one slot, or the snapshot tier would fill with them where the fine window is short. Where it
    is shorter than a day, it may begin at any position that it leaves behind.
    """
    now = manifest.exact_txid
    began = next((moment.time for moment in aged if moment.txid == now and now >= first_own(manifest)), None)
    targets = {day.txid for day in days}
    for moment in aged:
        other_slot = began is None or now == EMPTY or moment.time // SLOT_MS != began // SLOT_MS
        if moment.txid in based and other_slot:
            targets.add(moment.txid)
        if moment is aged[-1] and other_slot and windows.now - windows.fine < DAY_MS:
            targets.add(moment.txid)
    return sorted((txid for txid in targets if txid > max(now, EMPTY)), reverse=True)


def _is_worth(
    manifest: Manifest, exact: TXID, bases: list[TXID], pins: Collection[TXID], weights: Weights
) -> bool:
    """Whether the bases that it takes to begin there are small, or weigh less than the packs that need not stay."""
    if any(not weights.has_pages(txid) for txid in bases):
        return False
    sizes = [weights.base(manifest, txid) for txid in bases]
    if max(sizes, default=0) <= SMALL:
        return True
    positions = [*manifest.checkpoints.values(), *pins]
    before = _packs(manifest, manifest.exact_txid, positions)
    after = _packs(_with_bases(manifest, bases), exact, positions)
    return sum(sizes) <= sum(weights.pack(pack) for pack in before - after)


def _bases_of_pins(manifest: Manifest, exact: TXID, pins: Collection[TXID], weights: Weights) -> list[TXID]:
    """Positions below the exact window for whose sake alone packs would stay: where a base is worth it, one each."""
    own = first_own(manifest)
    positions = {txid for txid in (*manifest.checkpoints.values(), *pins) if own <= txid < exact}
    ends = [*(TXID(stretch.from_txid - 1) for stretch in manifest.timeline[1:]), manifest.head_txid]
    begins = [max(s.from_txid, exact) for s, end in zip(manifest.timeline, ends, strict=True) if end >= exact]
    earlier = {
        stretch_at(manifest, passed).base_txid
        for txid in (*positions, *begins)
        for passed in lineage(manifest, txid).stretches[:-1]
    }
    wanted = sorted(
        t
        for t in positions | earlier
        if own <= t < exact and not has_base_at(manifest, t) and weights.has_pages(t)
    )
    before = _packs(manifest, exact, positions)
    by_stretch: dict[TXID, list[TXID]] = {}
    for txid in wanted:
        by_stretch.setdefault(lineage(manifest, txid).stretches[0], []).append(txid)
    groups: list[list[TXID]] = [wanted, *(by_stretch.values() if len(by_stretch) > 1 else ())]
    for group in groups:
        saved = before - _packs(_with_bases(manifest, group), exact, positions)
        size = sum(weights.base(manifest, txid) for txid in group)
        if saved and size <= max(SMALL, sum(weights.pack(pack) for pack in saved)):
            return group
    return []


def _extra(
    names: Iterable[SegmentName], old: TXID, new: TXID, keep: set[TXID], times: dict[TXID, UnixMs]
) -> tuple[SegmentName, ...]:
    """Bases that become part of the snapshot tier, and are not the last of their slot."""
    bases = sorted((n for n in names if n.is_base and old < n.max_txid < new), key=lambda n: n.max_txid)
    last = {times[n.max_txid] // SLOT_MS: n.max_txid for n in bases if n.max_txid in times}
    return tuple(
        n for n in bases if n.max_txid in times and n.max_txid not in keep and n.max_txid not in last.values()
    )


def _packs(manifest: Manifest, exact: TXID, positions: Iterable[TXID]) -> frozenset[SegmentName]:
    found = kept(manifest, exact, positions).segments
    return frozenset(name for name in found if not name.is_base)


def _with_bases(manifest: Manifest, txids: Iterable[TXID]) -> Manifest:
    bases = tuple(str(SegmentName.base(txid, manifest.epoch)) for txid in txids)
    return replace(manifest, segments=(*manifest.segments, *bases))
