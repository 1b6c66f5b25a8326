"""Recall written down a second time, row by row in plain Python, from what a profile exports."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from functools import lru_cache
from typing import Any

import apsw

from memoturn.base.settings import RecallSettings
from memoturn.models.keywords import STOP_WORDS
from memoturn.models.memory_draft import indexed_text, moment_of

_tokenizer = apsw.Connection(":memory:").fts5_tokenizer("porter", ["unicode61"])


@lru_cache(1 << 16)
def terms(text: str) -> list[str]:
    """The terms of a text, as the index cuts it."""
    return [found[2] for found in _tokenizer(text.encode(), apsw.FTS5_TOKENIZE_DOCUMENT, None)]


def expected(
    lines: list[dict[str, Any]],
    query: str | None,
    vector: list[float] | None,
    k: int,
    now: int,
    **filters: Any,
) -> list[tuple[str, float]]:
    """Ids and scores, the best first; of those with one score the newer first."""
    rows = [dict(line, seq=seq) for seq, line in enumerate(lines)]
    rows = [
        row
        for row in rows
        if (filters.get("include_superseded") or "valid_to" not in row)
        and ("expires_at" not in row or ms(row["expires_at"]) > now)
    ]
    allowed = [
        all(row.get(name) == filters[name] for name in ("session_id", "source") if name in filters)
        and row["type"] in filters.get("types", row["type"])
        for row in rows
    ]
    if not rows:
        return []
    together: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        together.setdefault(row.get("session_id", f"alone {i}"), []).append(i)
    sessions = [together[row.get("session_id", f"alone {i}")] for i, row in enumerate(rows)]
    windows = [
        session[max(0, session.index(i) - 2) : session.index(i) + 3] for i, session in enumerate(sessions)
    ]
    scores = [0.0] * len(rows)
    weights = RecallSettings()
    if query is not None:
        alone = [[i] for i in range(len(rows))]
        for weight, groups, b, by_session in (
            (weights.keyword, alone, 0.4, False),
            (weights.keyword_nearby, windows, 0.75, False),
            (weights.keyword_session, sessions, 0.5, True),
        ):
            _add(scores, weight, _bm25(rows, groups, query, b, by_session), allowed)
    if vector is not None and any("embedding" in row for row in rows):
        cosines = [_cosine(row.get("embedding"), vector) for row in rows]
        nearby = []
        for window in windows:
            having = [cosines[j] for j in window if "embedding" in rows[j]]
            nearby.append(sum(having) / len(having) if having else 0.0)
        _add(scores, weights.vector, cosines, allowed)
        _add(scores, weights.vector_nearby, nearby, allowed)
    hits = [
        (score, row) for score, row, may in zip(scores, rows, allowed, strict=True) if may and score > 1e-9
    ]
    hits.sort(key=lambda hit: (round(hit[0], 4), ms(hit[1]["valid_from"]), hit[1]["seq"]), reverse=True)
    return [(row["id"], score) for score, row in hits[:k]]


def ms(text: str) -> int:
    return moment_of("a time", text) or 0


def _add(scores: list[float], weight: float, values: list[float], allowed: list[bool]) -> None:
    best = max((value for value, may in zip(values, allowed, strict=True) if may), default=0.0)
    if best > 0:
        for i, value in enumerate(values):
            scores[i] += weight * max(value, 0.0) / best


def _bm25(
    rows: list[dict[str, Any]], groups: list[list[int]], query: str, b: float, by_session: bool
) -> list[float]:
    texts = [
        indexed_text(
            row["summary"],
            None if "keywords" not in row else json.dumps(row["keywords"]),
            row.get("topic_key"),
            row.get("source"),
            ms(row["valid_from"]),
        )
        for row in rows
    ]
    counts = [Counter(terms(text)) for text in texts]
    lengths = [len(text.split(" ")) for text in texts]
    of_group = [sum(lengths[j] for j in group) for group in groups]
    # A session counts once, however many memories it has; of a single memory's windows each counts.
    distinct = {tuple(group): length for group, length in zip(groups, of_group, strict=True)}
    mean = sum(distinct.values()) / len(distinct) if by_session else sum(of_group) / len(of_group)
    words = re.findall(r"\w+", query.lower())
    wanted = dict.fromkeys(
        term for word in [word for word in words if word not in STOP_WORDS] or words for term in terms(word)
    )
    scores = [0.0] * len(rows)
    for term in wanted:
        having = sum(count[term] > 0 for count in counts)
        rarity = math.log(1 + (len(rows) - having + 0.5) / (having + 0.5))
        for i, group in enumerate(groups):
            times = sum(counts[j][term] for j in group)
            scores[i] += rarity * times * 2.2 / (times + 1.2 * (1 - b + b * of_group[i] / mean))
    return scores


def _cosine(a: list[float] | None, b: list[float]) -> float:
    if a is None:
        return 0.0
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
