"""What a segment needs before a manifest may name it: it was put under a name of its own, and not long ago.

A collector deletes what it has seen abandoned for a grace period. So no try to publish a segment names what an
earlier one has put, and none links what was there for half of that time: by then it is put again, under a new name.
The age is looked at whenever the manifest was read, and a collector writes a manifest before it deletes what somebody
might yet link there: so whoever was stopped in between has to look again. The argument is in docs/history.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from memoturn.base.clock import Clock
from memoturn.base.errors import UnavailableError
from memoturn.base.ids import Ids
from memoturn.manifest.model import Manifest
from memoturn.manifest.register import Register

T = TypeVar("T")
_TRIES: Final = 3
_MARK_LENGTH: Final = 8


class StaleUploadError(UnavailableError):
    """What was put has been there for so long that a collector may be about to delete it."""


def new_mark(ids: Ids) -> str:
    """What tells one try to put a segment from all others."""
    return ids.token()[:_MARK_LENGTH]


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


class Publisher:
    """Puts segments and links them, under one clock and one grace period, in seconds."""

    def __init__(self, manifests: Register[Manifest], clock: Clock, ids: Ids, grace: float) -> None:
        self._manifests = manifests
        self._clock = clock
        self._ids = ids
        self._grace = grace

    def publish(
        self, manifest_key: str, put: Callable[[Upload], T], link: Callable[[Manifest, T], Manifest]
    ) -> tuple[T, Manifest]:
        """Let `put` write a segment and `link` name what it returns; returns that, and the manifest after it.

        Both are called again if it took too long. Raises what they raise, and `UnavailableError`.
        """
        for _ in range(_TRIES):
            upload = Upload(self._clock, new_mark(self._ids))
            made = put(upload)

            def wish(manifest: Manifest, upload: Upload = upload, made: T = made) -> Manifest:
                if upload.age() > self._grace / 2:
                    raise StaleUploadError("it was put too long ago to be linked")
                return link(manifest, made)

            try:
                return made, self._manifests.update(manifest_key, wish).record
            except StaleUploadError:
                continue
        raise UnavailableError(
            f"a segment could not be linked within {self._grace / 2:g} s after it was put, {_TRIES} times in a row; "
            "the store is too slow for MEMOTURN_GC_GRACE_SECS"
        )
