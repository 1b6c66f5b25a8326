"""Statements on the tables that the models keep in a database, which appear when something is first written.

A table that is not there reads as empty, and a write makes it in its own transaction. So a database that was never
used for a model holds nothing of it, and neither does a position from before the first write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import apsw

from memoturn.models.sql import explain

Connection = apsw.Connection
"""What the rooms above hand on without a look inside."""

T = TypeVar("T")

PREFIX: Final = "__memoturn_"
"""What the names of reserved tables begin with; user SQL never touches them."""

_ABSENT: Final = f"no such table: {PREFIX}"


def ask(connection: apsw.Connection, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """The rows of a statement that reads; none if its table is not there yet."""
    try:
        return connection.execute(sql, params).fetchall()
    except apsw.Error as error:
        if _is_absent(error):
            return []
        raise explain(error) from error


def tell(connection: apsw.Connection, schema: str, sql: str, params: Sequence[Any] = ()) -> int:
    """Run one statement that inserts, as a transaction; returns how many rows it has changed.

    `schema` makes the tables, if the statement finds none.
    """
    try:
        connection.execute(sql, params)
        return connection.changes()
    except apsw.Error as error:
        if not _is_absent(error):
            raise explain(error) from error
    return transact(connection, schema, lambda: _changed(connection, sql, params))


def amend(connection: apsw.Connection, sql: str, params: Sequence[Any] = ()) -> int:
    """Run one statement that changes what is there, as a transaction; returns how many rows it has changed.

    Where the table is not there yet, there is nothing to change.
    """
    try:
        connection.execute(sql, params)
        return connection.changes()
    except apsw.Error as error:
        if _is_absent(error):
            return 0
        raise explain(error) from error


def transact(connection: apsw.Connection, schema: str, work: Callable[[], T]) -> T:
    """Run `work` as one transaction on tables that `schema` makes if they are not there.

    What is left open by an error is rolled back by whoever lent the connection.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            done = work()
        except apsw.Error as error:
            if not _is_absent(error):
                raise
            connection.execute("ROLLBACK; BEGIN IMMEDIATE")
            connection.execute(schema).fetchall()
            done = work()
        connection.execute("COMMIT")
        return done
    except apsw.Error as error:
        raise explain(error) from error


def _changed(connection: apsw.Connection, sql: str, params: Sequence[Any]) -> int:
    connection.execute(sql, params)
    return connection.changes()


def _is_absent(error: apsw.Error) -> bool:
    return isinstance(error, apsw.SQLError) and str(error).startswith(_ABSENT)
