"""Values of SQL as JSON: what JSON cannot say stands in an object with one key.

Bytes are `{"$base64": "…"}`, and the two infinities `{"$float": "inf"}` and `{"$float": "-inf"}`; everything else is
itself. Whole numbers have 64 bits, more than a JavaScript number can hold.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from memoturn.base.errors import InvalidRequestError
from memoturn.base.results.rows import Value

_BYTES: Final = "$base64"
_FLOAT: Final = "$float"
_INFINITIES: Final = {"inf": float("inf"), "-inf": float("-inf")}
_LARGEST: Final = float("inf")


def to_json(value: Value) -> Any:
    """A value as JSON has it."""
    if type(value) is bytes:
        return {_BYTES: base64.b64encode(value).decode()}
    if type(value) is float and not -_LARGEST < value < _LARGEST:
        return {_FLOAT: str(value)}
    return value


def row_to_json(row: dict[str, Value]) -> dict[str, Any]:
    """A row as JSON has it; itself, if it is that already."""
    for value in row.values():
        kind = type(value)
        if kind is bytes or (kind is float and not -_LARGEST < value < _LARGEST):  # type: ignore[operator]
            return {name: to_json(value) for name, value in row.items()}
    return row


def from_json(value: Any) -> Any:
    """The value that JSON says. Raises `InvalidRequestError` for an object that says none."""
    if type(value) is not dict:
        return value
    if len(value) == 1:
        ((key, text),) = value.items()
        if key == _FLOAT and text in _INFINITIES:
            return _INFINITIES[text]
        if key == _BYTES and isinstance(text, str):
            try:
                return base64.b64decode(text, validate=True)
            except (ValueError, binascii.Error):
                pass
    raise InvalidRequestError(
        'an object is no value of SQL; bytes are {"$base64": "…"}, the infinities {"$float": "inf"} and "-inf"'
    )


def row_from_json(row: dict[str, Any]) -> dict[str, Any]:
    """The row that JSON says; itself, if that is no other."""
    for value in row.values():
        if type(value) is dict:
            return {name: from_json(value) for name, value in row.items()}
    return row


def params_from_json(params: list[Any] | dict[str, Any] | None) -> list[Any] | dict[str, Any] | None:
    """The parameters of a statement."""
    if params is None:
        return None
    if isinstance(params, dict):
        return row_from_json(params)
    return [from_json(value) for value in params]


def params_to_json(params: Any) -> Any:
    """Parameters as JSON has them."""
    if params is None:
        return None
    if hasattr(params, "keys"):
        return {name: to_json(_plain(params[name])) for name in params}
    return [to_json(_plain(value)) for value in params]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value != value:
        return None  # As SQLite keeps what is not a number.
    return bytes(value) if isinstance(value, bytearray | memoryview) else value
