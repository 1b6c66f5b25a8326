"""Every route there is: what it is called, where it lies, what it needs, what it takes and what it answers.

The server serves exactly these, access is decided by them, the OpenAPI document is written from them, and clients
find their way by them. A name is a noun and a verb, as in the operations: `kv.put`.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from memoturn.base.results.branches import (
    BranchInfo,
    CheckpointInfo,
    DeleteResult,
    Place,
    PromoteResult,
    RestorePoints,
    RewindResult,
    UndoResult,
)
from memoturn.base.results.databases import DatabaseInfo, ImportResult
from memoturn.base.results.diffs import Diff, Promotion
from memoturn.base.results.documents import DocDelete, DocExplain, DocIndex, DocInsert, Documents, DocUpdate
from memoturn.base.results.kv import KvDelete, KvEntry, KvPage, KvPut
from memoturn.base.results.maintenance import CompactResult, GcResult, MaintenanceStatus, Retained
from memoturn.base.results.memories import (
    EmbedResult,
    EndSessionResult,
    ForgetResult,
    Hits,
    IngestResult,
    MemoryChain,
    MemoryImport,
)
from memoturn.base.results.rows import BatchResult
from memoturn.base.results.tokens import Minted
from memoturn.base.results.transcripts import SessionDelete, TurnAppended, Turns
from memoturn.base.results.vectors import VectorDelete, VectorEntry, VectorHits, VectorUpsert
from memoturn.faces.wire import answers, requests

Need = Literal["open", "read", "write", "admin", "mint", "platform"]
"""What a credential has to be good for: nothing; a scope on what the path is about; minting; everything."""
Plane = Literal["open", "control", "data"]
About = Literal["database", "profile", "namespace"]
"""What a path names: `{db}`, or `{ns}` and `{profile}`, or `{ns}` alone."""

DEFAULT_BRANCH: Final = "~"
"""Stands in a path for the branch that the database's name stands for; no branch can be called so."""

RAW: Final = "application/octet-stream"
LINES: Final = "application/x-ndjson"
SQLITE: Final = "application/vnd.sqlite3"
TEXT: Final = "text/plain"
HTML: Final = "text/html"
JSON: Final = "application/json"


class Query(NamedTuple):
    """A parameter of the query string; `default` is what it is if it is not there, None that it may be missing."""

    name: str
    kind: type[str] | type[int] | type[float] | type[bool]
    says: str
    default: str | int | bool | None = None
    required: bool = False


class Route(NamedTuple):
    """One route.

    `path` is a template: `{name}` stands for one segment, `{name...}` for all that is left. `body` and `answer` are
    types of JSON, media types of what is no JSON, or None. `repeatable` is whether asking twice does no more than
    asking once, so that a client may do so on its own.
    """

    name: str
    method: str
    path: str
    need: Need
    plane: Plane
    says: str
    about: About | None = None
    body: Any = None
    answer: Any = None
    status: int = 200
    query: tuple[Query, ...] = ()
    headers: tuple[str, ...] = ()
    repeatable: bool = False
    optional_body: bool = False
    long: bool = False
    """Whether the work may take minutes; then it has a deadline of its own."""

    @property
    def key(self) -> str:
        """How messages call it."""
        return f"{self.method} {self.path}"


_DATABASES: Final = "/v1/databases"
_DATABASE: Final = f"{_DATABASES}/{{db}}"
_BRANCHES: Final = f"{_DATABASE}/branches"
_BRANCH: Final = f"{_BRANCHES}/{{branch}}"
_DATA: Final = "/v1/db/{db}"
_PROFILE: Final = "/v1/memory/{ns}/{profile}"

_LIMIT: Final = Query("limit", int, "How many at most, up to 1,000.", 100)
_CURSOR: Final = Query("cursor", str, "That of the page before.")
_AT: Final = Query("at", str, "A checkpoint, a txid or a time (RFC 3339); else the head.")
_BRANCH_QUERY: Final = Query("branch", str, "The branch; else the default branch.")
_EXACT: Final = Query("exact", bool, "Refuse a position of which only an older snapshot is left.", False)

_READ: Final = (
    "memoturn-branch",
    "memoturn-at",
    "memoturn-exact",
    "memoturn-min-txid",
    "memoturn-consistency",
)
_WRITE: Final = ("memoturn-branch", "memoturn-min-txid", "memoturn-durability", "idempotency-key")
_ONCE: Final = ("idempotency-key",)


def _control(
    name: str, method: str, path: str, need: Need, says: str, answer: Any, about: About | None = "database",
    **more: Any,
) -> Route:  # fmt: skip
    reads = method == "GET"
    more.setdefault("headers", () if reads else _ONCE)
    return Route(
        name, method, path, need, "control", says, about, answer=answer,
        repeatable=more.pop("repeatable", reads), **more,
    )  # fmt: skip


