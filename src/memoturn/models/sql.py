"""SQL over a connection: what kind of statement a text is, running it, and its rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from sys import getsizeof
from typing import Any, Final, NamedTuple, TypeVar

import apsw

from memoturn.base.cache import GenerationalCache
from memoturn.base.errors import (
    CorruptError,
    InvalidRequestError,
    MemoturnError,
    PayloadTooLargeError,
    RequestTimeoutError,
    SqlError,
    UnavailableError,
)
from memoturn.base.results.rows import Params, Rows
from memoturn.models.allowed import RESERVED, is_patching, is_shadow_name
from memoturn.models.budget import out_of_memory, restore_values, result_too_large, shorten_values, too_big
from memoturn.models.guard import Guard, guard_of

T = TypeVar("T")


class Statement(NamedTuple):
    """What is known of a text: whether it writes nothing, and whether it can give rows.

    `is_costly` is whether a call in it may take long for its values, `is_vacuum` whether it copies every table,
    `is_check` whether it looks through every table for damage.
    """

    readonly: bool
    has_columns: bool
    is_costly: bool = False
    is_vacuum: bool = False
    is_check: bool = False


_NULLS: Final[Any] = apsw._null_bindings  # type: ignore[attr-defined]
"""Binds NULL to every parameter: for statements that are prepared and not run."""

_NOTHING_MORE: Final = re.compile(r"(?:[ \t\n\f\r;]|--[^\n]*|(?>/\*.*?(?:\*/|\Z)))*", re.DOTALL).fullmatch
"""Blanks, semicolons and comments. A comment is atomic: it ends at the first `*/`, whatever follows it."""
_FIRST_WORD: Final = re.compile(
    r"(?:[\s;\ufeff]|--[^\n]*|(?>/\*.*?(?:\*/|\Z)))*([a-z]*)", re.IGNORECASE | re.DOTALL
).match
_VIRTUAL: Final = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage = 0"
_FOREIGN_KEYS_OFF: Final = re.compile(
    r"\s*PRAGMA\s+(?:main\.)?foreign_keys\s*(?:=\s*(?:off|0|no|false)|\(\s*(?:off|0|no|false)\s*\))[\s;]*",
    re.IGNORECASE,
).fullmatch
_APPROVED: Final = 4096
_statements: Final[GenerationalCache[str, Statement]] = GenerationalCache(4096)


def known(sql: str) -> Statement | None:
    """What is known of a text that was learned before. Raises `InvalidRequestError` for what is no text."""
    if not isinstance(sql, str):
        raise InvalidRequestError(f"SQL is text, not {type(sql).__name__}")
    return _statements.get(sql)


def learn(connection: apsw.Connection, sql: str) -> Statement:
    """Prepare the statement under the strict rules, without running it, and approve it for this connection.

    Raises `InvalidRequestError` for anything that is not exactly one statement, or not allowed, and `SqlError`
    if SQLite does not understand it.
    """
    guard = guard_of(connection)
    found = _FIRST_WORD(sql)
    word = found[1].upper() if found else ""
    if word in ("CREATE", "ALTER") and RESERVED in sql.lower():
        # The authorizer is not told what a foreign key, a view, a trigger or a full-text index refers to.
        raise InvalidRequestError(
            f"names that begin with {RESERVED} are reserved: {word} may not mention them"
        )
    with guard.budget:
        statement = _prepare(connection, guard, sql)
        virtual = _virtual_tables(connection, guard)
        if virtual and any(map(is_shadow_name, guard.named)):
            # To connect to a virtual table SQLite looks into its shadow tables. Now it is connected.
            statement = _prepare(connection, guard, sql)
            _refuse_shadow_tables(guard, virtual)
        costly = guard.costly
        if not costly and any(name.lower() in virtual for name in guard.named):
            costly = _searches(connection, sql)
    if (word == "CREATE" and guard.costly and not guard.selects) or (word == "ALTER" and is_patching(sql)):
        raise InvalidRequestError(
            "json_patch() takes too long to be part of a table or an index; use it in statements"
        )
    statement = statement._replace(is_costly=costly, is_vacuum=word == "VACUUM", is_check=guard.checks)
    if len(guard.approved) >= _APPROVED:
        guard.approved.clear()
    guard.approved[sql] = statement
    _statements.put(sql, statement)
    return statement


def _prepare(connection: apsw.Connection, guard: Guard, sql: str) -> Statement:
    seen: list[tuple[str, Statement]] = []

    def look(cursor: apsw.Cursor, statement: str, _bindings: object) -> bool:
        # SQLite also calls read-only what finds nothing to do under this schema, such as DROP TRIGGER IF EXISTS.
        # What is learned here holds for every schema: only what gives rows is sure to be there for its rows.
        has_columns = bool(cursor.get_description())
        seen.append((statement, Statement(cursor.is_readonly and has_columns, has_columns)))
        return False

    cursor = connection.cursor()
    cursor.exec_trace = look
    guard.forget()
    guard.strict = True
    try:
        cursor.execute(sql, _NULLS, can_cache=False)
    except apsw.ExecTraceAbort:
        pass
    except (apsw.Error, ValueError) as error:
        raise explain_on(connection, error) from error
    finally:
        guard.strict = guard.whole = False
    if not seen or _NOTHING_MORE(seen[0][0]):
        raise InvalidRequestError("there is no SQL statement in the text")
    text, statement = seen[0]
    if not _NOTHING_MORE(sql[len(text) :]):
        raise InvalidRequestError("give one statement a call; batch() runs several as one transaction")
    return statement._replace(readonly=False) if guard.writes else statement


def _virtual_tables(connection: apsw.Connection, guard: Guard) -> frozenset[str]:
    """The names of all virtual tables, in lower case; looked up once for each schema."""
    if guard.virtual is None:
        with guard:
            names = connection.execute(_VIRTUAL).fetchall()
        guard.virtual = frozenset([str(name).lower() for (name,) in names])
    return guard.virtual


def _refuse_shadow_tables(guard: Guard, virtual: frozenset[str]) -> None:
    for name in guard.named:
        found = is_shadow_name(name)
        if found is not None and found[1].lower() in virtual:
            raise InvalidRequestError(
                f"{name} is where the virtual table {found[1]} keeps its content; use {found[1]} itself"
            )


def _searches(connection: apsw.Connection, sql: str) -> bool:
    """Whether SQLite's program for the statement asks a full-text index: `FROM f('x')` does, without any MATCH."""
    program = connection.execute(sql, _NULLS, explain=1, can_cache=False)
    return any(step[1] == "VFilter" and "M" in str(step[5]) for step in program)


