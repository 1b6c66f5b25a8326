"""Memories and turns as lines of JSON: all of a profile, and back. What is imported twice is there once.

A line is one of

- a memory: the fields of `ingest`, and of what was exported also `id`, `valid_to`, `superseded_by` and `expires_at`,
  so that history comes back as it was. An id has to be that of the content;
- a turn, or a message in the common chat shape: `role`, `content`, perhaps `session_id`, `created_at`, `embedding`;
- a conversation: `messages`, a list of such, perhaps with `session_id`.

Turns of a session are matched with those that are there, from its first: what is the same is known, and what follows
is appended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from memoturn.base import json_text
from memoturn.base.clock import format_time
from memoturn.base.errors import (
    ConflictError,
    DatabaseNotFoundError,
    InvalidRequestError,
    MemoturnError,
    PayloadTooLargeError,
)
from memoturn.base.names import Address, AtTxid
from memoturn.base.results.memories import MemoryImport
from memoturn.base.txids import TXID, UnixMs
from memoturn.models import memories as model
from memoturn.models import transcripts
from memoturn.models.embedding import decode
from memoturn.models.memories import Kept, Past
from memoturn.models.memory_draft import SUPERSEDED, Draft, canonical, draft_of, id_bytes, id_text, moment_of
from memoturn.models.reserved import Connection
from memoturn.node.engine import Engine
from memoturn.operations.memories import NEVER, read_or, write
from memoturn.operations.reading import read, stamps_of

_AT_ONCE: Final = 250
_REFUSED: Final = (InvalidRequestError, PayloadTooLargeError, ConflictError)
_OF_TURN: Final = frozenset(("role", "content", "session_id", "created_at", "embedding"))
_HISTORY: Final = frozenset(("id", "valid_to", "superseded_by", "expires_at"))

Progress = Callable[[int, int], None]
"""Called with how many are done, and how many there are; 0 if that is not known."""


def export(engine: Engine, address: Address, progress: Progress | None = None) -> Iterator[dict[str, Any]]:
    """Every memory, in the order in which they were learned, then every turn, in the order in which they were made.

    The position is the one at which this begins: what is forgotten while it runs is still exported. A profile that
    does not exist has none.
    """
    try:
        total, txid = read(engine, address, lambda c: model.count(c) + transcripts.count(c))
    except DatabaseNotFoundError:
        return
    if address.position is None:
        address = address._replace(position=AtTxid(txid))
    done = 0
    for page in chain(_pages(engine, address, _memories), _pages(engine, address, _turns)):
        yield from page
        done += len(page)
        if progress is not None:
            progress(done, total)


Page = tuple[int, list[dict[str, Any]]]
"""The number of its last line, and the lines."""


def _pages(
    engine: Engine, address: Address, after: Callable[[Connection, int], Page]
) -> Iterator[list[dict[str, Any]]]:
    last = 0
    while True:

        def work(connection: Connection, last: int = last) -> Page:
            return after(connection, last)

        (last, lines), _ = read(engine, address, work)
        if not lines:
            return
        yield lines


def _memories(connection: Connection, seq: int) -> Page:
    found = model.after(connection, seq, _AT_ONCE)
    return (found[-1].seq if found else seq), [_line_of(kept) for kept in found]


def _turns(connection: Connection, id_: int) -> Page:
    found = transcripts.after(connection, id_, _AT_ONCE)
    lines = [_line_of_turn(turn, vector) for _, turn, vector in found]
    return (found[-1][0] if found else id_), lines


def import_(
    engine: Engine,
    address: Address,
    lines: Iterable[Mapping[str, Any]],
    session_id: str | None = None,
    progress: Progress | None = None,
) -> MemoryImport:
    """Remember what lines say, some hundred in a transaction. What is there already stays as it is.

    `session_id` is that of turns which name none. Raises `InvalidRequestError` for a line that cannot be meant, and
    `ConflictError` for turns that go on otherwise than those that are there; what came before has been kept then, and
    importing again goes on where this ended.
    """
    if isinstance(lines, str | bytes | Mapping) or not isinstance(lines, Iterable):
        raise InvalidRequestError(
            f"lines come one by one, as a list of objects, not as {type(lines).__name__}"
        )
    importing = _Importing(engine, address, session_id)
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            try:
                importing.take(number, line)
            except _REFUSED as error:
                raise _of_line(number, error) from error
            if number % _AT_ONCE == 0:
                importing.flush()
                if progress is not None:
                    progress(number, 0)
    except Exception:
        importing.flush()
        raise
    importing.flush()
    if progress is not None:
        progress(number, 0)
    return MemoryImport(importing.created, importing.known, importing.txid)


def _of_line(number: int, error: MemoturnError) -> MemoturnError:
    error.args = (f"line {number}: {error}",)
    return error


Numbered = tuple[int, Any]
"""What was read, with the number of its line."""


class _Importing:
    """What has been read and not yet been kept, and how far the turns of each session are matched."""

    def __init__(self, engine: Engine, address: Address, session_id: str | None) -> None:
        self._engine = engine
        self._address = address
        self._session_id = session_id
        self._drafts: list[Numbered] = []
        self._turns: dict[str, list[Numbered]] = {}
        self._there: dict[str, deque[transcripts.Found]] = {}
        self.created = 0
        self.known = 0
        self.txid = TXID(0)

    def take(self, number: int, line: Any) -> None:
        """Read one line."""
        if not isinstance(line, Mapping):
            raise InvalidRequestError(f"it is no object but {type(line).__name__}")
        if "messages" in line:
            messages = line["messages"]
            if not isinstance(messages, list):
                raise InvalidRequestError("messages are a list")
            for message in messages:
                if not isinstance(message, Mapping):
                    raise InvalidRequestError(f"a message is an object, not {type(message).__name__}")
                self._take_turn(number, message, message.get("session_id", line.get("session_id")))
        elif "role" in line:
            self._take_turn(number, line, line.get("session_id"))
        else:
            draft = draft_of({name: value for name, value in line.items() if name not in _HISTORY})
            self._drafts.append((number, (draft, _past_of(line, draft))))

    def flush(self) -> None:
        """Keep what was read, a transaction for the memories and one for each session.

        Where one is refused, what comes before the line that is meant is kept all the same.
        """
        keeping: list[tuple[Callable[[list[Any]], None], list[Numbered]]] = [
            (self._keep_memories, self._drafts),
            *((partial(self._keep_turns, session), turns) for session, turns in self._turns.items()),
        ]
        self._drafts, self._turns = [], {}
        refused: list[tuple[int, MemoturnError]] = []
        for keep, items in keeping:
            try:
                keep([item for _, item in items])
            except _REFUSED:
                refused += _one_by_one(keep, items)
        if refused:
            raise _of_line(*min(refused, key=itemgetter(0)))

    def _keep_memories(self, drafts: list[tuple[Draft, Past]]) -> None:
        if drafts:
            now, stamps = self._engine.clock.now_ms(), stamps_of(self._engine)
            outcomes, self.txid = write(
                self._engine, self._address, lambda c: model.restore(c, drafts, now, stamps)
            )
            created = sum(one.status == "created" for one in outcomes)
            self.created += created
            self.known += len(outcomes) - created

    def _keep_turns(self, session: str, turns: list[transcripts.Turn]) -> None:
        stamps = stamps_of(self._engine)
        _, self.txid = write(
            self._engine, self._address, lambda c: transcripts.append(c, session, turns, stamps)
        )
        self.created += len(turns)

    def _take_turn(self, number: int, message: Mapping[str, Any], session_id: Any) -> None:
        session = transcripts.check_session(self._session_id if session_id is None else session_id)
        created_at = moment_of("created_at", message.get("created_at"))
        turn = transcripts.turn(
            message.get("role"),
            _said(message),
            self._engine.clock.now_ms() if created_at is None else UnixMs(created_at),
            message.get("embedding"),
        )
        there = self._there.get(session)
        if there is None:
            there = self._there[session] = deque(self._turns_of(session))
        if not there:
            self._turns.setdefault(session, []).append((number, turn))
            return
        if (there[0].role, there[0].content) != (turn.role, turn.content):
            raise ConflictError(
                f"turn {there[0].seq} of session {session!r} is another one, by {there[0].role!r}; "
                "import into a session of another name"
            )
        there.popleft()
        self.known += 1

    def _turns_of(self, session: str) -> list[transcripts.Found]:
        none: list[transcripts.Found] = []
        return read_or(self._engine, self._address, lambda c: transcripts.window(c, session, NEVER), none)[0]


def _one_by_one(
    keep: Callable[[list[Any]], None], items: list[Numbered]
) -> Iterator[tuple[int, MemoturnError]]:
    """Keep items up to the first that is refused, and tell of that one."""
    for number, item in items:
        try:
            keep([item])
        except _REFUSED as error:
            yield number, error
            return


def _said(message: Mapping[str, Any]) -> str:
    """What a message says: text, the texts of its parts, or what it has in their place, such as calls of tools."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        if texts and len(texts) == len(content) and all(isinstance(text, str) for text in texts):
            return "\n".join(str(text) for text in texts)
    rest = {name: value for name, value in message.items() if name not in _OF_TURN and value is not None}
    if content is not None:
        rest["content"] = content
    if not rest:
        raise InvalidRequestError("a message has content")
    json_text.encode("a message", rest)
    return canonical(rest)


