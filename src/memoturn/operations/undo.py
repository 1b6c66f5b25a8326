"""Undo tokens: what a rewind, a reset, a promotion or a deletion hands out, and what takes it back.

A token says all that is needed, so nothing has to be kept for it; it works as long as the history does.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from memoturn.base.errors import (
    BranchNotFoundError,
    ConflictError,
    DatabaseNotFoundError,
    InvalidRequestError,
)
from memoturn.base.names import AtTxid, check_name
from memoturn.base.results.branches import UndoResult
from memoturn.base.txids import TXID
from memoturn.bucket import ObjectNotFound
from memoturn.history.census import withdraw
from memoturn.manifest import keys, rules
from memoturn.node.engine import Engine

_encode = msgspec.json.Encoder().encode


class Undo(msgspec.Struct, frozen=True, array_like=True):
    """What was done, to which branch of which database, and what to go back to."""

    what: str
    database: str
    db_uuid: str
    branch_id: str
    incarnation: str
    txid: TXID | None

    def token(self) -> str:
        """The text that a user keeps."""
        return "u_" + base64.urlsafe_b64encode(_encode(self)).decode().rstrip("=")


def parse(token: str) -> Undo:
    """Read a token. Raises `InvalidRequestError`."""
    try:
        body = token.removeprefix("u_")
        undo = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=Undo)
        # Anybody can write a token, and its names are going to be part of keys.
        check_name("database", undo.database)
        if undo.what != "delete-database":
            check_name("branch", undo.branch_id)
        return undo
    except (AttributeError, TypeError, binascii.Error, msgspec.MsgspecError, ValueError, InvalidRequestError):
        raise InvalidRequestError(
            "that is no undo token; pass the one that rewind, reset, promote or delete has returned"
        ) from None


def undo(engine: Engine, database: str, token: str) -> UndoResult:
    """Take back what the token was given for. A rewind, a reset and a promotion can be undone in turn.

    Raises `InvalidRequestError` for a token of another database, `ConflictError` if a name was given away
    meanwhile, and `TxidNotRetainedError` if the history is gone.
    """
    from memoturn.operations import branches

    done = parse(token)
    if done.database != database:
        raise InvalidRequestError(f"the token was given for database {done.database!r}, not {database!r}")
    if done.what == "delete-database":
        engine.check_open()
        try:
            engine.catalog.update(
                keys.catalog_key(database), lambda old: rules.undelete_database(old, database, done.db_uuid)
            )
        except ObjectNotFound:
            raise DatabaseNotFoundError(f"there never was a database {database!r} in this store") from None
        return UndoResult(done.what, database, None, None)
    entry = engine.entry(database)
    if entry.db_uuid != done.db_uuid:
        raise ConflictError(f"database {database!r} was created again since the token was given")
    if done.what not in ("promote", "delete-branch", "rewind"):
        raise InvalidRequestError(f"the token asks to undo {done.what!r}, which this release cannot")
    if done.what == "promote":
        promoted = branches.promote(engine, database, done.branch_id)
        return UndoResult(done.what, promoted.default_branch, None, promoted.undo)
    if done.what == "delete-branch":
        key = keys.manifest_key(done.db_uuid, done.branch_id)
        # Before, in case that this process dies in between; and after, as one may have been taken meanwhile.
        withdraw(engine.bucket, done.db_uuid)
        try:
            engine.manifests.update(key, lambda old: rules.undelete(old, done.incarnation))
        except ObjectNotFound:
            raise BranchNotFoundError(f"database {database!r} has no branch {done.branch_id!r}") from None
        withdraw(engine.bucket, done.db_uuid)
        return UndoResult(done.what, done.branch_id, None, None)
    branch = engine.branch(database, done.branch_id)
    if branch.incarnation != done.incarnation or done.txid is None:
        raise ConflictError(f"branch {done.branch_id!r} was created again since the token was given")
    rewound = branches.rewind(engine, database, done.branch_id, AtTxid(done.txid), exact=True)
    return UndoResult(done.what, done.branch_id, rewound.txid, rewound.undo)
