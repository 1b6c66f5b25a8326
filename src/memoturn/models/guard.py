"""What SQL may do: SQLite's authorizer decides, by an allow-list, while a statement is prepared.

Refused are the ways out of the database (ATTACH, VACUUM INTO, extensions), temporary tables, which would stay in
a connection that others use next, transaction control, which belongs to `batch`, and every pragma that is not
known to be harmless. Every statement of a user is prepared once under the strict rules before it first runs; what
SQLite prepares on its own behalf while it runs (a vacuum's nameless temporary database, a full-text index's own
look-ups) and our own BEGIN and COMMIT pass the lenient ones.
"""

from __future__ import annotations

from typing import Final

import apsw

_READ_PRAGMAS: Final = frozenset(
    "application_id auto_vacuum collation_list compile_options data_version database_list encoding "  # noqa: SIM905
    "foreign_key_check foreign_key_list foreign_keys freelist_count function_list index_info index_list "
    "index_xinfo integrity_check journal_mode module_list page_count page_size pragma_list quick_check "
    "schema_version table_info table_list table_xinfo user_version".split()
)
_WRITE_PRAGMAS: Final = frozenset(("incremental_vacuum", "optimize"))
_VALUE_PRAGMAS: Final = frozenset(
    "application_id foreign_key_check foreign_key_list index_info index_list index_xinfo "  # noqa: SIM905
    "integrity_check quick_check table_info table_list table_xinfo user_version".split()
)
_FUNCTIONS: Final = frozenset(("load_extension", "fts3_tokenizer"))
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
_OK: Final = int(apsw.SQLITE_OK)
_DENY: Final = int(apsw.SQLITE_DENY)


class Guard:
    """The authorizer of one connection.

    `reason` tells why the last statement was refused; `writes` whether it has to run on the writer although
    SQLite calls it read-only.
    """

    __slots__ = ("reason", "strict", "writes")

    def __init__(self) -> None:
        self.reason: str | None = None
        self.strict = False
        self.writes = False

    def __call__(
        self, action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
    ) -> int:
        if action == apsw.SQLITE_PRAGMA:
            return self._pragma((first or "").lower(), second)
        if action == apsw.SQLITE_ATTACH and (self.strict or first != ""):
            return self._refuse("ATTACH and VACUUM INTO reach files; use export and import_file")
        if action == apsw.SQLITE_FUNCTION and second is not None and second.lower() in _FUNCTIONS:
            return self._refuse(f"{second}() loads code")
        if not self.strict:
            return _OK
        if action == apsw.SQLITE_DETACH:
            return self._refuse("DETACH is never needed: there is one database")
        if action in _TEMPORARY or (database == "temp" and action in _CREATING):
            return self._refuse(
                "temporary tables last only as long as a connection, which no two calls share"
            )
        if action == apsw.SQLITE_TRANSACTION or action == apsw.SQLITE_SAVEPOINT:
            return self._refuse(
                f"{first} is not allowed: a statement is a transaction by itself, and batch() makes one of many"
            )
        return _OK

    def _pragma(self, name: str, value: str | None) -> int:
        if name in _WRITE_PRAGMAS:
            self.writes = True
            return _OK
        if name in (_READ_PRAGMAS if value is None else _VALUE_PRAGMAS):
            return _OK
        return self._refuse(f"PRAGMA {name}{'' if value is None else '=' + value} is not allowed")

    def _refuse(self, reason: str) -> int:
        self.reason = reason
        return _DENY


def protect(connection: apsw.Connection) -> None:
    """Put a connection under guard. Called once, after its own settings were made."""
    connection.authorizer = Guard()
    connection.enable_load_extension(False)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)


def guard_of(connection: apsw.Connection) -> Guard:
    """The guard that `protect` put there."""
    guard = connection.authorizer
    assert isinstance(guard, Guard)
    return guard
