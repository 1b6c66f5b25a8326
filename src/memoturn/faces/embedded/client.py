"""`Memoturn` on a store: databases, handles to branches, and views of their past.

Objects here hold names, not state: every call looks up what its name stands for at that moment, so a handle to
`db` follows a promotion, and a handle to a branch that was deleted says so.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from memoturn.base.clock import Clock
from memoturn.base.embedding import Embedder, check_embedder
from memoturn.base.errors import InvalidRequestError
from memoturn.base.ids import Ids
from memoturn.base.names import (
    Address,
    check_name,
    parse_address,
    parse_position,
    position_of_one_kind,
    profile_address,
)
from memoturn.base.results.rows import Params
from memoturn.base.settings import Durability, Settings
from memoturn.faces.embedded.documents import Docs
from memoturn.faces.embedded.kv import KV
from memoturn.faces.embedded.maintenance import Maintenance
from memoturn.faces.embedded.transcripts import Turns
from memoturn.faces.embedded.vectors import Vectors
from memoturn.faces.wire import (
    BatchResult,
    BranchInfo,
    CheckpointInfo,
    DatabaseInfo,
    DeleteResult,
    Diff,
    ExportResult,
    HistoryEntry,
    ImportResult,
    Place,
    PromoteResult,
    Promotion,
    RestorePoints,
    RewindResult,
    Rows,
    UndoResult,
    surface,
)
from memoturn.node.engine import Engine
from memoturn.operations import branches, databases, positions, transfer, undo
from memoturn.operations import sql as statements
from memoturn.operations.opening import open_engine

if TYPE_CHECKING:
    from memoturn.faces.embedded.memory import Profile

At = str | int | datetime
Progress = Callable[[int, int], None]
"""Called with how many bytes are done, and how many there are."""


class Memoturn(surface.Memoturn):
    """Memory that can be forked, checkpointed and rewound, kept in the store at `url`.

    `memory:` lives as long as this object; `file:./data` is a directory that several processes may use at once;
    `s3://bucket/prefix`, `gs://…` and `az://…` read the usual credentials, and keep their commit log in
    `data_dir`. `durability` is `standard` (a commit is on this machine's disk) or `durable` (it is in the store).

    `embedder` makes the embeddings of memories and questions that come without; see `LocalEmbedder` and
    `OpenAIEmbedder`.

    Use it as a context manager, or call `close`. Threads may share it.
    """

    def __init__(
        self,
        url: str = "file:./data",
        *,
        durability: Durability | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        if not isinstance(url, str):
            raise InvalidRequestError(
                f"{url!r} is no store; write 'file:./data', 'memory:' or 's3://bucket/prefix'"
            )
        if url.startswith(("http://", "https://")):
            raise InvalidRequestError(f"{url!r} is a server; `from memoturn import Memoturn` is its client")
        self._embedder = check_embedder(embedder)
        settings = settings or Settings()
        if durability is not None:
            if durability not in ("standard", "durable"):
                raise InvalidRequestError(
                    f"durability {durability!r} is unknown; use 'standard' or 'durable'"
                )
            settings = replace(settings, commit=replace(settings.commit, durability=durability))
        if data_dir is not None:
            settings = replace(settings, data_dir=os.fspath(data_dir))
        self._engine = open_engine(url, settings, clock, ids)
        self.url = url
        self.databases = Databases(self._engine)
        self.maintenance = Maintenance(self._engine)

    def db(self, address: str) -> Database:
        """A handle to `db`, `db@branch` or `db@branch:position`. Nothing is looked up until it is used."""
        return Database(self._engine, parse_address(address))

    def memory(self, ns: str, profile: str, branch: str | None = None) -> Profile:
        """A handle to the memories of a profile. Nothing is looked up until it is used."""
        from memoturn.faces.embedded.memory import Profile

        return Profile(self._engine, profile_address(ns, profile, branch), self._embedder)

    def profiles(self, ns: str) -> list[str]:
        """The profiles of a namespace that have memories, in the order of their names."""
        from memoturn.operations.memories import profiles

        return builtins.list(profiles(self._engine, ns))

    def sync(self) -> None:
        """Ship everything that was committed. Raises `UnavailableError` if the store does not take it."""
        self._engine.sync()

    def close(self) -> None:
        """Ship what was committed and let go of the store; calling it again does nothing."""
        self._engine.close()

    def __enter__(self) -> Memoturn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Memoturn({self.url!r})"


class Databases:
    """The databases of a store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, name: str, ttl: float | None = None) -> DatabaseInfo:
        """Create an empty database with one branch, `main`. `ttl` is in seconds.

        Raises `AlreadyExistsError` or `InvalidRequestError`.
        """
        return databases.create(self._engine, name, ttl)

    def get(self, name: str) -> DatabaseInfo:
        """One database. Raises `DatabaseNotFoundError`."""
        return databases.get(self._engine, name)

    def list(self) -> builtins.list[DatabaseInfo]:
        """All databases, in the order of their names in the store."""
        return builtins.list(databases.list_(self._engine))

    def delete(self, name: str) -> DeleteResult:
        """Delete a database with all of its branches. Raises `DatabaseNotFoundError`."""
        return databases.delete(self._engine, name)

    def undo(self, name: str, token: str) -> UndoResult:
        """Take back a rewind, a reset, a promotion or a deletion by the token that it returned."""
        return undo.undo(self._engine, check_name("database", name), token)

    def import_file(
        self, name: str, path: str | os.PathLike[str], progress: Progress | None = None
    ) -> ImportResult:
        """Create a database from a SQLite file; the file is not changed.

        Raises `InvalidRequestError` for what is no intact SQLite database, before anything is created, and
        `AlreadyExistsError`.
        """
        return transfer.import_file(self._engine, name, os.fspath(path), progress)


