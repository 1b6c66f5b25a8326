"""What the server logs: lines of JSON, or of text on a terminal, each with the id of the request that it belongs to.

What users keep is in none of them, and neither is a key or a token. So a line is made of what is known to be free of
them, never of what came in and was then cleaned: the route and not the path, the code of an error and not its
message, which may repeat a value; of an unforeseen exception its type and where it was raised, and not what it says.
What names an object that is damaged is told: it speaks of keys of the store, of pages and of txids.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextvars import ContextVar
from typing import Any, Final, TextIO

import msgspec

from memoturn.base.clock import format_time
from memoturn.base.errors import InternalError, MemoturnError
from memoturn.base.txids import UnixMs

request_id: Final[ContextVar[str | None]] = ContextVar("memoturn_request_id", default=None)
"""That of the request being served here, which threads that work for it inherit."""

log: Final = logging.getLogger("memoturn.http")
_FRAMES: Final = 12
_TOLD: Final = ("memoturn", "uvicorn")
"""Whose messages hold nothing that users keep; those of other libraries may, and are left out."""


def answered(
    method: str, route: str | None, status: int, seconds: float, code: str | None = None, **more: Any
) -> None:
    """A request was answered. `route` is the template of its path; `code` that of its error."""
    level = logging.INFO if status < 500 else logging.ERROR
    if log.isEnabledFor(level):
        facts = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 3)}
        if code is not None:
            facts["code"] = code
        log.log(level, "request", extra={"facts": facts | more})


def fault(error: BaseException) -> None:
    """Something has failed in a way that nobody has foreseen, or that is no caller's fault."""
    log.error("fault", extra={"facts": facts_of(error)})


def facts_of(error: BaseException) -> dict[str, Any]:
    """What can be told of an error: its type, and where it was raised. Of an unforeseen one not what it says."""
    facts: dict[str, Any] = {"error": type(error).__name__}
    if isinstance(error, MemoturnError):
        facts["code"] = error.code
    if isinstance(error, InternalError) and error.__cause__ is None:
        facts["says"] = str(error)  # Of objects, pages and txids.
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    facts["at"] = [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
    cause = error.__cause__
    if cause is not None and cause is not error:
        facts["cause"] = facts_of(cause)
    return facts


def _short(path: str) -> str:
    return "/".join(path.rsplit("/", 3)[1:])


class _Lines(logging.Formatter):
    """A record as what is known of it."""

    def facts(self, record: logging.LogRecord) -> dict[str, Any]:
        """Its fields in the order in which they are told."""
        told = record.name.partition(".")[0] in _TOLD
        facts: dict[str, Any] = {
            "time": format_time(UnixMs(int(record.created * 1000))),
            "level": record.levelname.lower(),
            "event": record.getMessage() if told else record.name,
        }
        if (asked := request_id.get()) is not None:
            facts["request_id"] = asked
        facts |= getattr(record, "facts", {})
        if record.exc_info and record.exc_info[1] is not None:
            facts |= facts_of(record.exc_info[1])
        return facts


class JsonLines(_Lines):
    """One line of JSON a record, for programs."""

    def format(self, record: logging.LogRecord) -> str:
        return msgspec.json.encode(self.facts(record), enc_hook=str).decode()


class TextLines(_Lines):
    """One line of text a record, for people."""

    def format(self, record: logging.LogRecord) -> str:
        facts = self.facts(record)
        head = f"{facts.pop('time')} {facts.pop('level'):7} {facts.pop('event')}"
        return " ".join([head, *(f"{name}={value}" for name, value in facts.items())])


def set_up(stream: TextIO | None = None, level: int = logging.INFO) -> logging.Handler:
    """Send what is logged to a stream, stderr unless it is given: text to a terminal, else JSON.

    Of other libraries only warnings.
    """
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    handler.setFormatter(TextLines() if out.isatty() else JsonLines())
    logging.getLogger().addHandler(handler)
    logging.getLogger("memoturn").setLevel(level)
    return handler
