"""One CAS loop for every record: read, apply a wish, write if nobody else wrote, else start again.

It uses nothing of a record but `seq` and `write_ids`; a check that is called before every write decides what may
be written. The loop never guesses: a write whose answer was lost is recognised by its id in what is there now.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from memoturn.base.cache import GenerationalCache
from memoturn.base.errors import (
    AlreadyExistsError,
    CorruptError,
    MemoturnError,
    UnavailableError,
    UndecidedWriteError,
)
from memoturn.base.ids import Ids
from memoturn.bucket import NO_VERSION, Bucket, Landed, ObjectNotFound, StaleVersionError, Version
from memoturn.manifest.model import CatalogEntry, Manifest
from memoturn.manifest.watch import Watch

KEPT_WRITE_IDS: Final = 8
_ATTEMPTS: Final = 1000
OUTDATED: Final = -1
"""A token that no watch gives: what was held under it is to be read again."""


R = TypeVar("R", Manifest, CatalogEntry)


class Held(Struct, Generic[R], frozen=True):
    """A record, the version under which it was read or written, and the watch's token at that time."""

    record: R
    version: Version
    token: int


class Register(Generic[R]):
    """All records of one type in a bucket, each changed by compare-and-swap only."""

    def __init__(
        self,
        kind: type[R],
        check: Callable[[R | None, R], None],
        bucket: Bucket,
        watch: Watch,
        ids: Ids,
        cached: int = 20_000,
    ) -> None:
        self._check: Callable[[R | None, R], None] = check
        self._bucket = bucket
        self._watch = watch
        self._ids = ids
        self._encode = msgspec.json.Encoder().encode
        self._decode: Callable[[bytes], R] = msgspec.json.Decoder(kind).decode
        self._cache: GenerationalCache[str, Held[R]] = GenerationalCache(cached)
        self._caching = threading.Lock()

    def current(self, key: str) -> Held[R]:
        """The record, from memory while the watch says that it has not changed.

        Raises `ObjectNotFound`.
        """
        held = self._cache.get(key)
        if held is not None and held.token == self._watch.token(key):
            return held
        return self.read(key)

    def at_hand(self, key: str) -> R | None:
        """`current`, or None if the bucket would have to be asked."""
        held = self._cache.get(key)
        return held.record if held is not None and held.token == self._watch.token(key) else None

    def read(self, key: str) -> Held[R]:
        """The record as the bucket has it now. Raises `ObjectNotFound`."""
        return self._keep(key, self.peek(key))

    def peek(self, key: str) -> Held[R]:
        """`read`, without remembering it: for one who goes through all records. Raises `ObjectNotFound`."""
        token = self._watch.token(key)
        body, version = self._bucket.get(key)
        return Held(self._parse(key, body), version, token)

    def create(self, key: str, record: R) -> Held[R]:
        """Write the first record at `key`. Raises `AlreadyExistsError` if there is one."""
        write_id = self._ids.token()
        new = replace(record, seq=record.seq + 1, write_ids=(*record.write_ids, write_id)[-KEPT_WRITE_IDS:])
        self._check(None, new)
        version = self._bucket.create(key, self._encode(new), self._landed(new.seq, write_id))
        self._cache.discard(key)
        return self._wrote(key, new, version)

    def create_or(self, key: str, record: R, over: Callable[[R], R]) -> Held[R]:
        """Write the first record at `key`, or else the one that `over` makes of what is there."""
        try:
            return self.create(key, record)
        except AlreadyExistsError:
            return self.update(key, over)

    def update(self, key: str, wish: Callable[[R], R], held: Held[R] | None = None) -> Held[R]:
        """Apply `wish` to the record until it is written, or `wish` raises; unchanged records are not written.

        `held` is the newest the caller knows. It may be outdated, so `wish` refuses and leaves alone only what
        was read from the bucket after this call began. Raises `ObjectNotFound`, whatever `wish` raises, and
        `UndecidedWriteError` if the outcome of a write could not be learned.
        """
        held = held or self.current(key)
        fresh = False
        for _ in range(_ATTEMPTS):
            old: R = held.record
            try:
                new = wish(old)
            except MemoturnError:
                if fresh:
                    raise
                new = old
            if new is old:
                if fresh:
                    return held
                held, fresh = self.read(key), True
                continue
            write_id = self._ids.token()
            new = replace(new, seq=old.seq + 1, write_ids=(*old.write_ids, write_id)[-KEPT_WRITE_IDS:])
            self._check(old, new)
            try:
                version = self._bucket.replace(
                    key, self._encode(new), held.version, self._landed(new.seq, write_id)
                )
            except StaleVersionError:
                held, fresh = self.read(key), True
            except ObjectNotFound:
                self._cache.discard(key)
                raise
            except UndecidedWriteError:
                self._watch.ring(key)
                raise
            else:
                return self._wrote(key, new, version)
        raise UnavailableError(f"{key} was changed by others {_ATTEMPTS} times in a row; try again")

    def _wrote(self, key: str, new: R, version: Version) -> Held[R]:
        """Our own record, whatever others have made of it since: its epoch, for one, is ours and not theirs."""
        token = self._watch.ring(key)
        if version != NO_VERSION and not self._watch.tells_owner:
            self._keep(key, held := Held(new, version, token))
            return held
        # Somebody may have written after us, and our ring may have covered up his: look once more.
        with contextlib.suppress(MemoturnError):
            there = self.read(key)
            if there.version == version:
                return there
        return Held(new, NO_VERSION, OUTDATED)

    def forget(self, key: str) -> None:
        """The record was removed from the bucket: nobody is to go on with what was remembered of it."""
        self._cache.discard(key)
        self._watch.ring(key)

    def _keep(self, key: str, held: Held[R]) -> Held[R]:
        """Remember a record, unless another thread has remembered a later one meanwhile; returns the later one.

        `seq` tells which is later as long as one follows from the other. If that cannot be seen, for so many writes
        lie between them or because the record was removed and its key taken again, neither is remembered.
        """
        with self._caching:
            known = self._cache.get(key)
            if known is not None and not _related(known.record, held.record):
                self._cache.discard(key)
                return held
            if known is not None and known.record.seq > held.record.seq:
                return known
            self._cache.put(key, held)
        return held

    def _landed(self, seq: int, write_id: str) -> Callable[[bytes], Landed]:
        def landed(body: bytes) -> Landed:
            there = self._decode(body)
            if write_id in there.write_ids:
                return Landed.OURS
            # So many writes came after ours that its id would have been pushed out.
            return Landed.UNKNOWN if there.seq - seq >= KEPT_WRITE_IDS else Landed.NOT_OURS

        return landed

    def _parse(self, key: str, body: bytes) -> R:
        try:
            return self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptError(f"{key} is not a record that this release can read: {error}") from error


def _related(one: Manifest | CatalogEntry, other: Manifest | CatalogEntry) -> bool:
    """Whether one of them is seen to follow from the other: each keeps the ids of the writes before it."""
    mine, others = one.write_ids, other.write_ids
    return not mine or not others or mine[-1] in others or others[-1] in mine
