"""What every open branch of a process shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from memoturn.base.clock import Clock
from memoturn.base.errors import BranchNotFoundError
from memoturn.base.ids import Ids
from memoturn.base.settings import CommitSettings
from memoturn.base.spread import Spread
from memoturn.base.txids import TXID
from memoturn.bucket import Bucket, ObjectNotFound
from memoturn.database.log import CommitLog
from memoturn.database.neighbours import Neighbours
from memoturn.database.publish import Publisher
from memoturn.database.shipper import Shippable
from memoturn.manifest import keys
from memoturn.manifest.model import Manifest, Owner, Parent
from memoturn.manifest.register import Held, Register
from memoturn.manifest.watch import Watch
from memoturn.pages.store import SegmentStore

if TYPE_CHECKING:
    from memoturn.database.branch import Branch


@dataclass(slots=True)
class Written:
    """What this process has written: bytes of commits and of compaction in the bucket, and how long it took."""

    committed: int = 0
    compacted: int = 0
    commits: Spread = field(default_factory=Spread)
    """Seconds from the call of a write to its acknowledgement."""
    ships: Spread = field(default_factory=Spread)
    """Seconds to put a pack into the bucket and link it."""
    fences: int = 0
    """How often another writer had overtaken this process."""
    removed: int = 0
    """Dead objects deleted."""

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
    db_uuid, name = parent.db_uuid, parent.branch_id
    for look in (manifests.read,) if afresh else (manifests.current, manifests.read):
        found = _reaching(look, keys.manifest_key(db_uuid, name), parent, at) or _reaching(
            look, keys.former_manifest_key(db_uuid, name, parent.incarnation), parent, at
        )
        if found is not None:
            return found
    raise BranchNotFoundError(
        f"branch {parent.branch_id!r}, which another one was forked from, has lost its manifest"
    )


def _reaching(look: Callable[[str], Held[Manifest]], key: str, parent: Parent, at: TXID) -> Manifest | None:
    try:
        manifest = look(key).record
    except ObjectNotFound:
        return None
    return manifest if manifest.incarnation == parent.incarnation and manifest.head_txid >= at else None
