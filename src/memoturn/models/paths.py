"""Dotted paths into documents, and the SQL that reads them.

`a.b` is the field `b` of the object in field `a`. A segment of digits is a position where the value is an array, and
a field where it is an object. Names with a dot in them, and the empty name, are kept in documents but have no path.
"""

from __future__ import annotations

import re
from itertools import product
from typing import Final, NamedTuple

from memoturn.base.errors import InvalidRequestError
from memoturn.base.json_text import encode, shown

MAX_PATH: Final = 512
MAX_SEGMENTS: Final = 32
MAX_POSITIONS: Final = 4

is_position: Final = re.compile(r"0|[1-9][0-9]{0,8}").fullmatch
"""Matches a segment that may be a position in an array; beyond nine digits nothing is one."""


class Path(NamedTuple):
    """A place in a document. `ways` are JSON paths as SQLite has them, of which at most one leads anywhere."""

    ways: tuple[str, ...]

    def field(self, name: str) -> Path:
        """The field of the object here."""
        return Path(tuple(way + _field(name) for way in self.ways))

    def item(self, number: int) -> Path:
        """The item of the array here."""
        return Path(tuple(f"{way}[{number}]" for way in self.ways))

    @property
    def value(self) -> str:
        """SQL for the value here: NULL for null and for nothing, 0 and 1 for booleans, JSON text for the rest."""
        return self._first("json_extract")

    @property
    def kind(self) -> str:
        """SQL for the JSON type of the value here, NULL if there is none."""
        return self._first("json_type")

    @property
    def length(self) -> str:
        """SQL for the number of items of the array here."""
        return self._first("json_array_length")

    @property
    def fields(self) -> str:
        """SQL for the number of fields of the object here."""
        counts = [f"SELECT count(*) AS n FROM json_each(data, {quoted(way)})" for way in self.ways]
        return f"(SELECT sum(n) FROM ({' UNION ALL '.join(counts)}))"

    def _first(self, function: str) -> str:
        calls = [f"{function}(data, {quoted(way)})" for way in self.ways]
        return calls[0] if len(calls) == 1 else f"coalesce({', '.join(calls)})"


def segments(path: str) -> list[str]:
    """The names of a dotted path. Raises `InvalidRequestError`."""
    if not isinstance(path, str):
        raise InvalidRequestError(f"a path is text such as 'a.b', not {shown(path)}")
    names = path.split(".")
    if not path or len(path) > MAX_PATH or len(names) > MAX_SEGMENTS:
        raise InvalidRequestError(
            f"a path has 1 to {MAX_PATH} characters and at most {MAX_SEGMENTS} names: {path[:80]!r}"
        )
    for name in names:
        if not name or name[0] == "$":
            raise InvalidRequestError(
                f"{path!r} is no path: names between dots are not empty and do not begin with '$'"
            )
    return names


def parse(path: str) -> Path:
    """The place that a dotted path names. Raises `InvalidRequestError`."""
    names = segments(path)
    if sum(is_position(name) is not None for name in names) > MAX_POSITIONS:
        raise InvalidRequestError(f"{path!r} has more than {MAX_POSITIONS} names of digits")
    choices = [[f"[{name}]", _field(name)] if is_position(name) else [_field(name)] for name in names[1:]]
    return Path(tuple("$" + "".join(way) for way in product([_field(names[0])], *choices)))


def kept_name(name: str) -> str:
    """The name of a field as it is kept: to SQLite a NUL in one is its end, and `a` would find `a\\0`."""
    return (
        name.replace("\x01", "\x011").replace("\x00", "\x010") if "\x00" in name or "\x01" in name else name
    )


def given_name(name: str) -> str:
    """The name of a field as it was given."""
    return name.replace("\x010", "\x00").replace("\x011", "\x01") if "\x01" in name else name


def _field(name: str) -> str:
    return '."' + encode("a path", kept_name(name)).decode()[1:-1] + '"'


def quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
