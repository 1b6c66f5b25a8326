"""Garbage collection of one database: what no manifest can reach any more goes, a grace period after it was let go.

A pass reads every manifest, does what ripe censuses allow, lists every object, removes those that a ripe census has
as dead and no manifest names now, and takes a new census of what else is dead. It can end anywhere and be run again,
beside writers, compaction and other collectors. The argument why nothing alive is ever removed: docs/history.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from msgspec.structs import replace

from memoturn.base.errors import BranchNotFoundError, ConflictError
from memoturn.base.txids import TXID, UnixMs
from memoturn.bucket import ObjectInfo, ObjectNotFound
from memoturn.database.environment import Environment
from memoturn.history.budget import Budget
from memoturn.history.census import (
    Candidates,
    Censuses,
    CensusWriter,
    boundary_of,
    latest,
    says_deleted,
    says_removed,
    store_now,
)
from memoturn.history.reach import (
    NO_PINS,
    Incarnation,
    childless,
    ends_of,
    lasting,
    objects_of,
    pins_of,
    segment_of,
    undecided,
)
from memoturn.manifest import keys, rules
from memoturn.manifest.model import Manifest
from memoturn.manifest.register import Held

Progress = Callable[[int, int], None]
"""Called with how many objects were looked at, and how many of them are removed."""
Wish = Callable[[Manifest], Manifest]
_BATCH: Final = 1000
_EXAMPLES: Final = 1000


Fate = Literal["removed", "waits", "kept"]
"""What becomes of an object that is not alive: kept is what cannot be told to be dead."""


class Why(NamedTuple):
    """Why an object is not alive: the kind of thing, and what there is to say of this one."""

    kind: str
    text: str


class Found(NamedTuple):
    """An object that is not alive."""

    key: str
    bytes: int
    fate: Fate
    why: Why


@dataclass
class Tally:
    """What was found, over all databases of a run."""

    databases: int = 0
    objects: int = 0
    bytes: int = 0
    expired: int = 0
    """Branches and databases whose time had run out, and which are tombstones now."""
    cut: int = 0
    """Manifests from which history was unlinked."""
    freed: int = 0
    """Manifests of dead branches that were removed."""
    ready_at: UnixMs | None = None
    """When all that waits now may be removed, by the store's clock."""
    counts: dict[tuple[Fate, str], tuple[int, int]] = field(default_factory=dict)
    """Objects and bytes by fate and kind."""
    examples: list[Found] = field(default_factory=list)
    """The first of what was found."""

    def add(self, info: ObjectInfo, fate: Fate, why: Why) -> None:
        """Count one object that is not alive."""
        objects, size = self.counts.get((fate, why.kind), (0, 0))
        self.counts[fate, why.kind] = objects + 1, size + info.size
        if len(self.examples) < _EXAMPLES:
            self.examples.append(Found(info.key, info.size, fate, why))

    def of(self, fate: Fate) -> tuple[int, int]:
        """Objects and bytes that have this fate."""
        found = [count for (other, _), count in self.counts.items() if other == fate]
        return sum(objects for objects, _ in found), sum(size for _, size in found)

    def waits_until(self, ready_at: UnixMs | None) -> None:
        """Something waits until then."""
        if ready_at is not None:
            self.ready_at = ready_at if self.ready_at is None else max(self.ready_at, ready_at)


class Record(NamedTuple):
    """A manifest as it was read, and where."""

    key: str
    held: Held[Manifest]

    @property
    def manifest(self) -> Manifest:
        """The manifest."""
        return self.held.record


UNKNOWN: Final = Why("unknown keys", "nothing that this release writes has such a key")
UNDECIDED: Final = Why(
    "perhaps on their way",
    "no manifest names it, but it was put just now, or its branch's owner may yet link it",
)


