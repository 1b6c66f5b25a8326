"""Memory for AI agents that can be forked, checkpointed and rewound as one unit."""

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
