"""`db.kv`: keys and values of a branch, or of a position in its past."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from memoturn.base.names import Address
from memoturn.faces.client.aio.transport import AsyncTransport
from memoturn.faces.client.calls import kv as calls
from memoturn.faces.wire import KvDelete, KvEntry, KvKey, KvPage, KvPut


class AsyncKV:
    """Values of up to 24 MiB under keys, in namespaces that come into being with their first key."""

    __slots__ = ("_address", "_transport")

    def __init__(self, transport: AsyncTransport, address: Address) -> None:
        self._transport = transport
        self._address = address

    async def put(
        self,
        ns: str,
        key: str,
        value: bytes | bytearray | memoryview | str,
        *,
        ttl: float | None = None,
        meta: dict[str, Any] | None = None,
        if_absent: bool = False,
        if_version: int | None = None,
    ) -> KvPut:
        """Put bytes, or text as UTF-8, under a key; returns `.version` and `.txid`.

        After `ttl` seconds the key is absent. With `if_absent` or `if_version` it is put only if the key is absent
        or still has that version, else `ConflictError` is raised: so agents agree on who comes first.
        """
        return await self._transport.send(
            calls.put(self._address, ns, key, value, ttl, meta, if_absent, if_version)
        )

    async def get(self, ns: str, key: str) -> bytes | None:
        """The value, or None if the key is absent."""
        return await self._transport.send(calls.get(self._address, ns, key))

    async def entry(self, ns: str, key: str) -> KvEntry | None:
        """The value with its `.version`, `.meta`, `.expires_at` and `.txid`, or None if the key is absent."""
        return await self._transport.send(calls.entry(self._address, ns, key))

    async def delete(self, ns: str, key: str, *, if_version: int | None = None) -> KvDelete:
        """Remove a key; returns `.deleted` and `.txid`.

        With `if_version`, raises `ConflictError` unless the key has that version.
        """
        return await self._transport.send(calls.delete(self._address, ns, key, if_version))

    async def list(self, ns: str, prefix: str = "", *, cursor: str | None = None, limit: int = 100) -> KvPage:
        """A page of keys that begin with `prefix`, in the order of their UTF-8 bytes: `.keys` and `.cursor`."""
        return await self._transport.send(calls.page(self._address, ns, prefix, cursor, limit))

    async def keys(self, ns: str, prefix: str = "") -> AsyncIterator[KvKey]:
        """All keys that begin with `prefix`, read page by page as they are asked for."""
        cursor: str | None = None
        while True:
            page = await self.list(ns, prefix, cursor=cursor, limit=1000)
            for key in page.keys:
                yield key
            cursor = page.cursor
            if cursor is None:
                return
