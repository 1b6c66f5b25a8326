"""Databases to measure on, the same on every run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

if TYPE_CHECKING:
    from memoturn import Database

ROW_BYTES = 1000
SCHEMA = "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT)"


def text(number: int) -> str:
    """About a thousand characters that compress to about half, as prose does; the same on every run."""
    noise = hashlib.shake_128(number.to_bytes(8, "big")).hexdigest(ROW_BYTES // 4)
    return f"row {number} {noise}" + "lorem ipsum dolor sit amet " * 18


def sqlite_file(path: Path, megabytes: int, journal: str = "delete") -> Path:
    """A SQLite file of at least that size, unless it is there already."""
    if path.exists():
        return path
    temporary = path.with_suffix(".part")
    temporary.unlink(missing_ok=True)
    connection = apsw.Connection(str(temporary))
    connection.execute(f"PRAGMA journal_mode={journal}; PRAGMA synchronous=OFF").fetchall()
    connection.execute(SCHEMA)
    number = 0
    while temporary.stat().st_size < megabytes << 20:
        with connection:
            rows = range(number + 1, number + 1 + min(50_000, megabytes * 500))
            connection.executemany("INSERT INTO t VALUES (?, ?)", ((n, text(n)) for n in rows))
            number = rows[-1]
    connection.close()
    temporary.rename(path)
    return path


def filled(db: Database, rows: int) -> None:
    """A table of small rows."""
    db.batch(
        [(SCHEMA, None), *(("INSERT INTO t VALUES (?, ?)", (n, f"value {n}")) for n in range(1, rows + 1))]
    )
    db.sync()
