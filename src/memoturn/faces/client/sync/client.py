# Made from ../aio/client.py by tools/generate_sync.py; change that, and `make client`.

"""`Memoturn` on a server: databases, handles to branches, and views of their past.

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
from memoturn.faces.client.calls import branches, data, databases
from memoturn.faces.client.sqlite_file import whole_file
from memoturn.faces.client.sync.branches import Branches
from memoturn.faces.client.sync.documents import Docs
from memoturn.faces.client.sync.kv import KV
from memoturn.faces.client.sync.maintenance import Maintenance
from memoturn.faces.client.sync.tokens import Tokens
from memoturn.faces.client.sync.transcripts import Turns
from memoturn.faces.client.sync.transport import Transport, pieces
from memoturn.faces.client.sync.vectors import Vectors
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
    from memoturn.faces.client.sync.memory import Profile

At = str | int | datetime
Progress = Callable[[int, int], None]
"""Called with how many bytes are done, and how many there are."""


class Memoturn(surface.Memoturn):
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
        self._transport = Transport(url, token, durability, timeout, retries, clock, ids)
        self.url = url
        self.databases = Databases(self._transport)
        self.maintenance = Maintenance(self._transport)
        self.tokens = Tokens(self._transport)

    def db(self, address: str) -> Database:
        """A handle to `db`, `db@branch` or `db@branch:position`. Nothing is looked up until it is used."""
        return Database(self._transport, parse_address(address))

    def memory(self, ns: str, profile: str, branch: str | None = None) -> Profile:
        """A handle to the memories of a profile. Nothing is looked up until it is used."""
        from memoturn.faces.client.sync.memory import Profile

        return Profile(self._transport, profile_address(ns, profile, branch))

    def profiles(self, ns: str) -> list[str]:
        """The profiles of a namespace that have memories, in the order of their names."""
        return self._transport.send(databases.profiles(ns))

    def sync(self) -> None:
        """Ship everything that was committed. Raises `UnavailableError` if the store does not take it."""
        self._transport.send(databases.sync())

    def close(self) -> None:
        """Let go of the connections; calling it again does nothing."""
        self._transport.close()

    def __enter__(self) -> Memoturn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Memoturn({self.url!r})"


class Databases:
    """The databases of a server."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, ttl: float | None = None) -> DatabaseInfo:
        """Create an empty database with one branch, `main`. `ttl` is in seconds.

        Raises `AlreadyExistsError` or `InvalidRequestError`.
        """
        return self._transport.send(databases.create(name, ttl))

    def get(self, name: str) -> DatabaseInfo:
        """One database. Raises `DatabaseNotFoundError`."""
        return self._transport.send(databases.get(name))

    def list(self) -> builtins.list[DatabaseInfo]:
        """All databases, in the order of their names in the store."""
        found: builtins.list[DatabaseInfo] = []
        cursor: str | None = None
        while True:
            page = self._transport.send(databases.page(cursor))
            found += page.databases
            cursor = page.cursor
            if cursor is None:
                return found

    def delete(self, name: str) -> DeleteResult:
        """Delete a database with all of its branches. Raises `DatabaseNotFoundError`."""
        return self._transport.send(databases.delete(name))

    def undo(self, name: str, token: str) -> UndoResult:
        """Take back a rewind, a reset, a promotion or a deletion by the token that it returned."""
        return self._transport.send(databases.undo(name, token))

    def import_file(
        self, name: str, path: str | os.PathLike[str], progress: Progress | None = None
    ) -> ImportResult:
        """Create a database from a SQLite file; the file is not changed.

        Raises `InvalidRequestError` for what is no intact SQLite database, before anything is created, and
        `AlreadyExistsError`.
        """
        with whole_file(os.fspath(path)) as file:
            size = os.fstat(file.fileno()).st_size
            call = databases.import_file(name, size)
            return self._transport.send(call, partial(pieces, file, size, progress))


class Database(surface.Database):
    """A handle to a branch of a database, or to a position in its past."""

    def __init__(self, transport: Transport, address: Address, forked: BranchInfo | None = None) -> None:
        self._transport = transport
        self._address = address
        self.branch = Branches(transport, address)
        self.forked = forked
        """What creating the branch has told, `exact` included, if this handle comes from there."""

    def sql(self, sql: str, params: Params | None = None) -> Rows:
        """Run one statement; one that writes is a transaction by itself.

        Returns a list of dicts with `.columns`, `.types` and `.txid`. Raises `SqlError` if SQLite refuses it, and
        `InvalidRequestError` if it is not allowed.
        """
        return self._transport.send(data.sql(self._address, sql, params))

    def batch(self, stmts: Sequence[tuple[str, Params | None] | str]) -> BatchResult:
        """Run statements as one transaction, or none of them. Returns `.results` and `.txid`."""
        return self._transport.send(data.batch(self._address, stmts))

    @cached_property
    def kv(self) -> KV:
        """Keys and values."""
        return KV(self._transport, self._address)

    @cached_property
    def docs(self) -> Docs:
        """JSON documents in collections."""
        return Docs(self._transport, self._address)

    @cached_property
    def vectors(self) -> Vectors:
        """Vectors by id, in collections."""
        return Vectors(self._transport, self._address)

    def at(self, position: At, *, exact: bool = False) -> Database:
        """A read-only handle to a checkpoint, a txid or a time of this branch.

        A position of which only older snapshots are left reads the nearest of them, and answers say so: `.txid` and
        `.exact`. With `exact` it raises `TxidNotRetainedError`.
        """
        address = self._address._replace(position=parse_position(position), exact=exact)
        return Database(self._transport, address)

    def where(self) -> Place:
        """Which position this handle reads now: `.txid`, and whether it is the very one asked for, `.exact`."""
        return self._transport.send(data.where(self._address))

    @cached_property
    def turns(self) -> Turns:
        """The turns of sessions, verbatim."""
        return Turns(self._transport, self._address)

    @property
    def txid(self) -> int:
        """The txid that this handle reads now."""
        return self._transport.send(data.txid(self._address))

    def export(self, path: str | os.PathLike[str], progress: Progress | None = None) -> ExportResult:
        """Write the database as a plain SQLite file, which must not exist yet."""
        name = os.fspath(path)
        size = 0
        with new_file(name) as file:
            with self._transport.stream(data.export(self._address)) as response:
                total = int(response.headers.get("content-length", 0))
                for piece in response.pieces():
                    file.write(piece)
                    size += len(piece)
                    if progress is not None:
                        progress(size, max(total, size))
                told = response.headers
        return data.exported(name, size, told)

    def diff(self, other: str, *, limit: int = 20, table: str | None = None) -> Diff:
        """What is to be done to what this handle reads to come to `other`: `db@branch`, or `db@branch:position`.

        Counts are exact; of each table or collection, `limit` examples at most are shown. With `table`, only that one
        is looked at. Raises `InvalidRequestError` if the other is of another database.
        """
        return self._transport.send(branches.diff(self._address, other, limit, table))

    def sync(self) -> int:
        """Ship what was committed on this branch; returns the txid up to which it is in the store."""
        return self._transport.send(data.sync(self._address))

    def __repr__(self) -> str:
        return f"Database({str(self._address)!r})"
