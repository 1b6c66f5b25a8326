"""Garbage collection over all databases: those that live are collected, those that are dead are removed whole.

A deleted database goes a grace period after its tombstone was first seen. Its catalog entry is marked before, so that
nobody takes the deletion back while its objects vanish. The entry stays: what was allowed before the deletion
must be refused for good. What lies under an identifier that no entry names, left by a creation that crashed, goes
as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from memoturn.base.errors import CorruptError
from memoturn.base.txids import UnixMs
from memoturn.bucket import Bucket, ObjectNotFound
from memoturn.bucket.probe import RESERVED, VERDICT_KEY
from memoturn.history.census import Censuses, CensusWriter
from memoturn.history.collection import Collector, Why
from memoturn.manifest import keys, rules
from memoturn.manifest.model import CatalogEntry
from memoturn.manifest.register import Held, Register

_UNNAMED: Final = UnixMs(0)
_UNFINISHED: Final = Why(
    "databases that no name stands for",
    "no name stands for this database: it was deleted and the name taken again, or its creation crashed",
)
_LITTER: Final = Why("left by crashes", "a look at the store that crashed has left it")
_PAGE: Final = 1000
_LITTER_MS: Final = 24 * 3600 * 1000
"""Age at which what a crash has left of a probe, or of a look at the store's clock, is nobody's any more."""

Catalog = Register[CatalogEntry]


def collect_all(collector: Collector, catalog: Catalog, dead_only: bool = False) -> None:
    """One pass over everything in the bucket; with `dead_only`, over databases that are dead as a whole.

    A database one of whose manifests is damaged is left alone, and keeps no other from its pass: the `CorruptError`
    is raised in the end.
    """
    bucket = collector.env.bucket
    now = collector.now()
    by = collector.env.clock.now_ms()
    named: set[str] = set()
    all_names = True
    damaged: CorruptError | None = None
    for info in bucket.list(keys.CATALOG):
        collector.pause()
        try:
            held = catalog.peek(info.key)
        except ObjectNotFound:
            continue
        except CorruptError as error:
            damaged, all_names = damaged or error, False
            continue
        entry = held.record
        named.add(entry.db_uuid)
        lives = entry.deleted_at is None and (entry.ttl_at is None or entry.ttl_at > by)
        if not (lives and dead_only):
            try:
                collect_entry(collector, catalog, info.key, held)
            except CorruptError as error:
                damaged = damaged or error
    # With an entry that cannot be read nobody knows which databases have a name.
    for db_uuid in _uuids(bucket) if all_names else ():
        collector.pause()
        if db_uuid not in named:
            # Whoever creates a database names it within half a grace period, or gives up (operations/databases.py).
            # What was deleted and whose name was taken again is named by nothing either, and never will be.
            _remove_whole(collector, db_uuid, _UNNAMED, now, _UNFINISHED, lambda: True)
    _sweep(collector, now)
    if damaged is not None:
        raise damaged


def collect_entry(collector: Collector, catalog: Catalog, key: str, held: Held[CatalogEntry]) -> None:
    """One pass over the database of a catalog entry, whether it lives or not."""
    entry = held.record
    now = collector.now()
    by = min(now, collector.env.clock.now_ms())
    if entry.deleted_at is None and entry.ttl_at is not None and entry.ttl_at <= by:
        collector.tally.expired += 1
        entry = rules.expire_database(entry, by)
        if not collector.dry_run:
            held = catalog.update(key, lambda old: rules.expire_database(old, by), held)
            entry = held.record
    if entry.deleted_at is None:
        collector.collect(entry.db_uuid)
        return
    name, db_uuid, deleted_at = keys.database_of(key), entry.db_uuid, entry.deleted_at

    def marked() -> bool:
        if collector.dry_run or entry.collected:
            return True
        there = catalog.update(key, lambda old: rules.collect_database(old, db_uuid, deleted_at), held).record
        return there.collected and there.db_uuid == db_uuid

    if entry.ttl_at == deleted_at:
        why = Why("expired databases", f"database {name!r} expired")
    else:
        why = Why("deleted databases", f"database {name!r} was deleted")
    _remove_whole(collector, db_uuid, deleted_at, now, why, marked, certain=entry.collected)


def _remove_whole(
    collector: Collector,
    db_uuid: str,
    deleted_at: UnixMs,
    now: UnixMs,
    why: Why,
    marked: Callable[[], bool],
    certain: bool = False,
) -> None:
    """Remove all that a dead database has left, once a ripe census says that it was dead; else take that census."""
    bucket, tally = collector.env.bucket, collector.tally
    prefix = keys.database_prefix(db_uuid)
    if next(bucket.list(prefix), None) is None:
        return
    tally.databases += 1
    censuses = Censuses(bucket, db_uuid, now, collector.grace_ms)
    doomed = True if certain else censuses.dooms(deleted_at)
    if doomed is None and not collector.dry_run:
        CensusWriter(bucket, collector.env.ids, db_uuid).doom(deleted_at)
    go = bool(doomed) and marked()
    parts = []
    for info in bucket.list(prefix):
        collector.count(info)
        if keys.place_of(info.key).kind == "census":
            parts.append(info.key)
            continue
        tally.add(info, "removed" if go else "waits", why)
        if go:
            collector.remove(info.key)
    collector.flush()
    if go:
        # Last: a pass that ends before finds it again.
        for key in parts:
            collector.remove(key)
        collector.flush()
        return
    tally.waits_until(censuses.ready_at)
    if doomed is None:
        tally.waits_until(UnixMs(now + collector.grace_ms))


def _uuids(bucket: Bucket) -> Iterator[str]:
    """The identifiers of all databases that have left something, without reading through the large ones."""
    last, passed, after = "", 0, None
    while True:
        for info in bucket.list(keys.DATABASES, after=after):
            db_uuid = keys.uuid_of(info.key)
            if db_uuid != last:
                last, passed = db_uuid, 0
                yield db_uuid
            passed += 1
            if passed == _PAGE:
                break
        else:
            return
        after, passed = keys.after_database(last), 0


def _sweep(collector: Collector, now: UnixMs) -> None:
    """Remove what crashes have left outside of databases."""
    for prefix in (RESERVED, keys.STORE_CLOCK):
        for info in collector.env.bucket.list(prefix):
            if info.key != VERDICT_KEY and now - info.modified_ms > _LITTER_MS:
                collector.tally.add(info, "removed", _LITTER)
                collector.remove(info.key)
    collector.flush()
