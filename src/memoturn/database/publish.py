"""What a segment needs before a manifest may name it: it was put under a name of its own, and not long ago.

A collector deletes what it has seen abandoned for a grace period. So no try to publish a segment ever names what an
earlier one has put, and none names what was there for half of that time: by then it uploads again, under a new name.
An object that a collector may delete is then never linked afterwards, by anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from memoturn.base.clock import Clock
from memoturn.base.errors import UnavailableError
from memoturn.base.ids import Ids

T = TypeVar("T")
_TRIES: Final = 3
_MARK_LENGTH: Final = 8


class Upload:
    """One try to put a segment: the `mark` for its name, and since when others may have seen it."""

    def __init__(self, clock: Clock, mark: str) -> None:
        self.mark = mark
        self._clock = clock
        self._visible_since: float | None = None

    def chunks(self, data: Iterable[bytes]) -> Iterator[bytes]:
        """The data as it is put. Before its end nothing is there to be seen."""
        yield from data
        if self._visible_since is None:
            self._visible_since = self._clock.monotonic()

    def age(self) -> float:
        """For how many seconds the object may have been there."""
        return 0.0 if self._visible_since is None else self._clock.monotonic() - self._visible_since


def put_fresh(clock: Clock, ids: Ids, grace: float, put: Callable[[Upload], T], *, marked: bool = True) -> T:
    """Call `put` until it was quick enough that what it has put may be linked now; returns what it returned.

    `marked` is False only if nobody can have tried to put this segment before. Raises `UnavailableError`.
    """
    for _ in range(_TRIES):
        upload = Upload(clock, ids.token()[:_MARK_LENGTH] if marked else "")
        made = put(upload)
        if grace <= 0 or upload.age() <= grace / 2:
            return made
        marked = True
    raise UnavailableError(
        f"a segment could not be put within {grace / 2:g} s, {_TRIES} times in a row; "
        "the store is too slow for MEMOTURN_GC_GRACE_SECS"
    )
