"""Databases of a server, and what is done to all of them."""

from __future__ import annotations

from memoturn.base.names import check_name, parse_address
from memoturn.base.results.branches import DeleteResult, UndoResult
from memoturn.base.results.databases import DatabaseInfo, ImportResult
from memoturn.faces.client.call import Call, as_type, call, field, nothing
from memoturn.faces.wire import answers, requests
from memoturn.faces.wire.routes import SQLITE

_info = as_type(DatabaseInfo)
_page = as_type(answers.DatabasePage)
_deleted = as_type(DeleteResult)
_undone = as_type(UndoResult)
_imported = as_type(ImportResult)
_profiles = field(answers.Profiles, "profiles")

PAGE = 1000


def create(name: str, ttl: float | None) -> Call[DatabaseInfo]:
    body = requests.CreateDatabase(check_name("database", name), ttl)
    return call("databases.create", {}, _info, body=body)


def get(name: str) -> Call[DatabaseInfo]:
    return call("databases.get", _named(name), _info)


def page(cursor: str | None) -> Call[answers.DatabasePage]:
    return call("databases.list", {}, _page, query={"cursor": cursor, "limit": PAGE})


def delete(name: str) -> Call[DeleteResult]:
    return call("databases.delete", _named(name), _deleted)


def undo(name: str, token: str) -> Call[UndoResult]:
    return call("databases.undo", _named(name), _undone, body=requests.Undo(token))


def import_file(name: str, size: int) -> Call[ImportResult]:
    """The file's content is sent as the body, of `size` bytes."""
    sent = {"content-type": SQLITE, "content-length": str(size)}
    return call("databases.import", _named(name), _imported, sent=sent)


def profiles(ns: str) -> Call[list[str]]:
    return call("memory.profiles", {"ns": check_name("namespace", ns)}, _profiles)


def sync() -> Call[None]:
    return call("maintenance.sync", {}, nothing)


def _named(name: str) -> dict[str, str]:
    return {"db": parse_address(check_name("database", name)).database}
