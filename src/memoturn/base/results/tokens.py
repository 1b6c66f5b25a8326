"""What minting a token answers."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

Scope = Literal["read", "write", "admin"]


class Minted(Struct, frozen=True):
    """A new token, for a database or for a namespace. It is shown once and kept nowhere."""

    token: str
    scope: Scope
    expires_at: datetime
    db: str | None
    ns: str | None

    def __repr__(self) -> str:
        return f"Minted(token=…, scope={self.scope!r}, db={self.db!r}, ns={self.ns!r})"