def _reads(
    name: str, method: str, path: str, says: str, answer: Any, about: About = "database", **more: Any
) -> Route:
    more.setdefault("headers", _READ)
    return Route(name, method, path, "read", "data", says, about, answer=answer, repeatable=True, **more)


def _writes(
    name: str, method: str, path: str, says: str, answer: Any, about: About = "database", **more: Any
) -> Route:
    more.setdefault("headers", _WRITE)
    return Route(name, method, path, "write", "data", says, about, answer=answer, **more)


_CONTROL: Final = (
    _control("databases.create", "POST", _DATABASES, "platform", "Create an empty database.", DatabaseInfo,
             about=None, body=requests.CreateDatabase, status=201),
    _control("databases.list", "GET", _DATABASES, "platform", "Databases in the order of their names.",
             answers.DatabasePage, about=None, query=(_CURSOR, _LIMIT)),
    _control("databases.get", "GET", _DATABASE, "read", "One database.", DatabaseInfo),
    _control("databases.delete", "DELETE", _DATABASE, "admin", "Delete a database with all of its branches.",
             DeleteResult),
    _control("databases.undo", "POST", f"{_DATABASE}/undo", "admin",
             "Take back a rewind, a reset, a promotion or a deletion.", UndoResult, body=requests.Undo),
    _control("databases.diff", "GET", f"{_DATABASE}/diff", "read", "What differs between two positions.", Diff,
             query=(
                 Query("from", str, "`branch` or `branch:position`, `~` for the default branch; else its head."),
                 Query("to", str, "`branch` or `branch:position`, `~` for the default branch; else its head."),
                 Query("limit", int, "How many examples of each table or collection, up to 1,000.", 20),
                 Query("table", str, "Look at this table only."),
             ), long=True),
    _control("databases.export", "GET", f"{_DATABASE}/export", "read", "The database as a plain SQLite file.",
             SQLITE, query=(_BRANCH_QUERY, _AT, _EXACT), headers=("memoturn-branch", "memoturn-at", "memoturn-exact"),
             long=True),
    _control("databases.import", "POST", f"{_DATABASE}/import", "platform", "Create the database from a SQLite file.",
             ImportResult, body=SQLITE, status=201, long=True),
    _control("databases.usage", "GET", f"{_DATABASE}/usage", "read", "What a database takes in the store.",
             answers.Usage),
    _control("branches.create", "POST", _BRANCHES, "admin", "Fork a branch, from now or from its past.", BranchInfo,
             body=requests.CreateBranch, status=201),
    _control("branches.list", "GET", _BRANCHES, "read", "The branches of a database.", answers.BranchList),
    _control("branches.get", "GET", _BRANCH, "read", "One branch.", BranchInfo),
    _control("branches.delete", "DELETE", _BRANCH, "admin", "Delete a branch; its children keep what they need.",
             DeleteResult),
    _control("branches.extend", "PATCH", _BRANCH, "admin", "Say how long a branch lives.", BranchInfo,
             body=requests.SetTtl, repeatable=True),
    _control("branches.checkpoint", "POST", f"{_BRANCH}/checkpoint", "admin", "Name the head.", CheckpointInfo,
             body=requests.Checkpoint),
    _control("branches.checkpoints", "GET", f"{_BRANCH}/checkpoints", "read", "The checkpoints of a branch.",
             answers.CheckpointList),
    _control("branches.delete_checkpoint", "DELETE", f"{_BRANCH}/checkpoints/{{checkpoint}}", "admin",
             "Forget the name of a position.", None, status=204),
    _control("branches.rewind", "POST", f"{_BRANCH}/rewind", "admin", "Go back to a position; it can be undone.",
             RewindResult, body=requests.Rewind),
    _control("branches.reset", "POST", f"{_BRANCH}/reset", "admin", "Take the content of the parent.", RewindResult),
    _control("branches.promote", "POST", f"{_BRANCH}/promote", "admin",
             "Make a branch the one that the database's name stands for.", (PromoteResult, Promotion),
             body=requests.Promote, optional_body=True),
    _control("branches.history", "GET", f"{_BRANCH}/history", "read", "The txids of a branch, newest first.",
             answers.HistoryPage, query=(Query("cursor", int, "That of the page before: a txid."), _LIMIT)),
    _control("branches.restore_points", "GET", f"{_BRANCH}/restore-points", "read", "All that can be restored.",
             RestorePoints),
    _control("tokens.create", "POST", f"{_DATABASE}/tokens", "mint", "A token for a database.", Minted,
             body=requests.MintToken, status=201, headers=()),
    _control("tokens.create_ns", "POST", "/v1/namespaces/{ns}/tokens", "mint", "A token for a namespace.", Minted,
             about="namespace", body=requests.MintToken, status=201, headers=()),
    _control("maintenance.status", "GET", "/v1/maintenance", "platform", "What background work does, everywhere.",
             MaintenanceStatus, about=None, long=True),
    _control("maintenance.database", "GET", f"{_DATABASE}/maintenance", "read",
             "What background work does in a database.", MaintenanceStatus),
    _control("maintenance.compact", "POST", f"{_DATABASE}/maintenance/compact", "admin",
             "Fewer and better places for the same history.", CompactResult, body=requests.Compact,
             optional_body=True, long=True, repeatable=True),
    _control("maintenance.retain", "POST", f"{_DATABASE}/maintenance/retain", "admin",
             "Let go of history beyond the retention windows.", answers.RetainedBranches,
             long=True, repeatable=True),
    _control("maintenance.verify", "POST", "/v1/maintenance/verify", "platform",
             "Restore positions from the store alone.", answers.VerifiedPositions, about=None, body=requests.Verify,
             optional_body=True, long=True, repeatable=True),
    _control("maintenance.gc", "POST", "/v1/maintenance/gc", "platform",
             "Remove what nothing has needed for a while.", GcResult,
             about=None, body=requests.CollectGarbage, optional_body=True, long=True, repeatable=True),
    _control("maintenance.why_retained", "GET", "/v1/maintenance/why-retained", "platform",
             "Who needs an object of the store.", Retained, about=None,
             query=(Query("key", str, "The object's key.", required=True),)),
    _control("server.metrics", "GET", "/metrics", "platform", "What was counted, for Prometheus.", TEXT, about=None),
    _control("maintenance.sync", "POST", "/v1/maintenance/sync", "platform", "Ship all that was committed.", None,
             about=None, status=204, repeatable=True),
)  # fmt: skip

