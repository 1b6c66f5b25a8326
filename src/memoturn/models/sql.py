"""SQL over a connection: what kind of statement a text is, running it, and its rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import apsw

from memoturn.base.cache import GenerationalCache
from memoturn.base.errors import CorruptError, InvalidRequestError, MemoturnError, SqlError, UnavailableError
from memoturn.base.results import Rows, Value
from memoturn.models.allowed import RESERVED, is_shadow_name
from memoturn.models.guard import Guard, guard_of

Params = Sequence[Value] | Mapping[str, Value]


class Statement(NamedTuple):
    """What is known of a text: whether it writes nothing, whether it can give rows, whether it is a VACUUM."""

    readonly: bool
    has_columns: bool
    is_vacuum: bool = False


_NULLS: Final[Any] = apsw._null_bindings  # type: ignore[attr-defined]
"""Binds NULL to every parameter: for statements that are prepared and not run."""

_NOTHING_MORE: Final = re.compile(r"(?:[ \t\n\f\r;]|--[^\n]*|(?>/\*.*?(?:\*/|\Z)))*", re.DOTALL).fullmatch
"""Blanks, semicolons and comments. A comment is atomic: it ends at the first `*/`, whatever follows it."""
_FIRST_WORD: Final = re.compile(
    r"(?:[\s;\ufeff]|--[^\n]*|(?>/\*.*?(?:\*/|\Z)))*([a-z]*)", re.IGNORECASE | re.DOTALL
).match
_IS_VIRTUAL: Final = (
    "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND rootpage = 0 AND name = ? COLLATE NOCASE"
)
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
    statement = _prepare(connection, guard, sql)
    if any(map(is_shadow_name, guard.named)):
        # To connect to a virtual table SQLite looks into its shadow tables. Now it is connected.
        _prepare(connection, guard, sql)
        _refuse_shadow_tables(connection, guard)
    if word == "VACUUM":
        statement = statement._replace(is_vacuum=True)
    if len(guard.approved) >= _APPROVED:
        guard.approved.clear()
    guard.approved.add(sql)
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
    guard.strict, guard.writes, guard.reason, guard.named = True, False, None, set()
    try:
        cursor.execute(sql, _NULLS, can_cache=False)
    except apsw.ExecTraceAbort:
        pass
    except (apsw.Error, ValueError) as error:
        raise explain(error, guard.reason) from error
    finally:
        guard.strict = False
    if not seen or _NOTHING_MORE(seen[0][0]):
        raise InvalidRequestError("there is no SQL statement in the text")
    text, statement = seen[0]
    if not _NOTHING_MORE(sql[len(text) :]):
        raise InvalidRequestError("give one statement a call; batch() runs several as one transaction")
    return statement._replace(readonly=False) if guard.writes else statement


def _refuse_shadow_tables(connection: apsw.Connection, guard: Guard) -> None:
    for name in guard.named:
        found = is_shadow_name(name)
        if found is None:
            continue
        with guard:
            virtual = connection.execute(_IS_VIRTUAL, (found[1],)).fetchall()
        if virtual:
            raise InvalidRequestError(
                f"{name} is where the virtual table {found[1]} keeps its content; use {found[1]} itself"
            )


def run(
    connection: apsw.Connection, sql: str, params: Params | None, statement: Statement, txid: int = 0
) -> Rows:
    """Run one statement that has been learned, to its end. Raises `SqlError`, and what `learn` raises."""
    guard: Guard = connection.authorizer  # type: ignore[assignment]
    if sql not in guard.approved:
        learn(connection, sql)
    cursor: apsw.Cursor | None = None
    guard.reason = None
    guard.vacuuming = statement.is_vacuum
    try:
        cursor = connection.execute(sql, params)
        if not statement.has_columns:
            cursor.fetchall()  # An incremental vacuum goes on only as long as it is asked to.
            return Rows((), (), txid)
        try:
            columns = _distinct(tuple([column[0] for column in cursor.get_description()]))
        except apsw.ExecutionCompleteError:
            return Rows((), _columns_of(connection, sql), txid)
        return Rows([dict(zip(columns, row, strict=True)) for row in cursor], columns, txid)
    except (apsw.Error, KeyError, TypeError, OverflowError, ValueError) as error:
        if cursor is not None:
            # A statement that is left half run would hold the connection on its view.
            cursor.close(True)
        raise explain(error, guard.reason) from error
    finally:
        guard.vacuuming = False


@lru_cache(1024)
def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Columns of one name are told apart as SQLite does it where it has to: `id`, `id:1`, `id:2`."""
    seen: set[str] = set()
    distinct = []
    for name in names:
        number, candidate = 0, name
        while candidate in seen:
            number += 1
            candidate = f"{name}:{number}"
        seen.add(candidate)
        distinct.append(candidate)
    return tuple(distinct)


def _columns_of(connection: apsw.Connection, sql: str) -> tuple[str, ...]:
    """The columns of a statement that gave no row; SQLite tells them only before it ends."""
    columns: list[tuple[str, ...]] = []

    def look(cursor: apsw.Cursor, _statement: str, _bindings: object) -> bool:
        columns.append(_distinct(tuple([column[0] for column in cursor.get_description()])))
        return False

    cursor = connection.cursor()
    cursor.exec_trace = look
    try:
        cursor.execute(sql, _NULLS)
    except apsw.ExecTraceAbort:
        return columns[0]
    except apsw.Error:
        pass
    return ()


def explain(error: Exception, reason: str | None = None) -> MemoturnError:
    """An error of SQLite as one of ours. `reason` is why the guard refused the statement, if it did."""
    if isinstance(error, KeyError):
        return InvalidRequestError(f"the statement has a parameter {error.args[0]!r}, which was not given")
    if reason is not None or isinstance(error, apsw.AuthError):
        return InvalidRequestError(reason or str(error))
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
