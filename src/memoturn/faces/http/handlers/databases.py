"""Databases as wholes."""

from __future__ import annotations

from memoturn.base.errors import InvalidRequestError
from memoturn.base.names import Address, parse_address, parse_position
from memoturn.base.txids import EMPTY
from memoturn.faces.http.call import Answer, Call
from memoturn.faces.wire import answers, requests
from memoturn.faces.wire.routes import DEFAULT_BRANCH
from memoturn.operations import databases, status, undo
from memoturn.operations.diff import diff


def create(call: Call) -> Answer:
    wish = call.read(requests.CreateDatabase)
    return Answer(databases.create(call.engine, wish.name, wish.ttl), EMPTY)


def list_(call: Call) -> Answer:
    limit = call.limit("limit")
    if limit < 1:
        raise InvalidRequestError(f"limit {limit} is not possible; give 1 to 1,000")
    found = list(databases.list_(call.engine, call.ask("cursor"), limit + 1))
    page = found[:limit]
    return Answer(answers.DatabasePage(page, page[-1].name if len(found) > limit else None))


def get(call: Call) -> Answer:
    return Answer(databases.get(call.engine, call.database))


def delete(call: Call) -> Answer:
    return Answer(databases.delete(call.engine, call.database))


def undo_(call: Call) -> Answer:
    done = undo.undo(call.engine, call.database, call.read(requests.Undo).token)
    return Answer(done, done.txid)


def usage(call: Call) -> Answer:
    (found,) = status.status(call.engine, call.database).databases
    return Answer(
        answers.Usage(
            found.name,
            len(found.branches),
            found.objects,
            found.bytes,
            found.bytes_shipped,
            found.bytes_written,
        )
    )


def diff_(call: Call) -> Answer:
    before, after = _side(call, "from"), _side(call, "to")
    found = diff(call.engine, before, after, call.limit("limit"), call.ask("table"))
    return Answer(found, found.after.txid)


def _side(call: Call, name: str) -> Address:
    """`branch`, `branch:position`, or a whole address of the same database; the default branch if there is none."""
    text = call.ask(name)
    if not text:
        return call.at
    branch, colon, position = text.partition(":")
    if branch == DEFAULT_BRANCH:
        return call.at._replace(position=parse_position(position) if colon else None)
    address = parse_address(text if "@" in text else f"{call.database}@{text}")
    if address.database != call.database:
        # The caller may be nobody's business there.
        raise InvalidRequestError(f"?{name}={text} is of another database than {call.database!r}")
    return address


HANDLERS = {
    "databases.create": create,
    "databases.list": list_,
    "databases.get": get,
    "databases.delete": delete,
    "databases.undo": undo_,
    "databases.usage": usage,
    "databases.diff": diff_,
}
