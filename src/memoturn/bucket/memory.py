"""Objects in this process, gone with it: exact compare-and-swap over a dict, about a microsecond a write."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from memoturn.base.clock import Clock
from memoturn.base.errors import AlreadyExistsError
from memoturn.base.txids import UnixMs
from memoturn.bucket.bucket import (
    Bucket,
    LandedCheck,
    ObjectInfo,
    ObjectNotFound,
    Pieces,
    StaleVersionError,
    Version,
    check_key,
    check_range,
)

_Object = tuple[tuple[bytes, Version], UnixMs]

# Half the price of Version(...), on a path that benchmarks look at.
_new_version = tuple.__new__


class MemoryBucket(Bucket):
    """A bucket for tests, simulations and databases that need not outlive the process.

    One dictionary operation decides a `get`, a `create` and a `put`, so they take no lock. A replace is two
    and takes one; so does a delete, which must not fall between them.
    """

    url = "memory:"
    is_local = True

    def __init__(self, clock: Clock) -> None:
        self._now = clock.now_ms
        self._number = itertools.count(1).__next__
        self._lock = threading.Lock()
        self._objects: dict[str, _Object] = {}
        # Whoever adds or removes a key puts a fresh object here; a sorted list is good while its mark is.
        self._mark: object = None
        self._sorted: tuple[object, Sequence[str]] = (None, ())

    def get(self, key: str) -> tuple[bytes, Version]:
        try:
            return self._objects[key][0]
        except KeyError:
            raise _missing(key) from None

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if start < 0 or length < 0:
            check_range(start, length)
        return self.get(key)[0][start : start + length]

    def get_tail(self, key: str, length: int) -> tuple[bytes, int]:
        check_range(0, length)
        body, _ = self.get(key)
        return body[max(0, len(body) - length) :], len(body)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Pieces:
        return [self.get_range(key, start, length) for start, length in ranges]

    def list(self, prefix: str, after: str | None = None) -> Iterator[ObjectInfo]:
        keys = self._sorted_keys()
        first = bisect_left(keys, prefix)
        if after is not None:
            first = max(first, bisect_right(keys, after))
        for i in range(first, len(keys)):
            key = keys[i]
            if not key.startswith(prefix):
                return
            stored = self._objects.get(key)
            if stored is not None:
                (body, _), modified_ms = stored
                yield ObjectInfo(key, len(body), modified_ms)

    def put(self, key: str, data: bytes | Iterable[bytes]) -> None:
        check_key(key)
        body = data if isinstance(data, bytes) else b"".join(data)
        version = _new_version(Version, (None, str(self._number())))
        self._objects[key] = ((body, version), self._now())
        self._mark = version

    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        check_key(key)
        version = _new_version(Version, (None, str(self._number())))
        mine = ((body, version), self._now())
        if self._objects.setdefault(key, mine) is not mine:
            raise AlreadyExistsError(f"an object {key!r} exists already in memory")
        self._mark = version
        return version

    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        following = _new_version(Version, (None, str(self._number())))
        mine = ((body, following), self._now())
        with self._lock:
            stored = self._objects.get(key)
            if stored is None:
                raise _missing(key)
            if stored[0][1] != version:
                raise StaleVersionError(f"the object {key!r} has been written since it was read")
            self._objects[key] = mine
        return following

    def delete(self, key: str) -> None:
        with self._lock:
            if self._objects.pop(key, None) is not None:
                self._mark = object()

    def close(self) -> None:
        """Nothing to let go of: the objects go with the bucket, and whoever is still at it finds them whole."""

    def _sorted_keys(self) -> Sequence[str]:
        mark, keys = self._sorted
        if mark is not self._mark:
            # The mark is read before the keys: one that changes in between makes this list stale, not wrong.
            mark = self._mark
            keys = sorted(self._objects)
            self._sorted = (mark, keys)
        return keys


def _missing(key: str) -> ObjectNotFound:
    return ObjectNotFound(f"no object {key!r} in memory")
