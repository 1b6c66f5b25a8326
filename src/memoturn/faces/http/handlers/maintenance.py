"""What keeps history small and true, by hand; and what the background does."""

from __future__ import annotations

from memoturn.base.names import check_name, parse_address, parse_position
from memoturn.faces.http.call import Answer, Call
from memoturn.faces.http.metrics import CONTENT_TYPE
from memoturn.faces.wire import answers, requests
from memoturn.operations import maintenance, status


def of_all(call: Call) -> Answer:
    return Answer(status.status(call.engine))


def of_one(call: Call) -> Answer:
    return Answer(status.status(call.engine, call.database))


def compact(call: Call) -> Answer:
    branch = call.read(requests.Compact).branch
    named = None if branch is None else check_name("branch", branch)
    return Answer(maintenance.compact(call.engine, call.database, named, call.progress))


def retain(call: Call) -> Answer:
    return Answer(
        answers.RetainedBranches(maintenance.retain(call.engine, call.database, call.progress)),
    )


def verify(call: Call) -> Answer:
    wish = call.read(requests.Verify)
    address = None if wish.address is None else parse_address(wish.address)
    at = None if wish.at is None else parse_position(wish.at)
    found = maintenance.verify(call.engine, address, at, wish.points, call.progress)
    return Answer(answers.VerifiedPositions(list(found)))


def gc(call: Call) -> Answer:
    wish = call.read(requests.CollectGarbage)
    database = None if wish.database is None else check_name("database", wish.database)
    return Answer(maintenance.gc(call.engine, database, wish.dry_run, call.progress))


def why_retained(call: Call) -> Answer:
    return Answer(maintenance.why_retained(call.engine, call.ask("key")))


def sync(call: Call) -> Answer:
    call.engine.sync()
    return Answer(None)


def metrics(call: Call) -> Answer:
    told = call.context.metrics
    return Answer(b"" if told is None else told.text(), media=CONTENT_TYPE)


HANDLERS = {
    "server.metrics": metrics,
    "maintenance.status": of_all,
    "maintenance.database": of_one,
    "maintenance.compact": compact,
    "maintenance.retain": retain,
    "maintenance.verify": verify,
    "maintenance.gc": gc,
    "maintenance.why_retained": why_retained,
    "maintenance.sync": sync,
}
