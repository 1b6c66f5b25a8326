"""Typed memories: the tables that hold them, and what ingesting, forgetting and ending a session do to them.

Of a topic, one fact and one instruction is valid at a time: its `valid_to` is null, and `superseded_by` of the
others leads to it. A memory that becomes valid always gets a `seq` above all others, so the order of `seq` is the
order in which things were learned.

A *block* is 256 numbers of `seq`. Each write gives the blocks that it touches a fresh random stamp: under one stamp a
block has the same content on every branch and at every position, which is what `blocks.py` builds on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

from memoturn.base.errors import InvalidRequestError
from memoturn.base.txids import UnixMs
from memoturn.models import transcripts
from memoturn.models.memory_draft import SUPERSEDED, Draft, canonical, indexed_text
from memoturn.models.reserved import Connection, ask, transact

SCHEMA: Final = """
CREATE TABLE __memoturn_memories (
  seq INTEGER PRIMARY KEY, id BLOB NOT NULL, type TEXT NOT NULL, topic_key TEXT, summary TEXT NOT NULL, keywords TEXT,
  content TEXT, session_id TEXT, source TEXT, valid_from INTEGER NOT NULL, valid_to INTEGER, superseded_by BLOB,
  expires_at INTEGER, words INTEGER NOT NULL
);
CREATE UNIQUE INDEX __memoturn_memories_id ON __memoturn_memories (id);
CREATE INDEX __memoturn_memories_topic ON __memoturn_memories (topic_key, type) WHERE topic_key IS NOT NULL;
CREATE INDEX __memoturn_memories_session ON __memoturn_memories (session_id, type) WHERE session_id IS NOT NULL;
CREATE INDEX __memoturn_memories_superseded ON __memoturn_memories (superseded_by) WHERE superseded_by IS NOT NULL;
CREATE VIRTUAL TABLE __memoturn_memories_text USING
  fts5(indexed, content='', columnsize=0, tokenize='porter unicode61');
