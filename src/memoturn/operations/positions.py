"""What an address means now: which branch, and which view of it; and a second look after a position was named."""

from __future__ import annotations

from typing import NamedTuple

from memoturn.base.errors import (
    BranchNotFoundError,
    CheckpointNotFoundError,
    DatabaseNotFoundError,
    InvalidRequestError,
)
from memoturn.base.names import Address, AtTime, AtTxid, Position
from memoturn.base.results.branches import Place
from memoturn.bucket import ObjectNotFound
from memoturn.database.branch import Branch
from memoturn.database.positions import Named, resolve
from memoturn.database.tail import Commit
from memoturn.manifest.keys import catalog_key
from memoturn.node.engine import Engine
from memoturn.pages.view import Source


class Seen(NamedTuple):
    """A branch, and one of its views; `exact` is whether it is the very one that was asked for."""

    branch: Branch
    view: Source
    exact: bool


def find(engine: Engine, branch: Branch, position: Position, exact: bool = False) -> Named:
    """What a position of the branch stands for: itself, or the nearest before it that can be restored.

    Raises `CheckpointNotFoundError`, and `TxidNotRetainedError` if there is none, or if it has to be `exact`.
    """
    # A head that is damaged is not looked at, so that it can be rewound past.
    manifest = branch.newest()
    tail: list[Commit] = []
    if isinstance(position, AtTime) or (isinstance(position, AtTxid) and position.txid > manifest.head_txid):
        manifest, tail = branch.newest_with_tail()
    try:
        return resolve(engine.env, branch.db_uuid, manifest, tail, position, exact)
    except CheckpointNotFoundError:
        # Another process may just have set it, perhaps one that has taken the branch over: what is unshipped here
        # must not be shown in place of what the checkpoint names.
        return resolve(engine.env, branch.db_uuid, branch.look_again(), tail, position, exact)


def see(engine: Engine, address: Address) -> Seen:
    """The branch and the view that an address stands for, and whether it is what was asked for."""
    branch = engine.branch(address.database, address.branch)
    if address.position is None:
        return Seen(branch, branch.head(), True)
    named = find(engine, branch, address.position, address.exact)
    return Seen(branch, branch.view_at(named.txid), named.exact)


def view_of(engine: Engine, address: Address) -> tuple[Branch, Source]:
    """The branch and the view that an address stands for."""
    return see(engine, address)[:2]


def where(engine: Engine, address: Address) -> Place:
    """What the address reads now."""
    seen = see(engine, address)
    return Place(seen.view.txid, seen.exact)


def writable(engine: Engine, address: Address) -> Branch:
    """The branch that an address stands for, to be written. Raises `InvalidRequestError` for a position."""
    if address.position is not None:
        raise InvalidRequestError(
            f"{address} is a position in the past, which is read-only; fork a branch from it to write"
        )
    return engine.branch(address.database, address.branch)


def look_again(engine: Engine, address: Address) -> None:
    """Believe nothing that was read before of a database and a branch that other machines may have changed.

    Whoever writes them on this machine tells of it. Raises `DatabaseNotFoundError`, `BranchNotFoundError` or
    `BranchExpiredError`.
    """
    if engine.env.watch.tells_owner:
        return
    try:
        engine.catalog.read(catalog_key(address.database))
    except ObjectNotFound:
        raise DatabaseNotFoundError(f"there is no database {address.database!r}") from None
    branch = engine.branch(address.database, address.branch)
    try:
        branch.look_again()
    except BranchNotFoundError:
        # It is gone, or another one has its name by now.
        engine.forget(branch.db_uuid, branch.branch_id)
        engine.branch(address.database, address.branch)
