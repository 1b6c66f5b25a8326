"""Memory for AI agents that can be forked, checkpointed and rewound as one unit."""

from typing import TYPE_CHECKING, Any

from memoturn.base.errors import (
    AlreadyExistsError,
    BranchExpiredError,
    BranchNotFoundError,
    BusyError,
    CheckpointNotFoundError,
    ClosedError,
    ConflictError,
    CorruptError,
    DatabaseNotFoundError,
    FencedError,
    InternalError,
    InvalidRequestError,
    MemoturnError,
    NotFoundError,
    OverloadedError,
    SqlError,
    TxidNotRetainedError,
    UnavailableError,
    UnconfiguredError,
    UndecidedWriteError,
    UnsuitableStoreError,
)
from memoturn.base.results import (
    BatchResult,
    BranchInfo,
    CheckpointInfo,
    DatabaseInfo,
    DeleteResult,
    DocDelete,
    DocExplain,
    DocIndex,
    DocInsert,
    Documents,
    DocUpdate,
    ExportResult,
    HistoryEntry,
    ImportResult,
    KvDelete,
    KvEntry,
    KvKey,
    KvPage,
    KvPut,
    Place,
    PromoteResult,
    RestorePoint,
    RestorePoints,
    RestoreRange,
    RewindResult,
    Rows,
    UndoResult,
    Value,
    Verified,
)
from memoturn.base.settings import CacheSettings, CommitSettings, Settings

if TYPE_CHECKING:
    from memoturn.faces.embedded.client import Database, Memoturn

__all__ = [
    "AlreadyExistsError",
    "BatchResult",
    "BranchExpiredError",
    "BranchInfo",
    "BranchNotFoundError",
    "BusyError",
    "CacheSettings",
    "CheckpointInfo",
    "CheckpointNotFoundError",
    "ClosedError",
    "CommitSettings",
    "ConflictError",
    "CorruptError",
    "Database",
    "DatabaseInfo",
    "DatabaseNotFoundError",
    "DeleteResult",
    "DocDelete",
    "DocExplain",
    "DocIndex",
    "DocInsert",
    "DocUpdate",
    "Documents",
    "ExportResult",
    "FencedError",
    "HistoryEntry",
    "ImportResult",
    "InternalError",
    "InvalidRequestError",
    "KvDelete",
    "KvEntry",
    "KvKey",
    "KvPage",
    "KvPut",
    "Memoturn",
    "MemoturnError",
    "NotFoundError",
    "OverloadedError",
    "Place",
    "PromoteResult",
    "RestorePoint",
    "RestorePoints",
    "RestoreRange",
    "RewindResult",
    "Rows",
    "Settings",
    "SqlError",
    "TxidNotRetainedError",
    "UnavailableError",
    "UnconfiguredError",
    "UndecidedWriteError",
    "UndoResult",
    "UnsuitableStoreError",
    "Value",
    "Verified",
]


def __getattr__(name: str) -> Any:
    """Load the engine when it is first asked for: errors and types are needed without it, too."""
    if name in ("Database", "Memoturn"):
        from memoturn.faces.embedded import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
