"""Recall: which memories answer, by what they say and by what stands beside them.

Two kinds of channel, each over the memory alone and over its neighbourhood, the two before and the two after it in
its session, because an answer is often said next to the words that were asked for: *keyword* is BM25, also over the
whole session, *vector* is the cosine, and the mean of the cosines nearby. What is filtered out is out before anything
is counted as best. The score of each channel is divided by its best, and what is below zero counts as zero. The
weighted sum of all decides, and of equals the newer comes first. What has exactly the topic that was asked for comes
before everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from memoturn.base.settings import RecallSettings
from memoturn.models.blocks import Bools, Floats, Frame, Group, Ints, Singles, key_of, number_of_type
from memoturn.models.recall_terms import occurrences, terms_of
from memoturn.models.reserved import Connection, ask

_K1: Final = 1.2
_B: Final = 0.4
"""How much the length of one memory counts: what is said in passing is short."""
_B_NEARBY: Final = 0.75
_B_SESSION: Final = 0.5
_DIGITS: Final = 9
_TOPIC: Final = "SELECT seq FROM __memoturn_memories WHERE topic_key = ?"


class Filters(NamedTuple):
    """What may be found at all. Times are unix milliseconds: `since` included, `until` not."""

    types: tuple[str, ...] = ()
    session_id: str | None = None
    source: str | None = None
    since: int | None = None
    until: int | None = None
    include_superseded: bool = False


class Question(NamedTuple):
    """What is asked: in words, by a vector of length 1, for a topic."""

    text: str | None
    vector: Singles | None
    topic_key: str | None


class Found(NamedTuple):
    """A memory by its `seq`, its score, and that of each channel which found it."""

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
    channels: list[tuple[str, float, Floats]] = []
    if question.text is not None:
        channels += _keyword(connection, frame, group, question.text, settings)
    if question.vector is not None and frame.dimension:
        channels += _vector(frame, group, question.vector, settings)
    scaled = [(name, weight, _scaled(values, allowed)) for name, weight, values in channels]
    score = np.zeros(len(group))
    for _, weight, values in scaled:
        score += weight * values
    topic = _topic(connection, frame, group, question)
    hits = allowed & ((score > 0) | topic)
    order = _best(frame.since[group.rows], frame.seqs[group.rows], score.round(_DIGITS), topic, hits, k)
    return [
        Found(
            int(frame.seqs[group.rows[place]]),
            round(float(score[place]), 6),
            {
                **({"topic": 1.0} if topic[place] else {}),
                **{name: round(float(values[place]), 6) for name, _, values in scaled if values[place] > 0},
            },
        )
        for place in order
    ]


def _allowed(frame: Frame, group: Group, filters: Filters) -> Bools:
    rows = group.rows
    allowed = np.ones(len(rows), np.bool_)
    if filters.types:
        allowed &= np.isin(frame.types[rows], [number_of_type(name) for name in filters.types])
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
    connection: Connection, frame: Frame, group: Group, text: str, settings: RecallSettings
) -> list[tuple[str, float, Floats]]:
    """BM25 over the memory, over its neighbourhood and over its session."""
    size = len(group)
    alone, nearby, session = np.zeros(size), np.zeros(size), np.zeros(size)
    scale, scale_nearby, scale_session = group.scales(_K1, _B, _B_NEARBY, _B_SESSION)
    for term in terms_of(text):
        places = group.places[_rows_of(frame, occurrences(connection, term))]
        times = np.bincount(places[places >= 0], minlength=size).astype(np.float64)
        having = int(np.count_nonzero(times))
        if not having:
            continue
        rarity = math.log(1 + (size - having + 0.5) / (having + 0.5)) * (_K1 + 1)
        alone += _saturated(times, scale, rarity)
        nearby += _saturated(group.nearby(times), scale_nearby, rarity)
        session += _saturated(group.in_session(times), scale_session, rarity)
    return [
        ("keyword", settings.keyword, alone),
        ("keyword_nearby", settings.keyword_nearby, nearby),
        ("keyword_session", settings.keyword_session, session),
    ]


def _saturated(times: Floats, scale: Floats, rarity: float) -> Floats:
    """What a term is worth that occurs so many times: the more, the less each."""
    return times * rarity / (times + scale)


def _vector(
    frame: Frame, group: Group, vector: Singles, settings: RecallSettings
) -> list[tuple[str, float, Floats]]:
    """The cosine with the memory, and the mean of those with its neighbourhood."""
    scores, found = frame.cosines(vector)
    alone = scores[group.rows].astype(np.float64)
    having = found[group.rows].astype(np.float64)
    nearby = group.nearby(alone) / np.maximum(group.nearby(having), 1)
    return [("vector", settings.vector, alone), ("vector_nearby", settings.vector_nearby, nearby)]


def _topic(connection: Connection, frame: Frame, group: Group, question: Question) -> Bools:
    """What has the topic that was asked for, or whose topic is all that was said."""
    topic = np.zeros(len(group), np.bool_)
    for key in {question.topic_key, question.text} - {None}:
        seqs = np.array([row[0] for row in ask(connection, _TOPIC, (key,))], np.int64)
        places = group.places[_rows_of(frame, seqs)]
        topic[places[places >= 0]] = True
    return topic


def _rows_of(frame: Frame, seqs: Ints) -> Ints:
    """The rows of memories by their `seq`."""
    rows: Ints = np.searchsorted(frame.seqs, seqs)
    return rows


def _scaled(values: Floats, allowed: Bools) -> Floats:
    """The scores with 1 for the best that is allowed, and nothing below zero."""
    best = float(values[allowed].max())
    if best <= 0:
        return np.zeros(len(values))
    return np.maximum(values, 0) / best


def _best(since: Ints, seqs: Ints, score: Floats, topic: Bools, hits: Bools, k: int) -> Sequence[int]:
    """The places of the best `k` hits: topic before score, and the newer before the older."""
    places = np.flatnonzero(hits)
    if len(places) > 4 * k:
        first = np.where(topic[places], np.inf, score[places])
        least = np.partition(first, len(places) - k)[len(places) - k]
        places = places[first >= least]
    order = np.lexsort((-seqs[places], -since[places], -score[places], ~topic[places]))
    return [int(place) for place in places[order[:k]]]
