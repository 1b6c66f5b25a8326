"""What SQL may do: SQLite's authorizer decides, by allow-lists, while a statement is prepared.

Refused are the ways out of the database (ATTACH, VACUUM INTO, extensions), temporary tables, which would stay in
a connection that others use next, transaction control, which belongs to `batch`, every function, pragma and
virtual table that is not known to be harmless, and everything that is named `__memoturn_…`.

Four degrees, and which one holds is the connection's state:

- *strict*: while a text of a user is prepared, without being run. Each is prepared so, once on each connection
  and for each schema, before it runs there: `approved` holds those that have been, and empties itself when SQLite
  says that the schema has changed or that a transaction was rolled back. Only here shadow tables of full-text
  indexes and their like are refused, and transactions and temporary tables.
- *running*: always else. What SQLite and its virtual tables prepare on their own behalf passes, except that it
  reaches no reserved table either: a full-text index may be told to take its content from one.
- *trusted*: our models' own statements, inside of `with trusted(connection):`. They may use reserved tables, and
  functions named `memoturn_…`. Fetch all rows inside of the block. apsw's cache of prepared statements needs no
  care: a text of a user is approved by a preparation of its own that takes nothing from the cache, so a text that
  equals one of ours is refused although ours is there. The names of reserved tables, indexes and triggers all
  begin with `__memoturn_`, and none is `AUTOINCREMENT`: `sqlite_sequence` is open to users.
- *whole*: while a VACUUM or an integrity check of a user runs, which go through every table. A check does so on a
  connection that is `alone` with it: virtual tables keep the statements that they prepare meanwhile, and SQLite
  checks a full-text index as the connection remembers it, even from another view.
"""

from __future__ import annotations

from contextlib import closing
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Final

import apsw

from memoturn.base.clock import Clock, SystemClock
from memoturn.base.settings import SqlSettings
from memoturn.models import allowed
from memoturn.models.allowed import is_reserved
from memoturn.models.bounded import replace_functions
from memoturn.models.budget import Budget, set_limits

if TYPE_CHECKING:
    from memoturn.models.sql import Statement

_SCHEMA_TABLES: Final = frozenset(("sqlite_master", "sqlite_schema"))
_TEMPORARY: Final = frozenset(
    (
        apsw.SQLITE_CREATE_TEMP_INDEX,
        apsw.SQLITE_CREATE_TEMP_TABLE,
        apsw.SQLITE_CREATE_TEMP_TRIGGER,
        apsw.SQLITE_CREATE_TEMP_VIEW,
    )
)
_CREATING: Final = frozenset(
    (
        apsw.SQLITE_CREATE_INDEX,
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_CREATE_TRIGGER,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_CREATE_VTABLE,
    )
)
_MAINTAINING: Final = frozenset((apsw.SQLITE_ANALYZE, apsw.SQLITE_REINDEX))
_BY_ONE_NAME: Final = frozenset(
    (apsw.SQLITE_READ, apsw.SQLITE_UPDATE, apsw.SQLITE_INSERT, apsw.SQLITE_DELETE)
)
_TRANSACTIONS: Final = frozenset((apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT))
_ON: Final = frozenset(("1", "on", "true", "yes"))
_OK: Final = int(apsw.SQLITE_OK)
_DENY: Final = int(apsw.SQLITE_DENY)
_IGNORE: Final = int(apsw.SQLITE_IGNORE)


