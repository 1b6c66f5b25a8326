"""`AsyncMemoturn` on a server: databases, handles to branches, and views of their past.

Objects here hold names, not state: every call asks the server what its name stands for at that moment, so a handle to
`db` follows a promotion, and a handle to a branch that was deleted says so.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING

from memoturn.base.clock import Clock
from memoturn.base.ids import Ids
from memoturn.base.names import Address, parse_address, parse_position, profile_address
from memoturn.base.new_file import new_file
from memoturn.base.results.rows import Params
from memoturn.base.settings import Durability
from memoturn.faces.client.aio.branches import AsyncBranches
from memoturn.faces.client.aio.documents import AsyncDocs
from memoturn.faces.client.aio.kv import AsyncKV
from memoturn.faces.client.aio.maintenance import AsyncMaintenance
from memoturn.faces.client.aio.tokens import AsyncTokens
from memoturn.faces.client.aio.transcripts import AsyncTurns
from memoturn.faces.client.aio.transport import AsyncTransport, pieces
from memoturn.faces.client.aio.vectors import AsyncVectors
from memoturn.faces.client.calls import branches, data, databases
from memoturn.faces.client.sqlite_file import whole_file
from memoturn.faces.wire import (
    BatchResult,
    BranchInfo,
    DatabaseInfo,
    DeleteResult,
    Diff,
    ExportResult,
    ImportResult,
    Place,
    Rows,
    UndoResult,
    surface,
)

if TYPE_CHECKING:
    from memoturn.faces.client.aio.memory import AsyncProfile

At = str | int | datetime
Progress = Callable[[int, int], None]
"""Called with how many bytes are done, and how many there are."""


class AsyncMemoturn(surface.AsyncMemoturn):
    """Memory that can be forked, checkpointed and rewound, kept by the server at `url`: `http://127.0.0.1:8080`.

    `token` is what `memoturn token create` printed. With `durability="durable"` every commit is acknowledged when it
    is in the store, whatever the server does by itself. `timeout` is how many seconds of silence a call bears.

    A call that fails on its way is sent again, up to `retries` times, with growing pauses and as the server asks with
    `Retry-After`, if it was certainly not obeyed, or if twice does no more than once: for that, what changes anything
    carries an `Idempotency-Key`.

    Use it as a context manager, or call `close`. Connections are kept and shared.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        durability: Durability | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        self._transport = AsyncTransport(url, token, durability, timeout, retries, clock, ids)
        self.url = url
        self.databases = AsyncDatabases(self._transport)
        self.maintenance = AsyncMaintenance(self._transport)
        self.tokens = AsyncTokens(self._transport)

    def db(self, address: str) -> AsyncDatabase:
        """A handle to `db`, `db@branch` or `db@branch:position`. Nothing is looked up until it is used."""
        return AsyncDatabase(self._transport, parse_address(address))

    def memory(self, ns: str, profile: str, branch: str | None = None) -> AsyncProfile:
        """A handle to the memories of a profile. Nothing is looked up until it is used."""
        from memoturn.faces.client.aio.memory import AsyncProfile

        return AsyncProfile(self._transport, profile_address(ns, profile, branch))

    async def profiles(self, ns: str) -> list[str]:
        """The profiles of a namespace that have memories, in the order of their names."""
        return await self._transport.send(databases.profiles(ns))

    async def sync(self) -> None:
        """Ship everything that was committed. Raises `UnavailableError` if the store does not take it."""
        await self._transport.send(databases.sync())

    async def close(self) -> None:
        """Let go of the connections; calling it again does nothing."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncMemoturn:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncMemoturn({self.url!r})"


class AsyncDatabases:
    """The databases of a server."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, name: str, ttl: float | None = None) -> DatabaseInfo:
        """Create an empty database with one branch, `main`. `ttl` is in seconds.

        Raises `AlreadyExistsError` or `InvalidRequestError`.
        """
        return await self._transport.send(databases.create(name, ttl))

    async def get(self, name: str) -> DatabaseInfo:
        """One database. Raises `DatabaseNotFoundError`."""
        return await self._transport.send(databases.get(name))

    async def list(self) -> builtins.list[DatabaseInfo]:
        """All databases, in the order of their names in the store."""
        found: builtins.list[DatabaseInfo] = []
        cursor: str | None = None
        while True:
            page = await self._transport.send(databases.page(cursor))
            found += page.databases
            cursor = page.cursor
            if cursor is None:
                return found

    async def delete(self, name: str) -> DeleteResult:
        """Delete a database with all of its branches. Raises `DatabaseNotFoundError`."""
        return await self._transport.send(databases.delete(name))

    async def undo(self, name: str, token: str) -> UndoResult:
        """Take back a rewind, a reset, a promotion or a deletion by the token that it returned."""
        return await self._transport.send(databases.undo(name, token))

    async def import_file(
        self, name: str, path: str | os.PathLike[str], progress: Progress | None = None
    ) -> ImportResult:
        """Create a database from a SQLite file; the file is not changed.

        Raises `InvalidRequestError` for what is no intact SQLite database, before anything is created, and
        `AlreadyExistsError`.
        """
        with whole_file(os.fspath(path)) as file:
            size = os.fstat(file.fileno()).st_size
            call = databases.import_file(name, size)
            return await self._transport.send(call, partial(pieces, file, size, progress))


