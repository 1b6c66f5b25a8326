"""The types of requests and answers, shared by every face."""

from memoturn.base.results import (
    BatchResult,
    BranchInfo,
    CheckpointInfo,
    DatabaseInfo,
    DeleteResult,
    ExportResult,
    HistoryEntry,
    ImportResult,
    PromoteResult,
    RestorePoints,
    RewindResult,
    Rows,
    UndoResult,
    Value,
)

__all__ = [
    "BatchResult",
    "BranchInfo",
    "CheckpointInfo",
    "DatabaseInfo",
    "DeleteResult",
    "ExportResult",
    "HistoryEntry",
    "ImportResult",
    "PromoteResult",
    "RestorePoints",
    "RewindResult",
    "Rows",
    "UndoResult",
    "Value",
]
