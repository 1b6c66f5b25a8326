"""Databases: create, list, get, delete. Creating one is two small writes, whatever it will hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from memoturn.base.clock import time_of, time_or_none
from memoturn.base.errors import DatabaseNotFoundError, MemoturnError, UnavailableError
from memoturn.base.names import check_name
from memoturn.base.results.branches import DeleteResult
from memoturn.base.results.databases import DatabaseInfo
from memoturn.base.txids import UnixMs
from memoturn.manifest import keys, rules
from memoturn.manifest.model import CatalogEntry, Manifest
from memoturn.node.engine import Engine
from memoturn.operations.undo import Undo

MAIN = "main"


def create(engine: Engine, name: str, ttl: float | None = None) -> DatabaseInfo:
    """Create an empty database with one branch, `main`.

    `ttl` is in seconds. Raises `AlreadyExistsError` or `InvalidRequestError`.
    """
    engine.check_open()
    check_name("database", name)
    now = engine.clock.now_ms()
    ids = engine.ids
    ttl_at = rules.ttl_at(ttl, now)
    db_uuid = f"d_{ids.ulid(now)}"
    return create_as(engine, name, db_uuid, rules.root(MAIN, f"b_{ids.ulid(now)}", now), now, ttl_at)


def create_as(
    engine: Engine,
    name: str,
    db_uuid: str,
    first: Manifest,
    now: UnixMs,
    ttl_at: UnixMs | None = None,
    began: float | None = None,
) -> DatabaseInfo:
    """Create a database whose uuid and first branch have been prepared.

    `began` is when the first object of it can have been seen, by the monotonic clock. What no name stands for is
    collected after a grace period, so the name comes within half of it or not at all.
    """
    began = engine.clock.monotonic() if began is None else began

    def check_quick() -> None:
        grace = engine.settings.history.gc_grace_secs
        if grace < 2 * (engine.clock.monotonic() - began):
            raise UnavailableError(
                f"database {name!r} was not created: the store took more than {grace / 2:g} s, half of "
                "MEMOTURN_GC_GRACE_SECS; try again"
            )

    def over(old: CatalogEntry) -> CatalogEntry:
        check_quick()
        return rules.reborn_database(old, entry, name, now)

    entry = CatalogEntry(db_uuid=db_uuid, default_branch=first.branch_id, created_at=now, ttl_at=ttl_at)
    # The manifest comes first: a name in the catalog never stands for a database that is not there.
    engine.manifests.create(keys.manifest_key(db_uuid, first.branch_id), first)
    check_quick()
    engine.catalog.create_or(keys.catalog_key(name), entry, over)
    return _info(name, entry)


def get(engine: Engine, name: str) -> DatabaseInfo:
    """One database. Raises `DatabaseNotFoundError`."""
    return _info(check_name("database", name), engine.entry(name))


def life(engine: Engine, name: str) -> str:
    """Which life of its name a database is in: a deletion ends it, also if that is undone or the name taken again.

    Raises `DatabaseNotFoundError`.
    """
    return engine.entry(check_name("database", name)).life


def list_(engine: Engine, cursor: str | None = None, limit: int | None = None) -> Iterator[DatabaseInfo]:
    """Living databases in order of their names, beginning after the name `cursor`."""
    engine.check_open()
    after = None if cursor is None else keys.catalog_key(cursor)
    found = 0
    for info in engine.bucket.list(keys.CATALOG, after=after):
        if limit is not None and found >= limit:
            return
        engine.look()
        name = keys.database_of(info.key)
        try:
            entry = engine.entry(name)
        except DatabaseNotFoundError:
            continue
        found += 1
        yield _info(name, entry)


def delete(engine: Engine, name: str) -> DeleteResult:
    """Delete a database with all of its branches; to be undone until a collection removes it, a grace period later.

    Raises `DatabaseNotFoundError`.
    """
    entry = engine.entry(name)
    for branch in engine.open_branches():
        if branch.db_uuid == entry.db_uuid:
            # What it cannot ship goes with it.
            with contextlib.suppress(MemoturnError):
                branch.settle_head()
    now = engine.clock.now_ms()
    engine.catalog.update(keys.catalog_key(name), lambda old: rules.delete_database(old, name, now))
    for branch in engine.open_branches():
        if branch.db_uuid == entry.db_uuid:
            engine.forget(entry.db_uuid, branch.branch_id)
    return DeleteResult(name, Undo("delete-database", name, entry.db_uuid, "", "", None).token())


def _info(name: str, entry: CatalogEntry) -> DatabaseInfo:
    return DatabaseInfo(
        name, entry.db_uuid, entry.default_branch, time_of(entry.created_at), time_or_none(entry.ttl_at)
    )