class Database(surface.Database):
    """A handle to a branch of a database, or to a position in its past."""

    def __init__(self, engine: Engine, address: Address, forked: BranchInfo | None = None) -> None:
        self._engine = engine
        self._address = address
        self.branch = Branches(engine, address)
        self.forked = forked
        """What creating the branch has told, `exact` included, if this handle comes from there."""

    def sql(self, sql: str, params: Params | None = None) -> Rows:
        """Run one statement; one that writes is a transaction by itself.

        Returns a list of dicts with `.columns`, `.types` and `.txid`. Raises `SqlError` if SQLite refuses it, and
        `InvalidRequestError` if it is not allowed.
        """
        return statements.sql(self._engine, self._address, sql, params)

    def batch(self, stmts: Sequence[tuple[str, Params | None] | str]) -> BatchResult:
        """Run statements as one transaction, or none of them. Returns `.results` and `.txid`."""
        pairs = [(item, None) if isinstance(item, str) else _pair(item) for item in stmts]
        return statements.batch(self._engine, self._address, pairs)

    @cached_property
    def kv(self) -> KV:
        """Keys and values."""
        return KV(self._engine, self._address)

    @cached_property
    def docs(self) -> Docs:
        """JSON documents in collections."""
        return Docs(self._engine, self._address)

    @cached_property
    def vectors(self) -> Vectors:
        """Vectors by id, in collections."""
        return Vectors(self._engine, self._address)

    def at(self, position: At, *, exact: bool = False) -> Database:
        """A read-only handle to a checkpoint, a txid or a time of this branch.

        A position of which only older snapshots are left reads the nearest of them, and answers say so: `.txid` and
        `.exact`. With `exact` it raises `TxidNotRetainedError`.
        """
        return Database(self._engine, self._address._replace(position=parse_position(position), exact=exact))

    def where(self) -> Place:
        """Which position this handle reads now: `.txid`, and whether it is the very one asked for, `.exact`."""
        return positions.where(self._engine, self._address)

    @cached_property
    def turns(self) -> Turns:
        """The turns of sessions, verbatim."""
        return Turns(self._engine, self._address)

    @property
    def txid(self) -> int:
        """The txid that this handle reads now."""
        return transfer.txid(self._engine, self._address)

    def export(self, path: str | os.PathLike[str], progress: Progress | None = None) -> ExportResult:
        """Write the database as a plain SQLite file, which must not exist yet."""
        return transfer.export(self._engine, self._address, os.fspath(path), progress)

    def diff(self, other: str, *, limit: int = 20, table: str | None = None) -> Diff:
        """What is to be done to what this handle reads to come to `other`: `db@branch`, or `db@branch:position`.

        Counts are exact; of each table or collection, `limit` examples at most are shown. With `table`, only that one
        is looked at. Raises `InvalidRequestError` if the other is of another database.
        """
        from memoturn.operations.diff import diff

        return diff(self._engine, self._address, parse_address(other), limit, table)

    def sync(self) -> int:
        """Ship what was committed on this branch; returns the txid up to which it is in the store."""
        return transfer.sync(self._engine, self._address)

    def __repr__(self) -> str:
        return f"Database({str(self._address)!r})"


