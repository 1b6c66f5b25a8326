"""Transcripts: the turns of sessions, verbatim and in order, found again by their words and by their vectors.

    __memoturn_turns         id, session, seq (1, 2, 3, … in a session), role, content, created_at (unix ms)
    __memoturn_turn_words    FTS5 by the same id, without a copy of the text: content, and about (role and date)
    __memoturn_turn_terms    which term occurs in which turn, as the index has it
    __memoturn_turn_vectors  by the same id: the embedding as 32-bit floats
    __memoturn_turn_blocks   a random stamp for every 256 ids, drawn anew by each write; see `blocks.py`

A later turn has a larger id, whatever its session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from memoturn.base.clock import time_of
from memoturn.base.errors import InvalidRequestError, PayloadTooLargeError
from memoturn.base.json_text import shown
from memoturn.base.settings import MIB
from memoturn.base.txids import UnixMs
from memoturn.models import embedding
from memoturn.models.distances import FUNCTIONS, ask_distances
from memoturn.models.reserved import Connection, Rows, ask, ask_trusted, transact

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS __memoturn_turns (
  id INTEGER PRIMARY KEY, session TEXT NOT NULL, seq INTEGER NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL,
  created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS __memoturn_turns_in_order ON __memoturn_turns (session, seq, created_at);
CREATE VIRTUAL TABLE IF NOT EXISTS __memoturn_turn_words USING fts5 (
  content, about, content='', contentless_delete=1, tokenize='porter unicode61'
);
CREATE VIRTUAL TABLE IF NOT EXISTS __memoturn_turn_terms USING fts5vocab(__memoturn_turn_words, instance);
CREATE TABLE IF NOT EXISTS __memoturn_turn_vectors (id INTEGER PRIMARY KEY, embedding BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS __memoturn_turn_blocks (block INTEGER PRIMARY KEY, stamp INTEGER NOT NULL)
"""

MAX_CONTENT: Final = 16 * MIB
MAX_NAME: Final = 512

_TURN: Final = "t.session, t.seq, t.role, t.content, t.created_at"
_APPEND: Final = """
INSERT INTO __memoturn_turns (session, seq, role, content, created_at)
VALUES (?1, (SELECT coalesce(max(seq), 0) + 1 FROM __memoturn_turns WHERE session = ?1), ?2, ?3, ?4)
RETURNING id, seq
"""
_APPEND_WORDS: Final = "INSERT INTO __memoturn_turn_words (rowid, content, about) VALUES (?, ?, ?)"
_APPEND_VECTOR: Final = "INSERT INTO __memoturn_turn_vectors (id, embedding) VALUES (?, ?)"
_ANY_VECTOR: Final = "SELECT embedding FROM __memoturn_turn_vectors LIMIT 1"
_WINDOW: Final = f"SELECT {_TURN} FROM __memoturn_turns t WHERE session = ? ORDER BY seq DESC LIMIT ?"
_SESSIONS: Final = """
SELECT session, count(*), min(created_at), max(created_at) FROM __memoturn_turns
WHERE session > ? GROUP BY session ORDER BY session LIMIT ?
"""
_BY_WORDS: Final = f"""
SELECT {_TURN}, -bm25(__memoturn_turn_words) AS score
FROM __memoturn_turn_words w CROSS JOIN __memoturn_turns t ON t.id = w.rowid
WHERE __memoturn_turn_words MATCH ?1 AND (?2 IS NULL OR t.session = ?2)
ORDER BY score DESC, t.id DESC LIMIT ?3
"""
_BY_VECTOR: Final = f"""
SELECT {_TURN}, 1 - {FUNCTIONS["cosine"]}(v.embedding, ?1) AS score
FROM __memoturn_turn_vectors v JOIN __memoturn_turns t ON t.id = v.id
WHERE ?2 IS NULL OR t.session = ?2
ORDER BY score DESC, t.id DESC LIMIT ?3
"""
_IN_SESSION: Final = "(SELECT id FROM __memoturn_turns WHERE session = ?)"
_FORGET: Final = (
    f"DELETE FROM __memoturn_turn_words WHERE rowid IN {_IN_SESSION}",
    f"DELETE FROM __memoturn_turn_vectors WHERE id IN {_IN_SESSION}",
    "DELETE FROM __memoturn_turns WHERE session = ?",
)
_BLOCKS: Final = "SELECT DISTINCT id >> 8 FROM __memoturn_turns WHERE session = ?"
_STAMP: Final = (
    "INSERT INTO __memoturn_turn_blocks (block, stamp) VALUES (?, ?) "
    "ON CONFLICT (block) DO UPDATE SET stamp = excluded.stamp"
)
_AFTER: Final = f"""
SELECT t.id, {_TURN}, v.embedding
FROM __memoturn_turns t LEFT JOIN __memoturn_turn_vectors v ON v.id = t.id WHERE t.id > ? ORDER BY t.id LIMIT ?
"""
_SEVERAL: Final = (
    f"SELECT t.id, {_TURN} FROM __memoturn_turns t WHERE t.id IN (SELECT value FROM json_each(?))"
)
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)


class Turn(NamedTuple):
    """A turn to append, checked: its embedding as it is kept."""

    role: str
    content: str
    created_at: UnixMs
    embedding: bytes | None


class Found(NamedTuple):
    """A turn that is kept, and how well it was found: higher is better, and 0 where nothing was searched for."""

    session: str
    seq: int
    role: str
    content: str
    created_at: UnixMs
    score: float = 0.0


class Session(NamedTuple):
    """How many turns a session has, and when the first and the last were made."""

    session: str
    turns: int
    first_at: UnixMs
    last_at: UnixMs


