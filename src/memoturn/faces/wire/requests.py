"""The bodies of requests. A field that is not there has its default; one that is not known is refused."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from memoturn.base.results.tokens import Scope

Params = list[Any] | dict[str, Any] | None
Position = str | int
Seconds = float


class Body(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a request asks for in JSON."""


class CreateDatabase(Body, frozen=True):
    """An empty database; with `ttl` it goes after so many seconds."""

    name: str
    ttl: Seconds | None = None


class CreateBranch(Body, frozen=True):
    """A fork of `from` (else of the default branch), at its head or at one of `checkpoint`, `txid` and `at`.

    `at` is a time, RFC 3339. With `ttl`, in seconds, it is a burner branch. With `exact` a position of which only an
    older snapshot is left is refused.
    """

    name: str
    from_: str | None = field(default=None, name="from")
    checkpoint: str | None = None
    txid: int | None = None
    at: str | None = None
    ttl: Seconds | None = None
    exact: bool = False


class SetTtl(Body, frozen=True):
    """How many seconds a branch lives from now on; null for good."""

    ttl: Seconds | None


class Checkpoint(Body, frozen=True):
    """A name for the head; with `move` it may stand elsewhere already."""

    name: str
    move: bool = False


class Rewind(Body, frozen=True):
    """Where to go back to: a checkpoint's name, a txid, or a time (RFC 3339)."""

    to: Position
    exact: bool = False


class Promote(Body, frozen=True):
    """With `dry_run` only the difference is told."""

    dry_run: bool = False


class Undo(Body, frozen=True):
    """The token that a rewind, a reset, a promotion or a deletion has returned."""

    token: str


class MintToken(Body, frozen=True):
    """A token for the database or namespace of the path; `expires_in` is in seconds, a day if it is not given."""

    scope: Scope
    expires_in: int | None = None


class Stmt(Body, frozen=True):
    """A statement of SQL and its parameters."""

    q: str
    params: Params = None


class Sql(Body, frozen=True):
    """Statements that are one transaction, or none of it."""

    stmts: list[Stmt]


class InsertDocuments(Body, frozen=True):
    """Documents to add, all or none."""

    documents: list[dict[str, Any]]


class FindDocuments(Body, frozen=True):
    """Which documents to find, in which order, and how many."""

    filter: dict[str, Any] | None = None
    sort: dict[str, int] | None = None
    limit: int = 100
    skip: int = 0


class CountDocuments(Body, frozen=True):
    """Which documents to count."""

    filter: dict[str, Any] | None = None


class UpdateDocuments(Body, frozen=True):
    """Which documents to change, and how."""

    filter: dict[str, Any] | None
    update: dict[str, Any]


class DeleteDocuments(Body, frozen=True):
    """Which documents to remove; `{}` fits all."""

    filter: dict[str, Any]


class ExplainDocuments(Body, frozen=True):
    """Which documents would be found, in which order."""

    filter: dict[str, Any] | None = None
    sort: dict[str, int] | None = None


class IndexDocuments(Body, frozen=True):
    """The path to index."""

    path: str


class UpsertVectors(Body, frozen=True):
    """Vectors, each with `id`, `vector` and perhaps `meta`, all or none."""

    items: list[dict[str, Any]]


class SearchVectors(Body, frozen=True):
    """What to look near to, how many to find, and among which."""

    vector: list[float]
    k: int = 10
    filter: dict[str, Any] | None = None
    metric: Literal["cosine", "l2"] = "cosine"


class AppendTurns(Body, frozen=True):
    """Turns, each with `role`, `content` and perhaps `embedding` and `created_at` (RFC 3339), all or none."""

    turns: list[dict[str, Any]]


class SearchTurns(Body, frozen=True):
    """Words or a vector to find turns by."""

    query: str | None = None
    vector: list[float] | None = None
    k: int = 10


class Ingest(Body, frozen=True):
    """Memories, all or none: `type`, `summary` or `content`, and what else there is to say."""

    memories: list[dict[str, Any]]


class Recall(Body, frozen=True):
    """A question: words, an embedding or a topic, and what may answer it. `since` and `until` are RFC 3339."""

    query: str | None = None
    k: int = 10
    embedding: list[float] | None = None
    model: str | None = None
    topic_key: str | None = None
    types: list[str] | str | None = None
    session_id: str | None = None
    source: str | None = None
    since: str | None = None
    until: str | None = None
    include_superseded: bool = False
    include_turns: bool = False
    as_of: Position | None = None


class Compact(Body, frozen=True):
    """Which branch to compact; all of them if none is named."""

    branch: str | None = None


class CollectGarbage(Body, frozen=True):
    """Of which database, or of all; with `dry_run` nothing changes."""

    database: str | None = None
    dry_run: bool = False


class Verify(Body, frozen=True):
    """Which database, branch and position to restore from the store; else the heads and `points` random positions."""

    address: str | None = None
    at: Position | None = None
    points: int = 2
