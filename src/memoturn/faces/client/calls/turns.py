"""Turns of sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from memoturn.base.errors import InvalidRequestError
from memoturn.base.json_text import shown
from memoturn.base.names import Address
from memoturn.base.results.transcripts import SessionDelete, SessionInfo, TurnAppended, Turns
from memoturn.faces.client import json_of
from memoturn.faces.client.call import Call, as_type, data, field
from memoturn.faces.wire import answers, requests

_appended = as_type(TurnAppended)
_turns = as_type(Turns)
_sessions = field(answers.SessionPage, "sessions")
_deleted = as_type(SessionDelete)


def append(address: Address, session: str, turns: Sequence[Mapping[str, Any]]) -> Call[TurnAppended]:
    for one in turns if isinstance(turns, list | tuple) else ():
        when = one.get("created_at") if isinstance(one, Mapping) else None
        if when is not None and not isinstance(when, datetime):
            raise InvalidRequestError(f"created_at is a datetime with a time zone, not {shown(when)}")
    body = requests.AppendTurns(json_of.items("turns", turns))
    return data("turns.append", address, _appended, {"session": session}, body=body)


def window(address: Address, session: str, last: int) -> Call[Turns]:
    return data("turns.window", address, _turns, {"session": session}, query={"last": last})


def search(
    address: Address, query: str | None, vector: Sequence[float] | None, session: str | None, k: int
) -> Call[Turns]:
    body = requests.SearchTurns(query, json_of.vector(vector), k)
    if session is None:
        return data("turns.search_all", address, _turns, body=body)
    return data("turns.search", address, _turns, {"session": session}, body=body)


def sessions(address: Address, after: str, limit: int) -> Call[list[SessionInfo]]:
    return data("turns.sessions", address, _sessions, query={"cursor": after or None, "limit": limit})


def delete(address: Address, session: str) -> Call[SessionDelete]:
    return data("turns.delete", address, _deleted, {"session": session})
