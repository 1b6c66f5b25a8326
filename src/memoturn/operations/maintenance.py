"""Maintenance by hand, over one branch, one database or all that there is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from memoturn.base.clock import time_of, time_or_none
from memoturn.base.errors import (
    BranchExpiredError,
    BranchNotFoundError,
    CorruptError,
    DatabaseNotFoundError,
    InvalidRequestError,
)
from memoturn.base.names import Address, AtTxid, Position, check_name
from memoturn.base.results.databases import Verified
from memoturn.base.results.maintenance import (
    CompactedBranch,
    CompactResult,
    GcGroup,
    GcObject,
    GcResult,
    Holder,
    Retained,
    RetainedBranch,
)
from memoturn.base.txids import PAGE_SIZE, TXID
from memoturn.bucket import ObjectNotFound
from memoturn.database.positions import resolve
from memoturn.history.budget import Budget
from memoturn.history.collection import Collector
from memoturn.history.compaction import StoredFacts, compact_branch
from memoturn.history.holders import holders_of
from memoturn.history.planning import Aims, Merge, Thin, WriteBase, packs_of
from memoturn.history.retaining import retain as retain_all
from memoturn.history.verification import Moved, Restoring
from memoturn.history.whole import collect_all, collect_entry
from memoturn.manifest import keys
from memoturn.manifest.model import Manifest
from memoturn.manifest.rules import check_existing, check_living
from memoturn.node.engine import Engine
from memoturn.node.notes import Note

Progress = Callable[[int, int], None]
_ATTEMPTS = 5


def compact(
    engine: Engine, database: str, branch_id: str | None = None, progress: Progress | None = None
) -> CompactResult:
    """Merge packs, write bases and shorten deep chains of a branch, or of all branches of a database.

    Each branch is brought to where it would be after a while without commits: one base at its head, or one with
    a pack above it. Raises `BranchNotFoundError`, `UnavailableError` and `CorruptError`; what was done stands.
    """
    entry = engine.entry(database)
    manifests = []
    if branch_id is not None:
        manifests.append(engine.manifest(database, entry.db_uuid, branch_id).record)
    else:
        for _, _, name in _branches_of(engine, database, entry.db_uuid):
            with contextlib.suppress(BranchNotFoundError, BranchExpiredError):
                manifests.append(engine.manifest(database, entry.db_uuid, name).record)
    # Parents first: a child of a branch that has got a base may not need one.
    manifests.sort(key=lambda manifest: (manifest.created_at, manifest.branch_id))
    budget = Budget(engine.clock, stopped=engine.is_closed, progress=progress)
    done = [_compact(engine, entry.db_uuid, manifest.branch_id, budget) for manifest in manifests]
    written = sum(branch.bytes_written for branch, _ in done)
    commits = sum(size for _, size in done)
    ratio = round(written / commits, 3) if commits else 0.0
    return CompactResult(database, written, commits, ratio, [branch for branch, _ in done])


def _compact(engine: Engine, db_uuid: str, branch_id: str, budget: Budget) -> tuple[CompactedBranch, int]:
    for branch in engine.open_branches():
        if (branch.db_uuid, branch.branch_id) == (db_uuid, branch_id):
            branch.ship()
    aims = Aims(engine.settings.history.max_depth, idle=True)
    began = engine.clock.monotonic()
    merges = written = dropped = size = 0
    for done in compact_branch(engine.env, db_uuid, branch_id, budget, aims):
        size += done.bytes
        if done.linked:
            merges += isinstance(done.step, Merge)
            written += isinstance(done.step, WriteBase)
            dropped += len(done.step.bases) if isinstance(done.step, Thin) else 0
    took = engine.clock.monotonic() - began
    what = f"{merges} merges, {written} bases written, {dropped} dropped, by hand"
    engine.notes.add(db_uuid, Note("compact", branch_id, engine.clock.now_ms(), took, what), written=size)
    manifest = engine.manifests.current(keys.manifest_key(db_uuid, branch_id)).record
    packs = packs_of(manifest)
    facts = StoredFacts(engine.env, db_uuid, manifest)
    now = CompactedBranch(
        branch_id, merges, written, dropped, size, len(packs), len(manifest.segments) - len(packs)
    )
    return now, sum(map(facts.size, packs))


def retain(engine: Engine, database: str, progress: Progress | None = None) -> list[RetainedBranch]:
    """Let go of history that is older than the windows, with snapshots in its place; tells what has changed.

    What no position needs any more is unlinked and removed by garbage collections. Commits of this process are
    shipped first. Raises `DatabaseNotFoundError`, `UnavailableError` and `CorruptError`; what was done stands.
    """
    entry = engine.entry(database)
    for branch in engine.open_branches():
        if branch.db_uuid == entry.db_uuid:
            branch.ship()
    budget = Budget(engine.clock, stopped=engine.is_closed, progress=progress)
    return [
        RetainedBranch(done.branch_id, done.exact[1], done.floor[1], done.bases, done.bytes)
        for done in retain_all(engine.env, entry.db_uuid, engine.settings.history, budget)
    ]


def verify(
    engine: Engine,
    address: Address | None = None,
    at: Position | None = None,
    random_points: int = 2,
    progress: Progress | None = None,
) -> Iterator[Verified]:
    """Restore positions from the bucket alone, and tell what is wrong with them.

    Of each branch that the address stands for (all of a database that is named without a branch, and all there are
    if none is named): the head, and the position `at`, or else some that are drawn. Commits of this process are
    shipped first. Raises `TxidNotRetainedError` or `CheckpointNotFoundError` if there is no such position.
    """
    if type(random_points) is not int or random_points < 0:
        raise InvalidRequestError(f"{random_points!r} is no number of positions; give 0 or more")
    if address is not None and address.position is not None:
        at, address = at or address.position, address._replace(position=None)
    if at is not None and address is None:
        raise InvalidRequestError("a position is one of a branch: name the database, and the branch")
    budget = Budget(engine.clock, progress=progress)
    for place in _branches(engine, address, at is not None):
        if isinstance(place, Verified):
            yield place
            continue
        database, db_uuid, branch_id = place
        for branch in engine.open_branches():
            if (branch.db_uuid, branch.branch_id) == (db_uuid, branch_id):
                branch.ship()
        try:
            restoring = Restoring(engine.bucket, engine.ids, db_uuid, branch_id)
        except CorruptError as error:
            yield Verified(database, branch_id, 0, 0, 0, False, str(error))
            continue
        manifest = restoring.manifest
        try:
            check_living(manifest, engine.clock.now_ms())
        except (BranchNotFoundError, BranchExpiredError):
            if address is not None and address.branch is not None:
                raise
            continue
        try:
            drawn = restoring.points(random_points) if at is None else [_named(engine, db_uuid, manifest, at)]
        except CorruptError as error:
            yield Verified(database, branch_id, manifest.head_txid, 0, 0, False, str(error))
            continue
        for txid in sorted({*drawn, manifest.head_txid}):
            yield _verify(engine, database, db_uuid, branch_id, txid, restoring, budget)


def gc(
    engine: Engine,
    database: str | None = None,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
    budget: Budget | None = None,
) -> GcResult:
    """Remove what no manifest of a database, or of all databases, has reached for a grace period.

    What is dead now is counted, and removed by the first run after the grace period. `progress` is called with
    how many objects were looked at and how many of them are removed. Raises `DatabaseNotFoundError`.
    """
    engine.check_open()
    settings = engine.settings.history
    grace = settings.gc_grace_secs
    collector = Collector(engine.env, grace, budget, dry_run, progress, settings.longest_secs)
    if database is None:
        collect_all(collector, engine.catalog)
    else:
        key = keys.catalog_key(check_name("database", database))
        try:
            held = engine.catalog.peek(key)
        except ObjectNotFound:
            raise DatabaseNotFoundError(f"there is no database {database!r}") from None
        collect_entry(collector, engine.catalog, key, held)
    tally = collector.tally
    removed, removed_bytes = tally.of("removed")
    waiting, waiting_bytes = tally.of("waits")
    return GcResult(
        dry_run=dry_run,
        databases=tally.databases,
        objects=tally.objects,
        bytes=tally.bytes,
        removed=removed,
        removed_bytes=removed_bytes,
        waiting=waiting,
        waiting_bytes=waiting_bytes,
        ready_at=time_or_none(tally.ready_at),
        expired=tally.expired,
        unlinked=tally.cut,
        freed=tally.freed,
        grace_secs=grace,
        groups=[
            GcGroup(fate, kind, objects, size)
            for (fate, kind), (objects, size) in sorted(tally.counts.items())
        ],
        examples=[GcObject(key, size, fate, why.text) for key, size, fate, why in tally.examples],
    )


def why_retained(engine: Engine, object_key: str) -> Retained:
    """Who holds an object of the store. Raises `NotFoundError` if there is none under that key."""
    engine.check_open()
    key = object_key.strip("/")
    settings = engine.settings.history
    grace_ms, keep_ms = round(settings.gc_grace_secs * 1000), settings.longest_secs * 1000
    info, state, holders = holders_of(engine.env, engine.catalog, key, grace_ms, keep_ms)
    return Retained(
        info.key,
        info.size,
        time_of(info.modified_ms),
        state,
        [Holder(branch, why) for branch, why in holders],
    )


def _verify(
    engine: Engine,
    database: str,
    db_uuid: str,
    branch_id: str,
    txid: TXID,
    restoring: Restoring,
    budget: Budget,
) -> Verified:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            found = restoring.verify(txid, budget)
        except Moved:
            if attempt == _ATTEMPTS:
                raise
            restoring = Restoring(engine.bucket, engine.ids, db_uuid, branch_id)
            _named(engine, db_uuid, restoring.manifest, AtTxid(txid))
        else:
            break
    size = found.pages * PAGE_SIZE
    return Verified(database, branch_id, txid, found.pages, size, found.problem is None, found.problem)


def _branches(
    engine: Engine, address: Address | None, one: bool
) -> Iterator[tuple[str, str, str] | Verified]:
    """Databases and branches that an address stands for; with `one`, a database stands for its default branch.

    Of a database whose catalog entry is damaged there is only that to be told.
    """
    if address is None:
        for info in engine.bucket.list(keys.CATALOG):
            name = keys.database_of(info.key)
            try:
                there = engine.catalog.peek(info.key).record
                check_existing(there, name, engine.clock.now_ms())
            except (ObjectNotFound, DatabaseNotFoundError):
                continue
            except CorruptError as error:
                yield Verified(name, "", 0, 0, 0, False, str(error))
                continue
            yield from _branches_of(engine, name, there.db_uuid)
        return
    entry = engine.entry(address.database)
    if address.branch is not None or one:
        yield address.database, entry.db_uuid, address.branch or entry.default_branch
    else:
        yield from _branches_of(engine, address.database, entry.db_uuid)


def _branches_of(engine: Engine, database: str, db_uuid: str) -> Iterator[tuple[str, str, str]]:
    for info in engine.bucket.list(keys.branches_prefix(db_uuid)):
        branch_id = keys.branch_of(info.key)
        if branch_id is not None:
            yield database, db_uuid, branch_id


def _named(engine: Engine, db_uuid: str, manifest: Manifest, position: Position) -> TXID:
    return resolve(engine.env, db_uuid, manifest, (), position, exact=True).txid
