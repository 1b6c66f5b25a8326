"""Databases as SQLite files, in and out."""

from __future__ import annotations

from memoturn.base.errors import MemoturnError
from memoturn.faces.http.call import Answer, Call, Stream
from memoturn.faces.wire import headers
from memoturn.faces.wire.routes import SQLITE
from memoturn.operations import transfer


def export(call: Call) -> Answer:
    found = transfer.export_pieces(call.engine, call.at)
    told = (
        (headers.READ_EXACT, "true" if found.exact else "false"),
        ("content-disposition", f'attachment; filename="{call.database}.sqlite"'),
    )
    return Answer(Stream(found.pieces, found.size), found.txid, told, media=SQLITE)


def import_(call: Call) -> Answer:
    assert call.spooled is not None
    body, scratch = str(call.spooled), call.context.spool
    try:
        done = transfer.import_file(call.engine, call.database, body, call.progress, scratch)
    except MemoturnError as error:
        # Where the body lies here is nobody's business.
        error.args = tuple(str(arg).replace(body, "the body") for arg in error.args)
        raise
    return Answer(done, done.txid)


HANDLERS = {"databases.export": export, "databases.import": import_}
