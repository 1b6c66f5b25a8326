"""What background work has done and has to do: of what is in the bucket, and in the notes that this machine keeps."""

from __future__ import annotations

from collections.abc import Iterator

from memoturn.base.clock import time_of
from memoturn.base.errors import BranchExpiredError, BranchNotFoundError
from memoturn.base.results.maintenance import (
    Background,
    BranchStatus,
    DatabaseStatus,
    MaintenanceStatus,
    WorkStatus,
)
from memoturn.history.compaction import StoredFacts
from memoturn.manifest import keys
from memoturn.manifest.coverage import lineage
from memoturn.manifest.model import Manifest
from memoturn.manifest.segment_name import SegmentName
from memoturn.node.engine import Engine
from memoturn.node.maintenance import name_of
from memoturn.operations import databases

_LEVELS = 3
_ALL_HOPS = 1 << 30


def status(engine: Engine, database: str | None = None) -> MaintenanceStatus:
    """What there is, was done and is due: of one database, or of all. Raises `DatabaseNotFoundError`."""
    found = databases.list_(engine) if database is None else iter([databases.get(engine, database)])
    return MaintenanceStatus(
        _background(engine), [_database(engine, info.name, info.db_uuid) for info in found]
    )


def _background(engine: Engine) -> Background:
    history = engine.settings.history
    limits = (history.work_share, history.work_bytes_per_second)
    if engine.maintenance is None:
        return Background(False, None, None, 0, 0, 0.0, 0.0, 0, *limits)
    work = engine.maintenance.work()
    return Background(
        True,
        time_of(work.since),
        None if work.running is None else name_of(work.running),
        work.pieces,
        work.failures,
        work.worked,
        work.paused,
        work.bytes,
        *limits,
    )


def _database(engine: Engine, name: str, db_uuid: str) -> DatabaseStatus:
    sizes: dict[str, tuple[int, int]] = {}
    prefix = keys.database_prefix(db_uuid)
    for info in engine.bucket.list(prefix):
        owner = info.key[len(prefix) :].partition("/")[0]
        objects, size = sizes.get(owner, (0, 0))
        sizes[owner] = objects + 1, size + info.size
    notes = engine.notes.read(db_uuid)
    return DatabaseStatus(
        name,
        db_uuid,
        sum(objects for objects, _ in sizes.values()),
        sum(size for _, size in sizes.values()),
        notes.shipped,
        notes.written,
        round(notes.written / notes.shipped, 3) if notes.shipped else 0.0,
        list(_branches(engine, name, db_uuid, sizes)),
        list(_work(engine, db_uuid)),
    )


def _branches(
    engine: Engine, database: str, db_uuid: str, sizes: dict[str, tuple[int, int]]
) -> Iterator[BranchStatus]:
    for info in engine.bucket.list(keys.branches_prefix(db_uuid)):
        engine.look()
        branch_id = keys.branch_of(info.key)
        if branch_id is None:
            continue
        try:
            manifest = engine.manifest(database, db_uuid, branch_id).record
        except (BranchNotFoundError, BranchExpiredError):
            continue
        yield _branch(engine, db_uuid, manifest, *sizes.get(manifest.incarnation, (0, 0)))


def _branch(engine: Engine, db_uuid: str, manifest: Manifest, objects: int, size: int) -> BranchStatus:
    names = [SegmentName.parse(text) for text in manifest.segments]
    found = lineage(manifest, manifest.head_txid)
    depth = len(found.stretches) - 1
    if found.inherited is not None:
        depth += StoredFacts(engine.env, db_uuid, manifest).inherited_hops(_ALL_HOPS)
    return BranchStatus(
        manifest.branch_id,
        manifest.head_txid,
        manifest.exact_txid,
        manifest.floor_txid,
        [sum(name.level == level for name in names) for level in range(_LEVELS)],
        sum(name.is_base for name in names),
        len({part.segment for part in found.parts if not part.segment.is_base}),
        depth,
        objects,
        size,
    )


def _work(engine: Engine, db_uuid: str) -> Iterator[WorkStatus]:
    due = {} if engine.maintenance is None else engine.maintenance.due()
    waits: dict[tuple[str, str], float] = {
        (job.kind, job.branch_id): at for job, at in due.items() if job.db_uuid == db_uuid
    }
    for _, note in sorted(engine.notes.read(db_uuid).notes.items()):
        yield WorkStatus(
            note.kind,
            note.branch or None,
            time_of(note.at),
            round(note.took, 3),
            note.what,
            note.error,
            note.failures,
            waits.pop((note.kind, note.branch), None),
        )
    for (kind, branch_id), at in sorted(waits.items()):
        yield WorkStatus(kind, branch_id or None, None, 0.0, "", None, 0, at)
