# Made from ../aio/tokens.py by tools/generate_sync.py; change that, and `make client`.

"""`mt.tokens`: credentials for databases and namespaces of a server. A store at hand has none."""

from __future__ import annotations

from memoturn.faces.client.calls import tokens as calls
from memoturn.faces.client.sync.transport import Transport
from memoturn.faces.wire import Minted, Scope


class Tokens:
    """Minting; it takes the platform key of the server, or an admin token of the namespace."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, database: str, scope: Scope, *, expires_in: int | None = None) -> Minted:
        """A token for a database, good for `expires_in` seconds, a day unless it is said. It is shown once.

        Scopes are `read`, `write`, and `admin`, which also forks and rewinds. Deleting the database ends it.
        """
        return self._transport.send(calls.create(database, scope, expires_in))

    def create_ns(self, ns: str, scope: Scope, *, expires_in: int | None = None) -> Minted:
        """A token for a namespace: for every database whose name begins with it and `--`, profiles among them."""
        return self._transport.send(calls.create_ns(ns, scope, expires_in))
