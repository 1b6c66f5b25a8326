"""Which segments a position is made of, and so what a branch must keep: the pure half of opening and of retention.

A position's lineage goes from its txid back along the timeline: through the packs of its stretch to a base, or to
the stretch's start and on from the earlier position that the stretch inherits from, until a base, the empty
database, or the parent ends it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from memoturn.base.txids import EMPTY, TXID
from memoturn.manifest.model import Manifest, Stretch
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import stretch_at

_min_txid = attrgetter("min_txid")
_max_txid = attrgetter("max_txid")


class Part(NamedTuple):
    """A segment as far as a position looks into it: its commits from `since` to `until`."""

    segment: SegmentName
    since: TXID
    until: TXID


class Lineage(NamedTuple):
    """What a position is made of within one branch.

    `parts` go from the newest to the oldest. `inherited` is the position of the parent at which it goes on, None if
    it ends before. `stretches` are those that it passed, by their `from_txid`: each after the first is a hop.
    `gap` is the newest txid of which no segment has the commit, None if nothing is missing.
    """

    parts: tuple[Part, ...]
    inherited: TXID | None
    stretches: tuple[TXID, ...]
    gap: TXID | None


class Kept(NamedTuple):
    """What retained positions need: segments, stretches by their `from_txid`, and positions of the parent."""

    segments: frozenset[SegmentName]
    stretches: frozenset[TXID]
    inherited: frozenset[TXID]


def lineage(manifest: Manifest, txid: TXID) -> Lineage:
    """What the content at `txid` is made of, as far as this branch has it."""
    packs, bases = _packs_and_bases(manifest.segments)
    parts: list[Part] = []
    passed: list[TXID] = []
    gap: TXID | None = None
    at = txid
    while True:
        stretch = stretch_at(manifest, at)
        passed.append(stretch.from_txid)
        base = _newest_base(bases, stretch.from_txid, at)
        oldest = _first_commit(manifest, stretch) if base is None else TXID(base.max_txid + 1)
        within = _between(packs, oldest, at)
        parts += [Part(pack, oldest, at) for pack in within]
        if gap is None and at >= manifest.timeline[0].from_txid:
            gap = _newest_missing(within, oldest, at)
        if base is not None:
            parts.append(Part(base, EMPTY, base.max_txid))
            return Lineage(tuple(parts), None, tuple(passed), gap)
        if stretch.base == "empty":
            return Lineage(tuple(parts), None, tuple(passed), gap)
        at = stretch.base_txid
        if stretch.base == "parent":
            if at < manifest.timeline[0].from_txid and (base := _newest_base(bases, at, at)) is not None:
                # One that was written when the branch had nothing of its own yet.
                parts.append(Part(base, EMPTY, at))
                return Lineage(tuple(parts), None, tuple(passed), gap)
            return Lineage(tuple(parts), at, tuple(passed), gap)


def kept(manifest: Manifest, exact: TXID, positions: Iterable[TXID]) -> Kept:
    """What is needed so that every txid from `exact` on, and each of `positions`, can be restored."""
    segments: set[SegmentName] = set()
    stretches: set[TXID] = set()
    inherited: set[TXID] = set()

    def keep(at: TXID) -> None:
        found = lineage(manifest, at)
        segments.update(part.segment for part in found.parts)
        stretches.update(found.stretches)
        if found.inherited is not None:
            inherited.add(found.inherited)

    for at in positions:
        keep(at)
    for first, last in _runs(manifest, exact):
        keep(first)
        stretches.add(stretch_at(manifest, first).from_txid)
        segments.update(
            name
            for name in map(SegmentName.parse, manifest.segments)
            if not name.is_base and name.max_txid > first and name.min_txid <= last
        )
    return Kept(frozenset(segments), frozenset(stretches), frozenset(inherited))


def missing(manifest: Manifest, exact: TXID, positions: Iterable[TXID] = ()) -> TXID | None:
    """A txid whose commit is needed for what `kept` keeps, and of which no segment has it; None if all is there."""
    packs, _ = _packs_and_bases(manifest.segments)
    for first, last in _runs(manifest, exact):
        gap = lineage(manifest, first).gap
        if gap is None:
            after = TXID(first + 1)
            gap = _newest_missing(_between(packs, after, last), after, last)
        if gap is not None:
            return gap
    for at in positions:
        gap = lineage(manifest, at).gap
        if gap is not None:
            return gap
    return None


def has_base_at(manifest: Manifest, txid: TXID) -> bool:
    """Whether there is a base of exactly this position."""
    return any(name.is_base and name.max_txid == txid for name in map(SegmentName.parse, manifest.segments))


def _runs(manifest: Manifest, exact: TXID) -> Iterator[tuple[TXID, TXID]]:
    """The positions of the branch's own from `exact` on: first and last of each stretch."""
    timeline = manifest.timeline
    for number, stretch in enumerate(timeline):
        end = timeline[number + 1].from_txid - 1 if number + 1 < len(timeline) else manifest.head_txid
        first = max(stretch.from_txid, exact)
        if first <= end:
            yield first, TXID(end)
    if manifest.head_txid < timeline[0].from_txid:
        yield manifest.head_txid, manifest.head_txid


@lru_cache(maxsize=64)
def _packs_and_bases(segments: tuple[str, ...]) -> tuple[list[SegmentName], list[SegmentName]]:
    """Both ascending by their last txid. Packs do not overlap, so that they ascend by their first as well."""
    names = sorted(map(SegmentName.parse, segments), key=_max_txid)
    return [name for name in names if not name.is_base], [name for name in names if name.is_base]


def _between(packs: list[SegmentName], first: TXID, last: TXID) -> list[SegmentName]:
    """The packs that have commits from `first` to `last`, from the newest to the oldest."""
    if last < first:
        return []
    begin = bisect_left(packs, first, key=_max_txid)
    end = bisect_right(packs, last, lo=begin, key=_min_txid)
    return packs[begin:end][::-1]


def _newest_base(bases: list[SegmentName], since: TXID, until: TXID) -> SegmentName | None:
    place = bisect_right(bases, until, key=_max_txid)
    return bases[place - 1] if place and bases[place - 1].max_txid >= since else None


def _first_commit(manifest: Manifest, stretch: Stretch) -> TXID:
    """The first txid of a stretch that is a commit: a later stretch begins with a rewind or a reset."""
    return stretch.from_txid if stretch is manifest.timeline[0] else TXID(stretch.from_txid + 1)


def _newest_missing(packs: list[SegmentName], first: TXID, last: TXID) -> TXID | None:
    """The newest txid from `first` to `last` that is in none of the packs, which go from newer to older."""
    wanted = last
    for pack in packs:
        if pack.max_txid < wanted:
            break
        if pack.min_txid <= wanted:
            wanted = TXID(pack.min_txid - 1)
    return wanted if wanted >= first else None
