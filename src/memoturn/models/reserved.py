"""Statements on the tables that the models keep in a database, which appear when something is first written.

A table that is not there reads as empty, and a write makes it in its own transaction. So a database that was never
used for a model holds nothing of it, and neither does a position from before the first write.

`ask` and `tell` are for what is found by its key and takes next to nothing. SQLite asks the guard when it prepares a
statement, and apsw keeps what is prepared: so these try a statement as it is, and trust it once the guard refuses it.
The others trust from the start, as statements on virtual tables need because they prepare others while they run, and
keep to the budget of the connection, because what they take is in the hand of whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import apsw

from memoturn.base.errors import MemoturnError
from memoturn.models.guard import guard_of
from memoturn.models.sql import explain_on

Connection = apsw.Connection
"""What the rooms above hand on without a look inside."""

T = TypeVar("T")
Rows = list[tuple[Any, ...]]

_ABSENT: Final = "no such table: __memoturn_"


def ask(connection: apsw.Connection, sql: str, params: Sequence[Any] = ()) -> Rows:
    """The rows of a statement that looks something up; none if its table is not there yet."""
    try:
        return connection.execute(sql, params).fetchall()
    except apsw.AuthError:
        return ask_trusted(connection, sql, params)
    except apsw.Error as error:
        return _none_if_absent(connection, error)


def ask_trusted(connection: apsw.Connection, sql: str, params: Sequence[Any] = ()) -> Rows:
    """The rows of a statement that may take long; none if its table is not there yet."""
    guard = guard_of(connection)
    with guard, guard.budget:
        try:
            return connection.execute(sql, params).fetchall()
        except apsw.Error as error:
            return _none_if_absent(connection, error)


def tell(connection: apsw.Connection, schema: str, sql: str, params: Sequence[Any] = ()) -> int:
    """Run one statement that inserts, as a transaction; returns how many rows it has changed.

    `schema` makes the tables, if the statement finds none.
    """
    try:
        connection.execute(sql, params)
        return connection.changes()
    except apsw.Error as error:
        if not isinstance(error, apsw.AuthError) and not _is_absent(error):
            raise _explained(connection, error) from error

    def work() -> int:
        connection.execute(sql, params)
        return connection.changes()

    return transact(connection, schema, work)


def amend(connection: apsw.Connection, sql: str, params: Sequence[Any] = ()) -> int:
    """Run one statement that changes what is there, as a transaction; returns how many rows it has changed.

    Where the table is not there yet, there is nothing to change.
    """
    guard = guard_of(connection)
    with guard, guard.budget:
        try:
            connection.execute(sql, params)
            return connection.changes()
        except apsw.Error as error:
            _none_if_absent(connection, error)
            return 0


def transact(connection: apsw.Connection, schema: str | None, work: Callable[[], T]) -> T:
    """Run `work` as one transaction, on tables that `schema` makes if they are not there.

    What is left open by an error is rolled back by whoever lent the connection.
    """
    guard = guard_of(connection)
    with guard, guard.budget:
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                done = work()
            except apsw.SQLError as error:
                if schema is None or not _is_absent(error):
                    raise
                connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(schema).fetchall()
                done = work()
            connection.execute("COMMIT")
            return done
        except apsw.Error as error:
            raise _explained(connection, error) from error


def _none_if_absent(connection: apsw.Connection, error: apsw.Error) -> Rows:
    if _is_absent(error):
        return []
    raise _explained(connection, error) from error


def _is_absent(error: apsw.Error) -> bool:
    return isinstance(error, apsw.SQLError) and str(error).startswith(_ABSENT)


def _explained(connection: apsw.Connection, error: apsw.Error) -> MemoturnError:
    guard_of(connection).reason = None  # It is of the statement before, or of one that was then trusted.
    return explain_on(connection, error)
