"""Keys and values: one table in the order of namespace and key, and constant statements on it.

A key is text, kept as its UTF-8 bytes, so that keys are ordered bytewise whatever the encoding of the database.
Each put gives the value a new version of 53 random bits. It is not the txid of the put, because a branch that is
reset takes over what its parent wrote under the same txids: only what is drawn anew never comes back with another
value. A rewind brings a value back with the version that it had.

A key whose time has come is absent for every statement here; `sweep` removes what is left of it.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import apsw

from memoturn.base.errors import InvalidRequestError, PayloadTooLargeError
from memoturn.base.settings import MIB
from memoturn.models.reserved import amend, ask, tell

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS __memoturn_kv (
  ns TEXT NOT NULL, k BLOB NOT NULL, v BLOB NOT NULL, meta TEXT, expires_at INTEGER, version INTEGER NOT NULL,
  PRIMARY KEY (ns, k)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS __memoturn_kv_expiring ON __memoturn_kv (expires_at) WHERE expires_at IS NOT NULL
"""

MAX_KEY: Final = 16 * MIB
MAX_VALUE: Final = 24 * MIB
MAX_META: Final = 64 * 1024
VERSION_BITS: Final = 53
"""What a JSON number holds exactly, in every language."""

_GET: Final = "SELECT v, expires_at FROM __memoturn_kv WHERE ns = ? AND k = ?"
_ENTRY: Final = "SELECT v, meta, expires_at, version FROM __memoturn_kv WHERE ns = ? AND k = ?"
_PUT: Final = (
    "INSERT INTO __memoturn_kv (ns, k, v, meta, expires_at, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6) "
    "ON CONFLICT (ns, k) DO UPDATE SET v = ?3, meta = ?4, expires_at = ?5, version = ?6"
)
_PUT_IF_ABSENT: Final = f"{_PUT} WHERE expires_at <= ?7"
_LIVING: Final = "(expires_at IS NULL OR expires_at > ?{})"
_PUT_IF_VERSION: Final = (
    "UPDATE __memoturn_kv SET v = ?3, meta = ?4, expires_at = ?5, version = ?6 "
    f"WHERE ns = ?1 AND k = ?2 AND version = ?8 AND {_LIVING.format(7)}"
)
_DELETE: Final = f"DELETE FROM __memoturn_kv WHERE ns = ?1 AND k = ?2 AND {_LIVING.format(3)}"
_DELETE_IF_VERSION: Final = f"{_DELETE} AND version = ?4"
_LIST: Final = (
    "SELECT k, length(v), meta, expires_at, version FROM __memoturn_kv "
    f"WHERE ns = ?1 AND k > ?2 AND k >= ?3 AND {_LIVING.format(4)}{{}} ORDER BY k LIMIT ?5"
)
_LIST_ALL: Final = _LIST.format("")
_LIST_BELOW: Final = _LIST.format(" AND k < ?6")
_EXPIRED: Final = "SELECT 1 FROM __memoturn_kv WHERE expires_at <= ? LIMIT 1"
_SWEEP: Final = (
    "DELETE FROM __memoturn_kv WHERE (ns, k) IN "
    "(SELECT ns, k FROM __memoturn_kv WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"
)
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}").fullmatch
_KNOWN: Final = 4096
_known_namespaces: Final[set[str]] = set()
"""Some that have been checked before."""


Put = tuple[str, bytes, Any, str | None, int | None, int]
"""What is put: namespace, key, value, metadata as JSON text, when it expires in unix milliseconds, and version."""


class Entry(NamedTuple):
    """What is kept under a key."""

    v: bytes
    meta: str | None
    expires_at: int | None
    version: int


class Listed(NamedTuple):
    """A key as it is listed: with the size of its value, but without it."""

    k: bytes
    size: int
    meta: str | None
    expires_at: int | None
    version: int


def check_namespace(ns: str) -> str:
    """`ns` itself, if keys may be kept under it. Raises `InvalidRequestError`."""
    if type(ns) is str and ns in _known_namespaces:
        return ns
    if not isinstance(ns, str) or _NAMESPACE(ns) is None:
        raise InvalidRequestError(
            f"{ns!r} cannot name a namespace: use 1 to 128 letters, digits, '_', '.', ':' and '-', "
            "beginning with a letter, a digit or '_'"
        )
    if len(_known_namespaces) < _KNOWN:
        _known_namespaces.add(ns)
    return ns


