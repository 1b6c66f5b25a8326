"""What an update makes of a document: a pure function, and all of the update applies or none of it.

`$set` makes the objects on its way where there is nothing; `$unset` of a field removes it and of an item of an array
makes it null, so that the others keep their places; `$inc` counts from 0 and `$push` from an empty array where there
is nothing. A segment of digits is a position where there is an array: `$set` may name one that is there, or the next.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import isfinite
from typing import Any, Final, NamedTuple

from memoturn.base import json_text
from memoturn.base.errors import InvalidRequestError
from memoturn.base.json_text import shown
from memoturn.models.paths import is_position, segments

_MAX_INT: Final = (1 << 63) - 1
_NOTHING: Final[Any] = object()
MAX_CHANGES: Final = 1000


class Change(NamedTuple):
    """One operator on one path."""

    operator: str
    path: str
    names: list[str]
    value: Any


class _Unfit(Exception):  # noqa: N818
    """The document has something at the path that the operator cannot work with."""


def parse_update(given: object) -> list[Change]:
    """The changes that an update asks for. Raises `InvalidRequestError` for what no document could be changed by."""
    if type(given) is not dict or not given:
        raise InvalidRequestError(
            f"an update is an object of operators ({', '.join(_APPLY)}), not {shown(given)}"
        )
    changes: list[Change] = []
    for operator, fields in given.items():
        if operator not in _APPLY:
            raise InvalidRequestError(
                f"{operator!r} is no operator of an update; there are {', '.join(_APPLY)}"
            )
        if type(fields) is not dict:
            raise InvalidRequestError(f"{operator} takes an object of paths and values, not {shown(fields)}")
        for path, value in fields.items():
            names = segments(path)
            if names[0] == "_id":
                raise InvalidRequestError("_id is what a document is found by, and does not change")
            if operator == "$inc" and type(value) not in (int, float):
                raise InvalidRequestError(f"$inc of {path!r} takes a number, not {shown(value)}")
            if operator != "$unset":
                json_text.encode(f"{operator} of {path!r}", value)
            changes.append(Change(operator, path, names, value))
    if len(changes) > MAX_CHANGES:
        raise InvalidRequestError(
            f"an update may have {MAX_CHANGES:,} changes; this one has {len(changes):,}"
        )
    _check_apart(changes)
    return changes


def _check_apart(changes: list[Change]) -> None:
    """No two changes may touch the same place, or one of them what is inside of the other's."""
    paths = sorted(changes, key=lambda change: change.names)
    for one, two in pairwise(paths):
        if two.names[: len(one.names)] == one.names:
            raise InvalidRequestError(
                f"the update changes {one.path!r} and {two.path!r}; one is inside of the other"
            )


def apply(document: dict[str, Any], changes: list[Change]) -> None:
    """Change a document in place. Raises `InvalidRequestError`; the document is then of no more use."""
    for operator, path, names, value in changes:
        try:
            _APPLY[operator](document, names, value)
        except _Unfit as unfit:
            raise InvalidRequestError(f"{operator} of {path!r}: {unfit}") from None


def _set(document: dict[str, Any], names: list[str], value: Any) -> None:
    _put(_holder(document, names, make=True), names[-1], value)


def _unset(document: dict[str, Any], names: list[str], _value: Any) -> None:
    holder = _holder(document, names, make=False)
    if isinstance(holder, list):
        if _look(holder, names[-1]) is not _NOTHING:
            holder[int(names[-1])] = None
    elif isinstance(holder, dict):
        holder.pop(names[-1], None)


def _inc(document: dict[str, Any], names: list[str], amount: Any) -> None:
    holder = _holder(document, names, make=True)
    before = _look(holder, names[-1])
    if before is _NOTHING:
        before = 0
    if type(before) not in (int, float):
        raise _Unfit(f"there is {shown(before)}, which is no number")
    try:
        after = before + amount
    except OverflowError:
        after = float("inf")
    if (type(after) is int and not -_MAX_INT - 1 <= after <= _MAX_INT) or not isfinite(after):
        raise _Unfit(f"{shown(before)} + {shown(amount)} is beyond what a number can hold")
    _put(holder, names[-1], after)


def _push(document: dict[str, Any], names: list[str], value: Any) -> None:
    holder = _holder(document, names, make=True)
    before = _look(holder, names[-1])
    if before is _NOTHING:
        _put(holder, names[-1], [value])
    elif isinstance(before, list):
        before.append(value)
    else:
        raise _Unfit(f"there is {shown(before)}, which is no array")


_APPLY: Final[dict[str, Callable[[dict[str, Any], list[str], Any], None]]] = {
    "$set": _set,
    "$unset": _unset,
    "$inc": _inc,
    "$push": _push,
}


def _holder(document: dict[str, Any], names: list[str], make: bool) -> dict[str, Any] | list[Any] | None:
    """The object or array that the last name belongs to; None if it is not there and not to be made."""
    here: Any = document
    for number, name in enumerate(names[:-1]):
        there = _look(here, name)
        if there is _NOTHING:
            if not make:
                return None
            there = {}
            _put(here, name, there)
        elif not isinstance(there, dict | list):
            if not make:
                return None
            raise _Unfit(f"there is {shown(there)} at {'.'.join(names[: number + 1])!r}, which has no fields")
        here = there
    return here  # type: ignore[no-any-return]


def _look(holder: Any, name: str) -> Any:
    if isinstance(holder, dict):
        return holder.get(name, _NOTHING)
    if is_position(name) and int(name) < len(holder):
        return holder[int(name)]
    return _NOTHING


def _put(holder: Any, name: str, value: Any) -> None:
    if isinstance(holder, dict):
        holder[name] = value
        return
    if not is_position(name) or int(name) > len(holder):
        raise _Unfit(f"{name!r} is no place in an array of {len(holder)}; 0 to {len(holder)} are")
    if int(name) == len(holder):
        holder.append(value)
    else:
        holder[int(name)] = value
