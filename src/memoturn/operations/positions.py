"""What an address means now: which branch, and which view of it."""

from __future__ import annotations

from memoturn.base.errors import CheckpointNotFoundError, InvalidRequestError
from memoturn.base.names import Address, AtCheckpoint, AtTime, AtTxid, Position
from memoturn.base.txids import TXID
from memoturn.database.branch import Branch
from memoturn.database.positions import resolve
from memoturn.node.engine import Engine
from memoturn.pages.view import Source


def txid_of(engine: Engine, branch: Branch, position: Position) -> TXID:
    """The txid that a position of the branch stands for.

    Raises `CheckpointNotFoundError` or `TxidNotRetainedError`.
    """
    if isinstance(position, AtTxid):
        return position.txid
    tail = branch.unshipped() if isinstance(position, AtTime) else []
    try:
        return resolve(engine.env, branch.db_uuid, branch.manifest(), tail, position)
    except CheckpointNotFoundError:
        if not isinstance(position, AtCheckpoint):
            raise
        # Another process may just have set it, perhaps one that has taken the branch over: what is unshipped here
        # must not be shown in place of what the checkpoint names.
        manifest = branch.look_again()
        return resolve(engine.env, branch.db_uuid, manifest, tail, position)


def view_of(engine: Engine, address: Address) -> tuple[Branch, Source]:
    """The branch and the view that an address stands for."""
    branch = engine.branch(address.database, address.branch)
    if address.position is None:
        return branch, branch.head()
    return branch, branch.view_at(txid_of(engine, branch, address.position))


def writable(engine: Engine, address: Address) -> Branch:
    """The branch that an address stands for, to be written. Raises `InvalidRequestError` for a position."""
    if address.position is not None:
        raise InvalidRequestError(
            f"{address} is a position in the past, which is read-only; fork a branch from it to write"
        )
    return engine.branch(address.database, address.branch)
