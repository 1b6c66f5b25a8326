"""Fresh names. Randomness is passed in, so that the simulator can replay a run from its seed."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable
from typing import Final

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(a + b for a in _CROCKFORD for b in _CROCKFORD)


class Ids:
    """A source of identifiers, seeded by the operating system unless a test passes its own generator."""

    __slots__ = ("_bits", "_last")

    def __init__(self, rng: random.Random | None = None) -> None:
        source = rng or _process_rng
        self._bits: Callable[[int], int] = source.getrandbits
        self._last = (-1, "")

    def ulid(self, now_ms: int) -> str:
        """A ULID: 48 bits of time and 80 random bits in Crockford's base 32, 26 characters."""
        p = _PAIRS
        ms, prefix = self._last
        if ms != now_ms:
            t = now_ms
            prefix = (
                p[t >> 40 & 1023] + p[t >> 30 & 1023] + p[t >> 20 & 1023] + p[t >> 10 & 1023] + p[t & 1023]
            )
            self._last = (now_ms, prefix)
        n = self._bits(80)
        return (
            prefix
            + p[n >> 70] + p[n >> 60 & 1023] + p[n >> 50 & 1023] + p[n >> 40 & 1023]
            + p[n >> 30 & 1023] + p[n >> 20 & 1023] + p[n >> 10 & 1023] + p[n & 1023]
        )  # fmt: skip

    def token(self) -> str:
        """64 random bits as 16 hex digits: enough for a write id, never a secret."""
        return self._bits(64).to_bytes(8, "big").hex()

    def number(self, bits: int) -> int:
        """`bits` random bits as an integer."""
        return self._bits(bits)


def secret() -> str:
    """256 bits of the operating system's randomness, for a key that nobody may guess: 43 characters fit for a URL."""
    return secrets.token_urlsafe(32)


_process_rng = random.Random(os.urandom(32))
# A forked child would otherwise repeat its parent's ids.
os.register_at_fork(after_in_child=lambda: _process_rng.seed(os.urandom(32)))
