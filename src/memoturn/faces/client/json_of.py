"""What callers give, as the JSON of requests. What JSON cannot say is refused before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Raw

from memoturn.base import json_text
from memoturn.base.clock import format_time, ms_of
from memoturn.base.errors import InvalidRequestError
from memoturn.base.json_text import shown
from memoturn.base.names import AtTxid, parse_position


def value(what: str, given: Any) -> Any:
    """A JSON value, to stand in a request as it is; `what` is the word for it in an error."""
    return None if given is None else Raw(json_text.encode(what, given))


def items(what: str, given: Any) -> Any:
    """A list of objects, in which vectors may be arrays and times datetimes."""
    if not isinstance(given, list | tuple):
        raise InvalidRequestError(f"{what} come as a list of objects, not as {type(given).__name__}")
    return Raw(json_text.encode(what, [item(what, one) for one in given]))


def item(what: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidRequestError(f"{what} are objects with fields (dicts), not {shown(given)}")
    found = dict(given)
    for name in ("embedding", "vector"):
        if found.get(name) is not None:
            found[name] = _numbers(found[name])
    for name in ("valid_from", "created_at"):
        if isinstance(found.get(name), datetime):
            found[name] = moment(name, found[name])
    return found


def vector(given: Any) -> Any:
    """A list of numbers, or an array of numpy; None stays None."""
    return None if given is None else Raw(json_text.encode("a vector", _numbers(given)))


def _numbers(given: Any) -> list[Any]:
    found = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(found, str | bytes | Mapping) or not hasattr(found, "__getitem__"):
        raise InvalidRequestError(f"a vector is a list of numbers, not {shown(given)}")
    return list(found)


def moment(what: str, given: Any) -> str | None:
    """A time, as a datetime or RFC 3339, which the server reads."""
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, datetime):
        return format_time(ms_of(given))
    raise InvalidRequestError(f"{what} {given!r} is not a time; give a datetime, or RFC 3339 as text")


def position(given: str | int | datetime) -> str | int:
    """A checkpoint, a txid or a time."""
    found = parse_position(given)
    return int(found.txid) if isinstance(found, AtTxid) else str(found)
