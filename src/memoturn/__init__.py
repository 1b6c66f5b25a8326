"""Memory for AI agents that can be forked, checkpointed and rewound as one unit."""

from typing import TYPE_CHECKING, Any

from memoturn.base.embedding import Embedder
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
    NameBeingFreedError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
    RequestTimeoutError,
    SegmentGoneError,
    SqlError,
    TxidNotRetainedError,
    UnavailableError,
    UnconfiguredError,
    UndecidedWriteError,
    UnsuitableStoreError,
)
from memoturn.base.settings import (
    CacheSettings,
    CommitSettings,
    HistorySettings,
    MaintenanceSettings,
    RecallSettings,
    Settings,
    SqlSettings,
)
from memoturn.faces import wire
from memoturn.faces.wire import *  # noqa: F403

if TYPE_CHECKING:
    from memoturn.faces.embedded.client import Database, Memoturn
    from memoturn.faces.embedded.memory import Profile
    from memoturn.node.embedders.local import LocalEmbedder
    from memoturn.node.embedders.openai import OpenAIEmbedder

__all__ = [
    "AlreadyExistsError",
    "BranchExpiredError",
    "BranchNotFoundError",
    "BusyError",
    "CacheSettings",
    "CheckpointNotFoundError",
    "ClosedError",
    "CommitSettings",
    "ConflictError",
    "CorruptError",
    "Database",
    "DatabaseNotFoundError",
    "Embedder",
    "FencedError",
    "HistorySettings",
    "InternalError",
    "InvalidRequestError",
    "LocalEmbedder",
    "MaintenanceSettings",
    "Memoturn",
    "MemoturnError",
    "NameBeingFreedError",
    "NotFoundError",
    "OpenAIEmbedder",
    "OverloadedError",
    "PayloadTooLargeError",
    "Profile",
    "RecallSettings",
    "RequestTimeoutError",
    "SegmentGoneError",
    "Settings",
    "SqlError",
    "SqlSettings",
    "TxidNotRetainedError",
    "UnavailableError",
    "UnconfiguredError",
    "UndecidedWriteError",
    "UnsuitableStoreError",
]
__all__ += wire.__all__


_LATER = {
    "Database": "memoturn.faces.embedded.client",
    "Memoturn": "memoturn.faces.embedded.client",
    "Profile": "memoturn.faces.embedded.memory",
    "LocalEmbedder": "memoturn.node.embedders.local",
    "OpenAIEmbedder": "memoturn.node.embedders.openai",
}


def __getattr__(name: str) -> Any:
    """Load the engine when it is first asked for: errors and types are needed without it, too."""
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