class AsyncDatabase(surface.AsyncDatabase):
    """A handle to a branch of a database, or to a position in its past."""

    def __init__(self, transport: AsyncTransport, address: Address, forked: BranchInfo | None = None) -> None:
        self._transport = transport
        self._address = address
        self.branch = AsyncBranches(transport, address)
        self.forked = forked
        """What creating the branch has told, `exact` included, if this handle comes from there."""

    async def sql(self, sql: str, params: Params | None = None) -> Rows:
        """Run one statement; one that writes is a transaction by itself.

        Returns a list of dicts with `.columns`, `.types` and `.txid`. Raises `SqlError` if SQLite refuses it, and
        `InvalidRequestError` if it is not allowed.
        """
        return await self._transport.send(data.sql(self._address, sql, params))

    async def batch(self, stmts: Sequence[tuple[str, Params | None] | str]) -> BatchResult:
        """Run statements as one transaction, or none of them. Returns `.results` and `.txid`."""
        return await self._transport.send(data.batch(self._address, stmts))

    @cached_property
    def kv(self) -> AsyncKV:
        """Keys and values."""
        return AsyncKV(self._transport, self._address)

    @cached_property
    def docs(self) -> AsyncDocs:
        """JSON documents in collections."""
        return AsyncDocs(self._transport, self._address)

    @cached_property
    def vectors(self) -> AsyncVectors:
        """Vectors by id, in collections."""
        return AsyncVectors(self._transport, self._address)

    def at(self, position: At, *, exact: bool = False) -> AsyncDatabase:
        """A read-only handle to a checkpoint, a txid or a time of this branch.

        A position of which only older snapshots are left reads the nearest of them, and answers say so: `.txid` and
        `.exact`. With `exact` it raises `TxidNotRetainedError`.
        """
        address = self._address._replace(position=parse_position(position), exact=exact)
        return AsyncDatabase(self._transport, address)

    async def where(self) -> Place:
        """Which position this handle reads now: `.txid`, and whether it is the very one asked for, `.exact`."""
        return await self._transport.send(data.where(self._address))

    @cached_property
    def turns(self) -> AsyncTurns:
        """The turns of sessions, verbatim."""
        return AsyncTurns(self._transport, self._address)

    @property
    async def txid(self) -> int:
        """The txid that this handle reads now."""
        return await self._transport.send(data.txid(self._address))

    async def export(self, path: str | os.PathLike[str], progress: Progress | None = None) -> ExportResult:
        """Write the database as a plain SQLite file, which must not exist yet."""
        name = os.fspath(path)
        size = 0
        with new_file(name) as file:
            async with self._transport.stream(data.export(self._address)) as response:
                total = int(response.headers.get("content-length", 0))
                async for piece in response.pieces():
                    file.write(piece)
                    size += len(piece)
                    if progress is not None:
                        progress(size, max(total, size))
                told = response.headers
        return data.exported(name, size, told)

    async def diff(self, other: str, *, limit: int = 20, table: str | None = None) -> Diff:
        """What is to be done to what this handle reads to come to `other`: `db@branch`, or `db@branch:position`.

        Counts are exact; of each table or collection, `limit` examples at most are shown. With `table`, only that one
        is looked at. Raises `InvalidRequestError` if the other is of another database.
        """
        return await self._transport.send(branches.diff(self._address, other, limit, table))

    async def sync(self) -> int:
        """Ship what was committed on this branch; returns the txid up to which it is in the store."""
        return await self._transport.send(data.sync(self._address))

    def __repr__(self) -> str:
        return f"AsyncDatabase({str(self._address)!r})"
