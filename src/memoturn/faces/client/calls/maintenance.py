"""What keeps the history of a store small and true, by hand."""

from __future__ import annotations

from datetime import datetime

from memoturn.base.errors import InvalidRequestError
from memoturn.base.names import check_name, parse_address
from memoturn.base.results.databases import Verified
from memoturn.base.results.maintenance import (
    CompactResult,
    GcResult,
    MaintenanceStatus,
    Retained,
    RetainedBranch,
)
from memoturn.faces.client import json_of
from memoturn.faces.client.call import Call, as_type, call, field
from memoturn.faces.wire import answers, requests

_compacted = as_type(CompactResult)
_collected = as_type(GcResult)
_retained = as_type(Retained)
_status = as_type(MaintenanceStatus)
_branches = field(answers.RetainedBranches, "branches")
_verified = field(answers.VerifiedPositions, "verified")


def compact(address: str) -> Call[CompactResult]:
    where = parse_address(address)
    if where.position is not None:
        raise InvalidRequestError(f"{address!r} names a position; give a database, or a branch of one")
    body = requests.Compact(where.branch)
    return call("maintenance.compact", {"db": where.database}, _compacted, body=body)


def retain(database: str) -> Call[list[RetainedBranch]]:
    return call("maintenance.retain", {"db": check_name("database", database)}, _branches)


def gc(database: str | None, dry_run: bool) -> Call[GcResult]:
    name = None if database is None else check_name("database", database)
    return call("maintenance.gc", {}, _collected, body=requests.CollectGarbage(name, dry_run))


def why_retained(object_key: str) -> Call[Retained]:
    return call("maintenance.why_retained", {}, _retained, query={"key": object_key})


def status(database: str | None) -> Call[MaintenanceStatus]:
    if database is None:
        return call("maintenance.status", {}, _status)
    return call("maintenance.database", {"db": check_name("database", database)}, _status)


def verify(address: str | None, at: str | int | datetime | None, points: int) -> Call[list[Verified]]:
    if address is not None:
        parse_address(address)
    body = requests.Verify(address, None if at is None else json_of.position(at), points)
    return call("maintenance.verify", {}, _verified, body=body)
