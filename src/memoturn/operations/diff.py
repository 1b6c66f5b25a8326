"""diff: what differs between two positions of a database; and what promoting a branch would change."""

from __future__ import annotations

from memoturn.base.clock import time_or_none
from memoturn.base.errors import InvalidRequestError
from memoturn.base.names import Address
from memoturn.base.results.diffs import Diff, DiffSide, Promotion
from memoturn.models import diff as model
from memoturn.node.engine import Engine
from memoturn.operations.positions import Seen, see
from memoturn.operations.reading import again_at, clamped


def diff(engine: Engine, before: Address, after: Address, limit: int = 20, table: str | None = None) -> Diff:
    """What is to be done to the content at `before` to come to that at `after`.

    Counts are exact; of each table or collection, `limit` examples at most are shown. With `table`, only that one is
    looked at. Raises `InvalidRequestError`, and what finding the positions raises.
    """
    if before.database != after.database:
        raise InvalidRequestError(
            f"{before.database!r} and {after.database!r} are two databases; a diff is between positions of one"
        )
    limit = clamped("the limit", limit)
    if table is not None and not isinstance(table, str):
        raise InvalidRequestError(f"table is the name of one, not {table!r}")
    return again_at(engine, (before, after), lambda: _diff(engine, before, after, limit, table))


def _diff(engine: Engine, before: Address, after: Address, limit: int, table: str | None) -> Diff:
    one, other = see(engine, before), see(engine, after)
    found = model.compare(one.view, other.view, engine.env.prepare, limit, table, engine.look)
    return Diff(_side(before, one), _side(after, other), *found)


def _side(address: Address, seen: Seen) -> DiffSide:
    return DiffSide(
        address.database, seen.branch.branch_id, seen.view.txid, time_or_none(seen.view.time), seen.exact
    )


def promotion(engine: Engine, database: str, branch_id: str, limit: int = 20) -> Promotion:
    """What promoting a branch would change for whoever uses the database by its name; nothing is changed."""
    default = engine.branch(database).branch_id
    found = diff(engine, Address(database, default, None), Address(database, branch_id, None), limit)
    return Promotion(default, branch_id, found)
