"""Statements on the tables that the models keep in a database, which appear when something is first written.

A table that is not there reads as empty, and a write makes it in its own transaction. So a database that was never
used for a model holds nothing of it, and neither does a position from before the first write.

SQLite asks the guard when it prepares a statement, and apsw keeps what is prepared: so a statement is tried as it is,
and is trusted once the guard refuses it. Statements on virtual tables prepare others while they run; those go through
`transact` and `ask_trusted`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import apsw

from memoturn.models.guard import trusted
from memoturn.models.sql import explain

Connection = apsw.Connection
"""What the rooms above hand on without a look inside."""

T = TypeVar("T")
Rows = list[tuple[Any, ...]]

_ABSENT: Final = "no such table: __memoturn_"


def ask(connection: apsw.Connection, sql: str, params: Sequence[Any] = ()) -> Rows:
    """The rows of a statement that reads; none if its table is not there yet."""
    try:
        return connection.execute(sql, params).fetchall()
    except apsw.AuthError:
        return ask_trusted(connection, sql, params)
    except apsw.Error as error:
        return _none_if_absent(error)


def ask_trusted(connection: apsw.Connection, sql: str, params: Sequence[Any] = ()) -> Rows:
    """The same, trusted from the start."""
    try:
        with trusted(connection):
            return connection.execute(sql, params).fetchall()
    except apsw.Error as error:
        return _none_if_absent(error)


def tell(connection: apsw.Connection, schema: str, sql: str, params: Sequence[Any] = ()) -> int:
    """Run one statement that inserts, as a transaction; returns how many rows it has changed.

    `schema` makes the tables, if the statement finds none.
    """
    try:
        connection.execute(sql, params)
        return connection.changes()
    except (apsw.AuthError, apsw.SQLError) as error:
        if isinstance(error, apsw.SQLError) and not _is_absent(error):
            raise explain(error) from error
    except apsw.Error as error:
        raise explain(error) from error

    def work() -> int:
        connection.execute(sql, params)
        return connection.changes()

    return transact(connection, schema, work)


def amend(connection: apsw.Connection, sql: str, params: Sequence[Any] = ()) -> int:
    """Run one statement that changes what is there, as a transaction; returns how many rows it has changed.

    Where the table is not there yet, there is nothing to change.
    """
    try:
        try:
            connection.execute(sql, params)
        except apsw.AuthError:
            with trusted(connection):
                connection.execute(sql, params)
        return connection.changes()
    except apsw.Error as error:
        _none_if_absent(error)
        return 0


def transact(connection: apsw.Connection, schema: str | None, work: Callable[[], T]) -> T:
    """Run `work`, trusted, as one transaction on tables that `schema` makes if they are not there.

    What is left open by an error is rolled back by whoever lent the connection.
    """
    try:
        with trusted(connection):
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
        raise explain(error) from error


def _none_if_absent(error: apsw.Error) -> Rows:
    if _is_absent(error):
        return []
    raise explain(error) from error


def _is_absent(error: apsw.Error) -> bool:
    return isinstance(error, apsw.SQLError) and str(error).startswith(_ABSENT)
