"""JSON objects as they lie in a table: text in which a NUL in the name of a field is escaped once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from memoturn.base import json_text
from memoturn.models.paths import given_name, kept_name

_RARE: Final = "\\u000"
"""What JSON text has in it where a name may not be kept as it is given."""


def kept(what: str, value: object, most: int) -> str:
    """An object as text for `jsonb`. Raises `InvalidRequestError` and `PayloadTooLargeError`."""
    text = json_text.encode_object(what, value, most).decode()
    return text if _RARE not in text else json_text.encode(what, _renamed(value, kept_name)).decode()


def given(text: str) -> Any:
    """The object that was kept as `text`."""
    value = json_text.decode(text)
    return value if _RARE not in text else _renamed(value, given_name)


def _renamed(value: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {rename(name): _renamed(item, rename) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(item, rename) for item in value]
    return value
