"""What `from memoturn import Memoturn` is: one name for a store at hand and for a server.

The classes here are what those of both have in common for `isinstance`. That they have the same methods, with the
same arguments and results, is held by `tests/faces/surface/`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from memoturn.base.errors import InvalidRequestError

_SERVER: Final = "memoturn.faces.client.sync.client"
_STORE: Final = "memoturn.faces.embedded.client"
_OF_SERVERS: Final = frozenset(("token", "timeout", "retries"))
_OF_STORES: Final = frozenset(("data_dir", "settings", "embedder"))


class Memoturn:
    """A client: of the server at a URL that begins with `http`, else of the store at the URL, without a server."""

    def __new__(cls, url: Any = "file:./data", **options: Any) -> Memoturn:
        if cls is not Memoturn:
            return super().__new__(cls)
        server = isinstance(url, str) and url.startswith(("http://", "https://"))
        for name in options.keys() & (_OF_STORES if server else _OF_SERVERS):
            is_what, is_for = ("a server", "a store") if server else ("a store", "a server")
            raise InvalidRequestError(f"{name} is for {is_for}, and {url!r} is {is_what}")
        kind: type[Memoturn] = import_module(_SERVER if server else _STORE).Memoturn
        return super().__new__(kind)


class Database:
    """A handle to a branch of a database, or to a position in its past."""


class Profile:
    """A handle to the memories of a profile."""


class AsyncMemoturn:
    """A client of a server, for programs with an event loop."""


class AsyncDatabase:
    """A handle to a branch of a database, or to a position in its past."""


class AsyncProfile:
    """A handle to the memories of a profile."""