def key_bytes(key: str) -> bytes:
    """A key as it is kept. Raises `InvalidRequestError` and `PayloadTooLargeError`."""
    if not isinstance(key, str):
        raise InvalidRequestError(f"a key is text, not {type(key).__name__}")
    try:
        k = key.encode()
    except UnicodeEncodeError as error:
        raise _not_unicode("a key", error) from None
    if not k:
        raise InvalidRequestError("a key has at least one character")
    if len(k) > MAX_KEY:
        raise PayloadTooLargeError(f"a key of {len(k):,} bytes is too long; {MAX_KEY:,} is the most")
    return k


def value_bytes(value: bytes | bytearray | memoryview | str) -> bytes | bytearray | memoryview:
    """A value as it is kept: texts as UTF-8. Raises `InvalidRequestError` and `PayloadTooLargeError`."""
    v: bytes | bytearray | memoryview
    if type(value) is bytes:
        v = value
    elif isinstance(value, str):
        try:
            v = value.encode()
        except UnicodeEncodeError as error:
            raise _not_unicode("a value", error) from None
    elif isinstance(value, bytes | bytearray | memoryview):
        v = value
    else:
        raise InvalidRequestError(
            f"a value is bytes or text, not {type(value).__name__}; encode it, as JSON for instance"
        )
    size = v.nbytes if isinstance(v, memoryview) else len(v)
    if size > MAX_VALUE:
        raise PayloadTooLargeError(f"a value of {size:,} bytes is too large; {MAX_VALUE:,} is the most")
    return v


def _not_unicode(what: str, error: UnicodeEncodeError) -> InvalidRequestError:
    return InvalidRequestError(f"{what} has to be Unicode text: {error}")


def after_prefix(prefix: bytes) -> bytes | None:
    """The first bytes that come after all that begin with `prefix`; None if nothing does."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


# Reading. `now` is in unix milliseconds.


def get(connection: apsw.Connection, place: tuple[str, bytes]) -> list[tuple[bytes, int | None]]:
    """The value and when it expires, whether or not it already has; nothing if the key is absent."""
    return ask(connection, _GET, place)


def entry(connection: apsw.Connection, ns: str, k: bytes, now: int) -> Entry | None:
    """All that is kept under a key."""
    rows = ask(connection, _ENTRY, (ns, k))
    if not rows:
        return None
    found = Entry(*rows[0])
    return None if found.expires_at is not None and found.expires_at <= now else found


def list_(
    connection: apsw.Connection, ns: str, prefix: bytes, after: bytes, limit: int, now: int
) -> list[Listed]:
    """Keys that begin with `prefix` and come after `after`, in order."""
    below = after_prefix(prefix)
    params = (ns, after, prefix, now, limit)
    rows = (
        ask(connection, _LIST_ALL, params)
        if below is None
        else ask(connection, _LIST_BELOW, (*params, below))
    )
    return [Listed(*row) for row in rows]


def has_expired(connection: apsw.Connection, now: int) -> bool:
    """Whether there is anything for `sweep` to remove."""
    return bool(ask(connection, _EXPIRED, (now,)))


# Writing. Each is one transaction.


def put(connection: apsw.Connection, what: Put) -> None:
    """Put, whatever was there."""
    tell(connection, SCHEMA, _PUT, what)


def put_if_absent(connection: apsw.Connection, what: Put, now: int) -> bool:
    """Put if the key is absent; returns whether it was."""
    return tell(connection, SCHEMA, _PUT_IF_ABSENT, (*what, now)) > 0


def put_if_version(connection: apsw.Connection, what: Put, now: int, version: int) -> bool:
    """Put if what is there has that version; returns whether it had."""
    return amend(connection, _PUT_IF_VERSION, (*what, now, version)) > 0


def delete(connection: apsw.Connection, ns: str, k: bytes, now: int, version: int | None) -> bool:
    """Remove a key, if it has that version where one is given; returns whether it was removed."""
    if version is None:
        return amend(connection, _DELETE, (ns, k, now)) > 0
    return amend(connection, _DELETE_IF_VERSION, (ns, k, now, version)) > 0


def sweep(connection: apsw.Connection, now: int, limit: int) -> int:
    """Remove at most `limit` keys that have expired; returns how many."""
    return amend(connection, _SWEEP, (now, limit))
