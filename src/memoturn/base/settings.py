"""What can be set, one type per concern. Only the CLI and the server's entry point fill these from variables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from memoturn.base.errors import InvalidRequestError

Durability = Literal["standard", "durable"]
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class CommitSettings:
    """When a commit is acknowledged, and when it is shipped to the bucket."""

    durability: Durability = "standard"
    ship_interval_ms: int = 200
    ship_bytes: int = 4 * MIB
    """Unshipped bytes from which on they are shipped at once: of changed pages, before compression."""
    backlog_bytes: int = 256 * MIB
    """Unshipped bytes, all of them in memory, at which writers are refused; from half of it on they are slowed."""
    busy_timeout: float = 5.0
    """Seconds to wait for another process to hand a branch over."""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """How much of what was read is kept."""

    page_cache_bytes: int = 64 * MIB
    disk_cache_bytes: int = 1024 * MIB
    """On local disk, for remote stores only; 0 turns it off."""
    block_bytes: int = 64 * 1024
    manifest_max_age: float = 0.5
    """Seconds for which a record of a remote store is believed before it is read again."""
    owner_max_age: float = 0.5
    """Seconds for which the owner of a branch on a remote store goes on without having heard from the store."""


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """How long the past can be restored, and what keeping it in shape may cost. Times in seconds."""

    pitr_retention_secs: int = 86_400
    """For so long every txid can be restored; 0 leaves the snapshots alone."""
    pitr_snapshot_retention_secs: int = 30 * 86_400
    """For so long snapshots can be restored, one at least for each day with commits."""
    gc_grace_secs: int = 600
    """What nothing needs any more is removed after so long, for the sake of those who still read it.

    At least 1, and the same for all who use a store: who is about to link a segment relies on it.
    """
    max_depth: int = 8
    """Hops to a parent or an earlier self behind a head, beyond which it gets a base of its own."""
    work_share: float = 0.25
    """The part of the time that background work may take."""
    work_bytes_per_second: int = 32 * MIB
    """How much background work may copy."""

    def __post_init__(self) -> None:
        if self.gc_grace_secs < 1:
            raise InvalidRequestError(
                f"gc_grace_secs={self.gc_grace_secs!r} would let a collection remove what somebody is about to use; "
                "give at least 1"
            )
        if min(self.pitr_retention_secs, self.pitr_snapshot_retention_secs) < 0:
            raise InvalidRequestError("a retention window cannot be negative; 0 keeps the head alone")

    @property
    def longest_secs(self) -> int:
        """For so long a deleted branch keeps its history for those who descend from it."""
        return max(self.pitr_retention_secs, self.pitr_snapshot_retention_secs)


@dataclass(frozen=True, slots=True)
class SqlSettings:
    """How much a statement of SQL may take. What would take more is stopped, and changes nothing."""

    deadline: float = 30.0
    """Seconds for a statement, or for all of a batch."""
    value_bytes: int = 32 * MIB
    """The longest text, blob or row."""
    costly_value_bytes: int = 256 * 1024
    """The same in statements whose calls take long for long values: full-text search, json_patch."""
    sql_bytes: int = 4 * MIB
    """The longest statement."""
    result_bytes: int = 256 * MIB
    """The values that a statement, or all of a batch, may give."""
    statement_bytes: int = 256 * MIB
    """The memory that SQLite may take for a statement, or for all of a batch."""
    heap_bytes: int = 1024 * MIB
    """The memory that SQLite may take in this process, its caches aside."""


@dataclass(frozen=True, slots=True)
class RecallSettings:
    """How much each channel of recall weighs; each is scaled so that its best hit has 1."""

    keyword: float = 0.7
    keyword_nearby: float = 1.0
    """Over the memory with two before and two after it in its session."""
    keyword_session: float = 0.3
    vector: float = 1.0
    vector_nearby: float = 1.5
    cache_bytes: int = 512 * MIB
    """What is derived from memories is kept up to so many bytes."""


@dataclass(frozen=True, slots=True)
class MaintenanceSettings:
    """What a process does in the background, and how often; how much of it in `HistorySettings`. Times in seconds."""

    on: bool = True
    idle_secs: float = 60.0
    """Without a commit, after which a branch is folded so that it wakes fast."""
    drill_bytes_per_minute: int = 4 * MIB
    """How much of what is stored is restored and compared, all the time; 0 turns it off."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Whether a server asks for tokens, and the keys of the installation, which are never shown."""

    auth: Literal["on", "off"] | None = None
    """None if nobody has said."""
    platform_key: str | None = field(default=None, repr=False)
    """Whoever has it may do everything."""
    signing_key: str | None = field(default=None, repr=False)
    """Base64 of PKCS#8, Ed25519."""
    old_keys: str | None = field(default=None, repr=False)
    """Keys whose tokens are still taken, parted by commas."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the engine can be told."""

    commit: CommitSettings = field(default_factory=CommitSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    sql: SqlSettings = field(default_factory=SqlSettings)
    history: HistorySettings = field(default_factory=HistorySettings)
    recall: RecallSettings = field(default_factory=RecallSettings)
    maintenance: MaintenanceSettings = field(default_factory=MaintenanceSettings)
    node_id: str | None = None
    advertise: str | None = None
    data_dir: str = "./data"
    hot_cap: int = 256
    """Databases kept open at most."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server takes on, and what it refuses. Times in seconds."""

    listen: str = "127.0.0.1:8080"
    body_bytes: int = 32 * MIB
    """The longest body of a request for data."""
    control_body_bytes: int = MIB
    """The longest body of a request that is about databases and branches."""
    import_bytes: int = 64 * 1024 * MIB
    """The largest file or stream of lines that may be imported. It is spooled to the disk of this machine."""
    header_bytes: int = 128 * 1024
    """The longest head of a request."""
    request_secs: float = 30.0
    """For so long a request may take, its body included; then its work is stopped."""
    long_request_secs: float = 3600.0
    """The same for imports, exports, diffs and maintenance."""
    min_txid_secs: float = 5.0
    """For so long a request waits for the txid that it asks for."""
    in_flight: int = 1024
    """Requests at a time."""
    control_per_second: float = 10.0
    """Requests about databases and branches, of each caller; 0 for as many as come."""
    queued: int = 256
    """Writes of one database that may wait; and as many reads."""
    results: int = 1000
    """What `k` and `limit` are clamped to."""
    idempotency_keys: int = 10_000
    idempotency_bytes: int = 64 * MIB
    """The first answers of the last so many idempotency keys are kept, up to so many bytes."""
    shutdown_secs: float = 30.0
    """For so long a server that is asked to stop finishes what it has begun."""
    log_requests: bool = False
    """Whether every request is logged, and not only those that went wrong."""
