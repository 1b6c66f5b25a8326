"""First answers, kept so that a request which comes again with its `Idempotency-Key` is not done again.

Answers are kept in memory: those of the last so many keys, up to so many bytes, as long as this process runs. A key
belongs to a credential and a route. One that was sent first before this process began is refused, if whoever sends it
says so: what became of it nobody knows here. What asks again while the first is being worked on waits for it. Answers
that invite another try (408, 429, 5xx) are not kept, unless the work was done and only its durability is not known.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from typing import Final, NamedTuple

from memoturn.base.errors import ConflictError, InvalidRequestError, MemoturnError, UnavailableError
from memoturn.base.unshipped import Unshipped
from memoturn.faces.wire.headers import FIRST_TRY

_MAX_KEY: Final = 255
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?").fullmatch
_OVERHEAD: Final = 512


class Kept(NamedTuple):
    """An answer as it was sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    unshipped: Unshipped | None = None
    """What of it was not durable yet."""


class _Entry:
    __slots__ = ("fingerprint", "first", "kept")

    def __init__(self, fingerprint: bytes, first: asyncio.Future[Kept | None]) -> None:
        self.fingerprint = fingerprint
        self.first = first
        self.kept: Kept | None = None


Place = tuple[str, str, str]


def place_of(caller: str, route: str, key: str) -> Place:
    """Where the answer for a key is kept. Raises `InvalidRequestError` for what is no key."""
    if not 1 <= len(key) <= _MAX_KEY or not key.isprintable():
        raise InvalidRequestError(f"an Idempotency-Key has 1 to {_MAX_KEY} printable characters")
    return caller, route, key


def seconds_since(text: str | None) -> float:
    """How long ago the key was sent first; 0 if that is not said. Raises `InvalidRequestError`."""
    if text is None:
        return 0.0
    if _SECONDS(text) is None:
        raise InvalidRequestError(f"{FIRST_TRY} {text!r} is no number of seconds, such as 1.5")
    return float(text)


def too_young() -> MemoturnError:
    """The answer of a server that was started after a key had been sent first, and does not know it."""
    return UnavailableError(
        "this server was started after the first try, so whether that was obeyed is not known; look, then decide"
    )


def fingerprint_of(path: str, query: bytes, body: bytes | bytearray) -> bytes:
    """What tells a request from others with the same key."""
    digest = hashlib.blake2b(path.encode(), digest_size=16)
    digest.update(b"?" + query + b"\n")
    digest.update(body)
    return digest.digest()


class FirstAnswers:
    """For the event loop's thread only."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._entries: OrderedDict[Place, _Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def begin(self, place: Place, fingerprint: bytes) -> Kept | None:
        """The first answer, waiting for it if need be; None for whoever is first, and has to call `end`.

        Raises `ConflictError` if the key came with another request.
        """
        while True:
            entry = self._entries.get(place)
            if entry is None:
                self._entries[place] = _Entry(fingerprint, asyncio.get_running_loop().create_future())
                return None
            if entry.fingerprint != fingerprint:
                raise ConflictError("this Idempotency-Key came with another request before; take a new one")
            self._entries.move_to_end(place)
            if entry.kept is not None:
                return entry.kept
            kept = await asyncio.shield(entry.first)
            if kept is not None:
                return kept

    def end(self, place: Place, kept: Kept | None) -> None:
        """Whoever was first is done; None if the next one has to try again."""
        entry = self._entries[place]
        if kept is None:
            del self._entries[place]
        else:
            entry.kept = kept
            self._bytes += len(kept.body) + _OVERHEAD
            self._shrink()
        if not entry.first.done():
            entry.first.set_result(kept)

    def _shrink(self) -> None:
        while len(self._entries) > self._most or self._bytes > self._most_bytes:
            oldest = next((place for place, entry in self._entries.items() if entry.kept is not None), None)
            if oldest is None:
                return
            kept = self._entries.pop(oldest).kept
            assert kept is not None
            self._bytes -= len(kept.body) + _OVERHEAD
