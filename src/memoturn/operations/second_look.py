"""A second look after a position was named: history may have been cut between the first look and the write.

A boundary rises first, and what lies below it is removed a grace period later, by somebody who reads all manifests
then. So a write that names a position is soon enough to be seen by him, or it looks again, and is taken back if the
position can no longer be named.
"""

from __future__ import annotations

from memoturn.base.errors import BranchNotFoundError, TxidNotRetainedError
from memoturn.base.txids import TXID
from memoturn.database.branch import Branch
from memoturn.database.positions import still_restorable
from memoturn.manifest import rules
from memoturn.manifest.model import Manifest
from memoturn.manifest.restorable import is_exact, restorable
from memoturn.node.engine import Engine


def is_late(engine: Engine, began: float) -> bool:
    """Whether so much time has passed since `began` that what could be named then may have been cut meanwhile.

    What was known then was of the bucket as it had been at most `manifest_max_age` seconds before.
    """
    known = began - engine.settings.cache.manifest_max_age
    return engine.clock.monotonic() - known > engine.settings.history.gc_grace_secs / 2


def after_fork(engine: Engine, key: str, child: Manifest) -> None:
    """Raise, and leave a tombstone, if a child at `key` stands on a position that can no longer be named."""
    parent = child.parent
    if parent is None:
        return
    try:
        above = engine.env.manifest_now(parent, parent.fork_txid)
        if above.deleted_at is not None:
            raise BranchNotFoundError(f"branch {parent.branch_id!r} was deleted")
        _check(engine, above, parent.fork_txid)
    except (BranchNotFoundError, TxidNotRetainedError):
        now = engine.clock.now_ms()
        engine.manifests.update(
            key, lambda m: rules.tombstone(m, now) if m.incarnation == child.incarnation else m
        )
        raise


def after_rewind(engine: Engine, branch: Branch, before: Manifest, to_txid: TXID) -> None:
    """Raise, and go back, if a branch, `before`, was rewound to what it inherited and that can no longer be named."""
    try:
        _check(engine, before, to_txid)
    except TxidNotRetainedError:
        _go_back(engine, branch, before.head_txid)
        raise


def after_reset(engine: Engine, branch: Branch, written: Manifest) -> None:
    """Raise, and go back, if a branch was reset to a position of its parent that can no longer be named."""
    stretch, parent = written.timeline[-1], written.parent
    if parent is None:
        return
    try:
        above = engine.env.manifest_now(parent, stretch.base_txid)
        if above.deleted_at is not None:
            raise BranchNotFoundError(f"branch {parent.branch_id!r} was deleted")
        _check(engine, above, stretch.base_txid)
    except (BranchNotFoundError, TxidNotRetainedError):
        _go_back(engine, branch, TXID(stretch.from_txid - 1))
        raise


def _check(engine: Engine, manifest: Manifest, txid: TXID) -> None:
    if not is_exact(manifest, txid, engine.env.manifest_now):
        still_restorable(restorable(manifest, engine.env.manifest_now), manifest, txid)


def _go_back(engine: Engine, branch: Branch, txid: TXID) -> None:
    now = engine.clock.now_ms()
    branch.move_head(lambda m, last: rules.rewind(m, txid, now, not_before=last))
