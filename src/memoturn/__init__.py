"""Memory for AI agents that can be forked, checkpointed and rewound as one unit."""

from typing import TYPE_CHECKING, Any

from memoturn.base.errors import (
    AlreadyExistsError,
    BranchExpiredError,
    BranchNotFoundError,
    BusyError,
    CheckpointNotFoundError,
    ConflictError,
    DatabaseNotFoundError,
    FencedError,
    InvalidRequestError,
    MemoturnError,
    NotFoundError,
    OverloadedError,
    SqlError,
    TxidNotRetainedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from memoturn.faces.embedded.client import Database, Memoturn

__all__ = [
    "AlreadyExistsError",
    "BranchExpiredError",
    "BranchNotFoundError",
    "BusyError",
    "CheckpointNotFoundError",
    "ConflictError",
    "Database",
    "DatabaseNotFoundError",
    "FencedError",
    "InvalidRequestError",
    "Memoturn",
    "MemoturnError",
    "NotFoundError",
    "OverloadedError",
    "SqlError",
    "TxidNotRetainedError",
    "UnavailableError",
]


def __getattr__(name: str) -> Any:
    """Load the engine when it is first asked for: errors and types are needed without it, too."""
    if name in ("Database", "Memoturn"):
        from memoturn.faces.embedded import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
