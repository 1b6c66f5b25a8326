"""A bounded cache with no lock and no bookkeeping on a hit.

Two generations: what is used moves to the young one; when that has filled half of the budget the old one is
dropped and the young one takes its place. It approximates least-recently-used at the price of two dictionary
look-ups. Each operation is a few dictionary calls that the interpreter makes atomic, so threads may share it;
a race costs at most a needless miss.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class GenerationalCache(Generic[K, V]):
    """A mapping that forgets what was not used lately; `budget` is in the units of `weigh`, entries if none."""

    __slots__ = ("_budget", "_old", "_weigh", "_weight", "_young")

    def __init__(self, budget: int, weigh: Callable[[V], int] | None = None) -> None:
        self._budget = budget
        self._weigh = weigh
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._weight = 0

    def get(self, key: K) -> V | None:
        """The value, or None."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep the value until others have pushed it out."""
        weight = 1 if self._weigh is None else self._weigh(value)
        self._weight += weight
        if self._weight * 2 > self._budget:
            self._old = self._young
            self._young = {}
            self._weight = weight
        self._young[key] = value

    def discard(self, key: K) -> None:
        """Forget the value, if it is there."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._young = {}
        self._old = {}
        self._weight = 0

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
