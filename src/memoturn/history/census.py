"""A census: what one pass found to be dead, written down so that a later pass may act on it after a grace period.

It lies in the bucket as immutable parts, each of which stands for itself: a pass that ends halfway leaves a shorter
census, and whoever runs the next pass needs nothing but the bucket. What a part says was true when it was
written, and when that was, only the store's own modification times tell.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Final, Literal

import msgspec
from msgspec import Struct

from memoturn.base.ids import Ids
from memoturn.base.txids import TXID, UnixMs
from memoturn.bucket import Bucket, ObjectInfo, ObjectNotFound
from memoturn.manifest import keys
from memoturn.manifest.model import Manifest

FORMAT: Final = 1
_PART: Final = 10_000
"""Objects in one part: about a megabyte."""


class Boundary(Struct, frozen=True, array_like=True):
    """Where the history of an incarnation ended: later that may be cut off which lay beyond it already then."""

    incarnation: str
    exact: TXID
    floor: TXID
    deleted_at: UnixMs | None
    removal: Literal["history", "name"] | None


class Part(Struct, frozen=True, omit_defaults=True):
    """What one object of a census says. The first part has the `branches`, the others have `objects` in order.

    `doomed` says that the whole database was dead: deleted at that time, or, if that is 0, named by nothing.
    """

    format: int
    branches: tuple[Boundary, ...] = ()
    objects: tuple[str, ...] = ()
    doomed: UnixMs | None = None


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Part).decode


def store_now(bucket: Bucket, ids: Ids) -> UnixMs:
    """What time it is at the store: an object is written, and its listing tells when."""
    key = keys.clock_key(ids.token())
    bucket.put(key, b"now")
    try:
        return next(info.modified_ms for info in bucket.list(key) if info.key == key)
    finally:
        bucket.delete(key)


def is_ripe(part: ObjectInfo, now: UnixMs, grace_ms: int) -> bool:
    """Whether a part may be acted on; `now` is an earlier time at the store than that of any read that decides."""
    return now - part.modified_ms >= grace_ms


def withdraw(bucket: Bucket, db_uuid: str) -> None:
    """Take all censuses of a database back: what was dead then is counted again, from now on.

    They may hold what is about to live again. If that dies once more, those who read it have their grace again.
    """
    bucket.delete_many([info.key for info in bucket.list(keys.census_prefix(db_uuid))])


def boundary_of(manifest: Manifest) -> Boundary:
    """Where the history of the branch ends now."""
    return Boundary(
        manifest.incarnation,
        manifest.exact_txid,
        manifest.floor_txid,
        manifest.deleted_at,
        manifest.removal,
    )


class Censuses:
    """Those that are there, ripe and unripe."""

    def __init__(self, bucket: Bucket, db_uuid: str, now: UnixMs, grace_ms: int) -> None:
        self._bucket = bucket
        self.prefix = keys.database_prefix(db_uuid)
        self.ripe: list[str] = []
        """The keys of the parts that may be acted on, and are removed when that has been done."""
        self.ready_at: UnixMs | None = None
        """When the last of the others will be ripe, by the store's clock."""
        self._parts: dict[str, list[tuple[ObjectInfo, bool]]] = {}
        self._boundaries: dict[bool, dict[str, list[Boundary]]] = {True: {}, False: {}}
        self._doomed: dict[bool, set[UnixMs]] = {True: set(), False: set()}
        for info in bucket.list(keys.census_prefix(db_uuid)):
            ripe = is_ripe(info, now, grace_ms)
            if ripe:
                self.ripe.append(info.key)
            else:
                self.ready_at = max(self.ready_at or info.modified_ms, UnixMs(info.modified_ms + grace_ms))
            taker, number = keys.census_part(info.key)
            if number == 0:
                self._take_first(info.key, ripe)
            else:
                self._parts.setdefault(taker, []).append((info, ripe))

    def _take_first(self, key: str, ripe: bool) -> None:
        part = self._read(key)
        if part.doomed is not None:
            self._doomed[ripe].add(part.doomed)
        for boundary in part.branches:
            self._boundaries[ripe].setdefault(boundary.incarnation, []).append(boundary)

    def boundaries(self, incarnation: str) -> list[Boundary]:
        """Those of an incarnation that may be acted on."""
        return self._boundaries[True].get(incarnation, [])

    def has(self, boundary: Boundary) -> bool:
        """Whether a census that is not ripe yet says it already."""
        return boundary in self._boundaries[False].get(boundary.incarnation, ())

    def dooms(self, deleted_at: UnixMs) -> bool | None:
        """Whether the whole database may be removed: False if a census says so and is not ripe, None if none does."""
        if deleted_at in self._doomed[True]:
            return True
        return False if deleted_at in self._doomed[False] else None

    def objects(self) -> Iterator[tuple[str, bool, UnixMs]]:
        """All objects in order: name, whether that census is ripe, and when it was taken."""
        return heapq.merge(*(self._of_one(parts) for parts in self._parts.values()), key=itemgetter(0))

    def _of_one(self, parts: list[tuple[ObjectInfo, bool]]) -> Iterator[tuple[str, bool, UnixMs]]:
        for info, ripe in parts:
            for name in self._read(info.key).objects:
                yield name, ripe, info.modified_ms

    def _read(self, key: str) -> Part:
        """What it says; nothing if another collector has acted on it and removed it, or it cannot be read."""
        try:
            part = _decode(self._bucket.get(key)[0])
        except (ObjectNotFound, msgspec.MsgspecError, UnicodeDecodeError):
            return Part(FORMAT)
        return part if part.format == FORMAT else Part(FORMAT)


