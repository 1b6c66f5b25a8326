"""What was said in sessions."""

from __future__ import annotations

from typing import Any

from memoturn.base.clock import parse_time, time_of
from memoturn.faces.http.call import Answer, Call
from memoturn.faces.wire import answers, requests
from memoturn.operations import transcripts
from memoturn.operations.reading import clamped


def sessions(call: Call) -> Answer:
    limit = clamped("the limit", call.limit("limit"))
    found, txid = transcripts.sessions(call.engine, call.at, call.ask("cursor") or "", limit)
    # A full page may be the last one; the next one says so by being empty.
    cursor = found[-1].session if len(found) == limit else None
    return Answer(answers.SessionPage(found, cursor, txid), txid)


def append(call: Call) -> Answer:
    turns = [_timed(turn) for turn in call.read(requests.AppendTurns).turns]
    done = transcripts.append(call.engine, call.at, call.names["session"], turns)
    return Answer(done, done.txid)


def _timed(turn: dict[str, Any]) -> dict[str, Any]:
    """A turn whose time is one, if it has any."""
    text = turn.get("created_at")
    return {**turn, "created_at": time_of(parse_time(text))} if isinstance(text, str) else turn


def window(call: Call) -> Answer:
    found = transcripts.window(call.engine, call.at, call.names["session"], call.limit("last"))
    return Answer(found, found.txid)


def search(call: Call) -> Answer:
    wish = call.read(requests.SearchTurns)
    k = call.limit("k", wish.k)
    found = transcripts.search(call.engine, call.at, call.names.get("session"), wish.query, wish.vector, k)
    return Answer(found, found.txid)


def delete(call: Call) -> Answer:
    done = transcripts.delete(call.engine, call.at, call.names["session"])
    return Answer(done, done.txid)


HANDLERS = {
    "turns.sessions": sessions,
    "turns.append": append,
    "turns.window": window,
    "turns.search": search,
    "turns.search_all": search,
    "turns.delete": delete,
}
