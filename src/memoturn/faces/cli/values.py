"""What words on the command line mean: times to live, txids, parameters of SQL."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
import typer

from memoturn.base.names import Address, parse_address
from memoturn.base.results.rows import Value
from memoturn.faces.cli.errors import UsageError

_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw]?)").fullmatch


Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Fail if the very position is no longer retained; else the nearest before it is taken.",
    ),
]


def nearest(exact: bool | None, txid: int | None) -> list[str]:
    """What to say if a position is not the one that was asked for, but the nearest before it."""
    return (
        [f"txid {txid} is the nearest that is retained; what was asked for is not"] if exact is False else []
    )


def parse_ttl(text: str) -> float:
    """A time to live in seconds, from `3600`, `90s`, `30m`, `1h`, `7d` or `2w`."""
    found = _DURATION(text.strip().lower())
    if found is None:
        raise UsageError(f"--ttl {text!r} is no length of time; write seconds (3600), or 30m, 1h, 7d")
    return float(found[1]) * _SECONDS[found[2]]


def parse_count(option: str, text: str) -> int:
    """A whole number that is not negative."""
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{option} {text!r} is no whole number")
    return int(text[:20])


def parse_parameter(text: str) -> Value:
    """A parameter of SQL: a number, `null` or a quoted text as JSON has them, and anything else as it stands."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        return text
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        return text
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return text
    return value


def parse_object(option: str, text: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise UsageError(f"{option} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f'{option} is no JSON object, such as {{"a": 1}}')
    return value


def branch_address(db: str, branch: str | None = None) -> Address:
    """The branch that `db` and a word after it name: `db`, `db branch` or `db@branch`."""
    address = parse_address(db)
    if address.position is not None:
        raise UsageError(
            f"{db!r} is a position in the past; name the branch: {address.database}@{address.branch}"
        )
    if branch is None:
        return address
    if address.branch not in (None, branch):
        raise UsageError(f"{db!r} and {branch!r} name two branches; give one of them")
    return parse_address(f"{address.database}@{branch}")


def branch_and_word(db: str, words: list[str], what: str) -> tuple[Address, str]:
    """Both forms of a command on a branch: `db word`, on its default branch, and `db branch word`."""
    if not 1 <= len(words) <= 2:
        raise UsageError(f"give a database, a branch if it is not the default one, and {what}")
    return branch_address(db, words[0] if len(words) == 2 else None), words[-1]