def _line_of_turn(turn: transcripts.Found, vector: bytes | None) -> dict[str, Any]:
    line: dict[str, Any] = {
        "session_id": turn.session,
        "role": turn.role,
        "content": turn.content,
        "created_at": format_time(turn.created_at),
    }
    if vector is not None:
        line["embedding"] = _numbers(vector)
    return line


def _numbers(vector: bytes) -> list[float]:
    """Nine digits tell any number of 32 bits from its neighbours."""
    return [float(f"{number:.9g}") for number in decode(vector)]


def _line_of(kept: Kept) -> dict[str, Any]:
    line: dict[str, Any] = {
        "id": id_text(kept.id),
        "type": kept.type,
        "topic_key": kept.topic_key,
        "summary": kept.summary,
        "keywords": kept.keyword_list() or None,
        "content": None if kept.content is None else kept.content_value(),
        "session_id": kept.session_id,
        "source": kept.source,
        "valid_from": format_time(kept.valid_from),
        "valid_to": None if kept.valid_to is None else format_time(kept.valid_to),
        "superseded_by": None if kept.superseded_by is None else id_text(kept.superseded_by),
        "expires_at": None if kept.expires_at is None else format_time(kept.expires_at),
    }
    line = {name: value for name, value in line.items() if value is not None}
    if kept.vector is not None:
        line["embedding"] = _numbers(kept.vector)
        if kept.model:
            line["model"] = kept.model
    return line


def _past_of(line: Mapping[str, Any], draft: Draft) -> Past:
    claimed = line.get("id")
    if claimed is not None and id_bytes(claimed) != draft.id:
        raise InvalidRequestError(
            f"its id {claimed!r} is not that of its type, topic_key and content, which is {id_text(draft.id)}; "
            "leave the id out if this was changed on purpose"
        )
    superseded_by = line.get("superseded_by")
    by = None if superseded_by is None else id_bytes(superseded_by)
    if superseded_by is not None and by is None:
        raise InvalidRequestError(f"superseded_by {superseded_by!r} is no id of a memory")
    expires_at = moment_of("expires_at", line.get("expires_at"))
    if expires_at is not None and draft.type != "task":
        raise InvalidRequestError(f"only a task expires, and this is one of type {draft.type}")
    valid_to = moment_of("valid_to", line.get("valid_to"))
    if valid_to is None and by is not None:
        raise InvalidRequestError("what was superseded has a valid_to as well: until when it was valid")
    if valid_to is not None and draft.type not in SUPERSEDED:
        raise InvalidRequestError(
            f"only what can be superseded has a valid_to, and this is of type {draft.type}"
        )
    return Past(valid_to, by, expires_at)
