"""Branches: forks, names for positions, and going back."""

from __future__ import annotations

from itertools import islice

from memoturn.base.errors import InvalidRequestError
from memoturn.base.names import check_name, parse_position, position_of_one_kind
from memoturn.faces.http.call import Answer, Call
from memoturn.faces.wire import answers, requests
from memoturn.operations import branches
from memoturn.operations.diff import promotion


def create(call: Call) -> Answer:
    wish = call.read(requests.CreateBranch)
    position = position_of_one_kind(wish.checkpoint, wish.txid, wish.at)
    source = None if wish.from_ is None else check_name("branch", wish.from_)
    info = branches.create(call.engine, call.database, wish.name, source, position, wish.ttl, wish.exact)
    return Answer(info, info.head_txid)


def list_(call: Call) -> Answer:
    return Answer(answers.BranchList(list(branches.list_(call.engine, call.database))))


def get(call: Call) -> Answer:
    info = branches.get(call.engine, call.database, call.at.branch)
    return Answer(info, info.head_txid)


def delete(call: Call) -> Answer:
    head = branches.get(call.engine, call.database, call.at.branch).head_txid
    return Answer(branches.delete(call.engine, call.database, call.names["branch"]), head)


def extend(call: Call) -> Answer:
    info = branches.extend(call.engine, call.database, call.at.branch, call.read(requests.SetTtl).ttl)
    return Answer(info)


def checkpoint(call: Call) -> Answer:
    wish = call.read(requests.Checkpoint)
    done = branches.checkpoint(call.engine, call.database, call.at.branch, wish.name, wish.move)
    return Answer(done, done.txid)


def checkpoints(call: Call) -> Answer:
    return Answer(answers.CheckpointList(branches.checkpoints(call.engine, call.database, call.at.branch)))


def delete_checkpoint(call: Call) -> Answer:
    branches.delete_checkpoint(call.engine, call.database, call.at.branch, call.names["checkpoint"])
    return Answer(None)


def rewind(call: Call) -> Answer:
    wish = call.read(requests.Rewind)
    to = parse_position(wish.to)
    done = branches.rewind(call.engine, call.database, call.at.branch, to, wish.exact)
    return Answer(done, done.txid)


def reset(call: Call) -> Answer:
    done = branches.reset(call.engine, call.database, call.at.branch)
    return Answer(done, done.txid)


def promote(call: Call) -> Answer:
    name = call.names["branch"]
    if call.read(requests.Promote).dry_run:
        return Answer(promotion(call.engine, call.database, name))
    return Answer(branches.promote(call.engine, call.database, name))


def history(call: Call) -> Answer:
    limit, before = call.limit("limit"), call.ask("cursor")
    if limit < 1:
        raise InvalidRequestError(f"limit {limit} is not possible; give 1 to 1,000")
    entries = branches.history(call.engine, call.database, call.at.branch)
    if before is not None:
        entries = (entry for entry in entries if entry.txid < before)
    found = list(islice(entries, limit + 1))
    page = found[:limit]
    return Answer(answers.HistoryPage(page, page[-1].txid if len(found) > limit else None))


def restore_points(call: Call) -> Answer:
    return Answer(branches.restore_points(call.engine, call.database, call.at.branch))


HANDLERS = {
    "branches.create": create,
    "branches.list": list_,
    "branches.get": get,
    "branches.delete": delete,
    "branches.extend": extend,
    "branches.checkpoint": checkpoint,
    "branches.checkpoints": checkpoints,
    "branches.delete_checkpoint": delete_checkpoint,
    "branches.rewind": rewind,
    "branches.reset": reset,
    "branches.promote": promote,
    "branches.history": history,
    "branches.restore_points": restore_points,
}
