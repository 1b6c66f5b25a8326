"""`mt.tokens`: credentials for databases and namespaces of a server. A store at hand has none."""

from __future__ import annotations

from memoturn.faces.client.aio.transport import AsyncTransport
from memoturn.faces.client.calls import tokens as calls
from memoturn.faces.wire import Minted, Scope


class AsyncTokens:
    """Minting; it takes the platform key of the server, or an admin token of the namespace."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, database: str, scope: Scope, *, expires_in: int | None = None) -> Minted:
        """A token for a database, good for `expires_in` seconds, a day unless it is said. It is shown once.

        Scopes are `read`, `write`, and `admin`, which also forks and rewinds. Deleting the database ends it.
        """
        return await self._transport.send(calls.create(database, scope, expires_in))

    async def create_ns(self, ns: str, scope: Scope, *, expires_in: int | None = None) -> Minted:
        """A token for a namespace: for every database whose name begins with it and `--`, profiles among them."""
        return await self._transport.send(calls.create_ns(ns, scope, expires_in))
