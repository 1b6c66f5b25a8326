"""What recall keeps in memory of a position: what stands beside what, until when, and the matrix of vectors.

All of it is derived, and never the authority. A database keeps a random stamp for every block of 256 memories, and of
256 turns, drawn anew whenever one of them changes; under one stamp a block has one content, on whatever branch and at
whatever position. So a block is read once and then shared by everything that has it: a fork has all blocks of its
parent, and a rewind finds those that were there before. With or without them an answer is the same, because they are
always computed in the same way from the same rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from memoturn.base.cache import GenerationalCache
from memoturn.models import bm25
from memoturn.models.bm25 import Singles
from memoturn.models.memories import BLOCK_BITS
from memoturn.models.memory_draft import TYPES
from memoturn.models.reserved import Connection, ask, ask_trusted

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)

_numbers: Final = itertools.count()

Stamps = tuple[tuple[int, int], ...]
"""Which stamp each block has."""

NEVER: Final = (1 << 63) - 1
"""The end of what has none."""
TURN: Final = "turn"
FIRST_TURN: Final = 1 << 48
"""Added to the id of a turn where it stands among memories."""
_FIRST_TURN_BLOCK: Final = FIRST_TURN >> BLOCK_BITS
_STAMPS: Final = "SELECT block, stamp FROM __memoturn_memory_blocks ORDER BY block"
_TURN_STAMPS: Final = f"SELECT block + {_FIRST_TURN_BLOCK}, stamp FROM __memoturn_turn_blocks ORDER BY block"
_TURN_ROWS: Final = (
    f"SELECT t.id + {FIRST_TURN}, '{TURN}', t.session, t.role, t.created_at, NULL, NULL, "
    "length(t.content) - length(replace(t.content, ' ', '')) + 6, v.embedding "
    "FROM __memoturn_turns t LEFT JOIN __memoturn_turn_vectors v ON v.id = t.id "
    f"WHERE t.id BETWEEN ?1 - {FIRST_TURN} AND ?2 - {FIRST_TURN} ORDER BY t.id"
)
_ROWS: Final = (
    "SELECT m.seq, m.type, m.session_id, m.source, m.valid_from, m.valid_to, m.expires_at, m.words, v.vector "
    "FROM __memoturn_memories m LEFT JOIN __memoturn_memory_vectors v ON v.seq = m.seq "
    "WHERE m.seq BETWEEN ?1 AND ?2 ORDER BY m.seq"
)
_NUMBER_OF_TYPE: Final = {name: number for number, name in enumerate((*TYPES, TURN))}
_SIZE: Final = 1 << BLOCK_BITS


class Block(NamedTuple):
    """Up to 256 memories, or turns, in the order of their `seq`; `vectors` are those of `rows`, of length 1."""

    seqs: Ints
    types: Ints
    sessions: Ints
    sources: Ints
    since: Ints
    until: Ints
    expires: Ints
    words: Ints
    rows: Ints
    vectors: Singles

    def weight(self) -> int:
        """How many bytes it takes, about."""
        return self.vectors.nbytes + len(self.seqs) * 80 + 1024


def key_of(text: str | None) -> int:
    """A number that stands for a session or a source within this process; 0 for none."""
    return 0 if text is None else hash(text) or 1


def number_of_type(name: str) -> int:
    """The number that stands for a type."""
    return _NUMBER_OF_TYPE[name]


def read_block(connection: Connection, block: int) -> Block:
    """A block from the rows of the database."""
    sql = _ROWS if block < _FIRST_TURN_BLOCK else _TURN_ROWS
    rows = ask_trusted(connection, sql, (block << BLOCK_BITS, (block << BLOCK_BITS) + _SIZE - 1))
    table: Ints = np.array(
        [
            (
                seq, _NUMBER_OF_TYPE[kind], key_of(session), key_of(source), since,
                NEVER if until is None else until, NEVER if expires is None else expires, words,
            )
            for seq, kind, session, source, since, until, expires, words, _ in rows
        ],
        np.int64,
    ).reshape(-1, 8)  # fmt: skip
    blobs = [row[8] for row in rows]
    with_vector = [i for i, blob in enumerate(blobs) if blob is not None]
    raw = b"".join(blob for blob in blobs if blob is not None)
    vectors: Singles = np.frombuffer(raw, "<f4").reshape(len(with_vector), -1 if raw else 0)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    unit = (vectors / lengths[:, None]).astype(np.float32) if len(with_vector) else vectors
    seqs, types, sessions, sources, since, ends, expire, words_ = (np.ascontiguousarray(c) for c in table.T)
    places = np.array(with_vector, np.int64)
    return Block(seqs, types, sessions, sources, since, ends, expire, words_, places, unit)


def _beside_each_other(blocks: list[Block]) -> list[Block]:
    """The same blocks with vectors of one dimension in one piece of memory, which is read through faster."""
    if len({block.vectors.shape[1] for block in blocks}) != 1:
        return blocks
    whole = np.concatenate([block.vectors for block in blocks])
    ends = np.cumsum([len(block.vectors) for block in blocks])
    return [
        block._replace(vectors=whole[end - len(block.vectors) : end])
        for block, end in zip(blocks, ends, strict=True)
    ]


class Worth(NamedTuple):
    """What a term is worth by BM25: for each memory, for its neighbourhood, and for each session."""

    alone: Singles
    nearby: Singles
    session: Singles

    def weight(self) -> int:
        """How many bytes it takes, about."""
        return sum(values.nbytes for values in self) + 256


Worths = GenerationalCache[tuple[int, str], Worth]
"""By the number of a group, and a term."""


class Frame:
    """All memories at a position, in the order of their `seq`, and the vectors block by block.

    `worths` keeps what terms that were asked for are worth among them.
    """

    def __init__(self, blocks: Sequence[Block], worths: Worths) -> None:
        self.blocks = blocks
        self.worths = worths
        self.starts = np.cumsum([0, *(len(block.seqs) for block in blocks)])
        (
            self.seqs,
            self.types,
            self.sessions,
            self.sources,
            self.since,
            self.until,
            self.expires,
            self.words,
        ) = (
            np.concatenate([np.zeros(0, np.int64), *(block[column] for block in blocks)])
            for column in range(8)
        )
        self._groups: dict[bool, Group] = {}
        self._is_whole = bool(len(self.seqs)) and int(self.seqs[-1] - self.seqs[0]) == len(self.seqs) - 1

    def rows_of(self, seqs: Ints) -> Ints:
        """The rows of memories by their `seq`."""
        rows: Ints = seqs - self.seqs[0] if self._is_whole else np.searchsorted(self.seqs, seqs)
        return rows

    def weight(self) -> int:
        """How many bytes it keeps, about."""
        return sum(block.weight() for block in self.blocks) + len(self.seqs) * 100

    def cosines(self, vector: Singles) -> tuple[Singles, Bools]:
        """The cosine of each memory's vector with one of length 1, and which memories have a vector at all."""
        scores = np.zeros(len(self.seqs), np.float32)
        found = np.zeros(len(self.seqs), np.bool_)
        for block, start in zip(self.blocks, self.starts, strict=False):
            if block.vectors.shape[1] != len(vector):
                continue
            # Row by row, so that a cosine does not depend on what else is in the block.
            if len(block.rows) == len(block.seqs):
                end = start + len(block.rows)
                np.vecdot(block.vectors, vector, out=scores[start:end])
                found[start:end] = True
            elif len(block.rows):
                scores[start + block.rows] = np.vecdot(block.vectors, vector)
                found[start + block.rows] = True
        return scores, found

    def group(self, now: int, include_superseded: bool) -> Group:
        """The memories that are not expired and, unless they are wanted, not superseded."""
        group = self._groups.get(include_superseded)
        if group is None or not group.begins <= now < group.ends:
            group = self._groups[include_superseded] = Group(self, now, include_superseded)
        return group


