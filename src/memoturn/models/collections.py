"""Names of collections, and of the tables and indexes that they are kept in.

SQLite's names do not tell capital letters from small ones, so a capital is written as `^` and its small letter.
"""

from __future__ import annotations

import re
from typing import Final

from memoturn.base.errors import InvalidRequestError
from memoturn.models.reserved import Connection, ask_trusted

_COLLECTION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}").fullmatch
_CAPITAL: Final = re.compile(r"[A-Z^]").sub
_ESCAPED: Final = re.compile(r"\^(.)").sub
_NAMES: Final = "SELECT name FROM sqlite_schema WHERE type = ? AND substr(name, 1, ?) = ? ORDER BY name"


def check_collection(name: object) -> str:
    """`name` itself, if a collection may carry it. Raises `InvalidRequestError`."""
    if not isinstance(name, str) or _COLLECTION(name) is None:
        raise InvalidRequestError(
            f"{name!r} cannot name a collection: use 1 to 128 letters, digits, '_', '.' and '-', "
            "beginning with a letter, a digit or '_'"
        )
    return name


def escaped(name: str) -> str:
    """A name as part of one of SQLite's."""
    return _CAPITAL(lambda found: "^" + found[0].lower(), name)


def unescaped(name: str) -> str:
    """The name that `escaped` was given."""
    return _ESCAPED(lambda found: found[1].upper(), name)


def identifier(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def names_after(connection: Connection, kind: str, prefix: str) -> list[str]:
    """What follows `prefix` in the names of all tables or indexes that begin with it, not escaped any more."""
    rows = ask_trusted(connection, _NAMES, (kind, len(prefix), prefix))
    return [unescaped(name[len(prefix) :]) for (name,) in rows]