class Collector:
    """One run over one or several databases; one with `dry_run` writes nothing, and believes this node's clock.

    A deleted branch from which others descend keeps its history for `keep_secs`.
    """

    def __init__(
        self,
        env: Environment,
        grace_secs: float,
        budget: Budget | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
        keep_secs: float = 0.0,
    ) -> None:
        self.env = env
        self.tally = Tally()
        self.living: frozenset[str] = frozenset()
        """The branches that live of the database that was collected last, by their names."""
        self.dry_run = dry_run
        self.grace_ms = round(grace_secs * 1000)
        self.keep_ms = round(keep_secs * 1000)
        self._budget = budget or Budget(env.clock)
        self._progress = progress
        self._removing: list[str] = []
        self._now: UnixMs | None = None
        self._looked_at = 0.0

    def now(self) -> UnixMs:
        """A time at the store that is past, and not long."""
        if self.dry_run:
            return self.env.clock.now_ms()
        looked_at = self.env.clock.monotonic()
        if self._now is None or (looked_at - self._looked_at) * 10_000 > self.grace_ms:
            self._now, self._looked_at = store_now(self.env.bucket, self.env.ids), looked_at
        return self._now

    def collect(self, db_uuid: str) -> None:
        """One pass over a database that lives."""
        self.tally.databases += 1
        now = self.now()
        censuses = Censuses(self.env.bucket, db_uuid, now, self.grace_ms)
        records = read_records(self.env, db_uuid)

        self._expire(records, now)
        since = UnixMs(min(now, self.env.clock.now_ms()) - self.keep_ms)
        self._give_up(records, censuses, since)
        self._cut(records, censuses)
        gone = self._free(records, censuses, now)

        manifests = _manifests(records)
        self.living = frozenset(m.branch_id for m in manifests.values() if m.deleted_at is None)
        ends = ends_of(manifests, since)
        writer = CensusWriter(self.env.bucket, self.env.ids, db_uuid)
        waiting = [
            boundary
            for incarnation, manifest in manifests.items()
            if (ends[incarnation] is not manifest or incarnation in gone)
            and not censuses.has(boundary := boundary_of(manifest))
        ]
        if waiting and not self.dry_run:
            writer.branches(waiting)
        waits = bool(waiting)

        candidates = Candidates(censuses.objects())
        prefix = keys.database_prefix(db_uuid)
        incarnation, named, needed = "", frozenset[str](), frozenset[str]()
        touched: set[Incarnation] = set()
        manifest: Manifest | None = None
        for info in self.env.bucket.list(prefix):
            name = info.key[len(prefix) :]
            owner, _, rest = name.partition("/")
            if owner != incarnation:
                incarnation, manifest = owner, manifests.get(owner)
                named = frozenset(objects_of(manifest)) if manifest is not None else frozenset()
                end = ends.get(owner)
                needed = named if end is manifest else frozenset(objects_of(end)) if end else frozenset()
            self.count(info)
            if rest in needed:
                continue
            kind = keys.place_of(info.key).kind
            if kind in ("manifest", "census"):
                continue
            segment = segment_of(rest) if kind == "segment" else None
            if segment is None:
                self.tally.add(info, "kept", UNKNOWN)
                continue
            listed = candidates.find(name)
            is_named = rest in named
            if (
                listed is not None
                and listed[0]
                and not is_named
                and segment.level != 0
                and owner not in touched
            ):
                touched.add(owner)
                self._touch(records, owner)
                manifest = records[owner].manifest if owner in records else None
                named_now = frozenset(objects_of(manifest)) if manifest is not None else frozenset()
                # What was linked since the first look is nothing that a boundary has passed.
                needed |= named_now - named
                named = named_now
                if rest in needed:
                    continue
                is_named = rest in named
            if listed is not None and listed[0] and not is_named and info.modified_ms <= listed[1]:
                self.tally.add(info, "removed", why_dead(manifest, is_named))
                self.remove(info.key)
            elif not is_named and undecided(manifest, segment, now - info.modified_ms, self.grace_ms):
                self.tally.add(info, "kept", UNDECIDED)
            else:
                self.tally.add(info, "waits", why_dead(manifest, is_named))
                if listed is None or listed[0]:
                    waits = True
                    if not self.dry_run:
                        writer.add(name)
        self.flush()
        if not self.dry_run:
            writer.close()
            self.env.bucket.delete_many(censuses.ripe)
            if writer.written and self._has_undone(records):
                # An undo that comes later finds the census, and takes it back itself.
                self.env.bucket.delete_many(writer.written)
        self.tally.waits_until(censuses.ready_at)
        if waits:
            self.tally.waits_until(UnixMs(now + self.grace_ms))

    # What becomes of branches.

    def _expire(self, records: dict[Incarnation, Record], now: UnixMs) -> None:
        """Leave tombstones of branches whose time has run out by this node's clock and by the store's.

        Either may be wrong. A node whose clock is ahead must not end what lives for everybody else.
        """
        by = min(now, self.env.clock.now_ms())
        for record in list(records.values()):
            manifest = record.manifest
            if manifest.deleted_at is not None or manifest.ttl_at is None or manifest.ttl_at > by:
                continue
            self.tally.expired += 1
            self._change(records, record, lambda m: rules.expire(m, by))

    def _give_up(self, records: dict[Incarnation, Record], censuses: Censuses, since: UnixMs) -> None:
        """Tombstones that have been there for a grace period cannot be taken back any more, and lose their history.

        Unless they were set after `since` and somebody descends from them. Before anything else is cut: until the
        tombstone is for good, it holds what it stands on.
        """
        pins = pins_of(_manifests(records))
        last = lasting(_manifests(records), since)
        for incarnation, record in list(records.items()):
            manifest = record.manifest
            if (
                incarnation in last
                or manifest.deleted_at is None
                or manifest.removal is not None
                or not says_deleted(censuses.boundaries(incarnation), manifest)
            ):
                continue
            self._change(records, record, _given_up(manifest, pins.get(incarnation, NO_PINS)))

    def _cut(self, records: dict[Incarnation, Record], censuses: Censuses) -> None:
        """Unlink what has been beyond the boundaries for a grace period and nobody stands on."""
        pins = pins_of(_manifests(records))
        for incarnation, record in list(records.items()):
            manifest = record.manifest
            pinned = pins.get(incarnation, NO_PINS)
            if manifest.deleted_at is not None:
                if manifest.removal is not None:
                    self._change(records, record, _thinner(pinned))
                continue
            boundaries = censuses.boundaries(incarnation)
            if boundaries:
                exact, floor = latest(boundaries)
                # A checkpoint may go after it was read here, and somebody may just have forked from it.
                pinned |= frozenset(manifest.checkpoints.values())
                self._change(records, record, _cut_at(exact, floor, pinned))

    def _change(self, records: dict[Incarnation, Record], record: Record, wish: Wish) -> None:
        """Apply a wish to a manifest as long as it is of the same branch, and go on with what it has become."""
        manifest = record.manifest
        if wish(manifest) is manifest:
            return
        if self.dry_run:
            records[manifest.incarnation] = record._replace(held=replace(record.held, record=wish(manifest)))
            return

        def guarded(m: Manifest) -> Manifest:
            rules.check_incarnation(m, manifest.incarnation)
            return wish(m)

        try:
            held = self.env.manifests.update(record.key, guarded, record.held)
        except (ObjectNotFound, BranchNotFoundError):
            # Another collector has removed it, or its name was taken: what was read stays as true as it was.
            return
        self.tally.cut += held.record.segments != manifest.segments
        records[manifest.incarnation] = record._replace(held=held)

    def _touch(self, records: dict[Incarnation, Record], incarnation: Incarnation) -> None:
        """Write a manifest once more, before anything is deleted that a publisher may be about to link there.

        Whoever was stopped on its way to link it has to read the manifest again then, and finds that too much time
        has passed. Packs of level 0 need none of this: what the head has passed can never be linked.
        """
        record = records.get(incarnation)
        if record is not None:
            self._change(records, record, rules.touch)

    def _has_undone(self, records: dict[Incarnation, Record]) -> bool:
        """Whether a deletion was taken back since the manifests were read: what was dead may live again."""
        for record in records.values():
            manifest = record.manifest
            if manifest.deleted_at is None or manifest.removal is not None:
                continue
            try:
                there = self.env.manifests.peek(record.key).record
            except ObjectNotFound:
                continue
            if there.incarnation == manifest.incarnation and there.deleted_at != manifest.deleted_at:
                return True
        return False

    def _free(
        self, records: dict[Incarnation, Record], censuses: Censuses, now: UnixMs
    ) -> frozenset[Incarnation]:
        """Remove the manifests that have had nothing to say for a grace period; returns those that wait for it."""
        waiting: set[Incarnation] = set()
        for incarnation in childless(_manifests(records)):
            record = records[incarnation]
            if record.manifest.removal is None or record.manifest.segments:
                continue
            if not says_removed(censuses.boundaries(incarnation)):
                waiting.add(incarnation)
            elif self.dry_run or self._remove_manifest(record, now):
                self.tally.freed += 1
                del records[incarnation]
        return frozenset(waiting)

    def _remove_manifest(self, record: Record, now: UnixMs) -> bool:
        """Remove one manifest.

        A key that no other branch will ever have is simply deleted. The one under a branch's name may be taken
        at any moment: it is marked first, and deleted by nobody but whoever marked it, at once or not at all, with
        one request. Until it is gone nobody takes the name. A mark that was left behind is made anew when it
        is a grace period old, and whatever its maker has sent has long arrived.
        """
        bucket, clock = self.env.bucket, self.env.clock
        if keys.branch_of(record.key) is None:
            bucket.delete(record.key)
            self.env.manifests.forget(record.key)
            return True
        if record.manifest.removal == "name":
            marked = next((info for info in bucket.list(record.key) if info.key == record.key), None)
            if marked is None or now - marked.modified_ms < self.grace_ms:
                return False
        seq = record.manifest.seq
        began = clock.monotonic()
        try:
            held = self.env.manifests.update(
                record.key, lambda m: rules.free_name(m) if m.seq == seq else m, record.held
            )
        except (ObjectNotFound, ConflictError):
            return False
        ours = held.record.seq == seq + 1 and held.record.removal == "name"
        if not ours or (clock.monotonic() - began) * 4000 > self.grace_ms:
            return False
        bucket.delete_once(record.key)
        self.env.manifests.forget(record.key)
        return True

    # What becomes of objects.

    def pause(self) -> None:
        """Let others have their turn, as far as the budget wants it."""
        self._budget.spend()

    def count(self, info: ObjectInfo) -> None:
        """Take note of an object that was looked at."""
        self.tally.objects += 1
        self.tally.bytes += info.size
        if self.tally.objects % _BATCH == 0:
            self.pause()
            if self._progress is not None:
                self._progress(self.tally.objects, self.tally.of("removed")[0])

    def remove(self, key: str) -> None:
        """Delete an object, together with others."""
        if self.dry_run:
            return
        self._removing.append(key)
        if len(self._removing) == _BATCH:
            self.flush()

    def flush(self) -> None:
        """Delete now what was to be deleted."""
        if self._removing:
            self.env.bucket.delete_many(self._removing)
            self.env.written.removed += len(self._removing)
            self._removing.clear()


