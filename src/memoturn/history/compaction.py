"""Compaction of a branch: fewer packs, a base near the head, and no deep chains. Any node may do it, at any time.

Each step reads objects, writes a new one, and ends in one conditional write of the manifest. Crashing anywhere leaves
only an object that nothing names. Two who compact the same branch cost each other work, no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from memoturn.base.errors import BranchNotFoundError, ConflictError, CorruptError, SegmentGoneError
from memoturn.base.txids import TXID, UnixMs
from memoturn.bucket import ObjectNotFound
from memoturn.database.environment import Environment
from memoturn.database.publish import Upload
from memoturn.history.bases import write_base
from memoturn.history.budget import PIECE, Budget
from memoturn.history.planning import Aims, Merge, Step, Thin, WriteBase, plan
from memoturn.manifest import keys, rules
from memoturn.manifest.coverage import Lineage, Part, lineage
from memoturn.manifest.model import Manifest
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import stretch_at
from memoturn.segments.digest import digest_of
from memoturn.segments.frame import Frame, crc32
from memoturn.segments.pack import Digest, PackIndex
from memoturn.segments.pack_build import merge_packs

_FRAMES: Final = 64
"""Checksums after which the work may pause: what is fetched at once takes milliseconds to verify."""


class Done(NamedTuple):
    """A step that was taken, and what it wrote; `linked` is False if somebody else was there first."""

    step: Step
    bytes: int
    linked: bool


def compact_branch(
    env: Environment, db_uuid: str, branch_id: str, budget: Budget, aims: Aims
) -> Iterator[Done]:
    """Take one step after the other until there is nothing to do. A branch that is not there is left alone.

    Raises `Stopped`, `UnavailableError` and `CorruptError`; steps that were taken stand.
    """
    key = keys.manifest_key(db_uuid, branch_id)
    failures = 0
    while True:
        budget.begin()
        try:
            manifest = env.manifests.read(key).record
        except ObjectNotFound:
            return
        try:
            step = plan(manifest, StoredFacts(env, db_uuid, manifest), aims)
            if step is None:
                return
            after, written = _take(env, db_uuid, manifest, step, budget)
        except BranchNotFoundError:
            return  # It was deleted, and its name was given away.
        except (ConflictError, ObjectNotFound, SegmentGoneError):
            # Another compactor has replaced what was to be merged, and perhaps a collector has deleted it since.
            failures += 1
            if failures > 3:
                raise
            continue
        linked = after.seq != manifest.seq
        yield Done(step, written, linked)
        if not linked:
            return


def is_idle(env: Environment, db_uuid: str, manifest: Manifest, seconds: float) -> bool:
    """Whether nothing has happened on a branch for so long, by the times that its commits and stretches bear."""
    last = manifest.timeline[-1].at
    found = lineage(manifest, manifest.head_txid)
    if found.parts:
        last = max(last, StoredFacts(env, db_uuid, manifest).time_of(found.parts[0]))
    return env.clock.now_ms() - last >= seconds * 1000


def _take(
    env: Environment, db_uuid: str, manifest: Manifest, step: Step, budget: Budget
) -> tuple[Manifest, int]:
    if isinstance(step, Merge):
        return merge(env, db_uuid, manifest, step, budget)
    if isinstance(step, WriteBase):
        return write_base(env, db_uuid, manifest, step.txid, budget)
    return _thin(env, db_uuid, manifest, step), 0


def _thin(env: Environment, db_uuid: str, manifest: Manifest, step: Thin) -> Manifest:
    def unlink(current: Manifest) -> Manifest:
        rules.check_incarnation(current, manifest.incarnation)
        return rules.drop_bases(current, step.bases)

    return env.manifests.update(keys.manifest_key(db_uuid, manifest.branch_id), unlink).record


def merge(
    env: Environment, db_uuid: str, manifest: Manifest, step: Merge, budget: Budget
) -> tuple[Manifest, int]:
    """Put one pack in the place of several; returns the manifest after that and the bytes written.

    Raises `ConflictError` if one of them is no longer part of the branch.
    """
    sources = [keys.segment_key(db_uuid, manifest.incarnation, str(pack)) for pack in step.packs]
    indexes = [env.store.pack(source) for source in sources]
    merged = merge_packs(indexes, _digest(env, db_uuid, manifest, step.packs[0], indexes))
    size = sum(merged.lengths) + len(merged.footer)
    budget.expect(size)
    budget.spend()

    def data() -> Iterator[bytes]:
        for source, index in zip(sources, indexes, strict=True):
            yield from _verified(env, source, index, budget)
        yield merged.footer

    def put(upload: Upload) -> SegmentName:
        first, last = step.packs[0], step.packs[-1]
        name = SegmentName.pack(step.level, first.min_txid, last.max_txid, last.epoch, upload.mark)
        key = keys.segment_key(db_uuid, manifest.incarnation, str(name))
        env.bucket.put(key, upload.chunks(data()))
        env.store.keep_index(key, merged.index)
        return name

    def link(current: Manifest, name: SegmentName) -> Manifest:
        rules.check_incarnation(current, manifest.incarnation)
        return rules.merge_segments(current, step.packs, name)

    _, after = env.publisher.publish(keys.manifest_key(db_uuid, manifest.branch_id), put, link)
    env.written.compacted += size
    budget.spend(len(merged.footer))
    return after, size


def _digest(
    env: Environment, db_uuid: str, manifest: Manifest, first: SegmentName, merged: list[PackIndex]
) -> Digest | None:
    """What the pack that they are merged into, and that begins with `first`, says of the packs before it."""
    before = TXID(first.min_txid - 1)
    if stretch_at(manifest, first.min_txid).from_txid > before:
        return None
    parts = lineage(manifest, before).parts
    if not parts or parts[0].until != before:
        return None
    since = parts[0].since
    older = [part.segment for part in parts if not part.segment.is_base and part.since == since]
    names = (keys.segment_key(db_uuid, manifest.incarnation, str(segment)) for segment in older)
    weight = sum(index.data_length for index in merged)
    return digest_of(map(env.store.pack, names), since, weight)


def _verified(env: Environment, source: str, index: PackIndex, budget: Budget) -> Iterator[bytes]:
    """The commits of a pack in pieces, each frame in them compared with its CRC: damage is not to be copied."""
    start, end = 0, 0
    frames: list[Frame] = []
    for frame in index.frames():
        frames.append(frame)
        end = frame.offset + frame.length
        if end - start >= PIECE:
            yield _piece(env, source, start, end, frames, budget)
            budget.spend(end - start)
            start, frames = end, []
    if start < index.data_length:
        yield _piece(env, source, start, index.data_length, frames, budget)
        budget.spend(index.data_length - start)


def _piece(env: Environment, source: str, start: int, end: int, frames: list[Frame], budget: Budget) -> bytes:
    for _ in range(2):
        data = env.bucket.get_range(source, start, end - start)
        if len(data) == end - start and _is_intact(data, start, frames, budget):
            return data
    raise CorruptError(
        f"{source} from byte {start} to {end} does not match its checksums, twice, and is not merged; "
        "restore the object from a replica of the bucket"
    )


def _is_intact(data: bytes, start: int, frames: list[Frame], budget: Budget) -> bool:
    view = memoryview(data)
    for place in range(0, len(frames), _FRAMES):
        for offset, length, crc, _ in frames[place : place + _FRAMES]:
            if crc32(view[offset - start : offset - start + length]) != crc:
                return False
        budget.spend()
    return True


class StoredFacts:
    """What the plan asks, answered from the indexes of segments; these are cached where the branch is used."""

    def __init__(self, env: Environment, db_uuid: str, manifest: Manifest) -> None:
        self._env = env
        self._db_uuid = db_uuid
        self._manifest = manifest
        self._inherited: int | None = None

    def size(self, pack: SegmentName) -> int:
        index = self._env.store.pack(self._key(self._db_uuid, self._manifest, pack))
        return index.data_length + index.footer_length

    def weight(self, part: Part) -> int:
        return self._weight(self._db_uuid, self._manifest, part)

    def time(self, base: SegmentName) -> UnixMs:
        return self._env.store.base(self._key(self._db_uuid, self._manifest, base)).time

    def time_of(self, part: Part) -> UnixMs:
        """When the newest commit of a part was made."""
        if part.segment.is_base:
            return self.time(part.segment)
        index = self._env.store.pack(self._key(self._db_uuid, self._manifest, part.segment))
        last = index.transaction_at_or_before(part.until)
        return UnixMs(0) if last is None else last.time

    def is_empty(self) -> bool:
        return not lineage(self._manifest, self._manifest.head_txid).parts and not self.inherited_weight()

    def inherited_weight(self) -> int:
        if self._inherited is None:
            weight = 0
            for db_uuid, manifest, found in self._ancestors():
                base = next((part for part in found.parts if part.segment.is_base), None)
                if base is not None:
                    weight = self._weight(db_uuid, manifest, base)
                else:
                    weight += sum(self._weight(db_uuid, manifest, part) for part in found.parts)
            self._inherited = weight
        return self._inherited

    def inherited_hops(self, enough: int) -> int:
        hops = 0
        for _, _, found in self._ancestors():
            hops += len(found.stretches)
            if hops >= enough:
                break
        return hops

    def _ancestors(self) -> Iterator[tuple[str, Manifest, Lineage]]:
        """What the head stands on beyond this branch, from the parent upwards."""
        db_uuid, manifest = self._db_uuid, self._manifest
        at = lineage(manifest, manifest.head_txid).inherited
        while at is not None and manifest.parent is not None:
            parent = manifest.parent
            db_uuid, manifest = parent.db_uuid, self._env.manifest_of(parent, at)
            found = lineage(manifest, at)
            yield db_uuid, manifest, found
            at = found.inherited

    def _weight(self, db_uuid: str, manifest: Manifest, part: Part) -> int:
        key = self._key(db_uuid, manifest, part.segment)
        if part.segment.is_base:
            return self._env.store.base(key).snapshot_length
        return self._env.store.pack(key).length_between(part.since, part.until)

    def _key(self, db_uuid: str, manifest: Manifest, segment: SegmentName) -> str:
        return keys.segment_key(db_uuid, manifest.incarnation, str(segment))
