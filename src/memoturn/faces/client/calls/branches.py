"""Branches of a database, and what is done to one of them as a whole.

A handle to a database's default branch names none; in a path `~` stands for it.
"""

from __future__ import annotations

from datetime import datetime

from memoturn.base.errors import InvalidRequestError
from memoturn.base.names import (
    Address,
    AtCheckpoint,
    AtTxid,
    check_checkpoint_name,
    check_name,
    parse_address,
    position_of_one_kind,
)
from memoturn.base.results.branches import (
    BranchInfo,
    CheckpointInfo,
    DeleteResult,
    PromoteResult,
    RestorePoints,
    RewindResult,
)
from memoturn.base.results.diffs import Diff, Promotion
from memoturn.faces.client import json_of
from memoturn.faces.client.call import Call, as_type, call, field, nothing
from memoturn.faces.wire import answers, requests
from memoturn.faces.wire.routes import DEFAULT_BRANCH

_info = as_type(BranchInfo)
_checkpoint = as_type(CheckpointInfo)
_rewound = as_type(RewindResult)
_promoted = as_type(PromoteResult)
_would = as_type(Promotion)
_deleted = as_type(DeleteResult)
_history = as_type(answers.HistoryPage)
_points = as_type(RestorePoints)
_diff = as_type(Diff)
_branches = field(answers.BranchList, "branches")
_checkpoints = field(answers.CheckpointList, "checkpoints")

PAGE = 1000


def create(
    address: Address,
    name: str,
    from_: str | None,
    checkpoint: str | None,
    txid: int | None,
    at: datetime | str | None,
    ttl: float | None,
    exact: bool,
) -> Call[BranchInfo]:
    # The position of a handle is one of its own branch.
    here = address.position if from_ is None else None
    position = position_of_one_kind(checkpoint, txid, at) or here
    source = address.branch if from_ is None else check_name("branch", from_)
    body = requests.CreateBranch(
        check_name("branch", name),
        source,
        checkpoint=position.name if isinstance(position, AtCheckpoint) else None,
        txid=position.txid if isinstance(position, AtTxid) else None,
        at=None if position is None or isinstance(position, AtCheckpoint | AtTxid) else str(position),
        ttl=ttl,
        exact=exact or address.exact,
    )
    return call("branches.create", {"db": address.database}, _info, body=body)


def get(database: str, branch: str | None) -> Call[BranchInfo]:
    return call("branches.get", _of(database, branch), _info)


def list_(database: str) -> Call[list[BranchInfo]]:
    return call("branches.list", {"db": database}, _branches)


def checkpoint(database: str, branch: str | None, name: str, move: bool) -> Call[CheckpointInfo]:
    body = requests.Checkpoint(check_checkpoint_name(name), move)
    return call("branches.checkpoint", _of(database, branch), _checkpoint, body=body)


def checkpoints(database: str, branch: str | None) -> Call[list[CheckpointInfo]]:
    return call("branches.checkpoints", _of(database, branch), _checkpoints)


def delete_checkpoint(database: str, branch: str | None, name: str) -> Call[None]:
    names = {**_of(database, branch), "checkpoint": check_checkpoint_name(name)}
    return call("branches.delete_checkpoint", names, nothing)


def rewind(database: str, branch: str | None, to: str | int | datetime, exact: bool) -> Call[RewindResult]:
    body = requests.Rewind(json_of.position(to), exact)
    return call("branches.rewind", _of(database, branch), _rewound, body=body)


def reset(database: str, branch: str | None) -> Call[RewindResult]:
    return call("branches.reset", _of(database, branch), _rewound)


def promote(database: str, branch: str | None) -> Call[PromoteResult]:
    return call("branches.promote", _of(database, branch), _promoted)


def promotion(database: str, branch: str | None) -> Call[Promotion]:
    body = requests.Promote(dry_run=True)
    return call("branches.promote", _of(database, branch), _would, body=body, keyed=False, natural=True)


def extend(database: str, branch: str | None, ttl: float | None) -> Call[BranchInfo]:
    return call("branches.extend", _of(database, branch), _info, body=requests.SetTtl(ttl))


def delete(database: str, branch: str | None) -> Call[DeleteResult]:
    return call("branches.delete", _of(database, branch), _deleted)


def history(database: str, branch: str | None, cursor: int | None) -> Call[answers.HistoryPage]:
    query = {"cursor": cursor, "limit": PAGE}
    return call("branches.history", _of(database, branch), _history, query=query)


def restore_points(database: str, branch: str | None) -> Call[RestorePoints]:
    return call("branches.restore_points", _of(database, branch), _points)


def diff(address: Address, other: str, limit: int, table: str | None) -> Call[Diff]:
    after = parse_address(other)
    if address.database != after.database:
        raise InvalidRequestError(
            f"{address.database!r} and {after.database!r} are two databases; a diff is between positions of one"
        )
    query = {
        "from": _place(address),
        "to": _place(after),
        "limit": limit,
        "table": table,
    }
    return call("databases.diff", {"db": address.database}, _diff, query=query)


def _place(address: Address) -> str:
    return str(address._replace(branch=address.branch or DEFAULT_BRANCH)).removeprefix(f"{address.database}@")


def _of(database: str, branch: str | None) -> dict[str, str]:
    name = DEFAULT_BRANCH if branch is None else check_name("branch", branch)
    return {"db": database, "branch": name}


def writable(address: Address) -> str | None:
    """The branch of a handle, which has to be one; None for the default branch."""
    if address.position is not None:
        raise InvalidRequestError(f"{address} is a position in the past; use a handle to the branch")
    return address.branch


def named(address: Address) -> str:
    """The branch of a handle, which has to name one."""
    branch = writable(address)
    if branch is None:
        raise InvalidRequestError(
            f"name the branch: db({address.database!r}) is the default branch, "
            f"db('{address.database}@branch') another one"
        )
    return branch
