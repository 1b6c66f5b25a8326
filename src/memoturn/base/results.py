"""What the operations answer, for every face alike. Times are aware datetimes in UTC; txids count commits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from memoturn.base.clock import time_of
from memoturn.base.txids import UnixMs

Value = None | int | float | str | bytes
"""What SQLite keeps in a column."""


class Rows(list[dict[str, Value]]):
    """The rows of a statement as dicts; `columns` names them in order.

    `txid` is the position that was read, or the head after a write; `exact` is False if it is the nearest to the one
    that was asked for. Columns of one name are told apart: `id` and `id:1`.
    """

    __slots__ = ("columns", "exact", "txid")

    def __init__(self, rows: Sequence[dict[str, Value]], columns: tuple[str, ...], txid: int) -> None:
        super().__init__(rows)
        self.columns = columns
        self.txid = txid
        self.exact = True


class BatchResult(Struct, frozen=True):
    """What a batch gave: the rows of each statement, and the head after it.

    In the past `txid` is the position that was read; `exact` is False if it is the nearest to the one asked for.
    """

    results: list[Rows]
    txid: int
    exact: bool = True


class DatabaseInfo(Struct, frozen=True):
    """A database; `ttl_at` is when it expires, if it does."""

    name: str
    db_uuid: str
    default_branch: str
    created_at: datetime
    ttl_at: datetime | None = None


class Place(Struct, frozen=True):
    """Which position is read; `exact` is False if it is the nearest to the one that was asked for."""

    txid: int
    exact: bool


class BranchInfo(Struct, frozen=True, omit_defaults=True):
    """A branch: where it stands, what it was forked from, and when it expires, if it does.

    `exact` is told by its creation alone: whether it was forked at the very position that was asked for, or at the
    nearest one.
    """

    name: str
    head_txid: int
    parent: str | None
    fork_txid: int | None
    created_at: datetime
    ttl_at: datetime | None
    is_default: bool
    checkpoints: dict[str, int]
    epoch: int
    exact: bool | None = None


class CheckpointInfo(Struct, frozen=True):
    """A named position."""

    name: str
    txid: int


class RewindResult(Struct, frozen=True):
    """`txid` is the new head, `restored_txid` the position whose content it has; `undo` takes it back.

    `exact` is False if that position is the nearest to the one that was asked for, of which no more is left.
    """

    txid: int
    restored_txid: int
    undo: str
    exact: bool = True


class PromoteResult(Struct, frozen=True):
    """The branch that the database's name now stands for; `undo` takes it back."""

    default_branch: str
    undo: str


class DeleteResult(Struct, frozen=True):
    """What was deleted; `undo` takes it back while the history is retained."""

    name: str
    undo: str


class UndoResult(Struct, frozen=True):
    """`what` was taken back, on which branch or database; `undo` takes that back in turn, where it can."""

    what: str
    name: str
    txid: int | None
    undo: str | None


class HistoryEntry(Struct, frozen=True):
    """One txid of a branch.

    A `commit` has the number of `pages` and `bytes` that it wrote; a `snapshot`, which is what is left of a commit
    that went out of retention, those of the whole database. A `rewind`, `reset` or `fork` has the txid whose content
    it took in `base_txid`.
    """

    txid: int
    kind: Literal["commit", "rewind", "reset", "fork", "snapshot"]
    time: datetime
    pages: int
    bytes: int
    base_txid: int | None
    checkpoints: tuple[str, ...]


class RestoreRange(Struct, frozen=True):
    """Every txid from `from_txid` to `to_txid`, both included, can be restored; it is the history of `branch`."""

    branch: str
    from_txid: int
    to_txid: int
    from_time: datetime
    to_time: datetime


class RestorePoint(Struct, frozen=True):
    """One txid outside the ranges that can be restored, and why: as a snapshot, a checkpoint, or where a fork began.

    It is kept by `branch`.
    """

    branch: str
    txid: int
    time: datetime
    why: Literal["snapshot", "checkpoint", "fork"]
    checkpoints: tuple[str, ...]


