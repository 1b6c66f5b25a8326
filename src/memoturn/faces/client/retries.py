"""Whether a call that failed is sent again, and after how long.

Sent again is what was certainly not obeyed: no connection came about, or the server has said `overloaded`, or `busy`,
or has named a time with `Retry-After`. What may have been obeyed, as its answer was lost, is sent again only if that
does no harm: the call only reads, does no more the second time, or carries an `Idempotency-Key`. A write that ended
with another error is never repeated: a key gives an answer again, it does not undo half of one. Nor is what has a
body that is gone when it was sent.

The pause doubles with each attempt, is cut by a random part of up to one half, so that clients do not come back all
at once, and is never less than what the server asks for.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from memoturn.base.errors import BusyError, MemoturnError, OverloadedError, UnavailableError
from memoturn.faces.client.call import Call, Reply, failure
from memoturn.faces.wire import headers

Trouble = Literal["not sent", "lost"]


class Patience(NamedTuple):
    """How often a call is sent at most, and the pauses in seconds: the first, and the longest."""

    attempts: int = 4
    first: float = 0.1
    longest: float = 10.0


def pause(
    call: Call[Any], met: Reply | Trouble, attempt: int, patience: Patience, fraction: float
) -> float | None:
    """Seconds to wait before attempt `attempt + 1`; None if there is to be none. `fraction` is random, 0 to 1."""
    if attempt >= patience.attempts:
        return None
    least = 0.0
    if isinstance(met, Reply):
        if 200 <= met.status < 300:
            return None
        if call.once:
            return None
        asked = _retry_after(met)
        if not _worth(call, failure(met), asked is not None):
            return None
        least = asked or 0.0
    elif met == "lost" and not call.repeatable:
        return None
    if least > patience.longest:
        return None
    wait: float = min(patience.first * 2 ** (attempt - 1), patience.longest)
    return max(least, wait * (1 - fraction / 2))


def _worth(call: Call[Any], error: MemoturnError, asked: bool) -> bool:
    if isinstance(error, OverloadedError | BusyError):
        return True
    return isinstance(error, UnavailableError) and type(error) is UnavailableError and (asked or call.natural)


def _retry_after(reply: Reply) -> float | None:
    """Seconds; a date, which proxies may send, is not understood and counts as nothing."""
    try:
        seconds = float(reply.headers.get(headers.RETRY_AFTER, ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None
