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
    ForbiddenError,
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
    UnauthorizedError,
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
    from os import PathLike
    from typing import overload

    from memoturn.base.clock import Clock
    from memoturn.base.ids import Ids
    from memoturn.base.settings import Durability
    from memoturn.faces.client.aio.client import AsyncDatabase, AsyncMemoturn
    from memoturn.faces.client.aio.memory import AsyncProfile
    from memoturn.faces.client.sync.tokens import Tokens
    from memoturn.faces.embedded import client as _embedded
    from memoturn.faces.embedded.client import Database
    from memoturn.faces.embedded.memory import Profile
    from memoturn.node.embedders.local import LocalEmbedder
    from memoturn.node.embedders.openai import OpenAIEmbedder

    class Memoturn(_embedded.Memoturn):
        """Either client. As they have the same methods, types are those of the one for a store."""

        @overload
        def __init__(
            self,
            url: str = "file:./data",
            *,
            durability: Durability | None = None,
            data_dir: str | PathLike[str] | None = None,
            settings: Settings | None = None,
            clock: Clock | None = None,
            ids: Ids | None = None,
            embedder: Embedder | None = None,
        ) -> None: ...

        @overload
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
        ) -> None: ...

        def __init__(self, url: str = "file:./data", **options: Any) -> None: ...

        tokens: Tokens
        """Of servers only."""


__all__ = [
    "AlreadyExistsError",
    "AsyncDatabase",
    "AsyncMemoturn",
    "AsyncProfile",
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
    "ForbiddenError",
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
    "UnauthorizedError",
    "UnavailableError",
    "UnconfiguredError",
    "UndecidedWriteError",
    "UnsuitableStoreError",
]
__all__ += wire.__all__


_LATER = {
    "AsyncDatabase": "memoturn.faces.client.aio.client",
    "AsyncMemoturn": "memoturn.faces.client.aio.client",
    "AsyncProfile": "memoturn.faces.client.aio.memory",
    "Database": "memoturn.faces.wire.surface",
    "Memoturn": "memoturn.faces.wire.surface",
    "Profile": "memoturn.faces.wire.surface",
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