def read_records(env: Environment, db_uuid: str) -> dict[Incarnation, Record]:
    """Every manifest of a database that is in force, by its incarnation.

    A branch whose name is taken moves to another key, and is there before it leaves the first. So the keys are
    listed again until no new one has come: whatever was missed under one key is found under the other.
    """
    read: dict[str, Held[Manifest] | None] = {}
    while True:
        listed = [info.key for info in env.bucket.list(keys.branches_prefix(db_uuid))]
        new = [key for key in listed if key not in read and keys.place_of(key).kind == "manifest"]
        if not new:
            break
        for key in new:
            try:
                read[key] = env.manifests.peek(key)
            except ObjectNotFound:
                read[key] = None
    records: dict[Incarnation, Record] = {}
    for key, held in sorted(read.items(), key=lambda item: keys.branch_of(item[0]) is None):
        if held is not None:
            records.setdefault(held.record.incarnation, Record(key, held))
    return records


def _given_up(tombstone: Manifest, pins: frozenset[TXID]) -> Wish:
    """That very tombstone for good; one that was taken back, and perhaps set again, is left alone."""
    return lambda m: rules.cut_tombstone(m, pins) if m.deleted_at == tombstone.deleted_at else m


def _thinner(pins: frozenset[TXID]) -> Wish:
    return lambda m: m if m.removal is None else rules.cut_tombstone(m, pins)


def _cut_at(exact: TXID, floor: TXID, pins: frozenset[TXID]) -> Wish:
    return lambda m: m if m.deleted_at is not None else rules.cut(m, exact, floor, pins)


def _manifests(records: dict[Incarnation, Record]) -> dict[Incarnation, Manifest]:
    return {incarnation: record.manifest for incarnation, record in records.items()}


def why_dead(manifest: Manifest | None, is_named: bool) -> Why:
    """Why an object is dead that lies under this manifest's incarnation, and is named by it or not."""
    if manifest is None:
        return Why("left by branches that are gone", "its branch is gone")
    branch = f"branch {manifest.branch_id!r}"
    if manifest.deleted_at is not None:
        if manifest.ttl_at is not None and manifest.deleted_at == manifest.ttl_at:
            return Why("expired branches", f"{branch} expired, and nothing that lives stands on it")
        return Why("deleted branches", f"{branch} was deleted, and nothing that lives stands on it")
    if is_named:
        return Why("history beyond retention", f"no position of {branch} that is retained needs it")
    return Why("replaced, or never linked", f"{branch} does not name it: it was replaced, or never linked")
