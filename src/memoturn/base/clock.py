"""Time is passed in, so that a test or the simulator can own it."""

from __future__ import annotations

import functools
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from memoturn.base.errors import InvalidRequestError
from memoturn.base.txids import UnixMs


class Clock(Protocol):
    """What the engine may ask of time."""

    def now_ms(self) -> UnixMs:
        """The wall clock, in milliseconds since the Unix epoch."""

    def monotonic(self) -> float:
        """Seconds that never run backwards, from an arbitrary start; where it can be had, also while suspended."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


# Grace periods and leases run on while a machine sleeps.
if hasattr(time, "CLOCK_BOOTTIME"):
    _since_boot = functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)
else:
    _since_boot = functools.partial(time.monotonic)


class SystemClock:
    """The clock of this machine."""

    def now_ms(self) -> UnixMs:
        return time.time_ns() // 1_000_000  # type: ignore[return-value]

    monotonic = staticmethod(_since_boot)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


# In whole numbers: as a float of seconds a time loses milliseconds on the way.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:\d{2})")


def looks_like_time(text: str) -> bool:
    """Whether `text` has the shape of an RFC 3339 time, valid or not."""
    return _RFC3339.fullmatch(text) is not None


def parse_time(text: str) -> UnixMs:
    """An RFC 3339 time as unix milliseconds.

    Raises `InvalidRequestError` for anything else, a time without an offset included.
    """
    if not looks_like_time(text):
        raise InvalidRequestError(f"{text!r} is not a time; write RFC 3339, such as 2026-11-22T10:00:00Z")
    try:
        return ms_of(datetime.fromisoformat(text.upper()))
    except ValueError as error:
        raise InvalidRequestError(f"{text!r} is not a time: {error}") from None


def ms_of(moment: datetime) -> UnixMs:
    """A datetime as unix milliseconds; one without a time zone is refused, not guessed."""
    if moment.tzinfo is None:
        raise InvalidRequestError(f"{moment.isoformat()} has no time zone; add one, such as datetime.UTC")
    # Rounded down: what happened at a millisecond had happened by any time within it, and what comes next had not.
    return UnixMs((moment - _EPOCH) // _MILLISECOND)


def time_of(ms: UnixMs) -> datetime:
    """Unix milliseconds as an aware datetime in UTC."""
    return _EPOCH + ms * _MILLISECOND


def time_or_none(ms: UnixMs | None) -> datetime | None:
    """`time_of`, for what may be missing."""
    return None if ms is None else time_of(ms)


def format_time(ms: UnixMs) -> str:
    """Unix milliseconds as RFC 3339 in UTC, with milliseconds."""
    return time_of(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