class RestorePoints(Struct, frozen=True):
    """All that can be restored on a branch, what it inherited included; both lists ascend.

    What is in neither goes to the nearest below it, or is refused.
    """

    ranges: list[RestoreRange]
    points: list[RestorePoint]


class ImportResult(Struct, frozen=True):
    """What an import has stored, at which txid."""

    name: str
    txid: int
    pages: int
    bytes: int


class ExportResult(Struct, frozen=True):
    """What an export has written, from which position; `exact` is False if it is the nearest to the one asked for."""

    path: str
    txid: int
    pages: int
    bytes: int
    exact: bool = True


class Verified(Struct, frozen=True):
    """A position restored from the bucket alone; `problem` says what is wrong with it, None if nothing is."""

    database: str
    branch: str
    txid: int
    pages: int
    bytes: int
    ok: bool
    problem: str | None


class KvPut(Struct, frozen=True):
    """What a put gave the key: a version that no other value of it has, on any branch."""

    version: int
    txid: int


class KvEntry(Struct, frozen=True):
    """What is kept under a key, and the position that was read."""

    value: bytes
    version: int
    meta: dict[str, Any] | None
    expires_at: datetime | None
    txid: int


class KvKey(Struct, frozen=True):
    """A key of a list; `size` is that of its value in bytes."""

    key: str
    size: int
    version: int
    meta: dict[str, Any] | None
    expires_at: datetime | None


class KvPage(Struct, frozen=True):
    """Keys in the order of their bytes; `cursor` asks for those that follow, None where none does."""

    keys: list[KvKey]
    cursor: str | None
    txid: int


class KvDelete(Struct, frozen=True):
    """Whether there was a key to delete, and the head after it."""

    deleted: bool
    txid: int


class Documents(list[dict[str, Any]]):
    """Documents that were found, at position `txid`; `more` says whether others would follow."""

    __slots__ = ("more", "txid")

    def __init__(self, documents: Sequence[dict[str, Any]], more: bool, txid: int) -> None:
        super().__init__(documents)
        self.more = more
        self.txid = txid


class DocInsert(Struct, frozen=True):
    """The ids of what was inserted, in order, and the head after it."""

    ids: list[str]
    txid: int

    @property
    def id(self) -> str:
        """The first of them."""
        return self.ids[0]


class DocUpdate(Struct, frozen=True):
    """How many documents fitted, how many of them are not what they were, and the head after it."""

    matched: int
    modified: int
    txid: int


class DocDelete(Struct, frozen=True):
    """How many documents were removed, and the head after it."""

    deleted: int
    txid: int


class DocIndex(Struct, frozen=True):
    """An index on a path of a collection; `changed` says whether it was made or dropped just now."""

    path: str
    changed: bool
    txid: int


class DocExplain(Struct, frozen=True):
    """How documents would be found: the paths whose indexes are used, and SQLite's plan line by line."""

    indexes: list[str]
    plan: list[str]
    txid: int


class CompactedBranch(Struct, frozen=True):
    """What compaction did with a branch, and the packs and bases that it has now."""

    name: str
    merges: int
    bases_written: int
    bases_dropped: int
    bytes_written: int
    packs: int
    bases: int


class CompactResult(Struct, frozen=True):
    """What was compacted. `write_amplification` is the bytes written for each byte of commits that is kept."""

    database: str
    bytes_written: int
    bytes_of_commits: int
    write_amplification: float
    branches: list[CompactedBranch]


class RetainedBranch(Struct, frozen=True):
    """What retention did with a branch.

    Every txid can be restored from `exact_txid` on, and from `floor_txid` on the snapshots. `bases` are the positions
    of which it wrote snapshots, of `bytes_written` in all.
    """

    name: str
    exact_txid: int
    floor_txid: int
    bases: tuple[int, ...]
    bytes_written: int


