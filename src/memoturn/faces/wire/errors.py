"""Errors on the wire: `{"error": "…", "code": "…"}` and what else a caller can use, in both directions.

`code` is one of a few; `kind` tells apart what shares one, as `sql` among the invalid requests. What is not known, a
kind of a newer server or the answer of a proxy, becomes the error of its code, or of its status.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from memoturn.base import errors
from memoturn.base.errors import InternalError, MemoturnError, OverloadedError, TxidNotRetainedError


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong, and what would work.

    `nearest` are txids that could be restored; `retry_after` is in seconds; `txid` is how far the branch is where
    `Memoturn-Min-Txid` asked for more.
    """

    error: str
    code: str
    kind: str | None = None
    nearest: tuple[int, ...] = ()
    retry_after: float | None = None
    txid: int | None = None


def _classes(root: type[MemoturnError]) -> Iterator[type[MemoturnError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _classes(kind)


def _kind_of(kind: type[MemoturnError]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__.removesuffix("Error")).lower()


_ALL: Final = [kind for kind in _classes(MemoturnError) if kind.__module__ == errors.__name__]
BY_CODE: Final[dict[str, type[MemoturnError]]] = {}
"""The class that each code stands for, the most general one."""
for _one in _ALL:
    if _one is not InternalError:
        BY_CODE.setdefault(_one.code, _one)
BY_CODE["internal"] = InternalError
_BY_KIND: Final = {_kind_of(kind): kind for kind in _ALL if kind is not BY_CODE[kind.code]}
_KINDS: Final = {kind: name for name, kind in _BY_KIND.items()}
_BY_STATUS: Final = {kind.status: kind for kind in reversed(BY_CODE.values())}


def body_of(error: MemoturnError) -> ErrorBody:
    """What is answered. What is wrong inside is not told; it stands in the log."""
    if error.status == 500:
        return ErrorBody(
            "something went wrong inside Memoturn; the log of the server says what",
            error.code,
            _KINDS.get(type(error)),
        )
    nearest = error.nearest if isinstance(error, TxidNotRetainedError) else ()
    retry_after = error.retry_after if isinstance(error, OverloadedError) else None
    txid = getattr(error, "txid", None)
    return ErrorBody(str(error), error.code, _KINDS.get(type(error)), nearest, retry_after, txid)


def error_of(status: int, body: bytes) -> MemoturnError:
    """The error that an answer stands for."""
    try:
        said = msgspec.json.decode(body, type=ErrorBody)
    except msgspec.MsgspecError:
        kind = _BY_STATUS.get(status) or (InternalError if status >= 500 else errors.InvalidRequestError)
        text = body[:200].decode(errors="replace").strip()
        return kind(f"the server answered {status}, and not as Memoturn does: {text}")
    kind = _BY_KIND.get(said.kind or "") or BY_CODE.get(said.code) or _BY_STATUS.get(status) or InternalError
    if kind.code != said.code and said.code in BY_CODE:
        kind = BY_CODE[said.code]
    if issubclass(kind, TxidNotRetainedError):
        return kind(said.error, said.nearest)
    if issubclass(kind, OverloadedError):
        return kind(said.error, 1.0 if said.retry_after is None else said.retry_after)
    if kind is errors.SegmentGoneError:
        return errors.UnavailableError(said.error)
    return kind(said.error)
