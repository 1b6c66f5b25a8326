"""Keys and values."""

from __future__ import annotations

from typing import Any

from memoturn.base import json_text
from memoturn.base.errors import InvalidRequestError
from memoturn.base.names import Address
from memoturn.base.results.kv import KvDelete, KvEntry, KvPage, KvPut
from memoturn.faces.client.call import Call, as_type, content, data
from memoturn.faces.wire import headers

_put = as_type(KvPut)
_entry = as_type(KvEntry)
_deleted = as_type(KvDelete)
_page = as_type(KvPage)


def put(
    address: Address,
    ns: str,
    key: str,
    value: bytes | bytearray | memoryview | str,
    ttl: float | None,
    meta: dict[str, Any] | None,
    if_absent: bool,
    if_version: int | None,
) -> Call[KvPut]:
    sent = {}
    if meta is not None:
        json_text.encode_object("the metadata", meta, 1 << 20)
        sent[headers.META] = _ascii(meta)
    if if_absent:
        if if_version is not None:
            raise InvalidRequestError("give if_absent or if_version; a key that has a version is not absent")
        sent[headers.IF_NONE_MATCH] = "*"
    if if_version is not None:
        sent[headers.IF_MATCH] = _etag(if_version)
    # Who puts the same again has put it; who was first is known only to who was asked first.
    return data(
        "kv.put", address, _put, _names(ns, key), query={"ttl": ttl}, body=_bytes(value), sent=sent,
        keyed=if_absent or if_version is not None,
    )  # fmt: skip


def get(address: Address, ns: str, key: str) -> Call[bytes | None]:
    return data("kv.get", address, content, _names(ns, key), missing=True)


def entry(address: Address, ns: str, key: str) -> Call[KvEntry | None]:
    return data("kv.get", address, _entry, _names(ns, key), query={"entry": True}, missing=True)


def delete(address: Address, ns: str, key: str, if_version: int | None) -> Call[KvDelete]:
    sent = {} if if_version is None else {headers.IF_MATCH: _etag(if_version)}
    return data("kv.delete", address, _deleted, _names(ns, key), sent=sent)


def page(address: Address, ns: str, prefix: str, cursor: str | None, limit: int) -> Call[KvPage]:
    query = {"prefix": prefix or None, "cursor": cursor, "limit": limit}
    return data("kv.list", address, _page, {"ns": ns}, query=query)


def _names(ns: str, key: str) -> dict[str, str]:
    return {"ns": ns, "key": key}


def _etag(version: int) -> str:
    if type(version) is not int or version < 0:
        raise InvalidRequestError(f"{version!r} is no version; use the one that put or entry has returned")
    return f'"{version}"'


def _bytes(value: bytes | bytearray | memoryview | str) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"a value has to be Unicode text: {error}") from None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise InvalidRequestError(
        f"a value is bytes or text, not {type(value).__name__}; encode it, as JSON for instance"
    )


def _ascii(meta: dict[str, Any]) -> str:
    import json

    return json.dumps(meta, separators=(",", ":"))