class WorkStatus(Struct, frozen=True):
    """The last time that a kind of background work was done, and what came of it.

    `branch` is None for work on a whole database; `error` and `failures` in a row tell of trouble that has not been
    overcome since. `due_in` is in seconds, and known of the process that answers only.
    """

    kind: str
    branch: str | None
    time: datetime | None
    seconds: float
    what: str
    error: str | None
    failures: int
    due_in: float | None


class BranchStatus(Struct, frozen=True):
    """What a branch consists of.

    `packs` counts them by level; `packs_above_base` and `depth` (hops to a parent or an earlier self) are what a
    reader of the head has to go through. `bytes` are those of all its objects, dead ones included.
    """

    name: str
    head_txid: int
    exact_txid: int
    floor_txid: int
    packs: list[int]
    bases: int
    packs_above_base: int
    depth: int
    objects: int
    bytes: int


class DatabaseStatus(Struct, frozen=True):
    """A database's branches, and the work that was done on it.

    `bytes_shipped` and `bytes_written` count commits and compaction on this machine since it began;
    `write_amplification` is what compaction has written for each byte that was committed.
    """

    name: str
    db_uuid: str
    objects: int
    bytes: int
    bytes_shipped: int
    bytes_written: int
    write_amplification: float
    branches: list[BranchStatus]
    work: list[WorkStatus]


class Background(Struct, frozen=True):
    """What the process that answers has done in the background since it opened the store."""

    on: bool
    since: datetime | None
    running: str | None
    pieces: int
    failures: int
    seconds_worked: float
    seconds_paused: float
    bytes: int
    share: float
    bytes_per_second: int


class MaintenanceStatus(Struct, frozen=True):
    """What background work has done, and what is due."""

    background: Background
    databases: list[DatabaseStatus]


class GcGroup(Struct, frozen=True):
    """Objects of one kind that are not alive: `removed`, or they wait for their grace period, or are `kept`."""

    fate: Literal["removed", "waits", "kept"]
    kind: str
    objects: int
    bytes: int


class GcObject(Struct, frozen=True):
    """One object that is not alive, and why."""

    key: str
    bytes: int
    fate: Literal["removed", "waits", "kept"]
    why: str


class GcResult(Struct, frozen=True):
    """What a garbage collection has done, or would do if it was a `dry_run`.

    `databases`, `objects` and `bytes` are what was looked at. What waits may be removed by the first run after
    `ready_at`, which is told by the store's clock. `examples` are the first thousand objects that are not alive.
    """

    dry_run: bool
    databases: int
    objects: int
    bytes: int
    removed: int
    removed_bytes: int
    waiting: int
    waiting_bytes: int
    ready_at: datetime | None
    expired: int
    unlinked: int
    freed: int
    grace_secs: float
    groups: list[GcGroup]
    examples: list[GcObject]


class Holder(Struct, frozen=True):
    """Somebody who holds an object: a branch, or None for what is no branch's affair; and why."""

    branch: str | None
    why: str


class Retained(Struct, frozen=True):
    """An object and who holds it.

    It is `alive` as somebody needs it, or `waits` until a grace period has passed; it is `dead` if no pass has
    counted it yet, and `kept` if it cannot be told whether somebody needs it.
    """

    key: str
    bytes: int
    modified_at: datetime
    state: Literal["alive", "waits", "dead", "kept"]
    holders: list[Holder]


class TurnAppended(Struct, frozen=True):
    """The numbers of the turns in their session, and the head after them."""

    seqs: list[int]
    txid: int

    @property
    def seq(self) -> int:
        """The last of them."""
        return self.seqs[-1]


class Turn(Struct, frozen=True):
    """A turn of a session. `score` says how well it was found, higher is better; None where nothing was asked."""

    session: str
    seq: int
    role: str
    content: str
    created_at: datetime
    score: float | None = None


class Turns(list[Turn]):
    """Turns that were read at position `txid`."""

    __slots__ = ("txid",)

    def __init__(self, turns: Sequence[Turn], txid: int) -> None:
        super().__init__(turns)
        self.txid = txid


class SessionInfo(Struct, frozen=True):
    """A session: how many turns it has, and when the first and the last were made."""

    session: str
    turns: int
    first_at: datetime
    last_at: datetime


