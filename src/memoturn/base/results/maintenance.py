"""What maintenance did, what it is doing, and what it keeps."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct


class CompactedBranch(Struct, frozen=True):
    """What compaction did with a branch, and the packs and bases that it has now."""

    name: str
    merges: int
    bases_written: int
    bases_dropped: int
    bytes_written: int
    packs: int
    bases: int


class CompactResult(Struct, frozen=True):
    """What was compacted. `write_amplification` is the bytes written for each byte of commits that is kept."""

    database: str
    bytes_written: int
    bytes_of_commits: int
    write_amplification: float
    branches: list[CompactedBranch]


class RetainedBranch(Struct, frozen=True):
    """What retention did with a branch.

    Every txid can be restored from `exact_txid` on, and from `floor_txid` on the snapshots. `bases` are the positions
    of which it wrote snapshots, of `bytes_written` in all.
    """

    name: str
    exact_txid: int
    floor_txid: int
    bases: tuple[int, ...]
    bytes_written: int


class WorkStatus(Struct, frozen=True):
    """The last time that a kind of background work was done, and what came of it.

    `branch` is None for work on a whole database; `error` and `failures` in a row tell of trouble that has not been
    overcome since. `due_in` is in seconds, and known of the process that answers only.
    """

    kind: str
    branch: str | None
    time: datetime | None
    seconds: float
    what: str
    error: str | None
    failures: int
    due_in: float | None


class BranchStatus(Struct, frozen=True):
    """What a branch consists of.

    `packs` counts them by level; `packs_above_base` and `depth` (hops to a parent or an earlier self) are what a
    reader of the head has to go through. `bytes` are those of all its objects, dead ones included.
    """

    name: str
    head_txid: int
    exact_txid: int
    floor_txid: int
    packs: list[int]
    bases: int
    packs_above_base: int
    depth: int
    objects: int
    bytes: int


class DatabaseStatus(Struct, frozen=True):
    """A database's branches, and the work that was done on it.

    `bytes_shipped` and `bytes_written` count commits and compaction on this machine since it began;
    `write_amplification` is what compaction has written for each byte that was committed.
    """

    name: str
    db_uuid: str
    objects: int
    bytes: int
    bytes_shipped: int
    bytes_written: int
    write_amplification: float
    branches: list[BranchStatus]
    work: list[WorkStatus]


class Background(Struct, frozen=True):
    """What the process that answers has done in the background since it opened the store."""

    on: bool
    since: datetime | None
    running: str | None
    pieces: int
    failures: int
    seconds_worked: float
    seconds_paused: float
    bytes: int
    share: float
    bytes_per_second: int


class MaintenanceStatus(Struct, frozen=True):
    """What background work has done, and what is due."""

    background: Background
    databases: list[DatabaseStatus]


class GcGroup(Struct, frozen=True):
    """Objects of one kind that are not alive: `removed`, or they wait for their grace period, or are `kept`."""

    fate: Literal["removed", "waits", "kept"]
    kind: str
    objects: int
    bytes: int


class GcObject(Struct, frozen=True):
    """One object that is not alive, and why."""

    key: str
    bytes: int
    fate: Literal["removed", "waits", "kept"]
    why: str


class GcResult(Struct, frozen=True):
    """What a garbage collection has done, or would do if it was a `dry_run`.

    `databases`, `objects` and `bytes` are what was looked at. What waits may be removed by the first run after
    `ready_at`, which is told by the store's clock. `examples` are the first thousand objects that are not alive.
    """

    dry_run: bool
    databases: int
    objects: int
    bytes: int
    removed: int
    removed_bytes: int
    waiting: int
    waiting_bytes: int
    ready_at: datetime | None
    expired: int
    unlinked: int
    freed: int
    grace_secs: float
    groups: list[GcGroup]
    examples: list[GcObject]


class Holder(Struct, frozen=True):
    """Somebody who holds an object: a branch, or None for what is no branch's affair; and why."""

    branch: str | None
    why: str


class Retained(Struct, frozen=True):
    """An object and who holds it.

    It is `alive` as somebody needs it, or `waits` until a grace period has passed; it is `dead` if no pass has
    counted it yet, and `kept` if it cannot be told whether somebody needs it.
    """

    key: str
    bytes: int
    modified_at: datetime
    state: Literal["alive", "waits", "dead", "kept"]
    holders: list[Holder]
