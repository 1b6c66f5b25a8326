"""Who holds an object: every reason for which it is not removed, or why it will be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from msgspec.structs import replace

from memoturn.base.clock import format_time
from memoturn.base.errors import NotFoundError
from memoturn.base.txids import TXID, UnixMs
from memoturn.bucket import ObjectInfo, ObjectNotFound
from memoturn.database.environment import Environment
from memoturn.history.census import Candidates, Censuses
from memoturn.history.collection import UNDECIDED, UNKNOWN, Record, read_records, why_dead
from memoturn.history.reach import (
    Incarnation,
    childless,
    end_of,
    ends_of,
    inherited_by,
    pins_of,
    segment_of,
    undecided,
)
from memoturn.manifest import keys, rules
from memoturn.manifest.coverage import kept, lineage
from memoturn.manifest.model import CatalogEntry, Manifest
from memoturn.manifest.register import Register
from memoturn.manifest.segment_name import SegmentName

State = Literal["alive", "waits", "dead", "kept"]
_NAMES = 5


class Holder(NamedTuple):
    """Somebody who needs an object; `branch` is None for what belongs to a database, or to none."""

    branch: str | None
    why: str


class Holders(NamedTuple):
    """An object and its holders: `alive` as somebody needs it, `waits` for its grace period, `dead`, or `kept`."""

    info: ObjectInfo
    state: State
    holders: list[Holder]


def holders_of(
    env: Environment, catalog: Register[CatalogEntry], key: str, grace_ms: int, keep_ms: int = 0
) -> Holders:
    """Who holds the object at `key`; the times are the collector's. Raises `NotFoundError` if there is none."""
    info = next((found for found in env.bucket.list(key) if found.key == key), None)
    if info is None:
        raise NotFoundError(f"there is no object {key!r} in the store")
    if not key.startswith(keys.DATABASES):
        what = (
            "a database's name stands in it" if key.startswith(keys.CATALOG) else "it belongs to no database"
        )
        return Holders(info, "alive" if key.startswith(keys.CATALOG) else "kept", [Holder(None, what)])
    db_uuid, place = keys.uuid_of(key), keys.place_of(key)
    dead = _dead_database(env, catalog, db_uuid)
    now = env.clock.now_ms()
    if dead is not None:
        return Holders(info, "waits", [Holder(None, f"{dead}; the whole of it goes after its grace period")])
    if place.kind == "census":
        why = "a census, which the first pass removes that acts on it"
        return Holders(info, "waits", [Holder(None, why)])
    records = {
        incarnation: _expired(record, now) for incarnation, record in read_records(env, db_uuid).items()
    }
    if place.kind == "manifest":
        return _of_manifest(info, key, records)
    segment = segment_of(place.name) if place.kind == "segment" else None
    if segment is None:
        return Holders(info, "kept", [Holder(None, UNKNOWN.text)])
    manifests = {incarnation: record.manifest for incarnation, record in records.items()}
    ends = ends_of(manifests, UnixMs(now - keep_ms))
    return _of_segment(env, db_uuid, info, manifests, ends, place.incarnation, segment, now, grace_ms)


def _expired(record: Record, now: UnixMs) -> Record:
    """A branch whose time has run out holds nothing, though no pass may have left its tombstone yet."""
    return record._replace(held=replace(record.held, record=rules.expire(record.manifest, now)))


def _dead_database(env: Environment, catalog: Register[CatalogEntry], db_uuid: str) -> str | None:
    for found in env.bucket.list(keys.CATALOG):
        try:
            entry = catalog.peek(found.key).record
        except ObjectNotFound:
            continue
        if entry.db_uuid == db_uuid:
            if entry.deleted_at is None:
                return None
            name = keys.database_of(found.key)
            return f"database {name!r} was deleted at {format_time(entry.deleted_at)}"
    return "no database has this identifier"


