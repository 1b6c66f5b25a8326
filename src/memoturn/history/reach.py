"""Who needs what: which positions other branches stand on, and what each manifest will name in the end.

All of this is decided from the manifests of one database. A branch holds what it stands on while it lives, and as a
tombstone for as long as that can be taken back; a tombstone whose history is being removed passes on what those
who live above it need, and holds nothing of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from memoturn.base.errors import CorruptError
from memoturn.base.txids import EMPTY, TXID, UnixMs
from memoturn.manifest import rules
from memoturn.manifest.coverage import kept, lineage
from memoturn.manifest.model import Manifest
from memoturn.manifest.segment_name import SegmentName

Incarnation = str
Manifests = Mapping[Incarnation, Manifest]
Pins = Mapping[Incarnation, frozenset[TXID]]

NO_PINS: Final[frozenset[TXID]] = frozenset()


def pins_of(manifests: Manifests) -> Pins:
    """The positions of each incarnation that other branches stand on."""
    pins: dict[Incarnation, set[TXID]] = {}
    for manifest in _children_first(manifests):
        parent = manifest.parent
        if parent is None:
            continue
        pins.setdefault(parent.incarnation, set()).update(inherited_by(manifest, pins))
    return {incarnation: frozenset(positions) for incarnation, positions in pins.items()}


def inherited_by(manifest: Manifest, pins: Mapping[Incarnation, Iterable[TXID]]) -> Iterable[TXID]:
    """The positions of its parent that a branch stands on; `pins` are those that others have on the branch itself."""
    on_it = pins.get(manifest.incarnation, ())
    if manifest.removal is None:
        positions = [*manifest.checkpoints.values(), *_snapshots(manifest), *on_it]
        return kept(manifest, manifest.exact_txid, positions).inherited
    found = (lineage(manifest, at).inherited for at in on_it)
    return [at for at in found if at is not None]


def lasting(manifests: Manifests, since: UnixMs) -> frozenset[Incarnation]:
    """Tombstones that keep their history for those who descend from them, because they were deleted after `since`.

    What a branch has inherited can be restored for as long as what it has committed itself. Burners are scratch: of
    them only what others stand on is kept.
    """
    tombstones = {
        incarnation
        for incarnation, m in manifests.items()
        if m.deleted_at is not None and m.removal is None and m.ttl_at is None and m.deleted_at > since
    }
    return frozenset(tombstones - childless(manifests)) if tombstones else frozenset()


def ends_of(manifests: Manifests, since: UnixMs) -> dict[Incarnation, Manifest]:
    """What each manifest will be when all that waits has been done: boundaries cut, tombstones for good.

    Tombstones set after `since` last while they have descendants.
    """
    last = lasting(manifests, since)
    given_up = {
        incarnation: manifest
        if manifest.deleted_at is None or manifest.removal is not None or incarnation in last
        else replace(manifest, removal="history")
        for incarnation, manifest in manifests.items()
    }
    pins = pins_of(given_up)
    return {
        incarnation: manifest if incarnation in last else end_of(manifest, pins.get(incarnation, NO_PINS))
        for incarnation, manifest in manifests.items()
    }


def end_of(manifest: Manifest, pins: frozenset[TXID]) -> Manifest:
    """What one manifest will be."""
    if manifest.deleted_at is not None:
        return rules.cut_tombstone(manifest, pins)
    if manifest.exact_txid == EMPTY:
        return manifest
    return rules.cut(manifest, manifest.exact_txid, manifest.floor_txid, pins)


def childless(manifests: Manifests) -> frozenset[Incarnation]:
    """The incarnations from which nothing descends that lives or can be taken back."""
    needed: set[Incarnation] = set()
    for manifest in manifests.values():
        above: Manifest | None = manifest
        if manifest.removal is not None:
            continue
        while above is not None and above.parent is not None and above.parent.incarnation not in needed:
            needed.add(above.parent.incarnation)
            above = manifests.get(above.parent.incarnation)
    return frozenset(manifests.keys() - needed)


def objects_of(manifest: Manifest) -> Iterator[str]:
    """The names of all objects of a manifest's segments, relative to its incarnation."""
    for name in map(SegmentName.parse, manifest.segments):
        yield from name.objects


def segment_of(name: str) -> SegmentName | None:
    """The segment that an object belongs to by its name, None for a name that no segment's object has."""
    stem = name.removesuffix(".idx") + ".ltx" if name.endswith(".idx") else name
    try:
        segment = SegmentName.parse(stem)
    except CorruptError:
        return None
    return segment if name in segment.objects else None


def undecided(manifest: Manifest | None, segment: SegmentName, age_ms: int, grace_ms: int) -> bool:
    """Whether somebody may yet link a segment that no manifest names; `age_ms` is what the store says.

    A pack of level 0 belongs to the owner of its epoch, who may link it whenever it follows the head. What else is
    linked is linked soon after it was put, or never: its name is not used twice (docs/history.md).
    """
    if manifest is not None and manifest.removal is not None:
        return False
    if manifest is None or segment.level != 0:
        return age_ms < grace_ms
    if segment.epoch < manifest.epoch or segment.min_txid <= manifest.head_txid:
        return False
    return segment.min_txid == manifest.head_txid + 1 or age_ms < grace_ms


def _snapshots(manifest: Manifest) -> list[TXID]:
    names = map(SegmentName.parse, manifest.segments)
    return [name.max_txid for name in names if name.is_base and name.max_txid >= manifest.floor_txid]


def _children_first(manifests: Manifests) -> list[Manifest]:
    depths: dict[Incarnation, int] = {}
    for incarnation in manifests:
        path: list[Incarnation] = []
        above: Incarnation | None = incarnation
        while above is not None and above not in depths:
            path.append(above)
            manifest = manifests.get(above)
            parent = None if manifest is None else manifest.parent
            above = None if parent is None else parent.incarnation
        depth = -1 if above is None else depths[above]
        for passed in reversed(path):
            depth += 1
            depths[passed] = depth
    return sorted(manifests.values(), key=lambda m: depths[m.incarnation], reverse=True)
