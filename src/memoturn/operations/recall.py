"""Recall: what a profile remembers of a question, now or at a position in its past."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np

from memoturn.base.clock import time_of
from memoturn.base.embedding import Embedder
from memoturn.base.errors import DatabaseNotFoundError, InvalidRequestError, MemoturnError
from memoturn.base.names import Address
from memoturn.base.results.memories import Hit, Hits
from memoturn.models import memories, transcripts
from memoturn.models import recall as model
from memoturn.models.blocks import FIRST_TURN, TURN, Frames
from memoturn.models.embedding import encode
from memoturn.models.memory_draft import MAX_TEXT, TYPES, moment_of, name_of
from memoturn.models.recall import Filters, Question
from memoturn.models.reserved import Connection
from memoturn.node.engine import Engine
from memoturn.operations.memories import fields_of, vectors_of
from memoturn.operations.positions import view_of

MAX_K: Final = 1000

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
    if type(k) is not int or k < 1:
        raise InvalidRequestError(f"k {k!r} is not possible; give 1 to {MAX_K:,}")
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
    try:
        branch, view = view_of(engine, address)
    except DatabaseNotFoundError:
        return Hits([], 0)
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
    # Of the past it is asked as it was then: what was not yet expired has not expired.
    now = engine.clock.now_ms() if address.position is None else view.time or 0

    def work(connection: Connection) -> list[Hit]:
        if vector is not None and (kept := memories.model(connection)) is not None:
            _check_model(kept, model_name, len(vector) // 4)
        frame = frames.at(connection, branch.db_uuid, include_turns)
        found = model.recall(
            connection,
            frame,
            Question(query, None if vector is None else _unit(vector), topic_key),
            filters,
            min(k, MAX_K),
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
    wanted = (types,) if isinstance(types, str) else tuple(types or ())
    for one in wanted:
        if one not in TYPES:
            raise InvalidRequestError(f"type {one!r} is unknown; there are {', '.join(TYPES)}")
    return wanted