_KV: Final = f"{_DATA}/kv/{{ns}}"
_DOCS: Final = f"{_DATA}/docs/{{collection}}"
_VECTORS: Final = f"{_DATA}/vectors/{{collection}}"
_SESSION: Final = f"{_DATA}/memory/{{session}}"

_OF_DATA: Final = (
    _reads("db.where", "GET", _DATA, "Which position is read now.", Place),
    Route("db.sql", "POST", f"{_DATA}/sql", "read", "data",
          "Run statements as one transaction. Those that write need the scope `write`.", "database", requests.Sql,
          BatchResult, headers=(*_READ, "memoturn-durability", "idempotency-key")),
    _writes("db.sync", "POST", f"{_DATA}/sync", "Ship what was committed on the branch.", answers.Synced,
            headers=("memoturn-branch",), repeatable=True),
    _reads("kv.list", "GET", _KV, "A page of keys in the order of their bytes.", KvPage,
           query=(Query("prefix", str, "What keys begin with.", ""), _CURSOR, _LIMIT)),
    _reads("kv.get", "GET", f"{_KV}/{{key...}}", "The value of a key, as it was put.", (RAW, KvEntry),
           headers=(*_READ, "if-none-match"),
           query=(Query("entry", bool, "Answer with JSON: value (base64), version, meta, …", False),)),
    _writes("kv.put", "PUT", f"{_KV}/{{key...}}", "Put the body under a key.", KvPut, body=RAW,
            query=(Query("ttl", float, "Seconds after which the key is absent."),),
            headers=(*_WRITE, "if-match", "if-none-match", "memoturn-meta"), repeatable=True),
    _writes("kv.delete", "DELETE", f"{_KV}/{{key...}}", "Remove a key.", KvDelete, headers=(*_WRITE, "if-match"),
            repeatable=True),
    _reads("docs.collections", "GET", f"{_DATA}/docs", "The collections of documents.", answers.CollectionNames),
    _writes("docs.insert", "POST", f"{_DOCS}/insert", "Add documents, all or none.", DocInsert,
            body=requests.InsertDocuments),
    _reads("docs.find", "POST", f"{_DOCS}/find", "The documents that fit a filter.", Documents,
           body=requests.FindDocuments, optional_body=True),
    _reads("docs.count", "POST", f"{_DOCS}/count", "How many documents fit a filter.", answers.Count,
           body=requests.CountDocuments, optional_body=True),
    _reads("docs.explain", "POST", f"{_DOCS}/explain", "How documents would be found.", DocExplain,
           body=requests.ExplainDocuments, optional_body=True),
    _writes("docs.update", "POST", f"{_DOCS}/update", "Change every document that fits, all or none.", DocUpdate,
            body=requests.UpdateDocuments),
    _writes("docs.delete", "POST", f"{_DOCS}/delete", "Remove every document that fits.", DocDelete,
            body=requests.DeleteDocuments),
    _reads("docs.indexes", "GET", f"{_DOCS}/indexes", "The paths that are indexed.", answers.IndexPaths),
    _writes("docs.create_index", "POST", f"{_DOCS}/indexes", "Index a path.", DocIndex, body=requests.IndexDocuments,
            repeatable=True),
    _writes("docs.drop_index", "DELETE", f"{_DOCS}/indexes", "Forget an index.", DocIndex,
            query=(Query("path", str, "The path.", required=True),), repeatable=True),
    _reads("docs.get", "GET", f"{_DOCS}/documents/{{id}}", "The document of an id.", answers.Document),
    _reads("vectors.collections", "GET", f"{_DATA}/vectors", "All collections of vectors.",
           answers.VectorCollections),
    _writes("vectors.upsert", "POST", _VECTORS, "Keep vectors, all or none.", VectorUpsert,
            body=requests.UpsertVectors, repeatable=True),
    _reads("vectors.search", "POST", f"{_VECTORS}/search", "The nearest vectors.", VectorHits,
           body=requests.SearchVectors),
    _reads("vectors.get", "GET", f"{_VECTORS}/entries/{{id}}", "The vector of an id.", VectorEntry),
    _writes("vectors.delete", "DELETE", f"{_VECTORS}/entries/{{id}}", "Remove a vector.", VectorDelete,
            repeatable=True),
    _reads("turns.sessions", "GET", f"{_DATA}/memory", "Sessions in the order of their names.", answers.SessionPage,
           query=(_CURSOR, _LIMIT)),
    _reads("turns.search_all", "POST", f"{_DATA}/memory/search", "The turns that words or a vector find.", Turns,
           body=requests.SearchTurns),
    _writes("turns.append", "POST", f"{_SESSION}/turns", "Append turns, all or none.", TurnAppended,
            body=requests.AppendTurns),
    _reads("turns.window", "GET", f"{_SESSION}/turns", "The last turns of a session, the oldest first.", Turns,
           query=(Query("last", int, "How many, up to 1,000.", 20),)),
    _reads("turns.search", "POST", f"{_SESSION}/search", "The turns of a session that words or a vector find.", Turns,
           body=requests.SearchTurns),
    _writes("turns.delete", "DELETE", _SESSION, "Remove a session with its turns.", SessionDelete, repeatable=True),
)  # fmt: skip

