"""Names that users choose, and the one grammar by which a database, a branch and a position are addressed."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, NamedTuple

from memoturn.base.clock import ms_of, parse_time
from memoturn.base.errors import InvalidRequestError
from memoturn.base.txids import TXID, UnixMs

PROFILE_SEPARATOR: Final = "--"
"""Between a namespace and a profile in the name of the profile's database."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}").fullmatch
_CHECKPOINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}").fullmatch


def check_name(kind: str, name: str) -> str:
    """`name` itself, if a database or branch may carry it; `kind` is the word used in the error."""
    if not isinstance(name, str) or _NAME(name) is None:
        raise InvalidRequestError(
            f"{name!r} cannot name a {kind}: use 1 to 63 of a-z, 0-9, '.', '_' and '-', "
            "beginning with a letter or digit"
        )
    return name


def check_checkpoint_name(name: str) -> str:
    """`name` itself, if a checkpoint may carry it: not all digits, so that a txid stays recognisable."""
    if not isinstance(name, str) or _CHECKPOINT(name) is None:
        raise InvalidRequestError(
            f"{name!r} cannot name a checkpoint: use 1 to 128 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )
    if name.isdigit():
        raise InvalidRequestError(f"{name!r} cannot name a checkpoint: all digits would be read as a txid")
    return name


class AtTxid(NamedTuple):
    """A position given by its txid."""

    txid: TXID

    def __str__(self) -> str:
        return str(self.txid)


class AtTime(NamedTuple):
    """A position given as the last commit at or before a time."""

    ms: UnixMs

    def __str__(self) -> str:
        from memoturn.base.clock import format_time

        return format_time(self.ms)


class AtCheckpoint(NamedTuple):
    """A position given by a checkpoint's name."""

    name: str

    def __str__(self) -> str:
        return self.name


Position = AtTxid | AtTime | AtCheckpoint


def parse_position(value: str | int | datetime | Position) -> Position:
    """A txid, a time or a checkpoint's name, told apart by shape: all digits are a txid.

    Raises `InvalidRequestError` if it is none of them.
    """
    if isinstance(value, AtTxid | AtTime | AtCheckpoint):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise InvalidRequestError(f"{value} is not a txid; txids count from 0, the empty database")
        return AtTxid(TXID(value))
    if isinstance(value, datetime):
        return AtTime(ms_of(value))
    if not isinstance(value, str):
        raise InvalidRequestError(f"{value!r} is not a position; give a checkpoint, a txid or a time")
    if value.isascii() and value.isdigit():
        return AtTxid(TXID(int(value[:20])))
    if ":" in value:
        return AtTime(parse_time(value))  # No checkpoint has a colon in its name.
    return AtCheckpoint(check_checkpoint_name(value))


def position_of_one_kind(
    checkpoint: str | None = None, txid: int | None = None, at: datetime | str | None = None
) -> Position | None:
    """The position that one of these names; None if none is given. Each is read as what it is called.

    Raises `InvalidRequestError` if more than one is given, or one that is not of its kind.
    """
    if sum(value is not None for value in (checkpoint, txid, at)) > 1:
        raise InvalidRequestError("give one of checkpoint, txid and at, or none for the head")
    if checkpoint is not None:
        return AtCheckpoint(check_checkpoint_name(checkpoint))
    if txid is not None:
        if not isinstance(txid, int) or isinstance(txid, bool):
            raise InvalidRequestError(f"txid {txid!r} is not a whole number")
        return parse_position(txid)
    if at is None:
        return None
    if isinstance(at, datetime):
        return AtTime(ms_of(at))
    if not isinstance(at, str):
        raise InvalidRequestError(f"at {at!r} is not a time; give a datetime, or RFC 3339 as text")
    return AtTime(parse_time(at))


class Address(NamedTuple):
    """`db`, `db@branch` or `db@branch:position`; no branch means the default branch.

    `exact` refuses a position of which only the snapshots before it are left.
    """

    database: str
    branch: str | None
    position: Position | None
    exact: bool = False

    def __str__(self) -> str:
        branch = "" if self.branch is None else f"@{self.branch}"
        if self.position is None or self.branch is not None:
            return f"{self.database}{branch}" + ("" if self.position is None else f":{self.position}")
        return f"{self.database} at {self.position}"


def parse_address(text: str) -> Address:
    """Read an address; the first colon after the branch begins the position.

    Raises `InvalidRequestError` for a bad name or position.
    """
    if not isinstance(text, str):
        raise InvalidRequestError(
            f"{text!r} is not an address; write 'db', 'db@branch' or 'db@branch:position'"
        )
    database, at, rest = text.partition("@")
    check_name("database", database)
    if not at:
        return Address(database, None, None)
    branch, colon, position = rest.partition(":")
    check_name("branch", branch)
    if colon and not position:
        raise InvalidRequestError(
            f"{text!r} ends with a colon; write a checkpoint, a txid or a time after it"
        )
    return Address(database, branch, parse_position(position) if colon else None)


def check_namespace(ns: str) -> str:
    """`ns` itself, if profiles may lie in it. Raises `InvalidRequestError`."""
    if _check_part("namespace", ns).endswith("-"):
        raise InvalidRequestError(
            f"a namespace cannot end with '-', as {ns!r} does: '--' parts the two names"
        )
    return ns


def _check_part(kind: str, name: str) -> str:
    if PROFILE_SEPARATOR in check_name(kind, name):
        raise InvalidRequestError(f"{name!r} cannot name a {kind}: '{PROFILE_SEPARATOR}' parts the two names")
    return name


def namespace_of(database: str) -> str | None:
    """The namespace that a database belongs to, be it a profile or not; None if it belongs to none."""
    ns, separator, _ = database.partition(PROFILE_SEPARATOR)
    return ns if separator else None


def profile_address(ns: str, profile: str, branch: str | None = None) -> Address:
    """The database of a profile. Raises `InvalidRequestError` for names that it cannot have."""
    check_namespace(ns)
    _check_part("profile", profile)
    return Address(check_name("profile's database", f"{ns}{PROFILE_SEPARATOR}{profile}"), branch, None)
