"""Recall: which memories answer, by what they say and by what stands beside them.

Two kinds of channel, each over the memory alone and over its neighbourhood, the two before and the two after it in
its session, because an answer is often said next to the words that were asked for: *keyword* is BM25, also over the
whole session, *vector* is the cosine, and the mean of the cosines nearby. What is filtered out is out before anything
is counted as best. The score of each channel is divided by its best, and what is below zero counts as zero. The
weighted sum of all decides, and of equals the newer comes first. What has exactly the topic that was asked for comes
before everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from memoturn.base.settings import RecallSettings
from memoturn.models import bm25
from memoturn.models.blocks import (
    TURN,
    Bools,
    Frame,
    Group,
    Ints,
    Worth,
    key_of,
    number_of_type,
)
from memoturn.models.bm25 import Singles
from memoturn.models.recall_terms import occurrences, terms_of
from memoturn.models.reserved import Connection, ask

_DIGITS: Final = 9
_NEAR: Final = np.float32(1e-4)
"""More than what sums of 32 bits can be wrong by."""
_NOTHING: Final = Worth(*[np.zeros(0, np.float32)] * 3)
_TOPIC: Final = "SELECT seq FROM __memoturn_memories WHERE topic_key = ?"


class Filters(NamedTuple):
    """What may be found at all. Times are unix milliseconds: `since` included, `until` not."""

    types: tuple[str, ...] = ()
    session_id: str | None = None
    source: str | None = None
    since: int | None = None
    until: int | None = None
    include_superseded: bool = False
    include_turns: bool = False


class Question(NamedTuple):
    """What is asked: in words, by a vector of length 1, for a topic."""

    text: str | None
    vector: Singles | None
    topic_key: str | None


Channel = tuple[str, float, Singles]
"""Its name, its weight, and what it finds each memory worth."""


class Scaled(NamedTuple):
    """A channel whose best is known."""

    name: str
    weight: float
    values: Singles
    best: float

    def at(self, place: int) -> float:
        """The score of one memory: 1 for the best."""
        return float(self.values[place]) / self.best


class Found(NamedTuple):
    """A memory by its `seq` (a turn by its id and `FIRST_TURN`), its score, and those of the channels."""

    seq: int
    score: float
    channels: dict[str, float]


def recall(
    connection: Connection,
    frame: Frame,
    question: Question,
    filters: Filters,
    k: int,
    now: int,
    settings: RecallSettings,
) -> list[Found]:
    """At most `k` memories, the best first."""
    group = frame.group(now, filters.include_superseded)
    allowed = _allowed(frame, group, filters)
    if not allowed.any():
        return []
    channels: list[Channel] = []
    if question.text is not None:
        channels += _keyword(connection, frame, group, question.text, filters.include_turns, settings)
    if question.vector is not None:
        channels += _vector(frame, group, question.vector, settings)
    scaled = [found for channel in channels if (found := _scaled(channel, allowed)) is not None]
    topic = _topic(connection, frame, group, question)
    return [
        Found(
            int(frame.seqs[group.rows[place]]),
            round(score, 6),
            {
                **({"topic": 1.0} if topic[place] else {}),
                **{one.name: round(one.at(place), 6) for one in scaled if one.values[place] > 0},
            },
        )
        for place, score in _best(frame, group, scaled, allowed, topic, k)
    ]


def _allowed(frame: Frame, group: Group, filters: Filters) -> Bools:
    rows = group.rows
    allowed = np.ones(len(rows), np.bool_)
    if filters.types:
        wanted = [*filters.types, TURN] if filters.include_turns else filters.types
        allowed &= np.isin(frame.types[rows], [number_of_type(name) for name in wanted])
    if filters.session_id is not None:
        allowed &= frame.sessions[rows] == key_of(filters.session_id)
    if filters.source is not None:
        allowed &= frame.sources[rows] == key_of(filters.source)
    if filters.since is not None:
        allowed &= frame.since[rows] >= filters.since
    if filters.until is not None:
        allowed &= frame.since[rows] < filters.until
    return allowed


def _keyword(
    connection: Connection, frame: Frame, group: Group, text: str, turns: bool, settings: RecallSettings
) -> list[Channel]:
    """BM25 over the memory, over its neighbourhood and over its session."""
    alone, nearby = np.zeros(len(group), np.float32), np.zeros(len(group), np.float32)
    session = np.zeros(len(group.scale_session), np.float32)
    for term in terms_of(text):
        worth = frame.worths.get((group.number, term))
        if worth is None:
            worth = _worth(frame, group, occurrences(connection, term, turns))
            frame.worths.put((group.number, term), worth)
        if len(worth.alone):
            alone += worth.alone
            nearby += worth.nearby
            session += worth.session
    return [
        ("keyword", settings.keyword, alone),
        ("keyword_nearby", settings.keyword_nearby, nearby),
        ("keyword_session", settings.keyword_session, session[group.session]),
    ]


def _worth(frame: Frame, group: Group, seqs: Ints) -> Worth:
    """What a term is worth that occurs in these memories; empty if none of them is in the group."""
    places = group.places[frame.rows_of(seqs)]
    places = places[places >= 0]
    if not len(places):
        return _NOTHING
    size, sessions = len(group), len(group.scale_session)
    times = np.bincount(places, minlength=size).astype(np.float32)
    in_session = np.bincount(group.session[places], minlength=sessions).astype(np.float32)
    rarity = bm25.rarity(size, int(np.count_nonzero(times)))
    return Worth(
        bm25.worth(times, group.scale, rarity),
        bm25.worth(group.nearby(times), group.scale_nearby, rarity),
        bm25.worth(in_session, group.scale_session, rarity),
    )


def _vector(frame: Frame, group: Group, vector: Singles, settings: RecallSettings) -> list[Channel]:
    """The cosine with the memory, and the mean of those with its neighbourhood."""
    scores, found = frame.cosines(vector)
    alone, having = group.of(scores), group.of(found)
    nearby = group.nearby(alone)
    nearby /= group.around if having.all() else np.maximum(group.nearby(having.astype(np.float32)), 1)
    return [("vector", settings.vector, alone), ("vector_nearby", settings.vector_nearby, nearby)]


def _topic(connection: Connection, frame: Frame, group: Group, question: Question) -> Bools:
    """What has the topic that was asked for, or whose topic is all that was said."""
    topic = np.zeros(len(group), np.bool_)
    for key in {question.topic_key, question.text} - {None}:
        seqs = np.array([row[0] for row in ask(connection, _TOPIC, (key,))], np.int64)
        places = group.places[frame.rows_of(seqs)]
        topic[places[places >= 0]] = True
    return topic


def _scaled(channel: Channel, allowed: Bools) -> Scaled | None:
    """The channel with 1 for the best that is allowed; None if it found nothing that is."""
    name, weight, values = channel
    best = float(values.max() if allowed.all() else values[allowed].max())
    return Scaled(name, weight, values, best) if best > 0 else None


def _best(
    frame: Frame, group: Group, scaled: Sequence[Scaled], allowed: Bools, topic: Bools, k: int
) -> list[tuple[int, float]]:
    """The places and scores of the best `k`: topic before score, and of equals the newer first."""
    about = np.zeros(len(group), np.float32)
    for one in scaled:
        about += np.maximum(one.values, 0) * np.float32(one.weight / one.best)
    places = np.flatnonzero(allowed & ((about > 0) | topic))
    if len(places) > k:
        # In 32 bits it is only decided who may be among the best.
        near = about[places]
        least = np.partition(near, len(near) - k)[len(near) - k]
        places = places[(near >= least - _NEAR) | topic[places]]
    score = np.zeros(len(places))
    for one in scaled:
        score += one.weight * np.maximum(one.values[places].astype(np.float64), 0) / one.best
    score = score.round(_DIGITS)
    rows = group.rows[places]
    order = np.lexsort((-frame.seqs[rows], -frame.since[rows], -score, ~topic[places]))[:k]
    return [(int(places[i]), float(score[i])) for i in order]
