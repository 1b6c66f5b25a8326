"""What operations on typed memories answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

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
