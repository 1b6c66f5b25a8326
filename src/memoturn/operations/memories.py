"""Typed memories of a profile, which is the database `{ns}--{profile}`: ingest, get, forget, sessions.

Embedding happens before the branch is asked for, so no writer ever waits for an embedder; if that fails, memories
are kept without, and the answer says so. `embed` makes up for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from memoturn.base.clock import time_of, time_or_none
from memoturn.base.embedding import Embedder
from memoturn.base.errors import (
    AlreadyExistsError,
    DatabaseNotFoundError,
    InvalidRequestError,
    MemoturnError,
    PayloadTooLargeError,
    UnavailableError,
)
from memoturn.base.names import PROFILE_SEPARATOR, Address, check_name
from memoturn.base.results.memories import (
    EmbedResult,
    EndSessionResult,
    ForgetResult,
    Ingested,
    IngestResult,
    Memory,
    MemoryChain,
    MemorySession,
)
from memoturn.base.txids import TXID
from memoturn.models import memories as model
from memoturn.models import transcripts
from memoturn.models.embedding import encode
from memoturn.models.memories import Bare, Kept
from memoturn.models.memory_draft import (
    MAX_BATCH,
    Draft,
    draft_of,
    embedded_text,
    id_bytes,
    id_text,
    name_of,
)
from memoturn.models.reserved import Connection
from memoturn.node.engine import Engine
from memoturn.operations import databases
from memoturn.operations.positions import writable
from memoturn.operations.reading import read, stamps_of

T = TypeVar("T")
EMBEDDED_AT_ONCE: Final = 64
NEVER: Final = (1 << 63) - 1


def profiles(engine: Engine, ns: str) -> Iterator[str]:
    """The profiles of a namespace, in the order of their names."""
    check_name("namespace", ns)
    prefix = f"{ns}{PROFILE_SEPARATOR}"
    for info in databases.list_(engine, cursor=prefix):
        if not info.name.startswith(prefix):
            return
        yield info.name.removeprefix(prefix)


def ingest(
    engine: Engine,
    address: Address,
    given: Sequence[Mapping[str, Any]],
    embedder: Embedder | None = None,
) -> IngestResult:
    """Remember at most 1,000 memories in one transaction; the profile comes into being with the first.

    Raises `InvalidRequestError` and `PayloadTooLargeError`, and then nothing is remembered.
    """
    drafts = drafts_of(given)
    degraded = None
    if embedder is not None:
        drafts, degraded = _embedded(engine, address, drafts, embedder)
    outcomes, txid = write(
        engine,
        address,
        lambda connection: model.ingest(connection, drafts, engine.clock.now_ms(), stamps_of(engine)),
    )
    return IngestResult(
        [Ingested(id_text(one.id), one.status, _id(one.superseded)) for one in outcomes], txid, degraded
    )


def drafts_of(given: Sequence[Mapping[str, Any]]) -> list[Draft]:
    """What a caller has given, checked; an error says which one is meant."""
    if not isinstance(given, list | tuple):
        raise InvalidRequestError(f"memories come as a list of objects, not as {type(given).__name__}")
    if not 1 <= len(given) <= MAX_BATCH:
        raise InvalidRequestError(f"give 1 to {MAX_BATCH:,} memories a call, not {len(given):,}")
    drafts = []
    for number, one in enumerate(given, 1):
        try:
            drafts.append(draft_of(one))
        except (InvalidRequestError, PayloadTooLargeError) as error:
            if len(given) > 1:
                error.args = (f"memory {number} of {len(given)}: {error}; none was kept",)
            raise
    return drafts


def write(engine: Engine, address: Address, work: Callable[[Connection], T]) -> tuple[T, TXID]:
    """Write to a profile, which is created if this is the first time."""
    try:
        return writable(engine, address).write(work)
    except DatabaseNotFoundError:
        if address.branch is not None:
            raise
    with contextlib.suppress(AlreadyExistsError):  # Somebody else was there first, with the same in mind.
        databases.create(engine, address.database)
    return writable(engine, address).write(work)


def read_or(
    engine: Engine, address: Address, work: Callable[[Connection], T], otherwise: T
) -> tuple[T, TXID]:
    """Read from a profile; `otherwise` where it does not exist, and then nothing is created."""
    try:
        return read(engine, address, work)
    except DatabaseNotFoundError:
        return otherwise, TXID(0)


def get(engine: Engine, address: Address, memory: str) -> MemoryChain | None:
    """A memory and what has been held of its topic; None if it is not there."""
    digest = id_bytes(memory)
    if digest is None:
        return None

    def work(connection: Connection) -> tuple[Kept, list[Kept]] | None:
        kept = model.get(connection, digest)
        return None if kept is None else (kept, model.chain(connection, kept))

    found, txid = read_or(engine, address, work, None)
    if found is None:
        return None
    return MemoryChain(**fields_of(found[0]), chain=[Memory(**fields_of(one)) for one in found[1]], txid=txid)


def forget(engine: Engine, address: Address, memory: str) -> ForgetResult:
    """Remove a memory, its index entries and its vector. Raises `DatabaseNotFoundError`."""
    digest = id_bytes(memory)
    branch = writable(engine, address)
    if digest is None:
        return ForgetResult(False, branch.head().txid)
    done, txid = branch.write(lambda connection: model.forget(connection, digest, stamps_of(engine)))
    return ForgetResult(done, txid)


def sessions(engine: Engine, address: Address) -> list[MemorySession]:
    """The sessions that have memories or turns, in the order of their names."""

    def work(connection: Connection) -> list[MemorySession]:
        found = {name: (count, 0, first, last) for name, count, first, last in model.sessions(connection)}
        for name, turns, first, last in transcripts.sessions(connection, "", NEVER):
            count, _, earliest, latest = found.get(name, (0, 0, first, last))
            found[name] = (count, turns, min(first, earliest), max(last, latest))
        return [
            MemorySession(name, count, turns, time_of(first), time_of(last))
            for name, (count, turns, first, last) in sorted(found.items())
        ]

    none: list[MemorySession] = []
    return read_or(engine, address, work, none)[0]


def end_session(engine: Engine, address: Address, session_id: str, turns: bool = False) -> EndSessionResult:
    """Remove the tasks of a session, and its turns if they shall go too, in one transaction."""
    if name_of("session_id", session_id) is None:
        raise InvalidRequestError("name the session that ends")
    (tasks, gone), txid = writable(engine, address).write(
        lambda connection: model.end_session(connection, session_id, stamps_of(engine), turns)
    )
    return EndSessionResult(tasks, gone, txid)


def embed(engine: Engine, address: Address, embedder: Embedder | None) -> EmbedResult:
    """Give the memories that have none an embedding, some at a time. Raises what the embedder raises."""
    if embedder is None:
        raise InvalidRequestError(
            "no embedder was named; give one to Memoturn, or bring embeddings with ingest"
        )
    seq, embedded = 0, 0
    while True:
        rows, txid = _without_vector(engine, address, seq)
        if not rows:
            return EmbedResult(embedded, txid)
        seq = rows[-1].seq
        made = vectors_of(embedder, [embedded_text(one.type, one.source, one.summary) for one in rows])
        embedded += _add(
            engine, address, list(zip([one.id for one in rows], made, strict=True)), embedder.name
        )


def _without_vector(engine: Engine, address: Address, seq: int) -> tuple[list[Bare], TXID]:
    def work(connection: Connection) -> list[Bare]:
        return model.without_vector(connection, seq, EMBEDDED_AT_ONCE)

    return read_or(engine, address, work, [])


def _add(engine: Engine, address: Address, vectors: Sequence[tuple[bytes, bytes]], name: str) -> int:
    def work(connection: Connection) -> int:
        return model.add_vectors(connection, vectors, name, stamps_of(engine))

    return writable(engine, address).write(work)[0]


def vectors_of(embedder: Embedder, texts: Sequence[str]) -> list[bytes]:
    """The vectors of texts as they are kept. Raises `MemoturnError` whatever the embedder raises."""
    try:
        vectors = [encode(vector) for vector in embedder.embed(texts)]
    except MemoturnError:
        raise
    except Exception as error:
        raise UnavailableError(
            f"the embedder {embedder.name!r} failed: {type(error).__name__}: {error}"
        ) from error
    if len(vectors) != len(texts):
        raise UnavailableError(
            f"the embedder {embedder.name!r} gave {len(vectors)} vectors for {len(texts)} texts"
        )
    return vectors


def _embedded(
    engine: Engine, address: Address, drafts: list[Draft], embedder: Embedder
) -> tuple[list[Draft], str | None]:
    """The drafts with vectors for those that brought none and have none yet; and what went wrong."""
    without = [draft.id for draft in drafts if draft.vector is None]
    if not without:
        return drafts, None
    none: set[bytes] = set()
    having, _ = read_or(engine, address, lambda connection: model.have_vectors(connection, without), none)
    places = [i for i, draft in enumerate(drafts) if draft.vector is None and draft.id not in having]
    done = list(drafts)
    try:
        for begin in range(0, len(places), EMBEDDED_AT_ONCE):
            some = places[begin : begin + EMBEDDED_AT_ONCE]
            texts = [embedded_text(drafts[i].type, drafts[i].source, drafts[i].summary) for i in some]
            for i, vector in zip(some, vectors_of(embedder, texts), strict=True):
                done[i] = drafts[i]._replace(vector=vector, model=embedder.name)
    except MemoturnError as error:
        missing = sum(draft.vector is None for draft in done)
        return done, f"{missing} of {len(drafts)} memories are kept without an embedding: {error}"
    return done, None


def fields_of(kept: Kept) -> dict[str, Any]:
    """The fields of `Memory`."""
    return {
        "id": id_text(kept.id),
        "type": kept.type,
        "topic_key": kept.topic_key,
        "summary": kept.summary,
        "keywords": kept.keyword_list(),
        "content": kept.content_value(),
        "session_id": kept.session_id,
        "source": kept.source,
        "valid_from": time_of(kept.valid_from),
        "valid_to": time_or_none(kept.valid_to),
        "superseded_by": _id(kept.superseded_by),
        "expires_at": time_or_none(kept.expires_at),
        "model": kept.model,
    }


def _id(digest: bytes | None) -> str | None:
    return None if digest is None else id_text(digest)