_OF_MEMORY: Final = (
    _reads("memory.profiles", "GET", "/v1/memory/{ns}", "The profiles of a namespace.", answers.Profiles,
           about="namespace", headers=()),
    _writes("memory.ingest", "POST", f"{_PROFILE}/memories", "Remember up to 1,000 memories, all or none.",
            IngestResult, about="profile", body=requests.Ingest),
    _reads("memory.recall", "POST", f"{_PROFILE}/recall", "The memories that answer a question best.", Hits,
           about="profile", body=requests.Recall),
    _reads("memory.get", "GET", f"{_PROFILE}/memories/{{id}}", "A memory with what has been held of its topic.",
           MemoryChain, about="profile"),
    _writes("memory.forget", "DELETE", f"{_PROFILE}/memories/{{id}}", "Remove a memory.", ForgetResult,
            about="profile", repeatable=True),
    _reads("memory.sessions", "GET", f"{_PROFILE}/sessions", "The sessions of a profile.", answers.MemorySessions,
           about="profile"),
    _writes("memory.end_session", "DELETE", f"{_PROFILE}/sessions/{{session}}", "Remove the tasks of a session.",
            EndSessionResult, about="profile", repeatable=True,
            query=(Query("turns", bool, "Remove its turns as well.", False),)),
    _writes("memory.embed", "POST", f"{_PROFILE}/embed", "Give the memories without an embedding one.", EmbedResult,
            about="profile", repeatable=True, long=True),
    _reads("memory.export", "GET", f"{_PROFILE}/export", "All memories and turns as lines of JSON.", LINES,
           about="profile", long=True),
    _writes("memory.import", "POST", f"{_PROFILE}/import", "Remember what lines of JSON say.", MemoryImport,
            about="profile", body=LINES, long=True, repeatable=True,
            query=(Query("session_id", str, "The session of turns that name none."),)),
)  # fmt: skip

_OPEN: Final = (
    Route("open.healthz", "GET", "/healthz", "open", "open", "Whether the server lives.", answer=answers.Health,
          repeatable=True),
    Route("open.readyz", "GET", "/readyz", "open", "open", "Whether the server takes work.", answer=answers.Health,
          repeatable=True),
    Route("open.openapi", "GET", "/openapi.json", "open", "open", "This document.", answer=JSON, repeatable=True),
    Route("open.docs", "GET", "/docs", "open", "open", "This document for people.", answer=HTML, repeatable=True),
)  # fmt: skip

ROUTES: Final[tuple[Route, ...]] = (*_CONTROL, *_OF_DATA, *_OF_MEMORY, *_OPEN)
BY_NAME: Final[dict[str, Route]] = {route.name: route for route in ROUTES}
