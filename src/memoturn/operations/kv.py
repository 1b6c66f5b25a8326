"""Keys and values: put, get, delete, list."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from memoturn.base import json_text
from memoturn.base.clock import time_or_none
from memoturn.base.errors import ConflictError, InvalidRequestError, SegmentGoneError
from memoturn.base.names import Address
from memoturn.base.results.kv import KvDelete, KvEntry, KvKey, KvPage, KvPut
from memoturn.base.txids import TXID
from memoturn.manifest.rules import ttl_at
from memoturn.models import kv
from memoturn.models.reserved import Connection
from memoturn.node.engine import AtHand, Engine
from memoturn.operations.positions import view_of, writable
from memoturn.operations.reading import again, clamped, read

_AT_HAND_PAGES: Final = 32
"""So many take some hundred microseconds at most."""


def put(
    engine: Engine,
    address: Address,
    ns: str,
    key: str,
    value: bytes | bytearray | memoryview | str,
    ttl: float | None = None,
    meta: dict[str, Any] | None = None,
    if_absent: bool = False,
    if_version: int | None = None,
) -> KvPut:
    """Put a value under a key, with `ttl` in seconds; `if_absent` and `if_version` say what must be there before.

    Raises `ConflictError` if that is not there, `InvalidRequestError`, `PayloadTooLargeError`, and what writing the
    branch raises.
    """
    kv.check_namespace(ns)
    now = engine.clock.now_ms() if ttl is not None or if_absent or if_version is not None else 0
    k, version = kv.key_bytes(key), engine.ids.number(kv.VERSION_BITS)
    what = (
        ns,
        k,
        kv.value_bytes(value),
        None if meta is None else json_text.encode_object("the metadata", meta, kv.MAX_META).decode(),
        None if ttl is None else ttl_at(ttl, now),  # type: ignore[arg-type]
        version,
    )
    branch = writable(engine, address)
    if not if_absent and if_version is None:
        _, txid = branch.write(lambda connection: kv.put(connection, what), anywhere=True)
        return KvPut(version, txid)
    if if_absent and if_version is not None:
        raise InvalidRequestError("give if_absent or if_version; a key that has a version is not absent")
    if if_version is not None:
        _check_version(if_version)

    def work(connection: Connection) -> str | None:
        if if_version is None:
            done = kv.put_if_absent(connection, what, now)
        else:
            done = kv.put_if_version(connection, what, now, if_version)
        return None if done else _standing(connection, ns, k, now)

    standing, txid = branch.write(work, anywhere=True)
    if standing is not None:
        wanted = "absent" if if_version is None else f"at version {if_version}"
        raise ConflictError(f"the key is not {wanted}: {standing}; get it again, then decide")
    return KvPut(version, txid)


def get(engine: Engine, address: Address, ns: str, key: str) -> tuple[bytes | None, TXID]:
    """The value of a key, None if it is absent; and the position that was read."""
    place = (kv.check_namespace(ns), kv.key_bytes(key))
    try:
        return _get(engine, address, place)
    except SegmentGoneError:
        return again(engine, address, lambda: _get(engine, address, place))


def _get(engine: Engine, address: Address, place: tuple[str, bytes]) -> tuple[bytes | None, TXID]:
    """What `read` does, in as few steps as it takes."""
    if address.position is None:
        branch, view = engine.at_head(address.database, address.branch)
    else:
        branch, view = view_of(engine, address)
    readers = branch.readers
    reader = readers.take(view)
    try:
        rows = kv.get(reader.connection, place)
    except BaseException:
        reader.close()
        raise
    readers.give_back(reader)
    for value, expires_at in rows:
        if expires_at is None or expires_at > engine.clock.now_ms():
            return value, view.txid
    return None, view.txid


def entry(engine: Engine, address: Address, ns: str, key: str) -> tuple[KvEntry | None, TXID]:
    """The value of a key with its version, metadata and expiry; and the position that was read."""
    kv.check_namespace(ns)
    k, now = kv.key_bytes(key), engine.clock.now_ms()
    found, txid = read(engine, address, lambda connection: kv.entry(connection, ns, k, now))
    return None if found is None else _entry(found, txid), txid


def entry_at_hand(engine: Engine, seen: AtHand, ns: str, key: str) -> KvEntry | None:
    """`entry` at the head for one who may not wait: None if it takes more than a few pages in memory, or is absent.

    Raises as `entry` does, and if what it takes is not in memory.
    """
    kv.check_namespace(ns)
    k, now = kv.key_bytes(key), engine.clock.now_ms()
    readers = seen.branch.readers
    reader = readers.take_at_hand(seen.view)
    if reader is None:
        return None
    try:
        reader.stay_in_memory(_AT_HAND_PAGES)
        found = kv.entry(reader.connection, ns, k, now)
        reader.stay_in_memory(None)
    except BaseException:
        readers.was_in_vain(reader)
        raise
    readers.give_back(reader)
    return None if found is None else _entry(found, seen.view.txid)


def _entry(found: kv.Entry, txid: TXID) -> KvEntry:
    expires_at = time_or_none(found.expires_at)  # type: ignore[arg-type]
    return KvEntry(found.v, found.version, _meta(found.meta), expires_at, txid)


def delete(engine: Engine, address: Address, ns: str, key: str, if_version: int | None = None) -> KvDelete:
    """Remove a key. With `if_version`, raises `ConflictError` unless it has that version."""
    kv.check_namespace(ns)
    k, now = kv.key_bytes(key), engine.clock.now_ms()
    if if_version is not None:
        _check_version(if_version)

    def work(connection: Connection) -> tuple[bool, str]:
        done = kv.delete(connection, ns, k, now, if_version)
        return done, "" if done or if_version is None else _standing(connection, ns, k, now)

    (done, standing), txid = writable(engine, address).write(work, anywhere=True)
    if standing:
        raise ConflictError(f"the key is not at version {if_version}: {standing}; get it again, then decide")
    return KvDelete(done, txid)


def list_(
    engine: Engine,
    address: Address,
    ns: str,
    prefix: str = "",
    cursor: str | None = None,
    limit: int = 100,
) -> KvPage:
    """Keys of a namespace that begin with `prefix`, in the order of their bytes, at most `limit` of them.

    `cursor` is that of the page before. Raises `InvalidRequestError`.
    """
    kv.check_namespace(ns)
    begins = kv.key_bytes(prefix) if prefix != "" else b""
    after = b"" if cursor is None else _after(cursor)
    most, now = clamped("limit", limit), engine.clock.now_ms()
    found, txid = read(
        engine, address, lambda connection: kv.list_(connection, ns, begins, after, most + 1, now)
    )
    keys = [
        KvKey(one.k.decode(), one.size, one.version, _meta(one.meta), time_or_none(one.expires_at))  # type: ignore[arg-type]
        for one in found[:most]
    ]
    more = base64.urlsafe_b64encode(found[most - 1].k).decode() if len(found) > most else None
    return KvPage(keys, more, txid)


def _standing(connection: Connection, ns: str, k: bytes, now: int) -> str:
    found = kv.entry(connection, ns, k, now)
    return "it is absent" if found is None else f"it is at version {found.version}"


def _meta(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json_text.decode(text)


def _check_version(version: object) -> None:
    if type(version) is not int or not 0 <= version < 1 << kv.VERSION_BITS:
        raise InvalidRequestError(f"{version!r} is no version; use the one that put or entry has returned")


def _after(cursor: str) -> bytes:
    try:
        return base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise InvalidRequestError(
            "that is no cursor; pass the one of the page before, or none to begin"
        ) from None