INSERT INTO __memoturn_memories_text (__memoturn_memories_text, rank) VALUES ('secure-delete', 1);
CREATE VIRTUAL TABLE __memoturn_memories_terms USING fts5vocab(__memoturn_memories_text, instance);
CREATE TABLE __memoturn_memory_vectors (seq INTEGER PRIMARY KEY, model INTEGER NOT NULL, vector BLOB NOT NULL);
CREATE TABLE __memoturn_memory_models (id INTEGER PRIMARY KEY, name TEXT NOT NULL, dimension INTEGER NOT NULL);
CREATE TABLE __memoturn_memory_blocks (block INTEGER PRIMARY KEY, stamp INTEGER NOT NULL)
"""

BLOCK_BITS: Final = 8

_COLUMNS: Final = (
    "m.seq, m.id, m.type, m.topic_key, m.summary, m.keywords, m.content, m.session_id, m.source, m.valid_from, "
    "m.valid_to, m.superseded_by, m.expires_at"
)
_FROM: Final = (
    "FROM __memoturn_memories m LEFT JOIN __memoturn_memory_vectors v ON v.seq = m.seq "
    "LEFT JOIN __memoturn_memory_models n ON n.id = v.model"
)
_ROW: Final = f"SELECT {_COLUMNS}, n.name, NULL {_FROM}"
_GET: Final = f"{_ROW} WHERE m.id = ?"
_TOPIC: Final = f"{_ROW} WHERE m.topic_key = ? AND m.type = ? ORDER BY m.seq"
_SEVERAL: Final = f"{_ROW} WHERE m.seq IN (SELECT value FROM json_each(?))"
_AFTER: Final = f"SELECT {_COLUMNS}, n.name, v.vector {_FROM} WHERE m.seq > ? ORDER BY m.seq LIMIT ?"
_COUNT: Final = "SELECT count(*) FROM __memoturn_memories"
_STATE: Final = (
    "SELECT m.seq, m.valid_from, m.valid_to, m.expires_at, v.seq FROM __memoturn_memories m "
    "LEFT JOIN __memoturn_memory_vectors v ON v.seq = m.seq WHERE m.id = ?"
)
_WORDS: Final = (
    "SELECT summary, keywords, topic_key, source, valid_from FROM __memoturn_memories WHERE seq = ?"
)
_VALID: Final = (
    "SELECT seq, valid_from, id FROM __memoturn_memories "
    "WHERE topic_key = ? AND type = ? AND valid_to IS NULL"
)
_SUPERSEDE: Final = "UPDATE __memoturn_memories SET valid_to = ?, superseded_by = ? WHERE seq = ?"
_RELINK: Final = "UPDATE __memoturn_memories SET superseded_by = ?2 WHERE superseded_by = ?1"
_LAST: Final = "SELECT max(seq) FROM __memoturn_memories"
_INSERT: Final = (
    "INSERT INTO __memoturn_memories (seq, id, type, topic_key, summary, keywords, content, session_id, source, "
    "valid_from, valid_to, superseded_by, expires_at, words) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_REMOVE: Final = "DELETE FROM __memoturn_memories WHERE seq = ?"
_INDEX: Final = "INSERT INTO __memoturn_memories_text (rowid, indexed) VALUES (?, ?)"
_UNINDEX: Final = (
    "INSERT INTO __memoturn_memories_text (__memoturn_memories_text, rowid, indexed) VALUES ('delete', ?, ?)"
)
_PUT_VECTOR: Final = "INSERT INTO __memoturn_memory_vectors (seq, model, vector) VALUES (?, ?, ?)"
_MOVE_VECTOR: Final = "UPDATE __memoturn_memory_vectors SET seq = ? WHERE seq = ?"
_DROP_VECTOR: Final = "DELETE FROM __memoturn_memory_vectors WHERE seq = ?"
_DROP_MODEL: Final = (
    "DELETE FROM __memoturn_memory_models WHERE NOT EXISTS (SELECT 1 FROM __memoturn_memory_vectors)"
)
_MODEL: Final = "SELECT id, name, dimension FROM __memoturn_memory_models"
_NEW_MODEL: Final = "INSERT INTO __memoturn_memory_models (id, name, dimension) VALUES (1, ?, ?)"
_STAMP: Final = (
    "INSERT INTO __memoturn_memory_blocks (block, stamp) VALUES (?, ?) "
    "ON CONFLICT (block) DO UPDATE SET stamp = excluded.stamp"
)
_DROP_EMPTY: Final = (
    "DELETE FROM __memoturn_memory_blocks WHERE block = ?1 AND NOT EXISTS (SELECT 1 FROM __memoturn_memories "
    f"WHERE seq BETWEEN ?1 << {BLOCK_BITS} AND (?1 << {BLOCK_BITS}) + {(1 << BLOCK_BITS) - 1})"
)
_SESSIONS: Final = (
    "SELECT session_id, count(*), min(valid_from), max(valid_from) FROM __memoturn_memories "
    "WHERE session_id IS NOT NULL GROUP BY session_id ORDER BY session_id"
)
_TASKS: Final = "SELECT seq, id FROM __memoturn_memories WHERE session_id = ? AND type = 'task'"
_WITHOUT_VECTOR: Final = (
    "SELECT m.seq, m.id, m.type, m.source, m.summary FROM __memoturn_memories m WHERE m.seq > ? AND NOT EXISTS "
    "(SELECT 1 FROM __memoturn_memory_vectors v WHERE v.seq = m.seq) ORDER BY m.seq LIMIT ?"
)

Stamps = Callable[[], int]
"""Draws what no block has ever been stamped with."""


class Kept(NamedTuple):
    """A memory as it is kept; `vector` is there only where it was asked for."""

    seq: int
    id: bytes
    type: str
    topic_key: str | None
    summary: str
    keywords: str | None
    content: str | None
    session_id: str | None
    source: str | None
    valid_from: UnixMs
    valid_to: UnixMs | None
    superseded_by: bytes | None
    expires_at: UnixMs | None
    model: str | None
    vector: bytes | None

    def content_value(self) -> Any:
        """The content as it was given; the summary, if there was none."""
        return self.summary if self.content is None else json.loads(self.content)

    def keyword_list(self) -> list[str]:
        """The keywords, as they were given."""
        return [] if self.keywords is None else json.loads(self.keywords)


class Bare(NamedTuple):
    """What an embedder needs to know of a memory."""

    seq: int
    id: bytes
    type: str
    source: str | None
    summary: str


class Standing(NamedTuple):
    """What is known of a memory with the id of a draft before it is ingested."""

    seq: int
    valid_from: int
    valid_to: int | None
    expires_at: int | None
    vector: int | None


Status = Literal["created", "duplicate", "revived"]


class Outcome(NamedTuple):
    """What became of one draft, and which memory it superseded."""

    id: bytes
    status: Status
    superseded: bytes | None


class Past(NamedTuple):
    """What an imported memory brings with it: when it ceased to be valid, by what, and when it expires."""

    valid_to: int | None
    superseded_by: bytes | None
    expires_at: int | None


def status_of(standing: Standing | None, now: int) -> Status:
    """What a draft is, if that is what stands under its id."""
    if standing is None:
        return "created"
    if standing.valid_to is not None or (standing.expires_at is not None and standing.expires_at <= now):
        return "revived"
    return "duplicate"


# Reading.


def get(connection: Connection, memory: bytes) -> Kept | None:
    """One memory."""
    rows = ask(connection, _GET, (memory,))
    return Kept(*rows[0]) if rows else None


def chain(connection: Connection, kept: Kept) -> list[Kept]:
    """What has been held of the same topic, in the order in which it was learned; the memory itself at least."""
    if kept.topic_key is None or kept.type not in SUPERSEDED:
        return [kept]
    return [Kept(*row) for row in ask(connection, _TOPIC, (kept.topic_key, kept.type))]


def several(connection: Connection, seqs: Sequence[int]) -> dict[int, Kept]:
    """Memories by their `seq`."""
    rows = ask(connection, _SEVERAL, (json.dumps(list(seqs)),))
    return {row[0]: Kept(*row) for row in rows}


def after(connection: Connection, seq: int, limit: int) -> list[Kept]:
    """The memories that were learned next after `seq`, with their vectors."""
    return [Kept(*row) for row in ask(connection, _AFTER, (seq, limit))]


def count(connection: Connection) -> int:
    """How many memories there are, whatever their state."""
    rows = ask(connection, _COUNT)
    return int(rows[0][0]) if rows else 0


def model(connection: Connection) -> tuple[str, int] | None:
    """The name of the model that made the vectors, empty if none was told, and their dimension."""
    rows = ask(connection, _MODEL)
    return (rows[0][1], rows[0][2]) if rows else None


def have_vectors(connection: Connection, ids: Sequence[bytes]) -> set[bytes]:
    """Which of these memories are there with a vector."""
    found = set()
    for memory in ids:
        rows = ask(connection, _STATE, (memory,))
        if rows and rows[0][4] is not None:
            found.add(memory)
    return found


def without_vector(connection: Connection, seq: int, limit: int) -> list[Bare]:
    """The next memories after `seq` that have no vector."""
    return [Bare(*row) for row in ask(connection, _WITHOUT_VECTOR, (seq, limit))]


def sessions(connection: Connection) -> list[tuple[str, int, UnixMs, UnixMs]]:
    """Each session with how many memories it has, and the times of the first and the last."""
    return [(name, count, first, last) for name, count, first, last in ask(connection, _SESSIONS)]


# Writing. Each is one transaction.


def ingest(connection: Connection, drafts: Sequence[Draft], now: int, stamps: Stamps) -> list[Outcome]:
    """Remember drafts, each as if it came alone after those before it."""

    def work() -> list[Outcome]:
        writing = _Writing(connection, now, stamps)
        outcomes = [writing.ingest(draft) for draft in drafts]
        writing.finish()
        return outcomes

    return transact(connection, SCHEMA, work)


def restore(
    connection: Connection, drafts: Sequence[tuple[Draft, Past]], now: int, stamps: Stamps
) -> list[Outcome]:
    """Take memories over from an export. What is there already stays as it is.

    Of two that are valid for one topic, the one that is valid since later stays so.
    """

    def work() -> list[Outcome]:
        writing = _Writing(connection, now, stamps)
        outcomes = [writing.restore(draft, past) for draft, past in drafts]
        writing.finish()
        return outcomes

    return transact(connection, SCHEMA, work)


def forget(connection: Connection, memory: bytes, stamps: Stamps) -> bool:
    """Remove a memory with its index entries and its vector; returns whether it was there."""
    if not ask(connection, _STATE, (memory,)):
        return False

    def work() -> bool:
        with _overwriting(connection):
            writing = _Writing(connection, 0, stamps)
            writing.forget(memory)
            writing.finish()
        return True

    return transact(connection, None, work)


def end_session(connection: Connection, session_id: str, stamps: Stamps, turns: bool) -> tuple[int, int]:
    """Remove the tasks of a session, and its turns if they shall go too; returns how many of each."""
    tasks = ask(connection, _TASKS, (session_id,))
    turns = turns and bool(transcripts.window(connection, session_id, 1))
    if not tasks and not turns:
        return 0, 0

    def work() -> tuple[int, int]:
        with _overwriting(connection):
            if tasks:
                writing = _Writing(connection, 0, stamps)
                for _seq, memory in tasks:
                    writing.forget(memory)
                writing.finish()
            return len(tasks), transcripts.forget_within(connection, session_id, stamps) if turns else 0

    return transact(connection, None, work)


def add_vectors(
    connection: Connection, vectors: Sequence[tuple[bytes, bytes]], name: str, stamps: Stamps
) -> int:
    """Give memories vectors of one model, those that are there and have none; returns how many."""

    def work() -> int:
        writing = _Writing(connection, 0, stamps)
        added = sum(writing.add_vector(memory, vector, name) for memory, vector in vectors)
        writing.finish()
        return added

    return transact(connection, None, work)


@contextlib.contextmanager
def _overwriting(connection: Connection) -> Iterator[None]:
    """While it holds, SQLite overwrites what it frees, in pages that stay as in those that it lets go."""
    connection.execute("PRAGMA secure_delete=ON").fetchall()
    try:
        yield
    finally:
        connection.execute("PRAGMA secure_delete=OFF").fetchall()


class _Writing:
    """What one transaction does, statement by statement, and which blocks it has touched."""

    def __init__(self, connection: Connection, now: int, stamps: Stamps) -> None:
        self._run = connection.execute
        self._now = now
        self._stamps = stamps
        self._blocks: set[int] = set()
        self._emptied: set[int] = set()
        self._model: tuple[int, str, int] | None = self._run(_MODEL).fetchone()
        self._last: int = self._run(_LAST).get or 0

    def ingest(self, draft: Draft) -> Outcome:
        standing = self._standing(draft.id)
        status = status_of(standing, self._now)
        if status == "duplicate":
            if standing is not None and standing.vector is None and draft.vector is not None:
                self._put_vector(standing.seq, draft.vector, draft.model)
            return Outcome(draft.id, status, None)
        valid_from = self._now if draft.valid_from is None else draft.valid_from
        superseded = None
        valid = self._valid(draft)
        if valid is not None:
            superseded = self._supersede(valid, draft.id, valid_from)
        expires_at = None if draft.ttl_ms is None else self._now + draft.ttl_ms
        self._insert(draft, valid_from, Past(None, None, expires_at), standing)
        return Outcome(draft.id, status, superseded)

    def restore(self, draft: Draft, past: Past) -> Outcome:
        standing = self._standing(draft.id)
        if standing is not None:
            if standing.vector is None and draft.vector is not None:
                self._put_vector(standing.seq, draft.vector, draft.model)
            return Outcome(draft.id, "duplicate", None)
        valid_from = self._now if draft.valid_from is None else draft.valid_from
        superseded = None
        valid = self._valid(draft) if past.valid_to is None else None
        if valid is not None and valid[1] > valid_from:
            past = past._replace(valid_to=valid[1], superseded_by=valid[2])
        elif valid is not None:
            superseded = self._supersede(valid, draft.id, valid_from)
        if draft.ttl_ms is not None and past.expires_at is None:
            past = past._replace(expires_at=self._now + draft.ttl_ms)
        self._insert(draft, valid_from, past, None)
        return Outcome(draft.id, "created", superseded)

    def forget(self, memory: bytes) -> None:
        row: Any = self._run(_GET, (memory,)).fetchone()
        kept = Kept(*row)
        # Whoever was superseded by it is now superseded by what superseded it.
        self._run(_RELINK, (memory, kept.superseded_by))
        self._remove(kept.seq)
        self._run(_DROP_VECTOR, (kept.seq,))
        self._run(_DROP_MODEL)

    def add_vector(self, memory: bytes, vector: bytes, name: str) -> bool:
        standing = self._standing(memory)
        if standing is None or standing.vector is not None:
            return False
        self._put_vector(standing.seq, vector, name)
        return True

    def finish(self) -> None:
        for block in sorted(self._blocks):
            self._run(_STAMP, (block, self._stamps()))
        for block in self._emptied:
            self._run(_DROP_EMPTY, (block,))

    def _standing(self, memory: bytes) -> Standing | None:
        row = self._run(_STATE, (memory,)).fetchone()
        return None if row is None else Standing(*row)

    def _valid(self, draft: Draft) -> tuple[int, int, bytes] | None:
        """The seq, time and id of the memory that a draft would supersede."""
        if draft.topic_key is None or draft.type not in SUPERSEDED:
            return None
        return self._run(_VALID, (draft.topic_key, draft.type)).fetchone()

    def _supersede(self, valid: tuple[int, int, bytes], by: bytes, valid_from: int) -> bytes:
        seq, since, memory = valid
        self._run(_SUPERSEDE, (max(since, valid_from), by, seq))
        self._touch(seq)
        return memory

    def _insert(self, draft: Draft, valid_from: int, past: Past, former: Standing | None) -> None:
        self._last = seq = self._last + 1
        if former is not None:
            # It is learned anew. Nothing but its vector is left of how it was learned before.
            self._remove(former.seq)
            if draft.vector is None:
                self._run(_MOVE_VECTOR, (seq, former.seq))
            else:
                self._run(_DROP_VECTOR, (former.seq,))
        text = indexed_text(draft.summary, draft.keywords, draft.topic_key, draft.source, valid_from)
        self._run(
            _INSERT,
            (
                seq, draft.id, draft.type, draft.topic_key, draft.summary, draft.keywords,
                None if draft.content == canonical(draft.summary) else draft.content,
                draft.session_id, draft.source, valid_from, *past, text.count(" ") + 1,
            ),
        )  # fmt: skip
        self._run(_INDEX, (seq, text))
        if draft.vector is not None:
            self._put_vector(seq, draft.vector, draft.model)
        self._touch(seq)

    def _remove(self, seq: int) -> None:
        said: Any = self._run(_WORDS, (seq,)).fetchone()
        self._run(_UNINDEX, (seq, indexed_text(*said)))
        self._run(_REMOVE, (seq,))
        self._touch(seq)
        self._emptied.add(seq >> BLOCK_BITS)

    def _put_vector(self, seq: int, vector: bytes, name: str | None) -> None:
        model = self._model
        if model is None:
            self._run(_NEW_MODEL, (name or "", len(vector) // 4))
            model = self._model = (1, name or "", len(vector) // 4)
        check_model(model[1], model[2], name or "", len(vector) // 4)
        self._run(_PUT_VECTOR, (seq, model[0], vector))
        self._touch(seq)

    def _touch(self, seq: int) -> None:
        self._blocks.add(seq >> BLOCK_BITS)


def check_model(name: str, dimension: int, other: str, other_dimension: int) -> None:
    """Raise `InvalidRequestError` unless vectors of `other` can be compared with those that are kept."""
    if name == other and dimension == other_dimension:
        return
    raise InvalidRequestError(
        f"the vectors here have {dimension} dimensions and are of {_called(name)}; those of {_called(other)} with "
        f"{other_dimension} cannot be mixed with them. Use the same model, and name it the same"
    )


def _called(name: str) -> str:
    return f"the model {name!r}" if name else "a model that was not named"