class SessionDelete(Struct, frozen=True):
    """How many turns were removed, and the head after it."""

    turns: int
    txid: int


class VectorUpsert(Struct, frozen=True):
    """How many vectors were kept, and the head after it."""

    upserted: int
    txid: int


class VectorEntry(Struct, frozen=True):
    """A vector as it is kept, in 32-bit floats, and what is kept with it."""

    id: str
    vector: list[float]
    meta: dict[str, Any] | None


class VectorHit(Struct, frozen=True):
    """A vector that was found; the smaller its distance the nearer it is."""

    id: str
    distance: float
    meta: dict[str, Any] | None


class VectorHits(list[VectorHit]):
    """The nearest vectors at position `txid`, the nearest first."""

    __slots__ = ("txid",)

    def __init__(self, hits: Sequence[VectorHit], txid: int) -> None:
        super().__init__(hits)
        self.txid = txid


class VectorDelete(Struct, frozen=True):
    """Whether there was a vector to delete, and the head after it."""

    deleted: bool
    txid: int


class VectorCollection(Struct, frozen=True):
    """A collection of vectors, all of one dimension."""

    name: str
    dimension: int
    vectors: int


def time_or_none(ms: UnixMs | None) -> datetime | None:
    """`time_of`, for what may be missing."""
    return None if ms is None else time_of(ms)


MemoryType = Literal["fact", "instruction", "event", "task", "turn"]
"""What is remembered; of what was said verbatim, `turn`."""


class Memory(Struct, frozen=True, kw_only=True):
    """What is remembered, with its history and its origin.

    Of what was superseded, `valid_to` says since when and `superseded_by` by what. `model` names the model of its
    embedding, `""` for one that was not named, and is None without an embedding.
    """

    id: str
    type: MemoryType
    topic_key: str | None
    summary: str
    keywords: list[str]
    content: Any
    session_id: str | None
    source: str | None
    valid_from: datetime
    valid_to: datetime | None
    superseded_by: str | None
    expires_at: datetime | None
    model: str | None


class MemoryChain(Memory, frozen=True, kw_only=True):
    """A memory with all that has been held of its topic, in the order in which it was learned; and the position read.

    What accumulates is its own chain.
    """

    chain: list[Memory]
    txid: int


class Ingested(Struct, frozen=True):
    """What became of one memory, and the id of the one that it superseded."""

    id: str
    status: Literal["created", "duplicate", "revived"]
    superseded: str | None


class IngestResult(Struct, frozen=True):
    """What became of each memory, and the head after it; `degraded` says what is missing, such as embeddings."""

    memories: list[Ingested]
    txid: int
    degraded: str | None = None


class ForgetResult(Struct, frozen=True):
    """Whether there was a memory to forget, and the head after it."""

    forgotten: bool
    txid: int


class MemorySession(Struct, frozen=True):
    """A session: how many memories and turns it has, and when the first and the last of them were."""

    session_id: str
    memories: int
    turns: int
    first: datetime
    last: datetime


class EndSessionResult(Struct, frozen=True):
    """How many tasks and turns went with the session, and the head after it."""

    tasks: int
    turns: int
    txid: int


class EmbedResult(Struct, frozen=True):
    """How many memories were given an embedding, and the head after it."""

    embedded: int
    txid: int


class MemoryImport(Struct, frozen=True):
    """How many lines of an import were new, and how many were there already."""

    created: int
    known: int
    txid: int


class Hit(Memory, frozen=True, kw_only=True):
    """A memory that was recalled. `channels` says what has found it: 1 is the best score of a channel."""

    score: float
    channels: dict[str, float]


class Hits(list[Hit]):
    """What was recalled, the best first, and the position that was read; `degraded` says what could not be asked."""

    __slots__ = ("degraded", "txid")

    def __init__(self, hits: Sequence[Hit], txid: int, degraded: str | None = None) -> None:
        super().__init__(hits)
        self.txid = txid
        self.degraded = degraded
