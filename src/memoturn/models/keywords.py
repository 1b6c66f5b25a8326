"""What a question looks for in a full-text index: any of its words, except those that say nothing."""

from __future__ import annotations

import re
from typing import Final

from memoturn.base.errors import InvalidRequestError
from memoturn.base.json_text import shown

MAX_QUERY: Final = 10_000
MAX_TERMS: Final = 64

STOP_WORDS: Final = frozenset(
    "a about after all also am an and any are as at be been before being but by can could did do does doing for from "  # noqa: SIM905
    "had has have having he her hers him his how i if in into is it its itself just me more most my no not now of on "
    "or our ours out over own s she should so some such t than that the their theirs them then there these they this "
    "those to too under until up very was we were what when where which while who whom why will with would you your "
    "yours".split()
)
words_of: Final = re.compile(r"[\w\u0300-\u036f]+").findall
"""The words of a text; an accent that is a character of its own belongs to its word, as the index has it."""


def match_any(query: str) -> str | None:
    """The expression of FTS5 that finds texts with any of the question's words; None if it has none.

    A question of nothing but stop words looks for those. Raises `InvalidRequestError`.
    """
    if not isinstance(query, str):
        raise InvalidRequestError(f"a query is text, not {shown(query)}")
    if len(query) > MAX_QUERY:
        raise InvalidRequestError(
            f"a query of {len(query):,} characters is too long; {MAX_QUERY:,} is the most"
        )
    words = list(dict.fromkeys(word.strip("_") for word in words_of(query.lower())))
    words = [word for word in words if word]
    telling = [word for word in words if word not in STOP_WORDS] or words
    return " OR ".join(f'"{word}"' for word in telling[:MAX_TERMS]) or None
