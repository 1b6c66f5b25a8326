"""What operations on documents answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct


class Documents(list[dict[str, Any]]):
    """Documents that were found, at position `txid`; `more` says whether others would follow."""

    __slots__ = ("more", "txid")

    def __init__(self, documents: Sequence[dict[str, Any]], more: bool, txid: int) -> None:
        super().__init__(documents)
        self.more = more
        self.txid = txid


class DocInsert(Struct, frozen=True):
    """The ids of what was inserted, in order, and the head after it."""

    ids: list[str]
    txid: int

    @property
    def id(self) -> str:
        """The first of them."""
        return self.ids[0]


class DocUpdate(Struct, frozen=True):
    """How many documents fitted, how many of them are not what they were, and the head after it."""

    matched: int
    modified: int
    txid: int


class DocDelete(Struct, frozen=True):
    """How many documents were removed, and the head after it."""

    deleted: int
    txid: int


class DocIndex(Struct, frozen=True):
    """An index on a path of a collection; `changed` says whether it was made or dropped just now."""

    path: str
    changed: bool
    txid: int


class DocExplain(Struct, frozen=True):
    """How documents would be found: the paths whose indexes are used, and SQLite's plan line by line."""

    indexes: list[str]
    plan: list[str]
    txid: int
