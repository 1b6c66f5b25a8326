"""Transcripts: append turns to a session, read its last ones, find some, list and forget sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from memoturn.base.clock import ms_of, time_of
from memoturn.base.errors import InvalidRequestError
from memoturn.base.json_text import shown
from memoturn.base.names import Address
from memoturn.base.results.transcripts import SessionDelete, SessionInfo, Turn, TurnAppended, Turns
from memoturn.base.txids import TXID, UnixMs
from memoturn.models import embedding
from memoturn.models import transcripts as model
from memoturn.models.keywords import match_any
from memoturn.node.engine import Engine
from memoturn.operations.positions import writable
from memoturn.operations.reading import clamped, read, stamps_of

MAX_BATCH: Final = 10_000
_FIELDS: Final = frozenset(("role", "content", "embedding", "created_at"))


def append(
    engine: Engine, address: Address, session: str, turns: Sequence[Mapping[str, Any]]
) -> TurnAppended:
    """Append turns, each with `role`, `content` and perhaps `embedding` and `created_at`, to a session, all or none.

    Raises `InvalidRequestError` and `PayloadTooLargeError`.
    """
    model.check_session(session)
    if type(turns) not in (list, tuple) or not 1 <= len(turns) <= MAX_BATCH:
        raise InvalidRequestError(f"give a list of 1 to {MAX_BATCH:,} turns, not {shown(turns)}")
    now = engine.clock.now_ms()
    checked = [_turn(one, now) for one in turns]
    seqs, txid = writable(engine, address).write(
        lambda connection: model.append(connection, session, checked, stamps_of(engine))
    )
    return TurnAppended(seqs, txid)


def _turn(given: Mapping[str, Any], now: UnixMs) -> model.Turn:
    if (
        not isinstance(given, Mapping)
        or not given.keys() <= _FIELDS
        or not {"role", "content"} <= given.keys()
    ):
        raise InvalidRequestError(
            f"a turn is an object of role, content and perhaps embedding and created_at, not {shown(given)}"
        )
    created_at = given.get("created_at")
    if created_at is None:
        at = now
    elif isinstance(created_at, datetime):
        at = ms_of(created_at)
    else:
        raise InvalidRequestError(f"created_at is a datetime with a time zone, not {shown(created_at)}")
    return model.turn(given["role"], given["content"], at, given.get("embedding"))


def window(engine: Engine, address: Address, session: str, last: int) -> Turns:
    """The last turns of a session, the oldest first. Raises `InvalidRequestError`."""
    model.check_session(session)
    most = clamped("last", last)
    found, txid = read(engine, address, lambda connection: model.window(connection, session, most))
    return Turns([_shape(one, scored=False) for one in found], txid)


def search(
    engine: Engine,
    address: Address,
    session: str | None = None,
    query: str | None = None,
    vector: Any = None,
    k: int = 10,
) -> Turns:
    """The turns that a query or a vector finds, of one session or of all, the best first.

    Raises `InvalidRequestError`.
    """
    if session is not None:
        model.check_session(session)
    most = clamped("k", k)
    if (query is None) == (vector is None):
        raise InvalidRequestError("give a query or a vector to search for, one of them")
    if vector is not None:
        blob = embedding.encode(vector)
        found, txid = read(
            engine, address, lambda connection: model.by_vector(connection, session, blob, most)
        )
    else:
        match = match_any(query or "")
        found, txid = read(
            engine,
            address,
            lambda connection: [] if match is None else model.by_words(connection, session, match, most),
        )
    return Turns([_shape(one, scored=True) for one in found], txid)


def sessions(
    engine: Engine, address: Address, after: str = "", limit: int = 100
) -> tuple[list[SessionInfo], TXID]:
    """Sessions in the order of their names, those after `after`; and the position that was read."""
    if after != "":
        model.check_session(after)
    most = clamped("limit", limit)
    found, txid = read(engine, address, lambda connection: model.sessions(connection, after, most))
    return [SessionInfo(name, n, time_of(first), time_of(last)) for name, n, first, last in found], txid


def delete(engine: Engine, address: Address, session: str) -> SessionDelete:
    """Remove a session with its turns, their words and vectors; history keeps them."""
    model.check_session(session)
    turns, txid = writable(engine, address).write(
        lambda connection: model.forget_session(connection, session, stamps_of(engine))
    )
    return SessionDelete(turns, txid)


def _shape(one: model.Found, scored: bool) -> Turn:
    score = one.score if scored else None
    return Turn(one.session, one.seq, one.role, one.content, time_of(one.created_at), score)