def run(connection: apsw.Connection, sql: str, params: Params | None, txid: int = 0) -> Rows:
    """Run one statement to its end. Raises what `learn` raises, `RequestTimeoutError` and `PayloadTooLargeError`."""
    guard: Guard = connection.authorizer  # type: ignore[assignment]
    statement = guard.approved.get(sql) or learn(connection, sql)
    budget = guard.budget
    cursor: apsw.Cursor | None = None
    guard.reason = None
    budget.parts += 1
    try:
        if statement.is_costly:
            shorten_values(connection, budget.settings)
        elif statement.is_vacuum or (statement.is_check and guard.alone):
            guard.whole = True
        cursor = connection.execute(sql, params)
        if not statement.has_columns:
            cursor.fetchall()  # An incremental vacuum goes on only as long as it is asked to.
            return Rows((), (), txid)
        try:
            columns, types = _described(cursor.get_description())
        except apsw.ExecutionCompleteError:
            columns, types = _columns_of(connection, sql)
            return Rows((), columns, txid, types)
        first = cursor.fetchone()
        if first is None:
            return Rows((), columns, txid, types)
        rows = [dict(zip(columns, first, strict=True))]
        left = budget.left
        if budget.parts > 1:  # Else SQLite's own memory bounds it, and most results have one row.
            left -= sum(map(getsizeof, first))
        for row in cursor:
            left -= sum(map(getsizeof, row))
            if left < 0:
                break
            rows.append(dict(zip(columns, row, strict=True)))
        if left < 0:
            raise result_too_large(budget.settings)
        budget.left = left
        return Rows(rows, columns, txid, types)
    except (apsw.Error, KeyError, TypeError, OverflowError, ValueError, PayloadTooLargeError) as error:
        if cursor is not None:
            # A statement that is left half run would hold the connection on its view.
            cursor.close(True)
        raise explain_on(connection, error, statement.is_costly) from error
    finally:
        if statement.is_costly:
            restore_values(connection, budget.settings)
        guard.whole = False
        budget.parts -= 1
        if not budget.parts:
            budget.renew()


def is_check(connection: apsw.Connection, sql: str) -> bool:
    """Whether the statement is an integrity check, which needs a connection of its own: see `alone` of the guard."""
    try:
        return (known(sql) or learn(connection, sql)).is_check
    except (InvalidRequestError, PayloadTooLargeError):
        return False  # Running it says so.