def check_session(session: object) -> str:
    """`session` itself, if it can name one. Raises `InvalidRequestError`."""
    return _named("a session", session)


def turn(role: object, content: object, created_at: UnixMs, vector: Any = None) -> Turn:
    """A turn to append. Raises `InvalidRequestError` and `PayloadTooLargeError`."""
    if not isinstance(content, str):
        raise InvalidRequestError(f"the content of a turn is text, not {shown(content)}")
    size = _bytes_of("the content of a turn", content)
    if size > MAX_CONTENT:
        raise PayloadTooLargeError(f"a turn of {size:,} bytes is too large; {MAX_CONTENT:,} is the most")
    blob = None if vector is None else embedding.encode(vector)
    return Turn(_named("a role", role), content, created_at, blob)


def _named(what: str, name: object) -> str:
    if not isinstance(name, str) or not 1 <= _bytes_of(what, name) <= MAX_NAME:
        raise InvalidRequestError(f"{what} is a text of 1 to {MAX_NAME} bytes, not {shown(name)}")
    return name


def _bytes_of(what: str, text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"{what} has to be Unicode text: {error}") from None


def about(role: str, created_at: UnixMs) -> str:
    """What can be searched for beside the content: who said it, and the date in words."""
    time = time_of(created_at)
    return f"{role} {_DAYS[time.weekday()]} {time.day} {_MONTHS[time.month - 1]} {time.year}"


# Writing. Each is one transaction.


def append(
    connection: Connection, session: str, turns: Sequence[Turn], stamps: Callable[[], int]
) -> list[int]:
    """Append turns to a session; returns their numbers in it.

    Raises `InvalidRequestError` if an embedding has another dimension than those that are there.
    """

    def work() -> list[int]:
        execute = connection.execute
        dimension: int | None = None
        numbers: list[int] = []
        blocks: set[int] = set()
        for one in turns:
            rows: Rows = execute(_APPEND, (session, one.role, one.content, one.created_at)).fetchall()
            id_, seq = rows[0]
            execute(_APPEND_WORDS, (id_, one.content, about(one.role, one.created_at)))
            if one.embedding is not None:
                if dimension is None:
                    dimension = _dimension(execute(_ANY_VECTOR).fetchall(), one.embedding)
                embedding.check_dimension(one.embedding, dimension, "the turns that are there")
                execute(_APPEND_VECTOR, (id_, one.embedding))
            numbers.append(seq)
            blocks.add(id_ >> 8)
        _stamp(connection, blocks, stamps)
        return numbers

    return transact(connection, SCHEMA, work)


def _dimension(there: list[tuple[Any, ...]], new: bytes) -> int:
    return embedding.dimension(there[0][0] if there else new)


def _stamp(connection: Connection, blocks: Iterable[int], stamps: Callable[[], int]) -> None:
    for block in blocks:
        connection.execute(_STAMP, (block, stamps()))


def forget_session(connection: Connection, session: str, stamps: Callable[[], int]) -> int:
    """Remove a session with its turns, their words and vectors; returns how many turns it had."""
    if not ask(connection, _WINDOW, (session, 1)):
        return 0
    return transact(connection, None, lambda: forget_within(connection, session, stamps))


def forget_within(connection: Connection, session: str, stamps: Callable[[], int]) -> int:
    """The same inside of a transaction."""
    blocks = [block for (block,) in connection.execute(_BLOCKS, (session,))]
    for statement in _FORGET:
        connection.execute(statement, (session,))
    forgotten = connection.changes()
    _stamp(connection, blocks, stamps)
    return forgotten


# Reading.


def window(connection: Connection, session: str, last: int) -> list[Found]:
    """The last turns of a session, the oldest first."""
    return [Found(*row) for row in reversed(ask(connection, _WINDOW, (session, last)))]


def sessions(connection: Connection, after: str, limit: int) -> list[Session]:
    """Sessions in the order of their names, beginning after one."""
    return [Session(*row) for row in ask(connection, _SESSIONS, (after, limit))]


def count(connection: Connection) -> int:
    """How many turns there are, of all sessions."""
    rows = ask(connection, "SELECT count(*) FROM __memoturn_turns")
    return int(rows[0][0]) if rows else 0


def after(connection: Connection, id_: int, limit: int) -> list[tuple[int, Found, bytes | None]]:
    """The turns that were appended next after `id_`: their ids, themselves and their embeddings."""
    return [(row[0], Found(*row[1:6]), row[6]) for row in ask(connection, _AFTER, (id_, limit))]


def several(connection: Connection, ids: Sequence[int]) -> dict[int, Found]:
    """Turns by their ids."""
    rows = ask(connection, _SEVERAL, (msgspec.json.encode(ids).decode(),))
    return {row[0]: Found(*row[1:]) for row in rows}


def by_words(connection: Connection, session: str | None, match: str, k: int) -> list[Found]:
    """The turns that an expression of FTS5 finds, the best by BM25 first; of equals the newer first."""
    return [Found(*row) for row in ask_trusted(connection, _BY_WORDS, (match, session, k))]


def by_vector(connection: Connection, session: str | None, vector: bytes, k: int) -> list[Found]:
    """The turns whose embedding is nearest by its angle; the score is the cosine. Raises `InvalidRequestError`."""
    there = ask(connection, _ANY_VECTOR)
    if not there:
        return []
    embedding.check_dimension(vector, embedding.dimension(there[0][0]), "the turns that are there")
    return [Found(*row) for row in ask_distances(connection, _BY_VECTOR, (vector, session, k))]
