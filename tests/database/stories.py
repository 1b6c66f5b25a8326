"""A story is a list of steps on one database; a state is what it must contain after some of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from memoturn.base.txids import LOCK_PAGE, PageNo
from memoturn.database.branch import Branch
from memoturn.faces.embedded.client import Database
from memoturn.pages.view import Source
from memoturn.segments.checksum import CHECKSUM_FLAG, combine, page_checksum

Rows = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class State:
    """Rows of the table as (key, length of the value), and those at each checkpoint; None before it is made."""

    rows: Rows | None = None
    checkpoints: dict[str, Rows | None] = field(default_factory=dict)


Effect = Callable[[State], State]


@dataclass(frozen=True)
class Step:
    """What to do, and what it makes of a state."""

    name: str
    do: Callable[[Database], object]
    effect: Effect


def create_table() -> Step:
    return Step(
        "create table",
        lambda db: db.sql("CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)"),
        lambda state: replace(state, rows=()),
    )


def insert(key: int, length: int = 10) -> Step:
    return Step(
        f"insert {key}",
        lambda db: db.sql("INSERT INTO t VALUES(?, ?)", (key, _blob(key, length))),
        lambda state: replace(state, rows=_sorted(state, (key, length))),
    )


def batch(keys: Sequence[int], length: int = 10) -> Step:
    return Step(
        f"batch {keys[0]}-{keys[-1]}",
        lambda db: db.batch([("INSERT INTO t VALUES(?, ?)", (key, _blob(key, length))) for key in keys]),
        lambda state: replace(state, rows=_sorted(state, *((key, length) for key in keys))),
    )


def delete_below(key: int) -> Step:
    return Step(
        f"delete below {key}",
        lambda db: db.sql("DELETE FROM t WHERE k < ?", (key,)),
        lambda state: replace(state, rows=tuple(row for row in state.rows or () if row[0] >= key)),
    )


def vacuum() -> Step:
    return Step("vacuum", lambda db: db.sql("VACUUM"), lambda state: state)


def ship() -> Step:
    return Step("ship", lambda db: db.sync(), lambda state: state)


def checkpoint(name: str) -> Step:
    return Step(
        f"checkpoint {name}",
        lambda db: db.branch.checkpoint(name),
        lambda state: replace(state, checkpoints={**state.checkpoints, name: state.rows}),
    )


def rewind(name: str) -> Step:
    return Step(
        f"rewind {name}",
        lambda db: db.branch.rewind(name),
        lambda state: replace(state, rows=state.checkpoints[name]),
    )


def _sorted(state: State, *added: tuple[int, int]) -> Rows:
    return tuple(sorted((*(state.rows or ()), *added)))


def _blob(key: int, length: int) -> bytes:
    # It must not compress, or no log file would ever be full.
    return random.Random(key).randbytes(length)


def state_of(db: Database) -> State:
    """What the database contains, every page of it verified."""
    verify_branch(db._engine.branch(db._address.database, db._address.branch))
    checkpoints = {found.name: rows_of(db.at(found.name)) for found in db.branch.checkpoints()}
    return State(rows_of(db), checkpoints)


def rows_of(db: Database) -> Rows | None:
    """The rows of the table, each with the value that was written."""
    if not db.sql("SELECT 1 FROM sqlite_schema WHERE name = 't'"):
        return None
    found = []
    for row in db.sql("SELECT k, v FROM t ORDER BY k"):
        assert isinstance(row["k"], int)
        assert isinstance(row["v"], bytes)
        assert row["v"] == _blob(row["k"], len(row["v"])), f"row {row['k']} holds what was never written"
        found.append((row["k"], len(row["v"])))
    return tuple(found)


def verify_branch(branch: Branch) -> None:
    """SQLite finds the head intact, and its pages add up to the checksum of its txid."""
    view = branch.head()
    with branch.readers.on(view) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    verify_view(view)


def verify_view(view: Source) -> None:
    checksum: int = CHECKSUM_FLAG
    for number in range(1, view.page_count + 1):
        if number != LOCK_PAGE:
            page = view.page(PageNo(number))
            assert len(page) == 4096
            checksum = combine(checksum, page_checksum(PageNo(number), page))
    assert checksum == view.checksum, f"the pages at txid {view.txid} do not add up"