class Branches:
    """The branches of a database, and operations on the one that the handle is bound to."""

    def __init__(self, engine: Engine, address: Address) -> None:
        self._engine = engine
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
        # The position of this handle is one of its own branch.
        here = self._address.position if from_ is None else None
        position = position_of_one_kind(checkpoint, txid, at) or here
        source = self._address.branch if from_ is None else check_name("branch", from_)
        exact = exact or self._address.exact
        info = branches.create(self._engine, self._database, name, source, position, ttl, exact)
        return Database(self._engine, Address(self._database, name, None), info)

    def get(self, name: str | None = None) -> BranchInfo:
        """This handle's branch, or the one named."""
        return branches.get(self._engine, self._database, self._address.branch if name is None else name)

    def list(self) -> builtins.list[BranchInfo]:
        """All branches of the database in the order of their names; their heads are those that have shipped."""
        return builtins.list(branches.list_(self._engine, self._database))

    def checkpoint(self, name: str, *, move: bool = False) -> CheckpointInfo:
        """Name the head. Raises `ConflictError` if the name stands elsewhere, unless `move` is set."""
        return branches.checkpoint(self._engine, self._database, self._writable(), name, move)

    def checkpoints(self) -> builtins.list[CheckpointInfo]:
        """The checkpoints of the branch, the oldest position first."""
        return branches.checkpoints(self._engine, self._database, self._address.branch)

    def delete_checkpoint(self, name: str) -> None:
        """Forget a checkpoint's name. Raises `CheckpointNotFoundError`."""
        branches.delete_checkpoint(self._engine, self._database, self._writable(), name)

    def rewind(self, to: At, *, exact: bool = False) -> RewindResult:
        """Give the branch the content that it had at a checkpoint, a txid or a time.

        A position of which only older snapshots are left means the nearest of them, as `.restored_txid` and `.exact`
        tell; with `exact` it raises `TxidNotRetainedError`.
        """
        return branches.rewind(self._engine, self._database, self._writable(), parse_position(to), exact)

    def reset(self) -> RewindResult:
        """Give the branch the content of its parent's head."""
        return branches.reset(self._engine, self._database, self._writable())

    def undo(self, token: str) -> UndoResult:
        """Take back a rewind, a reset, a promotion or a deletion by the token that it returned."""
        return undo.undo(self._engine, self._database, token)

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
        if dry_run:
            from memoturn.operations.diff import promotion

            return promotion(self._engine, self._database, self._named())
        return branches.promote(self._engine, self._database, self._named())

    def extend(self, ttl: float | None) -> BranchInfo:
        """Let the branch live `ttl` seconds from now, or for good if None."""
        return branches.extend(self._engine, self._database, self._writable(), ttl)

    def delete(self, name: str | None = None) -> DeleteResult:
        """Delete this handle's branch, or the one named; its children keep what they need."""
        return branches.delete(self._engine, self._database, self._named() if name is None else name)

    def history(self) -> Iterator[HistoryEntry]:
        """The txids of the branch, newest first, read as they are asked for."""
        return branches.history(self._engine, self._database, self._address.branch)

    def restore_points(self) -> RestorePoints:
        """All positions of the branch that can be restored: ranges of txids, and single points below them."""
        return branches.restore_points(self._engine, self._database, self._address.branch)

    def _writable(self) -> str | None:
        if self._address.position is not None:
            raise InvalidRequestError(
                f"{self._address} is a position in the past; use a handle to the branch"
            )
        return self._address.branch

    def _named(self) -> str:
        branch = self._writable()
        if branch is None:
            raise InvalidRequestError(
                f"name the branch: db({self._database!r}) is the default branch, "
                f"db('{self._database}@branch') another one"
            )
        return branch


def _pair(item: Any) -> tuple[str, Params | None]:
    if isinstance(item, tuple | list) and len(item) in (1, 2):
        return (item[0], item[1] if len(item) == 2 else None)
    raise InvalidRequestError(f"a batch takes texts or (text, parameters), not {item!r}")
