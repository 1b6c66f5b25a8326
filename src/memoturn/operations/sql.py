"""sql and batch: a statement, or several as one transaction."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from memoturn.base.errors import InvalidRequestError, MemoturnError, SegmentGoneError, SqlError
from memoturn.base.names import Address
from memoturn.base.results import BatchResult, Rows
from memoturn.database.branch import Branch
from memoturn.models import sql as model
from memoturn.models.sql import Params, Statement
from memoturn.node.engine import Engine
from memoturn.operations.positions import see
from memoturn.operations.reading import again


def sql(engine: Engine, address: Address, text: str, params: Params | None = None) -> Rows:
    """Run one statement. A statement that writes is a transaction by itself, with a txid of its own.

    Raises `InvalidRequestError`, `SqlError`, and what opening or writing the branch raises.
    """
    try:
        return _sql(engine, address, text, params)
    except SegmentGoneError:
        statement = model.known(text)
        if address.position is None and statement is not None and not statement.readonly:
            raise  # What it writes may have been shipped.
        return again(engine, address, lambda: _sql(engine, address, text, params))


def _sql(engine: Engine, address: Address, text: str, params: Params | None) -> Rows:
    statement = model.known(text)
    if address.position is None:
        branch = engine.branch(address.database, address.branch)
        if statement is not None and not statement.readonly:
            return _write(branch, text, params, statement)
        view, exact = branch.head(), True
    else:
        branch, view, exact = see(engine, address)
    readers = branch.readers
    reader = readers.take(view)
    try:
        if statement is None:
            statement = model.learn(reader.connection, text)
        if statement.readonly or address.position is not None:
            rows = model.run(reader.connection, text, params, statement, view.txid)
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
    return _write(branch, text, params, statement)


def _write(branch: Branch, text: str, params: Params | None, statement: Statement) -> Rows:
    rows, txid = branch.write(lambda connection: model.run(connection, text, params, statement))
    rows.txid = txid
    return rows


def batch(engine: Engine, address: Address, statements: Sequence[tuple[str, Params | None]]) -> BatchResult:
    """Run statements as one transaction with one txid, or none of it. One that only reads makes no txid.

    Raises as `sql` does; the message says which statement it was.
    """
    done = again(engine, address, lambda: _read_batch(engine, address, statements))
    if done is not None:
        return done
    branch = engine.branch(address.database, address.branch)

    def work(connection: apsw.Connection) -> list[Rows]:
        connection.execute("BEGIN IMMEDIATE")
        results = _run_all(connection, statements)
        connection.execute("COMMIT")
        return results

    results, txid = branch.write(work)
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
        results = _run_all(connection, statements, view.txid)
        for rows in results:
            rows.exact = exact
        return BatchResult(results, view.txid, exact)


def _reads_only(connection: apsw.Connection, text: str) -> bool:
    try:
        return (model.known(text) or model.learn(connection, text)).readonly
    except SqlError:
        return False  # It may need what the statements before it will have made.


def _run_all(
    connection: apsw.Connection, statements: Sequence[tuple[str, Params | None]], txid: int = 0
) -> list[Rows]:
    results = []
    for number, (text, params) in enumerate(statements, 1):
        try:
            statement = model.known(text) or model.learn(connection, text)
            results.append(model.run(connection, text, params, statement, txid))
        except MemoturnError as error:
            error.args = (f"statement {number} of {len(statements)}: {error}; nothing of the batch was kept",)
            raise
    return results
