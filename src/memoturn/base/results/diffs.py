"""What a diff answers: what is to be done to the first position to come to the second.

Counts are exact; of what is counted, each list holds at most `limit` examples.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from memoturn.base.results.memories import MemoryType
from memoturn.base.results.rows import Value
from memoturn.base.results.transcripts import Turn

Kind = Literal["added", "removed", "changed"]


class DiffSide(Struct, frozen=True):
    """One of the two positions; `exact` is False if it is the nearest to the one that was asked for."""

    database: str
    branch: str
    txid: int
    time: datetime | None
    exact: bool


class SchemaChange(Struct, frozen=True):
    """A table, index, view or trigger that came, went, or is defined otherwise: its SQL before and after."""

    type: str
    name: str
    kind: Kind
    before: str | None
    after: str | None


class RowChange(Struct, frozen=True):
    """A row before and after. `key` tells it apart: its primary key, or its rowid where it has none."""

    kind: Kind
    key: dict[str, Value]
    before: dict[str, Value] | None
    after: dict[str, Value] | None


class TableDiff(Struct, frozen=True):
    """The rows of one table."""

    name: str
    added: int
    removed: int
    changed: int
    rows: list[RowChange]


class KvChange(Struct, frozen=True):
    """A key that was set, was deleted, or has gone because its time had come; and its values."""

    key: str
    kind: Literal["set", "deleted", "expired"]
    before: bytes | None
    after: bytes | None


class KvDiff(Struct, frozen=True):
    """The keys of one namespace."""

    ns: str
    set: int
    deleted: int
    expired: int
    keys: list[KvChange]


class DocChange(Struct, frozen=True):
    """A document before and after; of one that changed, `paths` are the places where it did."""

    id: str
    kind: Kind
    paths: list[str]
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class DocsDiff(Struct, frozen=True):
    """The documents of one collection."""

    collection: str
    added: int
    removed: int
    changed: int
    documents: list[DocChange]


class VectorChange(Struct, frozen=True):
    """A vector that came, went or changed, with what is kept with it before and after."""

    id: str
    kind: Kind
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class VectorsDiff(Struct, frozen=True):
    """The vectors of one collection."""

    collection: str
    added: int
    removed: int
    changed: int
    vectors: list[VectorChange]


class MemoryChange(Struct, frozen=True):
    """What became of a memory. `superseded_by` is the memory that is held instead.

    `revived` is one that had been superseded or had expired and is held again; `changed` are its other ends, such as
    a chain that closed over a memory that was forgotten.
    """

    id: str
    kind: Literal["added", "superseded", "revived", "forgotten", "expired", "changed"]
    type: MemoryType
    topic_key: str | None
    summary: str
    superseded_by: str | None


class MemoriesDiff(Struct, frozen=True):
    """The memories of a profile."""

    added: int
    superseded: int
    revived: int
    forgotten: int
    expired: int
    changed: int
    memories: list[MemoryChange]


class TurnsDiff(Struct, frozen=True):
    """The turns of one session: those that were appended, and those that are gone."""

    session: str
    appended: int
    removed: int
    turns: list[Turn]
    gone: list[Turn]


class Diff(Struct, frozen=True):
    """What differs between two positions of a database. `pages` is how many of its pages differ."""

    before: DiffSide
    after: DiffSide
    pages: int
    schema: list[SchemaChange]
    tables: list[TableDiff]
    kv: list[KvDiff]
    docs: list[DocsDiff]
    vectors: list[VectorsDiff]
    memories: MemoriesDiff | None
    turns: list[TurnsDiff]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs that could be told."""
        return not (
            self.schema or self.tables or self.kv or self.docs or self.vectors or self.memories or self.turns
        )


class Promotion(Struct, frozen=True):
    """What a promotion would do: for which branch the database's name stands, for which it would, and the diff."""

    default_branch: str
    would_be: str
    diff: Diff