class CensusWriter:
    """Takes a new census; nothing is written if there is nothing to say."""

    def __init__(self, bucket: Bucket, ids: Ids, db_uuid: str) -> None:
        self._bucket = bucket
        self._db_uuid = db_uuid
        self._taker = ids.token()
        self._number = 0
        self._objects: list[str] = []
        self.written: list[str] = []
        """The keys of the parts that were put."""

    def branches(self, boundaries: Iterable[Boundary]) -> None:
        """Say where histories end."""
        found = tuple(boundaries)
        if found:
            self._put(0, Part(FORMAT, branches=found))

    def doom(self, deleted_at: UnixMs) -> None:
        """Say that the whole database is dead."""
        self._put(0, Part(FORMAT, doomed=deleted_at))

    def add(self, name: str) -> None:
        """Say that an object is dead; in the order of the names."""
        self._objects.append(name)
        if len(self._objects) == _PART:
            self.close()

    def close(self) -> None:
        """Write what was said and is not written yet."""
        if self._objects:
            self._number += 1
            self._put(self._number, Part(FORMAT, objects=tuple(self._objects)))
            self._objects.clear()

    def _put(self, number: int, part: Part) -> None:
        key = keys.census_key(self._db_uuid, self._taker, number)
        self._bucket.put(key, _encode(part))
        self.written.append(key)


class Candidates:
    """Walks along the objects of all censuses beside a listing: each name is asked for once, in order."""

    def __init__(self, objects: Iterator[tuple[str, bool, UnixMs]]) -> None:
        self._objects = objects
        self._next = next(objects, None)

    def find(self, name: str) -> tuple[bool, UnixMs] | None:
        """Whether a ripe census has it, and when the latest such one was taken; None if no census has it."""
        there = self._next
        while there is not None and there[0] < name:
            there = next(self._objects, None)
        found: tuple[bool, UnixMs] | None = None
        while there is not None and there[0] == name:
            found = there[1:] if found is None else max(found, there[1:])
            there = next(self._objects, None)
        self._next = there
        return found


def latest(boundaries: list[Boundary]) -> tuple[TXID, TXID]:
    """The highest exact window and floor among boundaries of one incarnation."""
    return max(b.exact for b in boundaries), max(b.floor for b in boundaries)


def says_deleted(boundaries: Iterable[Boundary], manifest: Manifest) -> bool:
    """Whether this very tombstone was there: one that was taken back and set again is another one."""
    return any(b.deleted_at == manifest.deleted_at for b in boundaries)


def says_removed(boundaries: Iterable[Boundary]) -> bool:
    """Whether the tombstone's history was being removed already."""
    return any(b.removal is not None for b in boundaries)
