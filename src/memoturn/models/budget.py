"""What a statement may take, in time, memory and results, so that no statement keeps others from theirs.

SQLite asks every few thousand steps whether to go on: `check` says no once the deadline has passed or the memory
that SQLite has taken since the work began is more than a statement may have. A single step is bounded by the
length of the values that it works on, and all of SQLite together by a limit that makes it run out of memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Final

import apsw

from memoturn.base.deadline import current
from memoturn.base.errors import MemoturnError, PayloadTooLargeError, RequestTimeoutError
from memoturn.base.settings import SqlSettings

_STEPS: Final = 2000
"""Between two checks. A step takes some 20 ns, with the longest values 20 ms; a check waits for the interpreter."""
_CACHE_BYTES: Final = 4 << 20
"""What a connection may keep, in the pages and the schema that it knows, without being charged for it."""
_LIMITS: Final = (
    (apsw.SQLITE_LIMIT_ATTACHED, 1),  # A vacuum needs one.
    (apsw.SQLITE_LIMIT_COLUMN, 2000),
    (apsw.SQLITE_LIMIT_COMPOUND_SELECT, 500),
    (apsw.SQLITE_LIMIT_EXPR_DEPTH, 1000),
    (apsw.SQLITE_LIMIT_FUNCTION_ARG, 127),
    (apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
    (apsw.SQLITE_LIMIT_TRIGGER_DEPTH, 1000),
    (apsw.SQLITE_LIMIT_VARIABLE_NUMBER, 32766),
    (apsw.SQLITE_LIMIT_VDBE_OP, 5_000_000),
    (apsw.SQLITE_LIMIT_WORKER_THREADS, 0),
)
_LENGTH: Final = apsw.SQLITE_LIMIT_LENGTH


class Budget:
    """Of one connection. A block of `with budget:` is one piece of work, and so is a statement of a user.

    Statements of ours that take next to nothing run outside of any, and are not counted. The deadline of the thread
    stops both.
    """

    __slots__ = ("__weakref__", "_due", "_heap", "_monotonic", "left", "parts", "settings", "stopped")

    def __init__(self, settings: SqlSettings, monotonic: Callable[[], float]) -> None:
        self.settings = settings
        self._monotonic = monotonic
        self.parts = 0
        self._due = 0.0
        self._heap = 0
        self.left = settings.result_bytes
        """Of what the results may still hold, in bytes."""
        self.stopped: MemoturnError | None = None

    def __enter__(self) -> None:
        self.parts += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.parts -= 1
        if not self.parts:
            self.renew()

    def renew(self) -> None:
        """The next statement is another piece of work."""
        self._due = 0.0
        self.left = self.settings.result_bytes
        self.stopped = None

    def check(self) -> bool:
        """The progress handler: whether to stop. The time runs from its first call on, which comes early."""
        deadline = current()
        if deadline is not None and deadline.is_over(self._monotonic()):
            self.stopped = deadline.error()
            return True
        if not self.parts:
            return False
        now = self._monotonic()
        if not self._due:
            self._due = now + self.settings.deadline
            self._heap = apsw.memory_used()
            return False
        if now > self._due:
            self.stopped = RequestTimeoutError(
                f"the statement was stopped at its deadline of {self.settings.deadline:g} seconds "
                f"({_named('deadline', '_SECS')})"
            )
            return True
        if apsw.memory_used() - self._heap > self.settings.statement_bytes:
            self.stopped = PayloadTooLargeError(
                f"the statement was stopped: it takes more than {self.settings.statement_bytes} bytes of memory "
                f"({_named('statement_bytes')})"
            )
            return True
        return False


def set_limits(connection: apsw.Connection, budget: Budget) -> None:
    """Make SQLite keep to the budget on this connection."""
    for limit, value in _LIMITS:
        connection.limit(limit, value)
    connection.limit(_LENGTH, budget.settings.value_bytes)
    connection.limit(apsw.SQLITE_LIMIT_SQL_LENGTH, budget.settings.sql_bytes)
    connection.set_progress_handler(budget.check, _STEPS)
    _limited.add(budget)
    _limit_heap(budget.settings.heap_bytes)


def shorten_values(connection: apsw.Connection, settings: SqlSettings) -> None:
    """For one costly statement."""
    connection.limit(_LENGTH, min(settings.costly_value_bytes, settings.value_bytes))


def restore_values(connection: apsw.Connection, settings: SqlSettings) -> None:
    """After it."""
    connection.limit(_LENGTH, settings.value_bytes)


_limited: Final[weakref.WeakSet[Budget]] = weakref.WeakSet()
_heap_limits: Final = {"wanted": 0, "set": 0}


def _limit_heap(wanted: int) -> None:
    """SQLite has one limit for all connections of the process: it grows with them, by what each may keep."""
    wanted = _heap_limits["wanted"] = max(wanted, _heap_limits["wanted"])
    if apsw.hard_heap_limit(-1) in (0, _heap_limits["set"]):  # Else the program has set its own.
        apsw.hard_heap_limit(wanted + len(_limited) * _CACHE_BYTES)
        _heap_limits["set"] = apsw.hard_heap_limit(-1)


def out_of_memory(settings: SqlSettings) -> MemoturnError:
    """Why SQLite has no memory left, once the statement that asked for it has given its own back."""
    return PayloadTooLargeError(
        f"SQLite has no memory left for the statement, of {settings.heap_bytes} bytes for all "
        f"({_named('heap_bytes')}); it takes too much, or others do just now"
    )


def result_too_large(settings: SqlSettings) -> MemoturnError:
    """The rows so far, and what was charged before them in a batch, are more than a result may hold."""
    return PayloadTooLargeError(
        f"the result has more than {settings.result_bytes} bytes ({_named('result_bytes')}); ask for fewer columns, "
        "or for a part of the rows with LIMIT"
    )


def too_big(settings: SqlSettings, costly: bool, error: Exception) -> MemoturnError:
    """A value is too long, or the statement is."""
    limit = (
        f"of {settings.costly_value_bytes} bytes for values in statements with full-text search or json_patch() "
        f"({_named('costly_value_bytes')})"
        if costly
        else f"of {settings.value_bytes} bytes for values ({_named('value_bytes')}) or {settings.sql_bytes} for "
        f"statements ({_named('sql_bytes', name='BYTES')})"
    )
    return PayloadTooLargeError(f"longer than the limit {limit}: {error}")


def _named(setting: str, unit: str = "", name: str | None = None) -> str:
    """A setting as programs call it, and as servers and the command line do."""
    return f"sql.{setting}, MEMOTURN_SQL_{name or setting.upper()}{unit}"
