"""JSON that comes back as it was given: what JSON cannot say, or not exactly, is refused instead of changed."""

from __future__ import annotations

import reprlib
from math import isfinite
from typing import Any, Final

import msgspec

from memoturn.base.errors import InvalidRequestError, PayloadTooLargeError

MAX_DEPTH: Final = 100
"""Objects and arrays inside each other, at most."""

_MIN_INT: Final = -1 << 63
_MAX_INT: Final = (1 << 63) - 1
_encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder().decode


class _FaultError(Exception):
    """What is wrong, and the way to it from the inside out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.way: list[str] = []


def encode_object(what: str, value: object, most: int) -> bytes:
    """A JSON object as text in UTF-8, of at most `most` bytes; `what` is the word for it in an error.

    Raises `InvalidRequestError` for what is no JSON object, and `PayloadTooLargeError`.
    """
    if type(value) is not dict:
        raise InvalidRequestError(f"{what} is a JSON object (a dict), not {type(value).__name__}")
    text = encode(what, value)
    if len(text) > most:
        raise PayloadTooLargeError(f"{what} has {len(text):,} bytes as JSON; {most:,} is the most")
    return text


def encode(what: str, value: object) -> bytes:
    """Any JSON value as text in UTF-8. Raises `InvalidRequestError` for what is none."""
    try:
        _check(value, 0)
        return _encode(value)
    except _FaultError as fault:
        where = f" at {'.'.join(reversed(fault.way))[:100]!r}" if fault.way else ""
        raise InvalidRequestError(f"{what}{where} {fault}") from None
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"{what} holds text that is not Unicode: {error}") from None


def shown(value: object) -> str:
    """A value of any size and kind as an error shows it."""
    try:
        text = reprlib.repr(value)
    except Exception:
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else text[:80] + "…"


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return
    if kind is int:
        if not _MIN_INT <= value <= _MAX_INT:
            raise _FaultError("is a number beyond 64 bits; keep it as text")
    elif kind is float:
        if not isfinite(value):
            raise _FaultError(f"is {value!r}, and JSON has no such number")
    elif depth >= MAX_DEPTH:
        raise _FaultError(f"is deeper than {MAX_DEPTH} levels")
    elif kind is dict:
        for name, item in value.items():
            if type(name) is not str:
                raise _FaultError(f"has a field named {shown(name)}; the names of fields are texts")
            kind = type(item)
            if kind is str or (kind is int and _MIN_INT <= item <= _MAX_INT):
                continue  # As most are: one call less.
            try:
                _check(item, depth + 1)
            except _FaultError as fault:
                fault.way.append(name)
                raise
    elif kind is list or kind is tuple:
        for number, item in enumerate(value):
            kind = type(item)
            if kind is str or (kind is int and _MIN_INT <= item <= _MAX_INT):
                continue
            try:
                _check(item, depth + 1)
            except _FaultError as fault:
                fault.way.append(str(number))
                raise
    else:
        raise _FaultError(
            f"is of type {kind.__name__}; JSON has objects, arrays, texts, numbers, true, false and null"
        )
