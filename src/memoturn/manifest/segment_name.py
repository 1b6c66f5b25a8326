"""The name of a segment: strict, so that every name that parses is spelled in exactly one way."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from memoturn.base.errors import CorruptError
from memoturn.base.txids import TXID

_NUMBER: Final = r"(0|[1-9][0-9]{0,18})"
_MARK: Final = "(?:-([0-9a-f]{8}))?"
_PACK: Final = re.compile(rf"ltx/([0-9])/{_NUMBER}-{_NUMBER}-{_NUMBER}{_MARK}\.ltx").fullmatch
_BASE: Final = re.compile(rf"base/{_NUMBER}-{_NUMBER}{_MARK}\.ltx").fullmatch
_LIMIT: Final = 1 << 63


class SegmentName(NamedTuple):
    """A pack (`ltx/{level}/{min}-{max}-{epoch}.ltx`) or a base (`base/{txid}-{epoch}.ltx`).

    Relative to the incarnation that wrote it. A base stands for txids 1 to `max_txid` at once, and its
    `level` is None. `mark` tells one try to write a segment from another: `…-{epoch}-{mark}.ltx`.
    """

    level: int | None
    min_txid: TXID
    max_txid: TXID
    epoch: int
    mark: str = ""

    @classmethod
    def pack(cls, level: int, min_txid: TXID, max_txid: TXID, epoch: int, mark: str = "") -> SegmentName:
        """The name of a pack that holds the commits from `min_txid` to `max_txid`, both included."""
        return cls(level, min_txid, max_txid, epoch, mark)

    @classmethod
    def base(cls, txid: TXID, epoch: int, mark: str = "") -> SegmentName:
        """The name of a base that holds the whole database at `txid`."""
        return cls(None, TXID(1), txid, epoch, mark)

    @staticmethod
    def parse(text: str) -> SegmentName:
        """Read a name; remembered, so that reading a manifest again costs next to nothing.

        Raises `CorruptError` for anything that `str()` of a segment name would not have written.
        """
        return _parse(text)

    @property
    def is_base(self) -> bool:
        return self.level is None

    @property
    def index_object(self) -> str:
        """The object whose end tells where every page of the segment lies."""
        return str(self) if self.level is not None else f"base/{self._of_base}.idx"

    @property
    def objects(self) -> tuple[str, ...]:
        """Every object that belongs to the segment: one for a pack, the snapshot and its index for a base."""
        return (str(self),) if self.level is not None else (str(self), self.index_object)

    def __str__(self) -> str:
        if self.level is None:
            return f"base/{self._of_base}.ltx"
        marked = f"-{self.mark}" if self.mark else ""
        return f"ltx/{self.level}/{self.min_txid}-{self.max_txid}-{self.epoch}{marked}.ltx"

    @property
    def _of_base(self) -> str:
        return f"{self.max_txid}-{self.epoch}-{self.mark}" if self.mark else f"{self.max_txid}-{self.epoch}"


@lru_cache(maxsize=1 << 14)
def _parse(text: str) -> SegmentName:
    if found := _PACK(text):
        level, low, high, epoch = map(int, found.groups()[:4])
        name = SegmentName(level, TXID(low), TXID(high), epoch, found[5] or "")
    elif found := _BASE(text):
        txid, epoch = map(int, found.groups()[:2])
        name = SegmentName.base(TXID(txid), epoch, found[3] or "")
    else:
        raise CorruptError(
            f"{text!r} names no segment; expected ltx/{{level}}/{{min}}-{{max}}-{{epoch}}.ltx "
            "or base/{txid}-{epoch}.ltx"
        )
    if not 1 <= name.min_txid <= name.max_txid < _LIMIT or epoch >= _LIMIT:
        raise CorruptError(f"{text!r} names no segment: txids run from 1 to 2^63-1 and never backwards")
    return name
