"""Answers on the wire. Most results are their own JSON; for others there are shapes here, and the way back.

Times are RFC 3339; bytes in a field that is always bytes are base64; values of SQL are as `values.py` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from memoturn.base.results.branches import BranchInfo, CheckpointInfo, HistoryEntry
from memoturn.base.results.databases import DatabaseInfo, Verified
from memoturn.base.results.diffs import (
    Diff,
    DiffSide,
    DocsDiff,
    KvDiff,
    MemoriesDiff,
    Promotion,
    RowChange,
    SchemaChange,
    TableDiff,
    TurnsDiff,
    VectorsDiff,
)
from memoturn.base.results.documents import Documents
from memoturn.base.results.maintenance import RetainedBranch
from memoturn.base.results.memories import Hit, Hits, MemorySession
from memoturn.base.results.rows import BatchResult, Rows
from memoturn.base.results.transcripts import SessionInfo, Turn, Turns
from memoturn.base.results.vectors import VectorCollection, VectorHit, VectorHits
from memoturn.faces.wire.values import row_from_json, row_to_json

T = TypeVar("T")

# Lists, so that an answer is always an object that can grow.


class DatabasePage(Struct, frozen=True):
    """Databases in the order of their names; `cursor` asks for those that follow, null where none does."""

    databases: list[DatabaseInfo]
    cursor: str | None


class BranchList(Struct, frozen=True):
    """The branches of a database."""

    branches: list[BranchInfo]


class CheckpointList(Struct, frozen=True):
    """The checkpoints of a branch, the oldest position first."""

    checkpoints: list[CheckpointInfo]


class HistoryPage(Struct, frozen=True):
    """Txids of a branch, newest first; `cursor` asks for those that came before, null where none did."""

    history: list[HistoryEntry]
    cursor: int | None


class Usage(Struct, frozen=True):
    """What a database takes: its branches, and its objects in the store with their bytes.

    `bytes_shipped` and `bytes_written` count commits and compaction on the machine that answers since it began.
    """

    name: str
    branches: int
    objects: int
    bytes: int
    bytes_shipped: int
    bytes_written: int


class Document(Struct, frozen=True):
    """One document."""

    document: dict[str, Any]
    txid: int


class Count(Struct, frozen=True):
    """How many there are."""

    count: int
    txid: int


class CollectionNames(Struct, frozen=True):
    """The names of collections of documents."""

    collections: list[str]
    txid: int


class IndexPaths(Struct, frozen=True):
    """The paths that are indexed."""

    indexes: list[str]
    txid: int


class VectorCollections(Struct, frozen=True):
    """The collections of vectors."""

    collections: list[VectorCollection]
    txid: int


class SessionPage(Struct, frozen=True):
    """Sessions in the order of their names; `cursor` asks for those that follow, null where none does."""

    sessions: list[SessionInfo]
    cursor: str | None
    txid: int


class MemorySessions(Struct, frozen=True):
    """The sessions of a profile."""

    sessions: list[MemorySession]


class Profiles(Struct, frozen=True):
    """The profiles of a namespace."""

    profiles: list[str]


class Synced(Struct, frozen=True):
    """The txid up to which the branch is in the store."""

    txid: int


class RetainedBranches(Struct, frozen=True):
    """The branches on which retention has changed anything."""

    branches: list[RetainedBranch]


class VerifiedPositions(Struct, frozen=True):
    """What was restored and compared."""

    verified: list[Verified]


class Health(Struct, frozen=True):
    """Whether the server lives, or is ready for work."""

    status: Literal["ok", "closing", "unavailable"]


# Shapes of what is a list with attributes, or holds values of SQL.


class RowsShape(Struct, frozen=True):
    """The rows of a statement as objects, the names of their columns in order, and as what each was declared."""

    columns: list[str]
    types: list[str | None]
    rows: list[dict[str, Any]]


class BatchShape(Struct, frozen=True):
    """The rows of each statement; `txid` is what was read or the head after it, `exact` whether it was asked for."""

    results: list[RowsShape]
    txid: int
    exact: bool = True


class DocumentsShape(Struct, frozen=True):
    """Documents that were found; `more` says whether others would follow."""

    documents: list[dict[str, Any]]
    more: bool
    txid: int


class VectorHitsShape(Struct, frozen=True):
    """The nearest vectors, the nearest first."""

    hits: list[VectorHit]
    txid: int


class TurnsShape(Struct, frozen=True):
    """Turns of sessions."""

    turns: list[Turn]
    txid: int


class HitsShape(Struct, frozen=True):
    """What was recalled, the best first; `degraded` says what could not be asked."""

    hits: list[Hit]
    txid: int
    degraded: str | None = None


class RowChangeShape(Struct, frozen=True):
    """A row before and after."""

    kind: Literal["added", "removed", "changed"]
    key: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class TableDiffShape(Struct, frozen=True):
    """The rows of one table."""

    name: str
    added: int
    removed: int
    changed: int
    rows: list[RowChangeShape]


class DiffShape(Struct, frozen=True):
    """What differs between two positions."""

    before: DiffSide
    after: DiffSide
    pages: int
    schema: list[SchemaChange]
    tables: list[TableDiffShape]
    kv: list[KvDiff]
    docs: list[DocsDiff]
    vectors: list[VectorsDiff]
    memories: MemoriesDiff | None
    turns: list[TurnsDiff]


class PromotionShape(Struct, frozen=True):
    """What a promotion would do."""

    default_branch: str
    would_be: str
    diff: DiffShape


class Shape(NamedTuple):
    """How a result looks on the wire, and the way there and back."""

    wire: type[Struct]
    to: Callable[[Any], Any]
    of: Callable[[Any], Any]


def _batch_to(done: BatchResult) -> BatchShape:
    results = [
        RowsShape(list(rows.columns), list(rows.types), [row_to_json(row) for row in rows])
        for rows in done.results
    ]
    return BatchShape(results, done.txid, done.exact)


def _batch_of(shape: BatchShape) -> BatchResult:
    results = []
    for one in shape.results:
        rows = Rows(
            [row_from_json(row) for row in one.rows], tuple(one.columns), shape.txid, tuple(one.types)
        )
        rows.exact = shape.exact
        results.append(rows)
    return BatchResult(results, shape.txid, shape.exact)


def _diff_to(diff: Diff) -> DiffShape:
    tables = [
        TableDiffShape(
            table.name,
            table.added,
            table.removed,
            table.changed,
            [
                RowChangeShape(row.kind, row_to_json(row.key), _or_none(row.before), _or_none(row.after))
                for row in table.rows
            ],
        )
        for table in diff.tables
    ]
    return DiffShape(
        diff.before, diff.after, diff.pages, diff.schema, tables,
        diff.kv, diff.docs, diff.vectors, diff.memories, diff.turns,
    )  # fmt: skip


def _diff_of(shape: DiffShape) -> Diff:
    tables = [
        TableDiff(
            table.name,
            table.added,
            table.removed,
            table.changed,
            [
                RowChange(
                    row.kind,
                    row_from_json(row.key),
                    None if row.before is None else row_from_json(row.before),
                    None if row.after is None else row_from_json(row.after),
                )
                for row in table.rows
            ],
        )
        for table in shape.tables
    ]
    return Diff(
        shape.before, shape.after, shape.pages, shape.schema, tables,
        shape.kv, shape.docs, shape.vectors, shape.memories, shape.turns,
    )  # fmt: skip


def _or_none(row: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if row is None else row_to_json(row)


SHAPES: Final[dict[Any, Shape]] = {
    BatchResult: Shape(BatchShape, _batch_to, _batch_of),
    Documents: Shape(
        DocumentsShape,
        lambda found: DocumentsShape(list(found), found.more, found.txid),
        lambda shape: Documents(shape.documents, shape.more, shape.txid),
    ),
    VectorHits: Shape(
        VectorHitsShape,
        lambda found: VectorHitsShape(list(found), found.txid),
        lambda shape: VectorHits(shape.hits, shape.txid),
    ),
    Turns: Shape(
        TurnsShape,
        lambda found: TurnsShape(list(found), found.txid),
        lambda shape: Turns(shape.turns, shape.txid),
    ),
    Hits: Shape(
        HitsShape,
        lambda found: HitsShape(list(found), found.txid, found.degraded),
        lambda shape: Hits(shape.hits, shape.txid, shape.degraded),
    ),
    Diff: Shape(DiffShape, _diff_to, _diff_of),
    Promotion: Shape(
        PromotionShape,
        lambda would: PromotionShape(would.default_branch, would.would_be, _diff_to(would.diff)),
        lambda shape: Promotion(shape.default_branch, shape.would_be, _diff_of(shape.diff)),
    ),
}
"""The results that are not their own JSON."""


def encode(result: object) -> bytes:
    """A result as JSON."""
    shape = SHAPES.get(type(result))
    return msgspec.json.encode(result if shape is None else shape.to(result))


def decode(kind: type[T], body: bytes) -> T:
    """The result of a kind that JSON says. Raises `msgspec.MsgspecError` for what it does not say."""
    shape = SHAPES.get(kind)
    if shape is None:
        return msgspec.json.decode(body, type=kind)
    return shape.of(msgspec.json.decode(body, type=shape.wire))  # type: ignore[no-any-return]
