"""What operations on transcripts answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct


class TurnAppended(Struct, frozen=True):
    """The numbers of the turns in their session, and the head after them."""

    seqs: list[int]
    txid: int

    @property
    def seq(self) -> int:
        """The last of them."""
        return self.seqs[-1]


class Turn(Struct, frozen=True):
    """A turn of a session. `score` says how well it was found, higher is better; None where nothing was asked."""

    session: str
    seq: int
    role: str
    content: str
    created_at: datetime
    score: float | None = None


class Turns(list[Turn]):
    """Turns that were read at position `txid`."""

    __slots__ = ("txid",)

    def __init__(self, turns: Sequence[Turn], txid: int) -> None:
        super().__init__(turns)
        self.txid = txid


class SessionInfo(Struct, frozen=True):
    """A session: how many turns it has, and when the first and the last were made."""

    session: str
    turns: int
    first_at: datetime
    last_at: datetime


class SessionDelete(Struct, frozen=True):
    """How many turns were removed, and the head after it."""

    turns: int
    txid: int