def _stand_together(sessions: Ints) -> bool:
    """Whether the memories of every session follow each other already."""
    heads = np.concatenate([sessions[:1], sessions[1:][sessions[1:] != sessions[:-1]]])
    heads = heads[heads != 0]
    return len(np.unique(heads)) == len(heads)


class Group:
    """Some memories of a frame, those of a session beside each other in the order in which they were learned.

    `rows` are their places in the frame; `places` is the reverse, -1 for what is not among them. `session` numbers
    their sessions, `around` says how many stand around each, itself included; `number` is the group's own, and the
    scales are BM25's. It holds from `begins` to before `ends`, when another memory
    expires.
    """

    def __init__(self, frame: Frame, now: int, include_superseded: bool) -> None:
        self.number = next(_numbers)
        living = frame.expires > now
        gone, coming = frame.expires[~living], frame.expires[living]
        self.begins = int(gone.max()) if len(gone) else -NEVER
        self.ends = int(coming.min()) if len(coming) else NEVER
        if not include_superseded:
            living &= frame.until == NEVER
        rows = np.flatnonzero(living)
        sessions = frame.sessions[rows]
        if not _stand_together(sessions):
            order = np.argsort(sessions, kind="stable")
            rows, sessions = rows[order], sessions[order]
        self.rows: Ints = rows
        self.places: Ints = np.full(len(frame.seqs), -1, np.int64)
        self.places[rows] = np.arange(len(rows))
        are_turns = frame.seqs[rows] >= FIRST_TURN
        together = (sessions[1:] == sessions[:-1]) & (sessions[1:] != 0) & (are_turns[1:] == are_turns[:-1])
        self.session: Ints = np.concatenate([rows[:1] * 0, np.cumsum(~together)])
        self._joined: list[Singles] = []
        for distance in range(1, 3):
            same = self.session[distance:] == self.session[:-distance]
            self._joined.append(same.astype(np.float32))
        self._is_whole = len(rows) == len(frame.seqs) and bool((rows[1:] > rows[:-1]).all())
        words = self.of(frame.words).astype(np.float32)
        self.scale = bm25.scale(words, bm25.B_ALONE)
        self.scale_nearby = bm25.scale(self.nearby(words), bm25.B_NEARBY)
        in_session = np.bincount(self.session, weights=words).astype(np.float32)
        self.scale_session = bm25.scale(in_session, bm25.B_SESSION)
        self.around = self.nearby(np.ones(len(rows), np.float32))

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, values: NDArray[T]) -> NDArray[T]:
        """The values of these memories among those of all."""
        return values if self._is_whole else values[self.rows]

    def nearby(self, values: Singles) -> Singles:
        """For each memory the sum of what stands from two before it to two after it in its session."""
        total = values.copy()
        for distance, joined in enumerate(self._joined, 1):
            total[distance:] += values[:-distance] * joined
            total[:-distance] += values[distance:] * joined
        return total


