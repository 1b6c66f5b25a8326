"""`db.branch`: the branches of a database, and what is done to the one that a handle is bound to."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Literal, overload

from memoturn.base.names import Address
from memoturn.faces.client.aio.transport import AsyncTransport
from memoturn.faces.client.calls import branches as calls
from memoturn.faces.client.calls import databases
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
    from memoturn.faces.client.aio.client import AsyncDatabase

At = str | int | datetime


class AsyncBranches:
    """The branches of a database, and operations on the one that the handle is bound to."""

    def __init__(self, transport: AsyncTransport, address: Address) -> None:
        self._transport = transport
        self._address = address
        self._database = address.database

    async def create(
        self,
        name: str,
        *,
        from_: str | None = None,
        checkpoint: str | None = None,
        txid: int | None = None,
        at: datetime | str | None = None,
        ttl: float | None = None,
        exact: bool = False,
    ) -> AsyncDatabase:
        """Fork this handle's branch, or `from_`, at its head or at one position; returns a handle to the fork.

        A position of which only older snapshots are left means the nearest of them, as `.forked` of the handle tells;
        with `exact` it raises `TxidNotRetainedError`. With `ttl`, in seconds, it is a burner branch. Raises
        `AlreadyExistsError`, `TxidNotRetainedError` or `CheckpointNotFoundError`.
        """
        from memoturn.faces.client.aio.client import AsyncDatabase

        info = await self._transport.send(
            calls.create(self._address, name, from_, checkpoint, txid, at, ttl, exact)
        )
        return AsyncDatabase(self._transport, Address(self._database, name, None), info)

    async def get(self, name: str | None = None) -> BranchInfo:
        """This handle's branch, or the one named."""
        branch = self._address.branch if name is None else name
        return await self._transport.send(calls.get(self._database, branch))

    async def list(self) -> builtins.list[BranchInfo]:
        """All branches of the database in the order of their names; their heads are those that have shipped."""
        return await self._transport.send(calls.list_(self._database))

    async def checkpoint(self, name: str, *, move: bool = False) -> CheckpointInfo:
        """Name the head. Raises `ConflictError` if the name stands elsewhere, unless `move` is set."""
        branch = calls.writable(self._address)
        return await self._transport.send(calls.checkpoint(self._database, branch, name, move))

    async def checkpoints(self) -> builtins.list[CheckpointInfo]:
        """The checkpoints of the branch, the oldest position first."""
        branch = self._address.branch
        return await self._transport.send(calls.checkpoints(self._database, branch))

    async def delete_checkpoint(self, name: str) -> None:
        """Forget a checkpoint's name. Raises `CheckpointNotFoundError`."""
        branch = calls.writable(self._address)
        await self._transport.send(calls.delete_checkpoint(self._database, branch, name))

    async def rewind(self, to: At, *, exact: bool = False) -> RewindResult:
        """Give the branch the content that it had at a checkpoint, a txid or a time.

        A position of which only older snapshots are left means the nearest of them, as `.restored_txid` and `.exact`
        tell; with `exact` it raises `TxidNotRetainedError`.
        """
        branch = calls.writable(self._address)
        return await self._transport.send(calls.rewind(self._database, branch, to, exact))

    async def reset(self) -> RewindResult:
        """Give the branch the content of its parent's head."""
        branch = calls.writable(self._address)
        return await self._transport.send(calls.reset(self._database, branch))

    async def undo(self, token: str) -> UndoResult:
        """Take back a rewind, a reset, a promotion or a deletion by the token that it returned."""
        return await self._transport.send(databases.undo(self._database, token))

    @overload
    async def promote(self, *, dry_run: Literal[False] = False) -> PromoteResult: ...

    @overload
    async def promote(self, *, dry_run: Literal[True]) -> Promotion: ...

    @overload
    async def promote(self, *, dry_run: bool) -> PromoteResult | Promotion: ...

    async def promote(self, *, dry_run: bool = False) -> PromoteResult | Promotion:
        """Make this handle's branch the one that the database's name stands for.

        With `dry_run` nothing is done: the answer has the diff from the branch that it stands for now.
        """
        branch = calls.named(self._address)
        if dry_run:
            return await self._transport.send(calls.promotion(self._database, branch))
        return await self._transport.send(calls.promote(self._database, branch))

    async def extend(self, ttl: float | None) -> BranchInfo:
        """Let the branch live `ttl` seconds from now, or for good if None."""
        branch = calls.writable(self._address)
        return await self._transport.send(calls.extend(self._database, branch, ttl))

    async def delete(self, name: str | None = None) -> DeleteResult:
        """Delete this handle's branch, or the one named; its children keep what they need."""
        branch = calls.named(self._address) if name is None else name
        return await self._transport.send(calls.delete(self._database, branch))

    async def history(self) -> AsyncIterator[HistoryEntry]:
        """The txids of the branch, newest first, read as they are asked for."""
        branch = self._address.branch
        cursor: int | None = None
        while True:
            page = await self._transport.send(calls.history(self._database, branch, cursor))
            for entry in page.history:
                yield entry
            cursor = page.cursor
            if cursor is None:
                return

    async def restore_points(self) -> RestorePoints:
        """All positions of the branch that can be restored: ranges of txids, and single points below them."""
        branch = self._address.branch
        return await self._transport.send(calls.restore_points(self._database, branch))
