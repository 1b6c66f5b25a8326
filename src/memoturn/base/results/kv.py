"""What operations on keys answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct


class KvPut(Struct, frozen=True):
    """What a put gave the key: a version that no other value of it has, on any branch."""

    version: int
    txid: int


class KvEntry(Struct, frozen=True):
    """What is kept under a key, and the position that was read."""

    value: bytes
    version: int
    meta: dict[str, Any] | None
    expires_at: datetime | None
    txid: int


class KvKey(Struct, frozen=True):
    """A key of a list; `size` is that of its value in bytes."""

    key: str
    size: int
    version: int
    meta: dict[str, Any] | None
    expires_at: datetime | None


class KvPage(Struct, frozen=True):
    """Keys in the order of their bytes; `cursor` asks for those that follow, None where none does."""

    keys: list[KvKey]
    cursor: str | None
    txid: int


class KvDelete(Struct, frozen=True):
    """Whether there was a key to delete, and the head after it."""

    deleted: bool
    txid: int
