"""What operations on databases answer."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class DatabaseInfo(Struct, frozen=True):
    """A database; `ttl_at` is when it expires, if it does."""

    name: str
    db_uuid: str
    default_branch: str
    created_at: datetime
    ttl_at: datetime | None = None


class ImportResult(Struct, frozen=True):
    """What an import has stored, at which txid."""

    name: str
    txid: int
    pages: int
    bytes: int


class ExportResult(Struct, frozen=True):
    """What an export has written, from which position; `exact` is False if it is the nearest to the one asked for."""

    path: str
    txid: int
    pages: int
    bytes: int
    exact: bool = True


class Verified(Struct, frozen=True):
    """A position restored from the bucket alone; `problem` says what is wrong with it, None if nothing is."""

    database: str
    branch: str
    txid: int
    pages: int
    bytes: int
    ok: bool
    problem: str | None