class Guard:
    """The authorizer of one connection.

    `approved` holds what may run here, `virtual` the names of virtual tables, if they are known.

    Of the text that was prepared last, `reason` tells why it was refused, `writes` whether it has to run on the
    writer although SQLite calls it read-only, `named` the tables that it and its views and triggers name, `costly`
    whether it uses one of the costly functions, `checks` whether it is an integrity check, and `selects` whether it
    selects.
    """

    __slots__ = (
        "_refused_modules",
        "alone",
        "approved",
        "budget",
        "checks",
        "costly",
        "named",
        "reason",
        "selects",
        "strict",
        "trusted",
        "virtual",
        "whole",
        "writes",
    )

    def __init__(self, budget: Budget, refused_modules: frozenset[str]) -> None:
        self._refused_modules = refused_modules
        self.approved: dict[str, Statement] = {}
        self.budget = budget
        self.alone = False
        self.strict = False
        self.trusted = 0
        self.whole = False
        self.virtual: frozenset[str] | None = None
        self.forget()

    def disapprove(self) -> None:
        """Look at every text again: the schema is another."""
        self.approved.clear()
        self.virtual = None

    def forget(self) -> None:
        """Be ready to look at another text."""
        self.named: set[str] = set()
        self.reason: str | None = None
        self.checks = self.costly = self.selects = self.writes = False

    def __enter__(self) -> None:
        self.trusted += 1
        self.budget.parts += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.trusted -= 1
        self.budget.__exit__(kind, error, trace)

    def __call__(
        self, action: int, first: str | None, second: str | None, database: str | None, accessor: str | None
    ) -> int:
        if action == apsw.SQLITE_FUNCTION:
            return self._function((second or "").lower())
        if action == apsw.SQLITE_PRAGMA:
            return self._pragma((first or "").lower(), second)
        if action == apsw.SQLITE_ATTACH:
            if first == "" and self.whole:
                return _OK
            return self._refuse("ATTACH and VACUUM INTO reach files; use export and import_file")
        if action == apsw.SQLITE_CREATE_VTABLE and (second or "").lower() not in allowed.MODULES:
            return self._refuse(f"virtual tables of {second} are not allowed")
        if action in _BY_ONE_NAME:
            name = (first or "").lower()
            if name in _SCHEMA_TABLES and not self.strict and not self.trusted:
                # Either the schema is about to change or SQLite has found it changed and prepares anew.
                self.disapprove()
            if name in self._refused_modules:
                return self._refuse(f"the virtual table {first} is not allowed")
        if not self.trusted and not self.whole and _names_ours(action, first, second, accessor):
            if action in _MAINTAINING:
                return _IGNORE
            return self._refuse(f"names that begin with {allowed.RESERVED} are reserved")
        if not self.strict:
            return _OK
        return self._strictly(action, first, second, database)

    def _strictly(self, action: int, first: str | None, second: str | None, database: str | None) -> int:
        if action == apsw.SQLITE_DETACH:
            return self._refuse("DETACH is never needed: there is one database")
        if action in _TEMPORARY or (database == "temp" and action in _CREATING):
            return self._refuse(
                "temporary tables last only as long as a connection, which no two calls share"
            )
        if action in _TRANSACTIONS:
            return self._refuse(
                f"{first} is not allowed: a statement is a transaction by itself, and batch() makes one of many"
            )
        if action == apsw.SQLITE_SELECT:
            self.selects = True
        elif action != apsw.SQLITE_RECURSIVE and action not in _MAINTAINING:
            self.named.add((second if action == apsw.SQLITE_ALTER_TABLE else first) or "")
        return _OK

    def _function(self, name: str) -> int:
        if name in allowed.COSTLY_FUNCTIONS:
            self.costly = True
        if name in allowed.FUNCTIONS:
            return _OK
        if self.trusted and name.startswith(allowed.OWN_FUNCTIONS):
            return _OK
        return self._refuse(f"the function {name}() is not allowed")

    def _pragma(self, name: str, value: str | None) -> int:
        if name in allowed.WRITE_PRAGMAS:
            self.writes = True
            return _OK
        if self.trusted and name in allowed.OWN_PRAGMAS:
            return _OK
        if value is not None and not self.trusted and is_reserved(value):
            return self._refuse(f"names that begin with {allowed.RESERVED} are reserved")
        if name in (allowed.READ_PRAGMAS if value is None else allowed.VALUE_PRAGMAS):
            if self.strict and name in allowed.CHECKING_PRAGMAS:
                self.checks = self.whole = True  # Nothing else stands in a text that is one PRAGMA.
            return _OK
        if name == "foreign_keys" and value is not None:
            if value.lower() in _ON:
                return _OK  # They are.
            return self._refuse(
                "foreign keys are off in a batch only, whose first statement says PRAGMA foreign_keys=OFF"
            )
        return self._refuse(f"PRAGMA {name}{'' if value is None else '=' + value} is not allowed")

    def _refuse(self, reason: str) -> int:
        self.reason = reason
        return _DENY


def _names_ours(action: int, first: str | None, second: str | None, accessor: str | None) -> bool:
    if is_reserved(first) or is_reserved(accessor):
        return True
    return action not in _BY_ONE_NAME and is_reserved(second)


def trusted(connection: apsw.Connection) -> Guard:
    """`with trusted(connection):` lets our own statements use what is reserved; see above."""
    return guard_of(connection)


def protect(
    connection: apsw.Connection,
    settings: SqlSettings | None = None,
    clock: Clock | None = None,
) -> None:
    """Put a connection under guard. Called once, after its own settings were made."""
    connection.enable_load_extension(False)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 1)
    settings = settings or SqlSettings()
    replace_functions(connection, settings.value_bytes)
    guard = Guard(Budget(settings, (clock or SystemClock()).monotonic), _refused_modules())
    connection.authorizer = guard
    connection.set_rollback_hook(guard.disapprove)
    set_limits(connection, guard.budget)


def guard_of(connection: apsw.Connection) -> Guard:
    """The guard that `protect` put there."""
    guard = connection.authorizer
    assert isinstance(guard, Guard)
    return guard


@cache
def _refused_modules() -> frozenset[str]:
    """The virtual tables that this SQLite has without their being created, and that are not allowed."""
    known = allowed.MODULES | allowed.TABLE_FUNCTIONS
    with closing(apsw.Connection(":memory:")) as connection:
        names = [str(name).lower() for (name,) in connection.execute("SELECT name FROM pragma_module_list")]
    found = frozenset(name for name in names if name not in known and not name.startswith("pragma_"))
    return found | allowed.REFUSED_TABLE_FUNCTIONS
