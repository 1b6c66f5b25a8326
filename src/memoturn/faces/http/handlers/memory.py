"""Typed memories of profiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from memoturn.base.errors import (
    DatabaseNotFoundError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
)
from memoturn.base.names import AtTxid, parse_position
from memoturn.base.txids import EMPTY
from memoturn.faces.http.call import Answer, Call, Stream
from memoturn.faces.wire import answers, requests
from memoturn.faces.wire.routes import LINES
from memoturn.operations import memories, memory_lines, recall, transfer

_PIECE: Final = 1 << 16


def profiles(call: Call) -> Answer:
    return Answer(answers.Profiles(list(memories.profiles(call.engine, call.names["ns"]))))


def ingest(call: Call) -> Answer:
    wish = call.read(requests.Ingest)
    done = memories.ingest(call.engine, call.at, wish.memories, call.context.embedder)
    return Answer(done, done.txid)


def recall_(call: Call) -> Answer:
    wish = call.read(requests.Recall)
    at = call.at
    if wish.as_of is not None:
        if at.position is not None:
            raise InvalidRequestError("the path or Memoturn-At names a position, and as_of another; give one")
        at = at._replace(position=parse_position(wish.as_of))
    hits = recall.recall(
        call.engine,
        at,
        wish.query,
        k=call.limit("k", wish.k),
        embedding=wish.embedding,
        model_name=wish.model,
        topic_key=wish.topic_key,
        types=wish.types,
        session_id=wish.session_id,
        source=wish.source,
        since=wish.since,
        until=wish.until,
        include_superseded=wish.include_superseded,
        include_turns=wish.include_turns,
        embedder=call.context.embedder,
    )
    return Answer(hits, hits.txid)


def get(call: Call) -> Answer:
    found = memories.get(call.engine, call.at, call.names["id"])
    if found is None:
        raise NotFoundError(f"there is no memory {call.names['id'][:100]!r} in this profile")
    return Answer(found, found.txid)


def forget(call: Call) -> Answer:
    done = memories.forget(call.engine, call.at, call.names["id"])
    return Answer(done, done.txid)


def sessions(call: Call) -> Answer:
    return Answer(answers.MemorySessions(memories.sessions(call.engine, call.at)))


def end_session(call: Call) -> Answer:
    done = memories.end_session(call.engine, call.at, call.names["session"], call.ask("turns"))
    return Answer(done, done.txid)


def embed(call: Call) -> Answer:
    done = memories.embed(call.engine, call.at, call.context.embedder)
    return Answer(done, done.txid)


def export(call: Call) -> Answer:
    at = call.at
    try:
        txid = transfer.txid(call.engine, at)
    except DatabaseNotFoundError:
        return Answer(Stream(iter(()), 0), EMPTY, media=LINES)
    lines = memory_lines.export(call.engine, at._replace(position=AtTxid(txid)), call.progress)
    return Answer(Stream(_pieces(lines)), txid, media=LINES)


def _pieces(lines: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    piece = bytearray()
    for line in lines:
        piece += msgspec.json.encode(line) + b"\n"
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def import_(call: Call) -> Answer:
    done = memory_lines.import_(call.engine, call.at, _lines(call), call.ask("session_id"), call.progress)
    return Answer(done, done.txid)


def _lines(call: Call) -> Iterator[Any]:
    """The lines of the body, none of which may be longer than a body of JSON. Raises `InvalidRequestError`."""
    assert call.spooled is not None
    longest = call.context.settings.body_bytes
    with call.spooled.open("rb") as file:
        number = 0
        while line := file.readline(longest + 1):
            number += 1
            if len(line) > longest:
                raise PayloadTooLargeError(
                    f"line {number} has more than {longest} bytes (MEMOTURN_BODY_BYTES)"
                )
            if line.strip():
                try:
                    yield msgspec.json.decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                    raise InvalidRequestError(f"line {number} is no JSON: {error}") from None


HANDLERS = {
    "memory.profiles": profiles,
    "memory.ingest": ingest,
    "memory.recall": recall_,
    "memory.get": get,
    "memory.forget": forget,
    "memory.sessions": sessions,
    "memory.end_session": end_session,
    "memory.embed": embed,
    "memory.export": export,
    "memory.import": import_,
}
