"""What can be set, one type per concern. Only the CLI and the server's entry point fill these from variables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Durability = Literal["standard", "durable"]
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class CommitSettings:
    """When a commit is acknowledged, and when it is shipped to the bucket."""

    durability: Durability = "standard"
    ship_interval_ms: int = 200
    ship_bytes: int = MIB
    backlog_bytes: int = 64 * MIB
    """Unshipped bytes at which writers are refused; from half of it on they are slowed."""
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


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the engine can be told."""

    commit: CommitSettings = field(default_factory=CommitSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    node_id: str | None = None
    advertise: str | None = None
    data_dir: str = "./data"
    hot_cap: int = 256
    """Databases kept open at most."""
