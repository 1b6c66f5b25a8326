"""What it takes to tell what has changed in a large database: as much as has changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.measure import Figure, timed, times_of, us
from memoturn import Database, Memoturn

_CHANGED = 100
_FORKS = 10


def figures(big: Path, scratch: Path) -> Iterator[Figure]:
    """`big` is a SQLite file of 1 GiB."""
    with Memoturn(f"file:{scratch / 'differences'}") as mt:
        mt.databases.import_file("big", big)
        db = mt.db("big")
        rows = int(db.sql("SELECT max(id) AS n FROM t")[0]["n"])
        for fork in range(_FORKS):
            _change(db, fork, [(fork * 37 + n * rows // _CHANGED) % rows + 1 for n in range(_CHANGED)])
        once = times_of([timed(lambda fork: _count(db, fork), fork) for fork in range(_FORKS)])
        again = times_of([timed(lambda fork: _count(db, fork), fork) for fork in range(_FORKS)])
    yield Figure(
        f"diff after {_CHANGED} changed rows in 1 GiB, `file:`",
        "≤ 50 ms",
        f"{us(once.p50)} at first, {us(again.p50)} again",
        "",
        once.p50 <= 50_000,
    )


def _change(db: Database, number: int, rows: list[int]) -> None:
    """A fork in which these rows, which lie far from each other, are others."""
    fork = db.branch.create(f"f{number}")
    fork.batch([("UPDATE t SET x = 'other' WHERE id = ?", (row,)) for row in rows])
    fork.sync()


def _count(db: Database, number: int) -> None:
    (table,) = db.diff(f"big@f{number}").tables
    assert table.changed == _CHANGED