class Frames:
    """The blocks and frames that were needed lately, of all databases of a process; `budget` is in bytes."""

    def __init__(self, budget: int) -> None:
        self._blocks: GenerationalCache[tuple[str, int, int], Block] = GenerationalCache(budget, Block.weight)
        self._frames: GenerationalCache[tuple[str, Stamps], Frame] = GenerationalCache(budget, Frame.weight)
        self._worths: Worths = GenerationalCache(budget // 4, Worth.weight)

    def at(self, connection: Connection, database: str, turns: bool = False) -> Frame:
        """The frame of the position that the connection shows; `database` is the uuid."""
        stamps: Stamps = tuple(ask(connection, _STAMPS))
        if turns:
            stamps += tuple(ask(connection, _TURN_STAMPS))
        frame = self._frames.get((database, stamps))
        if frame is None:
            frame = Frame(self._blocks_of(connection, database, stamps), self._worths)
            self._frames.put((database, stamps), frame)
        return frame

    def _blocks_of(self, connection: Connection, database: str, stamps: Stamps) -> list[Block]:
        found = {block: self._blocks.get((database, block, stamp)) for block, stamp in stamps}
        missing = [(block, stamp) for block, stamp in stamps if found[block] is None]
        read = [read_block(connection, block) for block, _ in missing]
        if len(read) > 1:
            read = _beside_each_other(read)
        for (block, stamp), there in zip(missing, read, strict=True):
            found[block] = there
            self._blocks.put((database, block, stamp), there)
        return [block for block in found.values() if block is not None]
