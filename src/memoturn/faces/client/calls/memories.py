"""Memories of a profile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from memoturn.base import json_text
from memoturn.base.errors import InvalidRequestError, UnavailableError
from memoturn.base.names import PROFILE_SEPARATOR, Address, parse_position
from memoturn.base.results.memories import (
    EmbedResult,
    EndSessionResult,
    ForgetResult,
    Hits,
    IngestResult,
    MemoryChain,
    MemoryImport,
    MemorySession,
)
from memoturn.faces.client import json_of
from memoturn.faces.client.call import Call, Reply, as_type, call, field, writable
from memoturn.faces.wire import answers, requests
from memoturn.faces.wire.errors import error_of
from memoturn.faces.wire.routes import BY_NAME, LINES

Progress = Callable[[int, int], None]
"""Called with how many are done, and how many there are; 0 if that is not known."""

_AT_ONCE: Final = 250

_ingested = as_type(IngestResult)
_hits = as_type(Hits)
_chain = as_type(MemoryChain)
_forgotten = as_type(ForgetResult)
_sessions = field(answers.MemorySessions, "sessions")
_ended = as_type(EndSessionResult)
_embedded = as_type(EmbedResult)
_imported = as_type(MemoryImport)


def ingest(address: Address, given: Sequence[Mapping[str, Any]]) -> Call[IngestResult]:
    return _of("memory.ingest", address, _ingested, body=requests.Ingest(json_of.items("memories", given)))


def recall(
    address: Address,
    query: str | None,
    k: int,
    embedding: Any,
    model: str | None,
    topic_key: str | None,
    types: Sequence[str] | str | None,
    session_id: str | None,
    source: str | None,
    since: datetime | str | None,
    until: datetime | str | None,
    include_superseded: bool,
    include_turns: bool,
    as_of: str | int | datetime | None,
) -> Call[Hits]:
    if query is None and embedding is None and topic_key is None:
        raise InvalidRequestError("ask with a query, an embedding or a topic_key")
    if as_of is not None:
        address = address._replace(position=parse_position(as_of))
    body = requests.Recall(
        query=_text("the query", query),
        k=k,
        embedding=json_of.vector(embedding),
        model=model,
        topic_key=_text("topic_key", topic_key),
        types=types if types is None or isinstance(types, str) else list(types),
        session_id=_text("session_id", session_id),
        source=_text("source", source),
        since=json_of.moment("since", since),
        until=json_of.moment("until", until),
        include_superseded=include_superseded,
        include_turns=include_turns,
    )
    return _of("memory.recall", address, _hits, body=body)


def get(address: Address, id_: str) -> Call[MemoryChain | None]:
    return _of("memory.get", address, _chain, {"id": id_}, missing=True)


def forget(address: Address, id_: str) -> Call[ForgetResult]:
    return _of("memory.forget", address, _forgotten, {"id": id_})


def sessions(address: Address) -> Call[list[MemorySession]]:
    return _of("memory.sessions", address, _sessions)


def end_session(address: Address, session_id: str, turns: bool) -> Call[EndSessionResult]:
    query = {"turns": True} if turns else None
    return _of("memory.end_session", address, _ended, {"session": session_id}, query=query)


def embed(address: Address) -> Call[EmbedResult]:
    return _of("memory.embed", address, _embedded)


def export(address: Address) -> Call[None]:
    """The answer's body is lines of JSON, to be read with `Lines`."""
    return _of("memory.export", address, _nothing)


class Lines:
    """Cuts what comes into lines of JSON, wherever it is cut on its way."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[dict[str, Any]]:
        """The lines that are whole now."""
        *whole, self._rest = (self._rest + piece).split(b"\n")
        return [_line(text) for text in whole if text]

    def end(self) -> list[dict[str, Any]]:
        """What is left, if the last line has no end."""
        return [_line(self._rest)] if self._rest.strip() else []


def _line(text: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise UnavailableError(f"the server sent a line that is no JSON: {error}") from error
    if found.keys() == {"error", "code"}:
        raise error_of(500, text)
    return found


def import_(address: Address, session_id: str | None) -> Call[MemoryImport]:
    """The lines are sent as the body, made by `Sent`. They can be sent once only."""
    sent = {"content-type": LINES}
    return _of(
        "memory.import",
        address,
        _imported,
        query={"session_id": session_id},
        sent=sent,
        keyed=False,
        once=True,
    )


class Sent:
    """Lines of JSON as a body, some hundred at a time. They are read once: a call of theirs is sent once."""

    def __init__(self, lines: Iterable[Mapping[str, Any]], progress: Progress | None) -> None:
        self._lines = iter(lines)
        self._progress = progress

    def __call__(self) -> Iterator[bytes]:
        some: list[bytes] = []
        number = 0
        for number, one in enumerate(self._lines, 1):
            some.append(json_text.encode(f"line {number}", json_of.item(f"line {number}", one)))
            if len(some) == _AT_ONCE:
                yield self._taken(some, number)
        if some:
            yield self._taken(some, number)

    def _taken(self, some: list[bytes], number: int) -> bytes:
        text = b"\n".join(some) + b"\n"
        some.clear()
        if self._progress is not None:
            self._progress(number, 0)
        return text


def _of(
    name: str, address: Address, read: Any, names: Mapping[str, str] | None = None, **more: Any
) -> Call[Any]:
    if BY_NAME[name].need != "read":
        address = writable(address)
    ns, _, profile = address.database.partition(PROFILE_SEPARATOR)
    return call(name, {"ns": ns, "profile": profile, **(names or {})}, read, at=address, **more)


def _text(what: str, given: Any) -> Any:
    if given is not None and not isinstance(given, str):
        raise InvalidRequestError(f"{what} is text, not {type(given).__name__}")
    if given is not None and not given.isascii():
        try:
            given.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"{what} has to be Unicode text: {error}") from None
    return given


def _nothing(reply: Reply) -> None:
    pass
