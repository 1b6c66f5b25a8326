"""`db.turns`: what was said in sessions, on a branch or at a position in its past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from memoturn.base.names import Address
from memoturn.faces.client.aio.transport import AsyncTransport
from memoturn.faces.client.calls import turns as calls
from memoturn.faces.wire import SessionDelete, SessionInfo, TurnAppended
from memoturn.faces.wire import Turns as Found


class AsyncTurns:
    """Turns of sessions, kept verbatim and numbered 1, 2, 3, … in each; sessions begin with their first turn."""

    __slots__ = ("_address", "_transport")

    def __init__(self, transport: AsyncTransport, address: Address) -> None:
        self._transport = transport
        self._address = address

    async def append(
        self,
        session: str,
        role: str,
        content: str,
        embedding: Sequence[float] | None = None,
        *,
        created_at: datetime | None = None,
    ) -> TurnAppended:
        """Append a turn; returns `.seq`, its number in the session, and `.txid`.

        An embedding has as many numbers as the first that was kept. `created_at` is now, unless it is given.
        """
        turn = {"role": role, "content": content, "embedding": embedding, "created_at": created_at}
        return await self._transport.send(calls.append(self._address, session, [turn]))

    async def append_many(self, session: str, turns: Sequence[Mapping[str, Any]]) -> TurnAppended:
        """Append turns as one transaction; each has `role`, `content` and perhaps `embedding` and `created_at`."""
        return await self._transport.send(calls.append(self._address, session, turns))

    async def window(self, session: str, last: int = 20) -> Found:
        """The last turns of a session, the oldest first: a list with `.txid`, empty if there is no such session."""
        return await self._transport.send(calls.window(self._address, session, last))

    async def search(
        self,
        query: str | None = None,
        *,
        vector: Sequence[float] | None = None,
        session: str | None = None,
        k: int = 10,
    ) -> Found:
        """The turns that have words of the query, or whose embedding is near the vector, the best first.

        Each has a `.score`: by BM25 for a query, the cosine for a vector. Of equals the newer comes first.
        """
        return await self._transport.send(calls.search(self._address, query, vector, session, k))

    async def sessions(self, after: str = "", limit: int = 100) -> list[SessionInfo]:
        """Sessions with their number of turns and their times, in the order of their names, those after `after`."""
        return await self._transport.send(calls.sessions(self._address, after, limit))

    async def delete(self, session: str) -> SessionDelete:
        """Remove a session with its turns; returns how many in `.turns`, and `.txid`. History keeps them."""
        return await self._transport.send(calls.delete(self._address, session))
