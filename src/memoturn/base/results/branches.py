"""What operations on branches answer. Times are aware datetimes in UTC; txids count commits."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct


class Place(Struct, frozen=True):
    """Which position is read; `exact` is False if it is the nearest to the one that was asked for."""

    txid: int
    exact: bool


class BranchInfo(Struct, frozen=True, omit_defaults=True):
    """A branch: where it stands, what it was forked from, and when it expires, if it does.

    `exact` is told by its creation alone: whether it was forked at the very position that was asked for, or at the
    nearest one.
    """

    name: str
    head_txid: int
    parent: str | None
    fork_txid: int | None
    created_at: datetime
    ttl_at: datetime | None
    is_default: bool
    checkpoints: dict[str, int]
    epoch: int
    exact: bool | None = None


class CheckpointInfo(Struct, frozen=True):
    """A named position."""

    name: str
    txid: int


class RewindResult(Struct, frozen=True):
    """`txid` is the new head, `restored_txid` the position whose content it has; `undo` takes it back.

    `exact` is False if that position is the nearest to the one that was asked for, of which no more is left.
    """

    txid: int
    restored_txid: int
    undo: str
    exact: bool = True


class PromoteResult(Struct, frozen=True):
    """The branch that the database's name now stands for; `undo` takes it back."""

    default_branch: str
    undo: str


class DeleteResult(Struct, frozen=True):
    """What was deleted; `undo` takes it back while the history is retained."""

    name: str
    undo: str


class UndoResult(Struct, frozen=True):
    """`what` was taken back, on which branch or database; `undo` takes that back in turn, where it can."""

    what: str
    name: str
    txid: int | None
    undo: str | None


class HistoryEntry(Struct, frozen=True):
    """One txid of a branch.

    A `commit` has the number of `pages` and `bytes` that it wrote; a `snapshot`, which is what is left of a commit
    that went out of retention, those of the whole database. A `rewind`, `reset` or `fork` has the txid whose content
    it took in `base_txid`.
    """

    txid: int
    kind: Literal["commit", "rewind", "reset", "fork", "snapshot"]
    time: datetime
    pages: int
    bytes: int
    base_txid: int | None
    checkpoints: tuple[str, ...]


class RestoreRange(Struct, frozen=True):
    """Every txid from `from_txid` to `to_txid`, both included, can be restored; it is the history of `branch`."""

    branch: str
    from_txid: int
    to_txid: int
    from_time: datetime
    to_time: datetime


class RestorePoint(Struct, frozen=True):
    """One txid outside the ranges that can be restored, and why: as a snapshot, a checkpoint, or where a fork began.

    It is kept by `branch`.
    """

    branch: str
    txid: int
    time: datetime
    why: Literal["snapshot", "checkpoint", "fork"]
    checkpoints: tuple[str, ...]


class RestorePoints(Struct, frozen=True):
    """All that can be restored on a branch, what it inherited included; both lists ascend.

    What is in neither goes to the nearest below it, or is refused.
    """

    ranges: list[RestoreRange]
    points: list[RestorePoint]
