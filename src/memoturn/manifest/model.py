"""The two records that live in the bucket: a database's catalog entry and a branch's manifest.

Both are immutable values. `seq` and `write_ids` belong to the register, which stamps them at every write; all
other fields change only through the functions in `rules.py`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from memoturn.base.txids import TXID, UnixMs

FORMAT = 1


class CatalogEntry(Struct, frozen=True, kw_only=True, gc=False):
    """What a database's name stands for."""

    format: int = FORMAT
    db_uuid: str
    default_branch: str
    created_at: UnixMs
    ttl_at: UnixMs | None = None
    deleted_at: UnixMs | None = None
    collected: bool = False
    """A tombstone whose database is being removed: it cannot be taken back."""
    deletions: int = 0
    """How many deletions of the database were taken back."""
    seq: int = 0
    write_ids: tuple[str, ...] = ()

    @property
    def life(self) -> str:
        """What ends with a deletion and does not come back with an undo: access that was granted to the database."""
        return f"{self.db_uuid}.{self.deletions}"


class Parent(Struct, frozen=True, gc=False):
    """The branch that this one was forked from, and the txid that it continues."""

    db_uuid: str
    branch_id: str
    incarnation: str
    fork_txid: TXID


class Owner(Struct, frozen=True, gc=False):
    """The node that may append to the branch under the manifest's epoch."""

    node_id: str
    url: str | None = None


class Stretch(Struct, frozen=True, gc=False):
    """Txids from `from_txid` on start from the content at `base_txid` of `base`; `at` is when it began."""

    from_txid: TXID
    base: Literal["self", "parent", "empty"]
    base_txid: TXID
    at: UnixMs


class Manifest(Struct, frozen=True, kw_only=True, gc=False):
    """One branch: which segments make it up, and which position each of its stretches starts from.

    Every txid from `exact_txid` on can be restored; between `floor_txid` and it only those at which there is a base;
    below `floor_txid` only those that a checkpoint keeps. Both rise first, and history is removed later.
    """

    format: int = FORMAT
    branch_id: str
    incarnation: str
    parent: Parent | None
    epoch: int = 0
    owner: Owner | None = None
    head_txid: TXID
    timeline: tuple[Stretch, ...]
    checkpoints: dict[str, TXID] = {}
    ttl_at: UnixMs | None = None
    deleted_at: UnixMs | None = None
    floor_txid: TXID = TXID(0)
    exact_txid: TXID = TXID(0)
    segments: tuple[str, ...] = ()
    removal: Literal["history", "name"] | None = None
    """What of a tombstone is being removed: its history, so that it cannot be taken back; then its name as well."""
    seq: int = 0
    write_ids: tuple[str, ...] = ()

    @property
    def created_at(self) -> UnixMs:
        """When the branch was created."""
        return self.timeline[0].at
