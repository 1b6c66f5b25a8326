"""What compaction does next with a branch: a pure function of its manifest and of what its segments weigh.

Steps are chosen anew after each of them, so that one that crashed, or lost a race, is simply planned again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

from memoturn.base.txids import EMPTY, TXID, UnixMs
from memoturn.manifest.coverage import Lineage, Part, lineage
from memoturn.manifest.model import Manifest
from memoturn.manifest.rules import serves_reads_only
from memoturn.manifest.segment_name import SegmentName

MIB: Final = 1 << 20
MOST_PACKS: Final = 120
"""Packs below level 2 at which some are merged."""

LEAST_MERGED: Final = 16
"""Packs of level 0 that are worth a merge; with fewer of them, those of level 1 are merged."""

LARGE_PACK: Final = 32 * MIB
"""A pack of so many bytes is not merged any more, and no merge of many packs makes one of twice as many."""

LEAST_BASE: Final = MIB
"""Bytes of packs below which no base is written for their volume."""

SMALL_BASE: Final = 4 * MIB
"""An idle branch whose base is no larger gets one at its head rather than a pack above it."""

LARGEST_FOLD: Final = 256 * MIB
"""The largest pack that an idle branch gets."""

FOLDED_AGAIN: Final = 8
"""How many times the bytes that came since the last time an idle branch is worth folding again."""

SLOT_MS: Final = 6 * 3600 * 1000
"""Within the exact window one base is kept for each of so many milliseconds."""


class Merge(NamedTuple):
    """Put one pack in the place of these, which follow each other."""

    packs: tuple[SegmentName, ...]
    level: int


class WriteBase(NamedTuple):
    """Write a base at the head."""

    txid: TXID
    why: Literal["volume", "depth", "idle"]


class Thin(NamedTuple):
    """Unlink bases that only served reads, and that newer ones serve now."""

    bases: tuple[SegmentName, ...]


Step = Merge | WriteBase | Thin


class Facts(Protocol):
    """What the plan asks about segments, and about what the branch inherits."""

    def size(self, pack: SegmentName) -> int:
        """Bytes of a pack."""

    def weight(self, part: Part) -> int:
        """Bytes of the part of a segment that a position looks into."""

    def time(self, base: SegmentName) -> UnixMs:
        """When the commit at which the base stands was made."""

    def inherited_weight(self) -> int:
        """Bytes of the base that the head stands on in a parent or further up; of the packs if there is no base."""

    def is_empty(self) -> bool:
        """Whether the database has no page at the head."""

    def inherited_hops(self, enough: int) -> int:
        """How many hops the head's lineage makes beyond this branch, counted until there are `enough`.

        The one to the parent is among them.
        """


@dataclass(frozen=True, slots=True)
class Aims:
    """What the branch is to be brought to."""

    max_depth: int = 8
    idle: bool = False
    """Whether the branch has not committed for a while, and is to be easy to wake."""


def plan(manifest: Manifest, facts: Facts, aims: Aims) -> Step | None:
    """The next step, None if there is nothing to do."""
    if manifest.deleted_at is not None:
        return None
    step = _merge(manifest, facts)
    if step is not None:
        return step
    if manifest.head_txid == EMPTY:
        return None
    found = lineage(manifest, manifest.head_txid)
    return (
        _base(manifest, found, facts, aims)
        or _fold(manifest, found, facts, aims)
        or _thin(manifest, found, facts)
    )


# Packs.


def _merge(manifest: Manifest, facts: Facts) -> Merge | None:
    """Of the packs below level 2, those of level 0 into level 1, or, when these are few, level 1 into level 2."""
    packs = packs_of(manifest)
    below = [pack for pack in packs if pack.level is not None and pack.level < 2]
    if len(below) < MOST_PACKS:
        return None
    below = [pack for pack in below if facts.size(pack) < LARGE_PACK]
    if len(below) < MOST_PACKS:
        return None
    zero = sum(pack.level == 0 for pack in below)
    for level in (0, 1) if zero >= LEAST_MERGED else (1, 0):
        mergeable = {pack for pack in below if pack.level == level}
        for run in runs(manifest, packs):
            for group in _groups(run, mergeable, facts):
                if len(group) > 1:
                    return Merge(tuple(group), level + 1)
    return None


def _groups(
    run: Sequence[SegmentName], mergeable: set[SegmentName], facts: Facts
) -> Iterator[list[SegmentName]]:
    """The neighbours of a run that may be merged, as many together as make no pack too large."""
    group: list[SegmentName] = []
    weight = 0
    for pack in run:
        size = facts.size(pack) if pack in mergeable else 0
        if group and (pack not in mergeable or weight + size > 2 * LARGE_PACK):
            yield group
            group, weight = [], 0
        if pack in mergeable:
            group.append(pack)
            weight += size
    if group:
        yield group


def packs_of(manifest: Manifest) -> list[SegmentName]:
    """The packs of a branch, ascending."""
    names = map(SegmentName.parse, manifest.segments)
    return sorted((name for name in names if not name.is_base), key=lambda name: name.min_txid)


def runs(manifest: Manifest, packs: Iterable[SegmentName]) -> Iterator[list[SegmentName]]:
    """Packs, ascending, in runs between which nothing is missing but rewinds.

    Only within a run may packs be merged: a pack stands for every commit between its first and its last txid.
    """
    began = {stretch.from_txid for stretch in manifest.timeline[1:]}
    run: list[SegmentName] = []
    for pack in packs:
        if run and not all(TXID(t) in began for t in range(run[-1].max_txid + 1, pack.min_txid)):
            yield run
            run = []
        run.append(pack)
    if run:
        yield run


# Bases.


def _base(manifest: Manifest, found: Lineage, facts: Facts, aims: Aims) -> WriteBase | None:
    head = manifest.head_txid
    packs, base = _split(found)
    hops = len(found.stretches) - 1
    if found.inherited is not None:
        hops += facts.inherited_hops(aims.max_depth + 1)
    if hops > aims.max_depth and not facts.is_empty():
        return WriteBase(head, "depth")
    of_stretch = [part for part in packs if part.until >= found.stretches[0]]
    weight = sum(map(facts.weight, of_stretch))
    if weight >= LEAST_BASE and weight >= _base_weight(found, base, facts):
        return WriteBase(head, "volume")
    return None


def _base_weight(found: Lineage, base: Part | None, facts: Facts) -> int:
    if base is not None:
        return facts.weight(base)
    return 0 if found.inherited is None else facts.inherited_weight()


def _fold(manifest: Manifest, found: Lineage, facts: Facts, aims: Aims) -> Step | None:
    """So that an idle branch can be woken by looking at one base and one pack."""
    packs, base = _split(found)
    if not aims.idle or not packs:
        return None
    weights = {part.segment: 0 for part in packs}
    for part in packs:
        weights[part.segment] += facts.weight(part)
    total, base_weight = sum(weights.values()), _base_weight(found, base, facts)
    if 4 * total >= base_weight or (found.inherited is None and base_weight <= SMALL_BASE):
        return WriteBase(manifest.head_txid, "idle")
    if len(weights) == 1:
        return None
    oldest = min(weights, key=lambda pack: pack.min_txid)
    newest = max(weights, key=lambda pack: pack.min_txid)
    between = [p for p in packs_of(manifest) if oldest.min_txid <= p.min_txid <= newest.min_txid]
    sizes = [facts.size(pack) for pack in between]
    if len(list(runs(manifest, between))) > 1 or sum(sizes) > LARGEST_FOLD:
        return WriteBase(manifest.head_txid, "idle")
    largest = max(sizes)
    if largest > LARGE_PACK // 2 and largest > FOLDED_AGAIN * (sum(sizes) - largest):
        # What came lately is so little that copying all the rest again is not worth it: it becomes a second pack.
        place = sizes.index(largest)
        between = max(between[:place], between[place + 1 :], key=len)
    return Merge(tuple(between), 2) if len(between) > 1 else None


def _split(found: Lineage) -> tuple[list[Part], Part | None]:
    packs = [part for part in found.parts if not part.segment.is_base]
    base = next((part for part in found.parts if part.segment.is_base), None)
    return packs, base


def _thin(manifest: Manifest, found: Lineage, facts: Facts) -> Thin | None:
    """Of the bases in the exact window the newest stays, those below the head, and one for each slot of time."""
    names = map(SegmentName.parse, manifest.segments)
    bases = sorted(
        (b for b in names if b.is_base and b.max_txid > manifest.exact_txid), key=lambda b: b.max_txid
    )
    if len(bases) < 2:
        return None
    needed = {part.segment for part in found.parts} | {bases[-1]}
    taken: set[int] = set()
    extra = []
    for base in bases:
        slot = facts.time(base) // SLOT_MS
        if slot in taken and base not in needed and serves_reads_only(manifest, base.max_txid):
            extra.append(base)
        taken.add(slot)
    return Thin(tuple(extra)) if extra else None
