"""How a failure leaves the CLI: one message with a hint on stderr, and an exit code that a script can act on."""

from __future__ import annotations

import os
import sys
from enum import IntEnum
from typing import Final

import msgspec

from memoturn.base.errors import MemoturnError


class Exit(IntEnum):
    """The exit codes, all of them."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNREACHABLE = 5
    INTERRUPTED = 130


class UsageError(Exception):
    """The command line or a setting cannot be understood; nothing was tried."""


_EXITS: Final = {
    "not_found": Exit.NOT_FOUND,
    "database_not_found": Exit.NOT_FOUND,
    "branch_not_found": Exit.NOT_FOUND,
    "checkpoint_not_found": Exit.NOT_FOUND,
    "branch_expired": Exit.NOT_FOUND,
    "txid_not_retained": Exit.NOT_FOUND,
    "already_exists": Exit.CONFLICT,
    "conflict": Exit.CONFLICT,
    "unavailable": Exit.UNREACHABLE,
    "overloaded": Exit.UNREACHABLE,
    "request_timeout": Exit.UNREACHABLE,
}

_HINTS: Final = {
    "database_not_found": "`memoturn db list` shows the databases, `memoturn db create {db}` makes this one",
    "branch_not_found": "`memoturn branch list {db}` shows the branches",
    "branch_expired": "`memoturn branch list {db}` shows the branches that are left",
    "checkpoint_not_found": "`memoturn branch checkpoints list {address}` shows the checkpoints",
    "txid_not_retained": "`memoturn branch restore-points {address}` shows what can be reached",
    "unauthorized": "show the server a token: --token, or MEMOTURN_TOKEN; `memoturn token create` mints one",
    "forbidden": "`memoturn token create` mints a token with another scope",
}
_SAYING: Final = {
    ("unavailable", "cannot be reached"): (
        "`memoturn serve` starts a server; --url, or MEMOTURN_URL, says where it is"
    ),
    ("conflict", "or move it to txid"): "--move moves it",
}
"""Hints for those errors of a code that say this."""


def exit_code(error: MemoturnError) -> Exit:
    """The exit code that stands for an error; what is in no other class was refused."""
    return _EXITS.get(error.code, Exit.REFUSED)


def hint_for(error: MemoturnError, address: str | None) -> str | None:
    """A command that helps on, for what was asked of `address`."""
    for (code, says), helps in _SAYING.items():
        if error.code == code and says in str(error):
            return helps
    hint = _HINTS.get(error.code)
    if hint is None or (address is None and "{" in hint):
        return None
    address = address or ""
    branch_address = address.partition(":")[0]
    return hint.format(db=branch_address.partition("@")[0], address=branch_address)


def report(message: str, code: str, hint: str | None, as_json: bool) -> None:
    """Write an error to stderr, for people or for programs."""
    if as_json:
        print(msgspec.json.encode({"error": message, "code": code}).decode(), file=sys.stderr)
        return
    print(f"{_red('error:')} {message}", file=sys.stderr)
    if hint is not None:
        print(f"hint: {hint}", file=sys.stderr)


def _red(text: str) -> str:
    return f"\x1b[1;31m{text}\x1b[0m" if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else text
