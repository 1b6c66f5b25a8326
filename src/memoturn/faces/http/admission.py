"""Who comes in: how many requests at a time, and how many calls of the control plane a second from each caller."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from memoturn.base.errors import OverloadedError

_CALLERS: Final = 10_000


class Admission:
    """Counts what is in flight. For the event loop's thread only."""

    def __init__(self, most: int, control_per_second: float, monotonic: Callable[[], float]) -> None:
        self.in_flight = 0
        self._most = most
        self._rate = control_per_second
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def enter(self) -> None:
        """Another request; every one that enters has to leave. Raises `OverloadedError`."""
        if self.in_flight >= self._most:
            raise OverloadedError(
                f"{self._most} requests are being worked on already; try again in a second", 1.0
            )
        self.in_flight += 1

    def leave(self) -> None:
        """A request is done."""
        self.in_flight -= 1

    def control(self, caller: str) -> None:
        """A call of the control plane. Each caller may save up those of one second. Raises `OverloadedError`."""
        rate = self._rate
        if not rate:
            return
        now = self._monotonic()
        buckets = self._buckets
        most = max(rate, 1.0)
        tokens, then = buckets.pop(caller, (most, now))
        tokens = min(most, tokens + (now - then) * rate)
        allowed = tokens >= 1.0
        buckets[caller] = (tokens - 1.0 if allowed else tokens, now)
        if len(buckets) > _CALLERS:
            buckets.popitem(last=False)
        if not allowed:
            wait = (1.0 - tokens) / rate
            raise OverloadedError(
                f"more than {rate:g} calls a second about databases and branches; try again in {wait:.2f} seconds",
                wait,
            )
