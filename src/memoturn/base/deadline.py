"""The deadline of the work that a thread is doing for somebody who waits, and the way to call it off.

Whoever hands work to a thread sets it there; what may take long looks at it from time to time, and stops.
"""

from __future__ import annotations

import math
import threading
from types import TracebackType
from typing import Final

from memoturn.base.errors import MemoturnError, RequestTimeoutError


class Deadline:
    """When work has to be done, by the clock of `monotonic`. As a context manager it is the thread's."""

    __slots__ = ("_due", "_why")

    def __init__(self, due: float = math.inf, why: str = "") -> None:
        self._due = due
        self._why = why

    @property
    def due(self) -> float:
        """From then on the work is to stop."""
        return self._due

    def call_off(self, why: str) -> None:
        """Nobody waits for it any more. Any thread may say so."""
        self._why = why
        self._due = -math.inf

    def is_over(self, now: float) -> bool:
        """Whether the work is to stop."""
        return now > self._due

    def error(self) -> MemoturnError:
        """Why it was stopped."""
        return RequestTimeoutError(self._why)

    def __enter__(self) -> Deadline:
        _of_thread.deadline = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _of_thread.deadline = None


class _OfThread(threading.local):
    deadline: Deadline | None = None


_of_thread: Final = _OfThread()


def current() -> Deadline | None:
    """The deadline of this thread, if it has one."""
    return _of_thread.deadline


def look(now: float) -> None:
    """Raise `RequestTimeoutError` if the work of this thread is to stop."""
    deadline = _of_thread.deadline
    if deadline is not None and deadline.is_over(now):
        raise deadline.error()
