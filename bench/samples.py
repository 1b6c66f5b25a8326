"""Databases to measure on, the same on every run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

if TYPE_CHECKING:
    from memoturn import Database

ROW_BYTES = 1000
SCHEMA = "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT)"


def text(number: int) -> str:
    """About a thousand characters that compress to about half, as prose does."""
    return f"row {number} " + os.urandom(ROW_BYTES // 4).hex() + "lorem ipsum dolor sit amet " * 18


def sqlite_file(path: Path, megabytes: int, journal: str = "delete") -> Path:
    """A SQLite file of about that size, unless it is there already."""
    if path.exists():
        return path
    temporary = path.with_suffix(".part")
    temporary.unlink(missing_ok=True)
    connection = apsw.Connection(str(temporary))
    connection.execute(f"PRAGMA journal_mode={journal}; PRAGMA synchronous=OFF").fetchall()
    connection.execute(SCHEMA)
    rows = megabytes * (1 << 20) * 3 // 4 // 1000 * 4 // 4
    with connection:
        connection.executemany("INSERT INTO t VALUES (?, ?)", ((n, text(n)) for n in range(1, rows + 1)))
    connection.close()
    temporary.rename(path)
    return path


def filled(db: Database, rows: int) -> None:
    """A table of small rows."""
    db.batch(
        [(SCHEMA, None), *(("INSERT INTO t VALUES (?, ?)", (n, f"value {n}")) for n in range(1, rows + 1))]
    )
    db.sync()
