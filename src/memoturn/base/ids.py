"""Fresh names. Randomness is passed in, so that the simulator can replay a run from its seed."""

from __future__ import annotations

import itertools
import os
import random
import secrets
from collections.abc import Callable, Iterator
from typing import Final

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(a + b for a in _CROCKFORD for b in _CROCKFORD)


class Ids:
    """A source of identifiers, seeded by the operating system unless a test passes its own generator."""

    __slots__ = ("_bits", "_last")

    def __init__(self, rng: random.Random | None = None) -> None:
        source = rng or _process_rng
        self._bits: Callable[[int], int] = source.getrandbits
        self._last: tuple[int, int, str, Iterator[int]] = (-1, 0, "", itertools.count())

    def ulid(self, now_ms: int) -> str:
        """A ULID: 48 bits of time and 80 random bits in Crockford's base 32, 26 characters.

        Those of one millisecond ascend, as in the monotonic form that the specification describes: what is kept in
        their order grows at its end.
        """
        p = _PAIRS
        ms, forks, prefix, numbers = self._last
        if ms != now_ms or forks != _forks:
            prefix, numbers = self._begin(now_ms)
        n = next(numbers)
        return f"{prefix}{p[n >> 30]}{p[n >> 20 & 1023]}{p[n >> 10 & 1023]}{p[n & 1023]}"

    def _begin(self, t: int) -> tuple[str, Iterator[int]]:
        """The first 18 characters in a millisecond, and numbers for the others; the first of these is below 2^39."""
        p = _PAIRS
        n = self._bits(79)
        high = n >> 39
        prefix = (
            f"{p[t >> 40 & 1023]}{p[t >> 30 & 1023]}{p[t >> 20 & 1023]}{p[t >> 10 & 1023]}{p[t & 1023]}"
            f"{p[high >> 30]}{p[high >> 20 & 1023]}{p[high >> 10 & 1023]}{p[high & 1023]}"
        )
        numbers = itertools.count(n & ((1 << 39) - 1))
        # Threads may begin the same one twice; each then goes on with random bits of its own.
        self._last = (t, _forks, prefix, numbers)
        return prefix, numbers

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
_forks = 0
"""How many forks lie between the first process and this one."""


def _begin_anew() -> None:
    """A forked child would otherwise repeat its parent's ids."""
    global _forks
    _forks += 1
    _process_rng.seed(os.urandom(32))


os.register_at_fork(after_in_child=_begin_anew)