def _of_manifest(info: ObjectInfo, key: str, records: dict[Incarnation, Record]) -> Holders:
    record = next((r for r in records.values() if r.key == key), None)
    if record is None:
        why = "a copy of a manifest, made when somebody was about to take its name; its branch is still there"
        return Holders(info, "kept", [Holder(None, why)])
    manifest = record.manifest
    if manifest.deleted_at is None:
        return Holders(info, "alive", [Holder(manifest.branch_id, "the manifest of a living branch")])
    manifests = {incarnation: r.manifest for incarnation, r in records.items()}
    children = [
        Holder(m.branch_id, f"was forked from it at txid {m.parent.fork_txid}")
        for m in manifests.values()
        if m.parent is not None and m.parent.incarnation == manifest.incarnation
    ]
    if manifest.incarnation not in childless(manifests):
        return Holders(info, "alive", children)
    if manifest.removal is None:
        died = f"deleted at {format_time(manifest.deleted_at)}, which can be taken back for a grace period"
        if manifest.deleted_at == manifest.ttl_at:
            died = f"expired at {format_time(manifest.deleted_at)}"
        return Holders(info, "waits", [Holder(manifest.branch_id, died)])
    why = "a tombstone that can no longer be taken back; it goes a grace period after its segments"
    return Holders(info, "waits", [Holder(manifest.branch_id, why)])


def _of_segment(
    env: Environment,
    db_uuid: str,
    info: ObjectInfo,
    manifests: dict[Incarnation, Manifest],
    ends: dict[Incarnation, Manifest],
    incarnation: Incarnation,
    segment: SegmentName,
    now: UnixMs,
    grace_ms: int,
) -> Holders:
    manifest = manifests.get(incarnation)
    name = info.key[len(keys.database_prefix(db_uuid)) :]
    named = manifest is not None and str(segment) in manifest.segments
    if manifest is not None and named:
        if str(segment) in ends[incarnation].segments:
            spare = "a base stands in for it; it goes when the window in which every txid can be restored moves on"
            holders = list(_holders(manifest, segment, manifests)) or [Holder(manifest.branch_id, spare)]
            return Holders(info, "alive", holders)
        if (
            manifest.deleted_at is None
            and str(segment) in end_of(manifest, pins_of(manifests).get(incarnation, frozenset())).segments
        ):
            why = "only branches stand on it that were deleted, which can be taken back for a grace period"
            return Holders(info, "waits", [Holder(manifest.branch_id, why)])
    elif undecided(manifest, segment, now - info.modified_ms, grace_ms):
        return Holders(
            info, "kept", [Holder(None if manifest is None else manifest.branch_id, UNDECIDED.text)]
        )
    text = why_dead(manifest, named).text
    branch = None if manifest is None else manifest.branch_id
    listed = Candidates(Censuses(env.bucket, db_uuid, now, grace_ms).objects()).find(name)
    if listed is None:
        return Holders(info, "dead", [Holder(branch, f"{text}; the next pass will count it")])
    since = f"{text}; a pass counted it at {format_time(listed[1])}"
    after = format_time(UnixMs(listed[1] + grace_ms))
    return Holders(info, "waits", [Holder(branch, f"{since}, and the first one after {after} removes it")])


def _holders(
    manifest: Manifest, segment: SegmentName, manifests: dict[Incarnation, Manifest]
) -> Iterator[Holder]:
    branch = manifest.branch_id

    def needs(txid: TXID) -> bool:
        return any(part.segment == segment for part in lineage(manifest, txid).parts)

    if manifest.deleted_at is not None and manifest.removal is None:
        children = [
            m.branch_id
            for m in manifests.values()
            if m.parent and m.parent.incarnation == manifest.incarnation
        ]
        if children:
            yield Holder(
                branch, f"it was deleted, and {', '.join(sorted(children)[:_NAMES])} can restore what it was"
            )
    if manifest.deleted_at is None:
        if needs(manifest.head_txid):
            yield Holder(branch, f"its head, txid {manifest.head_txid}, is made of it")
        named = sorted(name for name, txid in manifest.checkpoints.items() if needs(txid))
        if named:
            more = f" and {len(named) - _NAMES} more" if len(named) > _NAMES else ""
            yield Holder(branch, f"checkpoints {', '.join(named[:_NAMES])}{more} are made of it")
        if segment in kept(manifest, manifest.exact_txid, ()).segments:
            yield Holder(branch, f"every txid from {manifest.exact_txid} on can be restored, and needs it")
        elif segment.is_base and segment.max_txid >= manifest.floor_txid:
            yield Holder(branch, f"it is a snapshot, with which txid {segment.max_txid} can be restored")
    pins = pins_of(manifests)
    for child in manifests.values():
        if child.parent is None or child.parent.incarnation != manifest.incarnation:
            continue
        stands = sorted(at for at in inherited_by(child, pins) if needs(at))
        if stands:
            what = (
                "" if child.deleted_at is None else ", deleted, for the sake of those that descend from it,"
            )
            yield Holder(child.branch_id, f"forked from {branch!r}{what} stands on txid {stands[0]}")
