# Made from ../aio/branches.py by tools/generate_sync.py; change that, and `make client`.

"""`db.branch`: the branches of a database, and what is done to the one that a handle is bound to."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Literal, overload

from memoturn.base.names import Address
from memoturn.faces.client.calls import branches as calls
from memoturn.faces.client.calls import databases
from memoturn.faces.client.sync.transport import Transport
from memoturn.faces.wire import (
    BranchInfo,
    CheckpointInfo,
    DeleteResult,
    HistoryEntry,
    PromoteResult,
    Promotion,
    RestorePoints,
    RewindResult,
    UndoResult,
)

if TYPE_CHECKING:
    from memoturn.faces.client.sync.client import Database

At = str | int | datetime


class Branches:
    """The branches of a database, and operations on the one that the handle is bound to."""

    def __init__(self, transport: Transport, address: Address) -> None:
        self._transport = transport
        self._address = address
        self._database = address.database

    def create(
        self,
        name: str,
        *,
        from_: str | None = None,
        checkpoint: str | None = None,
        txid: int | None = None,
        at: datetime | str | None = None,
        ttl: float | None = None,
        exact: bool = False,
    ) -> Database:
        """Fork this handle's branch, or `from_`, at its head or at one position; returns a handle to the fork.

        A position of which only older snapshots are left means the nearest of them, as `.forked` of the handle tells;
        with `exact` it raises `TxidNotRetainedError`. With `ttl`, in seconds, it is a burner branch. Raises
        `AlreadyExistsError`, `TxidNotRetainedError` or `CheckpointNotFoundError`.
        """
        from memoturn.faces.client.sync.client import Database

        info = self._transport.send(
            calls.create(self._address, name, from_, checkpoint, txid, at, ttl, exact)
        )
        return Database(self._transport, Address(self._database, name, None), info)

    def get(self, name: str | None = None) -> BranchInfo:
        """This handle's branch, or the one named."""
        branch = self._address.branch if name is None else name
        return self._transport.send(calls.get(self._database, branch))

    def list(self) -> builtins.list[BranchInfo]:
        """All branches of the database in the order of their names; their heads are those that have shipped."""
        return self._transport.send(calls.list_(self._database))

    def checkpoint(self, name: str, *, move: bool = False) -> CheckpointInfo:
        """Name the head. Raises `ConflictError` if the name stands elsewhere, unless `move` is set."""
        branch = calls.writable(self._address)
        return self._transport.send(calls.checkpoint(self._database, branch, name, move))

    def checkpoints(self) -> builtins.list[CheckpointInfo]:
        """The checkpoints of the branch, the oldest position first."""
        branch = self._address.branch
        return self._transport.send(calls.checkpoints(self._database, branch))

    def delete_checkpoint(self, name: str) -> None:
        """Forget a checkpoint's name. Raises `CheckpointNotFoundError`."""
        branch = calls.writable(self._address)
        self._transport.send(calls.delete_checkpoint(self._database, branch, name))

    def rewind(self, to: At, *, exact: bool = False) -> RewindResult:
        """Give the branch the content that it had at a checkpoint, a txid or a time.

        A position of which only older snapshots are left means the nearest of them, as `.restored_txid` and `.exact`
        tell; with `exact` it raises `TxidNotRetainedError`.
        """
        branch = calls.writable(self._address)
        return self._transport.send(calls.rewind(self._database, branch, to, exact))

    def reset(self) -> RewindResult:
        """Give the branch the content of its parent's head."""
        branch = calls.writable(self._address)
        return self._transport.send(calls.reset(self._database, branch))

    def undo(self, token: str) -> UndoResult:
        """Take back a rewind, a reset, a promotion or a deletion by the token that it returned."""
        return self._transport.send(databases.undo(self._database, token))

    @overload
    def promote(self, *, dry_run: Literal[False] = False) -> PromoteResult: ...

    @overload
    def promote(self, *, dry_run: Literal[True]) -> Promotion: ...

    @overload
    def promote(self, *, dry_run: bool) -> PromoteResult | Promotion: ...

    def promote(self, *, dry_run: bool = False) -> PromoteResult | Promotion:
        """Make this handle's branch the one that the database's name stands for.

        With `dry_run` nothing is done: the answer has the diff from the branch that it stands for now.
        """
        branch = calls.named(self._address)
        if dry_run:
            return self._transport.send(calls.promotion(self._database, branch))
        return self._transport.send(calls.promote(self._database, branch))

    def extend(self, ttl: float | None) -> BranchInfo:
        """Let the branch live `ttl` seconds from now, or for good if None."""
        branch = calls.writable(self._address)
        return self._transport.send(calls.extend(self._database, branch, ttl))

    def delete(self, name: str | None = None) -> DeleteResult:
        """Delete this handle's branch, or the one named; its children keep what they need."""
        branch = calls.named(self._address) if name is None else name
        return self._transport.send(calls.delete(self._database, branch))

    def history(self) -> Iterator[HistoryEntry]:
        """The txids of the branch, newest first, read as they are asked for."""
        branch = self._address.branch
        cursor: int | None = None
        while True:
            page = self._transport.send(calls.history(self._database, branch, cursor))
            for entry in page.history:
                yield entry
            cursor = page.cursor
            if cursor is None:
                return

    def restore_points(self) -> RestorePoints:
        """All positions of the branch that can be restored: ranges of txids, and single points below them."""
        branch = self._address.branch
        return self._transport.send(calls.restore_points(self._database, branch))