def alone(connection: apsw.Connection) -> None:
    """Say that the connection is new, and is closed once it has run one statement."""
    guard_of(connection).alone = True


def transaction(connection: apsw.Connection, work: Callable[[], T], foreign_keys: bool = True) -> T:
    """Run `work` as one transaction, with one budget. What fails is rolled back by whoever lent the connection."""
    with guard_of(connection).budget:
        if not foreign_keys:
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 0)
        try:
            connection.execute("BEGIN IMMEDIATE")
            done = work()
            connection.execute("COMMIT")
            return done
        except apsw.Error as error:
            raise explain_on(connection, error) from error
        finally:
            if not foreign_keys:
                connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 1)


def turns_foreign_keys_off(sql: str) -> bool:
    """Whether the statement is `PRAGMA foreign_keys=OFF`, with which a batch may begin."""
    return isinstance(sql, str) and _FOREIGN_KEYS_OFF(sql) is not None


Columns = tuple[tuple[str, ...], tuple[str | None, ...]]
"""Their names, and as what they were declared."""


@lru_cache(1024)
def _described(description: tuple[tuple[str, str | None], ...]) -> Columns:
    """Columns of one name are told apart as SQLite does it where it has to: `id`, `id:1`, `id:2`."""
    seen: set[str] = set()
    distinct = []
    for name, _ in description:
        number, candidate = 0, name
        while candidate in seen:
            number += 1
            candidate = f"{name}:{number}"
        seen.add(candidate)
        distinct.append(candidate)
    return tuple(distinct), tuple([declared or None for _, declared in description])


def _columns_of(connection: apsw.Connection, sql: str) -> Columns:
    """The columns of a statement that gave no row; SQLite tells them only before it ends."""
    columns: list[Columns] = []

    def look(cursor: apsw.Cursor, _statement: str, _bindings: object) -> bool:
        columns.append(_described(cursor.get_description()))
        return False

    cursor = connection.cursor()
    cursor.exec_trace = look
    try:
        cursor.execute(sql, _NULLS)
    except apsw.ExecTraceAbort:
        return columns[0]
    except apsw.Error:
        pass
    return (), ()


def explain_on(connection: apsw.Connection, error: Exception, costly: bool = False) -> MemoturnError:
    """An error of SQLite as one of ours, with what the guard and the budget of the connection know of it."""
    guard = guard_of(connection)
    budget = guard.budget
    stopped, budget.stopped = budget.stopped, None
    if isinstance(error, MemoturnError):
        return error
    if stopped is not None and isinstance(error, apsw.InterruptError):
        return stopped
    if isinstance(error, apsw.NoMemError):
        return out_of_memory(budget.settings)
    if isinstance(error, apsw.TooBigError):
        return too_big(budget.settings, costly, error)
    explained = explain(error, guard.reason)
    if isinstance(error, apsw.ConstraintError) and not connection.in_transaction and connection.changes():
        explained.args = (
            f"{explained}; the {connection.changes()} rows before it were kept, as OR FAIL asks for",
        )
    return explained


def explain(error: Exception, reason: str | None = None) -> MemoturnError:
    """An error of SQLite as one of ours. `reason` is why the guard refused the statement, if it did."""
    if isinstance(error, KeyError):
        return InvalidRequestError(f"the statement has a parameter {error.args[0]!r}, which was not given")
    if reason is not None or isinstance(error, apsw.AuthError):
        return InvalidRequestError(reason or str(error))
    if isinstance(error, apsw.InterruptError):
        return RequestTimeoutError("the statement was stopped, because it took too long or too much memory")
    if isinstance(error, apsw.TooBigError):
        return PayloadTooLargeError(f"a value is longer than a limit allows: {error}")
    if isinstance(error, apsw.ReadOnlyError):
        return InvalidRequestError("a position in the past is read-only; fork a branch from it to write")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return CorruptError(f"SQLite finds the database damaged: {error}")
    if isinstance(error, apsw.IOError | apsw.FullError | apsw.NoMemError | apsw.CantOpenError):
        return UnavailableError(f"SQLite could not read or write: {error}")
    if isinstance(error, UnicodeDecodeError):
        return InvalidRequestError(
            f"a text in the answer is not UTF-8; read it with CAST(… AS BLOB): {error}"
        )
    if isinstance(error, UnicodeEncodeError):
        return InvalidRequestError(f"SQL and its parameters have to be Unicode text: {error}")
    if isinstance(error, apsw.BindingsError | TypeError | OverflowError | ValueError):
        return InvalidRequestError(f"the parameters do not fit the statement: {error}")
    return SqlError(str(error))
