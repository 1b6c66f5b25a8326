"""SQL, and what is asked of a branch as a whole."""

from __future__ import annotations

from memoturn.base.errors import InvalidRequestError
from memoturn.base.results.rows import BatchResult
from memoturn.faces.http.call import Answer, Call
from memoturn.faces.wire import answers, requests
from memoturn.faces.wire.values import params_from_json
from memoturn.operations import positions, transfer
from memoturn.operations import sql as statements


def sql(call: Call) -> Answer:
    stmts = call.read(requests.Sql).stmts
    if not stmts:
        raise InvalidRequestError('give at least one statement: {"stmts": [{"q": "SELECT 1"}]}')
    pairs = [(one.q, params_from_json(one.params)) for one in stmts]
    if len(pairs) == 1:
        rows = statements.sql(call.engine, call.at, *pairs[0], may_write=call.may_write)
        done = BatchResult([rows], rows.txid, rows.exact)
    else:
        done = statements.batch(call.engine, call.at, pairs, may_write=call.may_write)
    return Answer(done, done.txid)


def where(call: Call) -> Answer:
    found = positions.where(call.engine, call.at)
    return Answer(found, found.txid)


def sync(call: Call) -> Answer:
    if call.at.position is not None:
        raise InvalidRequestError("a position in the past is in the store already; sync a branch")
    txid = transfer.sync(call.engine, call.at)
    return Answer(answers.Synced(txid), txid)


HANDLERS = {"db.sql": sql, "db.where": where, "db.sync": sync}
