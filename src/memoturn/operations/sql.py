"""sql and batch: a statement, or several as one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import apsw

from memoturn.base.errors import (
    ForbiddenError,
    InvalidRequestError,
    MemoturnError,
    SegmentGoneError,
    SqlError,
)
from memoturn.base.names import Address
from memoturn.base.results.rows import BatchResult, Params, Rows
from memoturn.database.branch import Branch
from memoturn.models import sql as model
from memoturn.models.guard import guard_of
from memoturn.node.engine import Engine
from memoturn.operations.positions import see
from memoturn.operations.reading import again
from memoturn.pages.view import Source


def sql(
    engine: Engine, address: Address, text: str, params: Params | None = None, *, may_write: bool = True
) -> Rows:
    """Run one statement. A statement that writes is a transaction by itself, with a txid of its own.

    Raises `ForbiddenError` for one that writes, unless it may, `InvalidRequestError`, `SqlError`,
    `RequestTimeoutError`, `PayloadTooLargeError`, and what opening or writing the branch raises.
    """
    try:
        return _sql(engine, address, text, params, may_write)
    except SegmentGoneError:
        statement = model.known(text)
        if address.position is None and statement is not None and not statement.readonly:
            raise  # What it writes may have been shipped.
        return again(engine, address, lambda: _sql(engine, address, text, params, may_write))


def _sql(engine: Engine, address: Address, text: str, params: Params | None, may_write: bool) -> Rows:
    statement = model.known(text)
    if address.position is None:
        branch = engine.branch(address.database, address.branch)
        if statement is not None and not statement.readonly:
            return _write(branch, text, params, may_write)
        view, exact = branch.head(), True
    else:
        branch, view, exact = see(engine, address)
    readers = branch.readers
    reader = readers.take(view)
    try:
        if statement is None:
            statement = model.learn(reader.connection, text)
        if statement.readonly or address.position is not None:
            if statement.is_check:
                rows = _check(branch, view, text, params)
            else:
                rows = model.run(reader.connection, text, params, view.txid)
            rows.exact = exact
            readers.give_back(reader)
            return rows
    except InvalidRequestError:
        readers.give_back(reader)
        raise
    except BaseException:
        reader.close()
        raise
    readers.give_back(reader)
    return _write(branch, text, params, may_write)


def _check(branch: Branch, view: Source, text: str, params: Params | None) -> Rows:
    """An integrity check, on a connection of its own."""
    with branch.readers.alone(view) as connection:
        model.alone(connection)
        return model.run(connection, text, params, view.txid)


def _write(branch: Branch, text: str, params: Params | None, may_write: bool) -> Rows:
    if not may_write:
        raise _forbidden()
    rows, txid = branch.write(lambda connection: model.run(connection, text, params), anywhere=True)
    rows.txid = txid
    return rows


def _forbidden() -> ForbiddenError:
    return ForbiddenError("the statement writes, and the scope is read; only SELECT and its like are allowed")


def batch(
    engine: Engine,
    address: Address,
    statements: Sequence[tuple[str, Params | None]],
    *,
    may_write: bool = True,
) -> BatchResult:
    """Run statements as one transaction with one txid, or none of it. One that only reads makes no txid.

    Foreign keys are enforced, unless the first statement is `PRAGMA foreign_keys=OFF`: then not in this batch.
    Raises as `sql` does; the message says which statement it was.
    """
    done = again(engine, address, lambda: _read_batch(engine, address, statements))
    if done is not None:
        return done
    if not may_write:
        raise _forbidden()
    branch = engine.branch(address.database, address.branch)
    free = bool(statements) and model.turns_foreign_keys_off(statements[0][0])

    def work(connection: apsw.Connection) -> list[Rows]:
        return model.transaction(connection, lambda: _run_all(connection, statements, free=free), not free)

    results, txid = branch.write(work, anywhere=True)
    for rows in results:
        rows.txid = txid
    return BatchResult(results, txid)


def _read_batch(
    engine: Engine, address: Address, statements: Sequence[tuple[str, Params | None]]
) -> BatchResult | None:
    """What the statements give if they only read, None if they have to write."""
    if address.position is None:
        branch = engine.branch(address.database, address.branch)
        view, exact = branch.head(), True
    else:
        branch, view, exact = see(engine, address)
    with branch.readers.on(view) as connection:
        if address.position is None and not all(_reads_only(connection, text) for text, _ in statements):
            return None
        with guard_of(connection).budget:
            results = _run_all(connection, statements, view.txid, check=partial(_check, branch, view))
        for rows in results:
            rows.exact = exact
        return BatchResult(results, view.txid, exact)


def _reads_only(connection: apsw.Connection, text: str) -> bool:
    if model.turns_foreign_keys_off(text):
        return False
    try:
        return (model.known(text) or model.learn(connection, text)).readonly
    except SqlError:
        return False  # It may need what the statements before it will have made.


def _run_all(
    connection: apsw.Connection,
    statements: Sequence[tuple[str, Params | None]],
    txid: int = 0,
    free: bool = False,
    check: Callable[[str, Params | None], Rows] | None = None,
) -> list[Rows]:
    """Run each. If the batch is `free` of foreign keys, its first statement has been obeyed already.

    `check` runs integrity checks, where it can.
    """
    results = [Rows((), (), txid)] if free else []
    for number, (text, params) in enumerate(statements[len(results) :], 1 + len(results)):
        try:
            if check is not None and model.is_check(connection, text):
                results.append(check(text, params))
            else:
                model.known(text)
                results.append(model.run(connection, text, params, txid))
        except MemoturnError as error:
            error.args = (f"statement {number} of {len(statements)}: {error}; nothing of the batch was kept",)
            raise
    return results
