"""What every open branch of a process shares."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from memoturn.base.clock import Clock
from memoturn.base.errors import BranchNotFoundError
from memoturn.base.ids import Ids
from memoturn.base.settings import CommitSettings
from memoturn.base.txids import TXID
from memoturn.bucket import Bucket, ObjectNotFound
from memoturn.database.log import CommitLog
from memoturn.database.neighbours import Neighbours
from memoturn.database.publish import Publisher
from memoturn.database.shipper import Shippable
from memoturn.manifest import keys
from memoturn.manifest.model import Manifest, Owner, Parent
from memoturn.manifest.register import Register
from memoturn.manifest.watch import Watch
from memoturn.pages.store import SegmentStore

if TYPE_CHECKING:
    from memoturn.database.branch import Branch


@dataclass(slots=True)
class Written:
    """Bytes that this process has put into the bucket: those of commits, and those of compaction."""

    committed: int = 0
    compacted: int = 0

    @property
    def amplification(self) -> float:
        """How many bytes compaction has written for each that was committed."""
        return self.compacted / self.committed if self.committed else 0.0


@dataclass(frozen=True, slots=True)
class Environment:
    """One per process and bucket. `log` is None where nothing outlives the process anyway."""

    bucket: Bucket
    manifests: Register[Manifest]
    store: SegmentStore
    log: CommitLog | None
    neighbours: Neighbours
    watch: Watch
    owner: Owner
    clock: Clock
    ids: Ids
    settings: CommitSettings
    set_aside: Path | None
    """Where commits are kept that another owner has overtaken; None where nothing outlives the process."""

    prepare: Callable[[apsw.Connection], None]
    """Called for every new connection, before it is used."""

    on_unshipped: Callable[[Shippable], None]
    """Called with a branch when it has something to ship."""

    on_owned: Callable[[Branch], None]
    """Called with a branch when this process has become its owner."""

    publisher: Publisher
    """Puts and links what maintenance writes."""

    on_shipped: Callable[[Branch, int], None] = lambda _branch, _bytes: None
    """Called with a branch when so many bytes of commits have been linked."""

    grace: float = 600.0
    """Seconds for which a collector leaves alone what nothing needs."""

    written: Written = field(default_factory=Written)

    def manifest_of(self, parent: Parent, at: TXID) -> Manifest:
        """`manifest_of`, by what this process knows."""
        return manifest_of(self.manifests, parent, at)

    def manifest_now(self, parent: Parent, at: TXID) -> Manifest:
        """`manifest_of`, as the bucket has it now."""
        return manifest_of(self.manifests, parent, at, afresh=True)


def manifest_of(manifests: Register[Manifest], parent: Parent, at: TXID, afresh: bool = False) -> Manifest:
    """The manifest of a parent that reaches to `at`; it may be a tombstone whose name was taken again.

    What is remembered may be older than the child: then it is read again, never taken for all there is.
    """
    key = keys.manifest_key(parent.db_uuid, parent.branch_id)
    former = keys.former_manifest_key(parent.db_uuid, parent.branch_id, parent.incarnation)
    for look in (manifests.read,) if afresh else (manifests.current, manifests.read):
        for place in (key, former):
            with contextlib.suppress(ObjectNotFound):
                manifest = look(place).record
                if manifest.incarnation == parent.incarnation and manifest.head_txid >= at:
                    return manifest
    raise BranchNotFoundError(
        f"branch {parent.branch_id!r}, which another one was forked from, has lost its manifest"
    )
