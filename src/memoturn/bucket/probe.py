"""A store is tried once, before anything is kept in it: one that breaks a rule we stand on is refused.

A probe can refute and never prove: a store whose races go wrong once in a million passes. It finds what is common,
which is a store, or a gateway before it, that ignores conditions, or checks them and writes in two steps.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from memoturn.base.clock import Clock
from memoturn.base.errors import (
    AlreadyExistsError,
    MemoturnError,
    UnavailableError,
    UnsuitableStoreError,
)
from memoturn.base.ids import Ids
from memoturn.base.txids import UnixMs
from memoturn.bucket.bucket import NO_VERSION, Bucket, ObjectNotFound, StaleVersionError, Version

RESERVED: Final = "probe/"
"""The keys that belong to the probe."""

VERDICT_KEY: Final = f"{RESERVED}verdict.json"
RULES: Final = 1
"""Raised with every rule that is added, so that stores which passed the older ones are tried again."""

_CONTENDERS: Final = 16
_LAPS: Final = 3
_COUNTERS: Final = 6
_INCREMENTS: Final = 4
_PATIENCE: Final = 1000


class Verdict(NamedTuple):
    """That a store was found suitable, and when."""

    url: str
    rules: int
    checked_ms: UnixMs


def probe(bucket: Bucket, *, clock: Clock, ids: Ids) -> Verdict:
    """Find out whether the store keeps the rules, once; later calls read the verdict, which is one GET.

    Local stores are not tried: their rules are kept by code of ours, which has its own tests. A copy of a bucket
    at another URL does not inherit the verdict. Raises `UnsuitableStoreError`, which says what rule was broken,
    `UnconfiguredError` if there is no such bucket or no way in, and `UnavailableError`.
    """
    if bucket.is_local:
        return Verdict(bucket.url, RULES, clock.now_ms())
    known = _known(bucket)
    if known is not None:
        return known

    # A missing bucket is told from a missing object only by listing it.
    next(bucket.list(RESERVED), None)
    directory = f"{RESERVED}{ids.token()}"
    try:
        _reads_follow_writes(bucket, f"{directory}/one")
        _conditions_hold(bucket, f"{directory}/two")
        _listings_follow_writes(bucket, f"{directory}/listed")
        _creates_have_one_winner(bucket, f"{directory}/create")
        _replaces_have_one_winner(bucket, f"{directory}/replace")
        _no_update_is_lost(bucket, f"{directory}/counter")
    finally:
        _sweep(bucket, directory)

    verdict = Verdict(bucket.url, RULES, clock.now_ms())
    bucket.put(VERDICT_KEY, json.dumps(verdict._asdict()).encode())
    return verdict


def _known(bucket: Bucket) -> Verdict | None:
    try:
        found = Verdict(**json.loads(bucket.get(VERDICT_KEY)[0]))
    except (ObjectNotFound, ValueError, TypeError):
        return None
    return found if found.url == bucket.url and found.rules == RULES else None


def _reads_follow_writes(bucket: Bucket, key: str) -> None:
    rule = "a read must show the last write, and its version"
    version = bucket.create(key, b"first")
    _require(version != NO_VERSION, bucket, "a write must be answered with an ETag or a generation")
    _require(bucket.get(key) == (b"first", version), bucket, rule)
    following = bucket.replace(key, b"second", version)
    _require(following not in (version, NO_VERSION), bucket, "every write must make a new version")
    _require(bucket.get(key) == (b"second", following), bucket, rule)
    bucket.delete(key)
    _require(_body(bucket, key) is None, bucket, "a read must not show a deleted object")


def _conditions_hold(bucket: Bucket, key: str) -> None:
    first = bucket.create(key, b"first")
    created = _done(bucket.create, key, b"again")
    _require(not created and _body(bucket, key) == b"first", bucket, "a create must refuse a key that exists")
    bucket.replace(key, b"second", first)
    replaced = _done(bucket.replace, key, b"stale", first)
    rule = "a replace must refuse a version that is not current"
    _require(not replaced and _body(bucket, key) == b"second", bucket, rule)
    version = bucket.get(key)[1]
    bucket.delete(key)
    replaced = _done(bucket.replace, key, b"revived", version)
    _require(
        not replaced and _body(bucket, key) is None, bucket, "a replace must refuse an object that is gone"
    )


def _listings_follow_writes(bucket: Bucket, prefix: str) -> None:
    keys = [f"{prefix}/{name}" for name in ("a", "a-b", "a.b", "b/c", "b0")]
    for key in reversed(keys):
        bucket.put(key, b"x")
    rule = "a listing must show every object that was written, in order"
    _require([info.key for info in bucket.list(f"{prefix}/")] == keys, bucket, rule)
    _require([info.key for info in bucket.list(f"{prefix}/", keys[1])] == keys[2:], bucket, rule)


def _creates_have_one_winner(bucket: Bucket, prefix: str) -> None:
    for lap in range(_LAPS):
        key = f"{prefix}/{lap}"

        def contend(number: int, key: str = key) -> bool:
            return _done(bucket.create, key, b"%d" % number)

        won = _race(_CONTENDERS, contend)
        winner_is_there = len(won) == 1 and _body(bucket, key) == b"%d" % won[0]
        _require(winner_is_there, bucket, "of many creates at once exactly one must win")


def _replaces_have_one_winner(bucket: Bucket, key: str) -> None:
    version = bucket.create(key, b"start")
    for lap in range(_LAPS):

        def contend(number: int, lap: int = lap, version: Version = version) -> bool:
            return _done(bucket.replace, key, b"%d by %d" % (lap, number), version)

        won = _race(_CONTENDERS, contend)
        body, version = bucket.get(key)
        winner_is_there = len(won) == 1 and body == b"%d by %d" % (lap, won[0])
        _require(winner_is_there, bucket, "of many replaces at once exactly one must win")


def _no_update_is_lost(bucket: Bucket, key: str) -> None:
    """Counting together finds what a race does not: a read that pairs one write's body with another's version."""
    bucket.create(key, b"0 nobody 0")

    def count(number: int) -> bool:
        turn = 0
        for _ in range(_PATIENCE):
            body, version = bucket.get(key)
            following = b"%d %d %d" % (int(body.split()[0]) + 1, number, turn)
            turn += _done(bucket.replace, key, following, version)
            if turn == _INCREMENTS:
                break
        return True

    _race(_COUNTERS, count)
    total = int((_body(bucket, key) or b"0").split()[0])
    rule = "a read must pair a body with its own version"
    _require(total == _COUNTERS * _INCREMENTS, bucket, rule)


def _race(contenders: int, contend: Callable[[int], bool]) -> list[int]:
    """The contenders that won, all having started together. An error of one is raised when all have ended."""
    start = threading.Barrier(contenders)
    won: list[int] = []
    errors: list[MemoturnError] = []

    def run(number: int) -> None:
        start.wait()
        try:
            if contend(number):
                won.append(number)
        except MemoturnError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(contenders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return won


def _done(write: Callable[..., Version], *args: object) -> bool:
    """Whether the write was made, not refused."""
    try:
        write(*args)
    except (AlreadyExistsError, StaleVersionError, ObjectNotFound):
        return False
    return True


def _body(bucket: Bucket, key: str) -> bytes | None:
    try:
        return bucket.get(key)[0]
    except ObjectNotFound:
        return None


def _sweep(bucket: Bucket, directory: str) -> None:
    try:
        for info in list(bucket.list(f"{directory}/")):
            bucket.delete(info.key)
    except (UnavailableError, UnsuitableStoreError):
        # A few bytes are left behind; what the probe found matters more.
        return


def _require(holds: bool, bucket: Bucket, rule: str) -> None:
    if not holds:
        raise UnsuitableStoreError(
            f"{bucket.url} cannot keep branches safe: {rule}, and here it does not hold. Use a store with strongly "
            "consistent conditional writes, such as Amazon S3, Google Cloud Storage or Azure Blob Storage"
        )
