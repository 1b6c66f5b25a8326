"""Keys and values: bodies are the values themselves, and what is told of them stands in headers."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from memoturn.base.clock import format_time, ms_of
from memoturn.base.errors import InvalidRequestError, NotFoundError
from memoturn.base.results.kv import KvEntry
from memoturn.faces.http.call import Answer, Call
from memoturn.faces.wire import headers
from memoturn.faces.wire.routes import RAW
from memoturn.node.engine import AtHand
from memoturn.operations import kv

_META_IN_HEADER: Final = 8192


def get(call: Call) -> Answer:
    ns, key = call.names["ns"], call.names["key"]
    found, txid = kv.entry(call.engine, call.at, ns, key)
    if found is None:
        raise _missing(ns, key)
    return _got(call, found, txid)


def get_at_hand(call: Call, seen: AtHand) -> Answer | None:
    found = kv.entry_at_hand(call.engine, seen, call.names["ns"], call.names["key"])
    return None if found is None else _got(call, found, found.txid)


def _got(call: Call, found: KvEntry, txid: int) -> Answer:
    if call.ask("entry"):
        return Answer(found, txid)
    told = _told(found)
    if call.headers.get(headers.IF_NONE_MATCH) in (told[0][1], "*"):
        return Answer(None, txid, told, status=304)
    return Answer(found.value, txid, told, media=RAW)


def put(call: Call) -> Answer:
    absent, version = _condition(call)
    done = kv.put(
        call.engine,
        call.at,
        call.names["ns"],
        call.names["key"],
        call.body,
        call.ask("ttl"),
        _meta(call.headers.get(headers.META)),
        absent,
        version,
    )
    return Answer(done, done.txid, ((headers.ETAG, f'"{done.version}"'),))


def delete(call: Call) -> Answer:
    _, version = _condition(call)
    done = kv.delete(call.engine, call.at, call.names["ns"], call.names["key"], version)
    return Answer(done, done.txid)


def list_(call: Call) -> Answer:
    page = kv.list_(
        call.engine, call.at, call.names["ns"], call.ask("prefix"), call.ask("cursor"), call.limit("limit")
    )
    return Answer(page, page.txid)


def _missing(ns: str, key: str) -> NotFoundError:
    return NotFoundError(f"there is no key {_shown(key)} in the namespace {ns!r}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}…")


def _told(found: KvEntry) -> tuple[tuple[str, str], ...]:
    told = [(headers.ETAG, f'"{found.version}"')]
    if found.expires_at is not None:
        told.append((headers.EXPIRES_AT, format_time(ms_of(found.expires_at))))
    if found.meta is not None:
        text = json.dumps(found.meta, separators=(",", ":")).replace("\x7f", "\\u007f")
        if len(text) <= _META_IN_HEADER:
            told.append((headers.META, text))
    return tuple(told)


def _meta(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text.encode("latin-1"), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidRequestError(f"{headers.META} is no JSON object in ASCII: {error}") from None


def _condition(call: Call) -> tuple[bool, int | None]:
    """`If-None-Match: *` asks that the key be absent, `If-Match: "7"` that it have that version."""
    absent, match = call.headers.get(headers.IF_NONE_MATCH), call.headers.get(headers.IF_MATCH)
    if absent is not None and absent.strip() != "*":
        raise InvalidRequestError(
            f"If-None-Match {absent!r} is not possible here; give * for a key that is absent"
        )
    if match is None:
        return absent is not None, None
    version = match.strip().strip('"')
    if not (version.isascii() and version.isdigit() and len(version) <= 20):
        raise InvalidRequestError(
            f"If-Match {match!r} is no version; give the ETag that the key was answered with"
        )
    return absent is not None, int(version)


AT_HAND = {"kv.get": get_at_hand}
HANDLERS = {"kv.get": get, "kv.put": put, "kv.delete": delete, "kv.list": list_}
