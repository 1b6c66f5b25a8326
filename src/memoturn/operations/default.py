"""Which branch is the default one, and what that means for its life: it is never deleted, and never expires.

Two objects hold this, the catalog entry and the branch's manifest, and no write spans both. So each side looks before
it writes, writes, and looks again at the other's object: of two that cross, at least one sees the other, and takes
its own write back. Only its own: the record's `seq` tells whether anybody has written since, and every promotion
writes the entry, even one that changes nothing, so that nobody takes back what another was told is so.
"""

from __future__ import annotations

import contextlib
from typing import Final

from memoturn.base.errors import (
    BranchExpiredError,
    BranchNotFoundError,
    ConflictError,
    DatabaseNotFoundError,
    MemoturnError,
    UndecidedWriteError,
)
from memoturn.base.txids import UnixMs
from memoturn.bucket import ObjectNotFound
from memoturn.database.branch import Branch
from memoturn.database.ownership import Wish
from memoturn.manifest import keys, rules
from memoturn.manifest.model import CatalogEntry, Manifest
from memoturn.node.engine import Engine

_PATIENCE: Final = 10
_NoMore = (BranchNotFoundError, BranchExpiredError)


def check_another(engine: Engine, database: str, branch_id: str, what: str) -> None:
    """Raise `ConflictError` unless another branch, one that lives, is the default one."""
    entry = engine.catalog.read(keys.catalog_key(database)).record
    if entry.default_branch == branch_id:
        raise ConflictError(
            f"branch {branch_id!r} is the default branch and {what}; promote another one first"
        )
    try:
        _living(engine, entry.db_uuid, entry.default_branch)
    except _NoMore:
        # Whoever promoted it is about to go back, perhaps to the branch that is asked about.
        raise ConflictError(
            f"branch {branch_id!r} {what} while {entry.default_branch!r}, the default branch, is not there; "
            f"try again, or promote another one first"
        ) from None


def promote(engine: Engine, database: str, branch: Branch) -> str:
    """Make the branch the default one; returns which one was that before."""
    now = engine.clock.now_ms()
    burner: UnixMs | None = None

    def last(manifest: Manifest) -> Manifest:
        nonlocal burner
        burner = manifest.ttl_at
        return rules.set_ttl(manifest, None, now)

    # Before it gets the name: if this process dies in between, a burner that stays is the lesser evil.
    lasting = None if branch.manifest().ttl_at is None else branch.change(last)
    try:
        entry, before = _put(engine, database, branch, now)
        try:
            _make_lasting(engine, database, entry, branch.incarnation)
        except _NoMore:
            if _go_back(engine, database, entry, before):
                raise
    except UndecidedWriteError:
        raise  # It may be the default branch by now, or become it.
    except MemoturnError:
        if lasting is not None and burner is not None:
            with contextlib.suppress(MemoturnError):
                _give_back_ttl(engine, database, branch, lasting, burner)
        raise
    return before


def _put(engine: Engine, database: str, branch: Branch, now: UnixMs) -> tuple[CatalogEntry, str]:
    """Write the branch into the catalog; returns the entry as written, and what it named before."""
    before = branch.branch_id

    def wish(old: CatalogEntry) -> CatalogEntry:
        nonlocal before
        if old.db_uuid != branch.db_uuid:
            raise DatabaseNotFoundError(f"database {database!r} was deleted, and its name was taken again")
        before = old.default_branch
        return rules.promote(old, database, branch.branch_id, now)

    return engine.catalog.update(keys.catalog_key(database), wish).record, before


def _go_back(engine: Engine, database: str, entry: CatalogEntry, before: str) -> bool:
    """Take back the promotion that wrote `entry`; False if the promoted branch lives again, and stays promoted.

    The branch to go back to may have gone as well, as it was not the default one for a moment; then the promoted one
    may be back. Whoever has written the entry since looks after it.
    """
    promoted, now = entry.default_branch, engine.clock.now_ms()
    if before == promoted:
        return True
    for target in (before, promoted) * _PATIENCE:
        mine = entry.seq

        def wish(old: CatalogEntry, mine: int = mine, target: str = target) -> CatalogEntry:
            return rules.promote(old, database, target, now) if old.seq == mine else old

        entry = engine.catalog.update(keys.catalog_key(database), wish).record
        if entry.seq != mine + 1 or entry.default_branch != target:
            return True
        with contextlib.suppress(*_NoMore):
            _make_lasting(engine, database, entry)
            return target != promoted
    return True


def _living(engine: Engine, db_uuid: str, branch_id: str, incarnation: str | None = None) -> Manifest:
    """The manifest as the bucket has it now. Raises `BranchNotFoundError` or `BranchExpiredError`."""
    try:
        manifest = engine.manifests.read(keys.manifest_key(db_uuid, branch_id)).record
    except ObjectNotFound:
        raise BranchNotFoundError(f"branch {branch_id!r} is gone") from None
    if incarnation is not None:
        rules.check_incarnation(manifest, incarnation)
    rules.check_living(manifest, engine.clock.now_ms())
    return manifest


def _make_lasting(engine: Engine, database: str, entry: CatalogEntry, incarnation: str | None = None) -> None:
    """See that the branch which the entry names, as written by us, lives and has no ttl.

    Raises `BranchNotFoundError` or `BranchExpiredError`.
    """
    for _ in range(_PATIENCE):
        found = _living(engine, entry.db_uuid, entry.default_branch, incarnation)
        if found.ttl_at is None:
            return
        if engine.catalog.read(keys.catalog_key(database)).record.seq != entry.seq:
            return  # Another promotion came after ours, and then perhaps the ttl.
        engine.branch(database, entry.default_branch).change(_without(found.ttl_at, engine.clock.now_ms()))
    raise ConflictError(
        f"branch {entry.default_branch!r} is being extended by others all the time; try again"
    )


def _without(ttl_at: UnixMs | None, now: UnixMs) -> Wish:
    """To remove this ttl, and no other that somebody has set since."""
    return lambda m: rules.set_ttl(m, None, now) if m.ttl_at == ttl_at else m


def take_back_ttl(
    engine: Engine, database: str, branch: Branch, written: Manifest, before: UnixMs | None
) -> None:
    """The branch was promoted while a ttl was set: remove that, or put the former one back if it is no more so."""
    lasting = branch.change(_without(written.ttl_at, engine.clock.now_ms()))
    if before is not None:
        _give_back_ttl(engine, database, branch, lasting, before)


def _give_back_ttl(engine: Engine, database: str, branch: Branch, lasting: Manifest, ttl_at: UnixMs) -> None:
    """Give a burner its ttl back, unless it is the default branch or somebody has changed it since.

    `lasting` is the manifest from which the ttl was missing. One that was deleted since, which is one write, gets it
    back too, as the deletion may be undone.
    """

    def given(manifest: Manifest) -> Manifest:
        same = manifest.incarnation == lasting.incarnation and manifest.ttl_at is None
        since = 0 if manifest.deleted_at is None else 1
        untouched = manifest.seq == lasting.seq + since
        return rules.give_back_ttl(manifest, ttl_at) if same and untouched else manifest

    def taken(manifest: Manifest) -> Manifest:
        return rules.give_back_ttl(manifest, None) if manifest.ttl_at == ttl_at else manifest

    key = keys.catalog_key(database)
    if engine.catalog.read(key).record.default_branch == branch.branch_id:
        return
    engine.manifests.update(branch.key, given)
    entry = engine.catalog.read(key).record
    if entry.default_branch == branch.branch_id and entry.db_uuid == branch.db_uuid:
        engine.manifests.update(branch.key, taken)
