"""The words of a question that are worth looking for, as the index knows them, and where they occur."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any, Final

import apsw
import numpy as np

from memoturn.models.blocks import FIRST_TURN, Ints
from memoturn.models.keywords import MAX_TERMS, STOP_WORDS, words_of
from memoturn.models.reserved import Connection, ask_trusted

_cutting: Final = threading.Lock()
_tokenizer: Final[list[Any]] = []
_IN_MEMORIES: Final = "SELECT group_concat(doc) FROM __memoturn_memories_terms WHERE term = ?"
_IN_TURNS: Final = "SELECT group_concat(doc) FROM __memoturn_turn_terms WHERE term = ?"


def terms_of(text: str) -> list[str]:
    """The distinct terms of a text in the order in which they come.

    Words that stand in every other sentence count only where there is nothing else.
    """
    words = words_of(text.lower())
    telling = [word for word in words if word not in STOP_WORDS]
    terms: dict[str, None] = {}
    for word in telling or words:
        terms.update(dict.fromkeys(_cut(word)))
        if len(terms) >= MAX_TERMS:
            break
    return list(terms)[:MAX_TERMS]


@lru_cache(1 << 14)
def _cut(word: str) -> tuple[str, ...]:
    """A word as the index's tokenizer cuts and stems it."""
    # A connection of its own: that of a database does not hand its tokenizers out while it is guarded.
    with _cutting:
        if not _tokenizer:
            _tokenizer.append(apsw.Connection(":memory:").fts5_tokenizer("porter", ["unicode61"]))
        found = _tokenizer[0](word.encode(), apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False)
        return tuple(term for forms in found for term in forms)


def occurrences(connection: Connection, term: str, turns: bool) -> Ints:
    """The `seq` of every occurrence of a term: as often as a memory, or a turn if they are searched, has it."""
    found = _numbers(connection, _IN_MEMORIES, term)
    return np.concatenate([found, _numbers(connection, _IN_TURNS, term) + FIRST_TURN]) if turns else found


def _numbers(connection: Connection, sql: str, term: str) -> Ints:
    rows = ask_trusted(connection, sql, (term,))
    if not rows or rows[0][0] is None:
        return np.zeros(0, np.int64)
    return np.fromstring(rows[0][0], np.int64, sep=",")
