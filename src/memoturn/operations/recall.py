"""Recall: what a profile remembers of a question, now or at a position in its past."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

import numpy as np

from memoturn.base.clock import time_of
from memoturn.base.embedding import Embedder
from memoturn.base.errors import DatabaseNotFoundError, InvalidRequestError, MemoturnError
from memoturn.base.names import Address, AtTime, Position
from memoturn.base.results.memories import Hit, Hits
from memoturn.models import memories, transcripts
from memoturn.models import recall as model
from memoturn.models.blocks import FIRST_TURN, TURN, Frames
from memoturn.models.embedding import encode
from memoturn.models.memory_draft import MAX_TEXT, TYPES, moment_of, name_of, text_of
from memoturn.models.recall import Filters, Question
from memoturn.models.reserved import Connection
from memoturn.node.engine import Engine
from memoturn.operations.memories import fields_of, vectors_of
from memoturn.operations.positions import view_of
from memoturn.operations.reading import again, clamped
from memoturn.pages.view import Source

_frames: Final[weakref.WeakKeyDictionary[Engine, Frames]] = weakref.WeakKeyDictionary()
_making: Final = threading.Lock()


def recall(
    engine: Engine,
    address: Address,
    query: str | None = None,
    *,
    k: int = 10,
    embedding: Any = None,
    model_name: str | None = None,
    topic_key: str | None = None,
    types: Sequence[str] | str | None = None,
    session_id: str | None = None,
    source: str | None = None,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    include_superseded: bool = False,
    include_turns: bool = False,
    embedder: Embedder | None = None,
) -> Hits:
    """The memories that answer best, at most `k`; none where the profile does not exist.

    Raises `InvalidRequestError`, and what finding a position raises.
    """
    if query is None and embedding is None and topic_key is None:
        raise InvalidRequestError("ask with a query, an embedding or a topic_key")
    if query is not None and (not isinstance(query, str) or len(query) > MAX_TEXT):
        raise InvalidRequestError(f"a query is a text of at most {MAX_TEXT:,} characters")
    if query is not None:
        text_of("a query", query)
    most = clamped("k", k)
    if model_name is not None and embedding is None:
        raise InvalidRequestError("model names what made the embedding, and there is none")
    name_of("model", model_name)
    name_of("topic_key", topic_key)
    filters = Filters(
        _types(types),
        name_of("session_id", session_id),
        name_of("source", source),
        moment_of("since", since),
        moment_of("until", until),
        include_superseded,
        include_turns,
    )
    vector = None if embedding is None else encode(embedding)
    ask = partial(_recall, engine, address, query, vector, model_name, topic_key, filters, most, embedder)
    try:
        return again(engine, address, ask)
    except DatabaseNotFoundError:
        return Hits([], 0)


def _recall(
    engine: Engine,
    address: Address,
    query: str | None,
    vector: bytes | None,
    model_name: str | None,
    topic_key: str | None,
    filters: Filters,
    k: int,
    embedder: Embedder | None,
) -> Hits:
    branch, view = view_of(engine, address)
    frames = _frames_of(engine)
    degraded: str | None = None
    if vector is None and query is not None and query.strip() and embedder is not None:
        with branch.readers.on(view) as connection:
            kept = memories.model(connection)
        if kept is not None:
            _check_model(kept, embedder.name, None)
            try:
                vector, model_name = vectors_of(embedder, [query])[0], embedder.name
            except MemoturnError as error:
                degraded = f"without embeddings, by keyword and topic alone: {error}"
    now = _asked_at(engine, address.position, view)

    def work(connection: Connection) -> list[Hit]:
        if vector is not None and (kept := memories.model(connection)) is not None:
            _check_model(kept, model_name, len(vector) // 4)
        frame = frames.at(connection, branch.db_uuid, filters.include_turns)
        found = model.recall(
            connection,
            frame,
            Question(query, None if vector is None else _unit(vector), topic_key),
            filters,
            k,
            now,
            engine.settings.recall,
        )
        rows = memories.several(connection, [one.seq for one in found if one.seq < FIRST_TURN])
        turns = transcripts.several(
            connection, [one.seq - FIRST_TURN for one in found if one.seq >= FIRST_TURN]
        )
        return [
            Hit(
                **(
                    fields_of(rows[one.seq])
                    if one.seq < FIRST_TURN
                    else _fields_of_turn(turns[one.seq - FIRST_TURN])
                ),
                score=one.score,
                channels=one.channels,
            )
            for one in found
        ]

    with branch.readers.on(view) as connection:
        return Hits(work(connection), view.txid, degraded)


def _asked_at(engine: Engine, position: Position | None, view: Source) -> int:
    """When it is asked: of the past as it was then, so that what had not expired by then has not expired."""
    if position is None:
        return engine.clock.now_ms()
    return position.ms if isinstance(position, AtTime) else view.time or 0


def _fields_of_turn(turn: transcripts.Found) -> dict[str, Any]:
    """A turn as if it were a memory: what was said, by whom, and when."""
    return {
        "id": f"turn_{turn.seq}@{turn.session}",
        "type": TURN,
        "topic_key": None,
        "summary": turn.content,
        "keywords": [],
        "content": turn.content,
        "session_id": turn.session,
        "source": turn.role,
        "valid_from": time_of(turn.created_at),
        "valid_to": None,
        "superseded_by": None,
        "expires_at": None,
        "model": None,
    }


def _frames_of(engine: Engine) -> Frames:
    with _making:
        frames = _frames.get(engine)
        if frames is None:
            frames = _frames[engine] = Frames(engine.settings.recall.cache_bytes)
        return frames


def _check_model(kept: tuple[str, int], name: str | None, dimension: int | None) -> None:
    """A vector that came without a name is only held to the dimension."""
    memories.check_model(*kept, kept[0] if name is None else name, dimension or kept[1])


def _unit(vector: bytes) -> Any:
    numbers = np.frombuffer(vector, "<f4").astype(np.float64)
    return (numbers / np.sqrt(numbers @ numbers)).astype(np.float32)


def _types(types: Sequence[str] | str | None) -> tuple[str, ...]:
    if types is not None and not isinstance(types, str | list | tuple):
        raise InvalidRequestError(f"types are a list of some of {', '.join(TYPES)}, not {types!r}")
    wanted = (types,) if isinstance(types, str) else tuple(types or ())
    for one in wanted:
        if one not in TYPES:
            raise InvalidRequestError(f"type {one!r} is unknown; there are {', '.join(TYPES)}")
    return wanted
