"""SQLite's functions whose time is more than in proportion to their input, written so that it is not.

One call of SQLite's own `instr('aaa…', 'aaa…b')` may take hours, in which nothing can stop it; the same holds of
`replace`, of `trim` and `unhex` with a second argument, and of the sort in `median` and `percentile`. These give the
same answers (a test compares them) in linear time, or that of a good sort.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from typing import Any, Final

import apsw

_Scalar = Callable[..., str | bytes | int | None]
_VALUES: Final = 8_000_000
"""The most values that a median is taken of: they are kept in memory."""
_HEX: Final = frozenset("0123456789abcdefABCDEF")
_SHORT: Final = 64


def replace_functions(connection: apsw.Connection, longest: int) -> None:
    """Let the connection use what is here in place of SQLite's own, for texts of at most `longest` bytes."""
    for name, arguments, function in (*_SCALARS, ("replace", 3, _replacing(longest))):
        connection.create_scalar_function(
            name, function, arguments, deterministic=True, flags=apsw.SQLITE_INNOCUOUS
        )
    for name, arguments, scale, continuous in _PERCENTILES:
        connection.create_window_function(
            name, _factory(name, scale, continuous), arguments, flags=apsw.SQLITE_INNOCUOUS
        )


# https://sqlite.org/lang_corefunc.html


def _instr(hay: Any, needle: Any) -> int | None:
    if hay is None or needle is None:
        return None
    if type(hay) is str and type(needle) is str:
        return hay.find(needle) + 1
    if type(hay) is bytes and type(needle) is bytes:
        return hay.find(needle) + 1
    return _text(hay).find(_text(needle)) + 1


def _replacing(longest: int) -> _Scalar:
    def replace(text: Any, old: Any, new: Any) -> str | None:
        if text is None or old is None:
            return None
        text, old = _text(text), _text(old)
        if not old or old[0] == "\0":
            return str(text)
        if new is None:
            return None
        new = _text(new)
        if len(new) > len(old) and len(text) + text.count(old) * (len(new) - len(old)) > longest:
            raise apsw.TooBigError("string or blob too big")
        return str(text.replace(old, new))

    return replace


def _trimming(left: bool, right: bool) -> _Scalar:
    def trim(text: Any, characters: Any) -> str | None:
        if text is None or characters is None:
            return None
        text, characters = _text(text), _text(characters)
        if not characters:
            return str(text)
        if len(characters) <= _SHORT:
            text = text.lstrip(characters) if left else text
            return str(text.rstrip(characters) if right else text)
        removed, start, end = frozenset(characters), 0, len(text)
        while left and start < end and text[start] in removed:
            start += 1
        while right and start < end and text[end - 1] in removed:
            end -= 1
        return str(text[start:end])

    return trim


def _unhex(digits: Any, ignored: Any) -> bytes | None:
    if digits is None or ignored is None:
        return None
    between = "".join(map(re.escape, frozenset(_text(ignored)) - _HEX))
    anything = f"[{between}]*" if between else ""
    text = _text(digits)
    if re.fullmatch(f"(?:{anything}[0-9a-fA-F]{{2}})*+{anything}", text) is None:
        return None
    return bytes.fromhex(re.sub(f"[{between}]", "", text) if between else text)


_SCALARS: Final[tuple[tuple[str, int, _Scalar], ...]] = (
    ("instr", 2, _instr),
    ("trim", 2, _trimming(True, True)),
    ("ltrim", 2, _trimming(True, False)),
    ("rtrim", 2, _trimming(False, True)),
    ("unhex", 2, _unhex),
)
_local: Final = threading.local()


def _text(value: Any) -> str:
    """The value as SQLite makes text of it."""
    if type(value) is str:
        return value
    if isinstance(value, bytes):
        return value.decode()
    if type(value) is int:
        return str(value)
    if not hasattr(_local, "connection"):
        _local.connection = apsw.Connection(":memory:")
    return str(_local.connection.execute("SELECT CAST(? AS TEXT)", (value,)).get)


# https://sqlite.org/percentile.html


class _Percentile:
    """The values that one of the functions is taken of, ascending or not."""

    __slots__ = ("_continuous", "_fraction", "_name", "_scale", "_values")

    def __init__(self, name: str, scale: float, continuous: bool) -> None:
        self._name, self._scale, self._continuous = name, scale, continuous
        self._fraction: float | None = None
        self._values: list[float] = []

    def step(self, value: Any, percentage: Any = 0.5) -> None:
        try:
            fraction = math.nan if isinstance(percentage, bytes) else float(percentage) / self._scale
        except (TypeError, ValueError):
            fraction = math.nan
        if not 0.0 <= fraction <= 1.0:
            raise apsw.SQLError(
                f"the fraction argument to {self._name}() is not between 0.0 and {self._scale:.1f}"
            )
        if self._fraction is None:
            self._fraction = fraction
        elif abs(self._fraction - fraction) > 0.001:
            raise apsw.SQLError(f"the fraction argument to {self._name}() is not the same for all input rows")
        if value is None:
            return
        if not isinstance(value, int | float):
            raise apsw.SQLError(f"input to {self._name}() is not numeric")
        if math.isinf(value):
            raise apsw.SQLError(f"Inf input to {self._name}()")
        if len(self._values) >= _VALUES:
            raise apsw.TooBigError(f"{self._name}() takes at most {_VALUES} values")
        self._values.append(float(value))

    def inverse(self, value: Any, percentage: Any = 0.5) -> None:
        if value is not None:
            self._values.remove(float(value))

    def final(self) -> float | None:
        values = self._values
        if not values:
            return None
        values.sort()
        assert self._fraction is not None
        place = self._fraction * (len(values) - 1)
        below = int(place)
        if not self._continuous or below == place or below == len(values) - 1:
            return values[below]
        return values[below] + (values[below + 1] - values[below]) * (place - below)


def _factory(name: str, scale: float, continuous: bool) -> Any:
    def make() -> Any:
        state = _Percentile(name, scale, continuous)
        steps = (_Percentile.step, _Percentile.final, _Percentile.final, _Percentile.inverse)
        return (state, *steps)

    return make


_PERCENTILES: Final = (
    ("median", 1, 1.0, True),
    ("percentile", 2, 100.0, True),
    ("percentile_cont", 2, 1.0, True),
    ("percentile_disc", 2, 1.0, False),
)
