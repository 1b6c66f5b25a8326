# Made from ../aio/memory.py by tools/generate_sync.py; change that, and `make client`.

"""`mt.memory(ns, profile)`: what is remembered, recalled and forgotten; and the memory as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from memoturn.base.names import Address, parse_position
from memoturn.faces.client.calls import memories as calls
from memoturn.faces.client.sync.transport import Transport
from memoturn.faces.wire import (
    CheckpointInfo,
    EmbedResult,
    EndSessionResult,
    ForgetResult,
    Hits,
    IngestResult,
    MemoryChain,
    MemoryImport,
    MemorySession,
    RewindResult,
    UndoResult,
    surface,
)

if TYPE_CHECKING:
    from memoturn.faces.client.sync.client import Database

At = str | int | datetime
Progress = calls.Progress


class Profile(surface.Profile):
    """The memories of a profile, on one branch, or at a position in its past.

    The database underneath comes into being with the first memory; until then everything reads as empty.
    """

    def __init__(self, transport: Transport, address: Address) -> None:
        self._transport = transport
        self._address = address

    def ingest(self, items: Sequence[Mapping[str, Any]]) -> IngestResult:
        """Remember up to 1,000 memories in one transaction.

        Each is a dict with `type` (`fact`, `instruction`, `event` or `task`), `summary` or `content` (any JSON) or
        both, and, where there is one, `topic_key`, `keywords`, `session_id`, `source`, `valid_from`, `embedding`
        with the `model` that made it, and for a task `ttl` in seconds. Returns for each its id, whether it was
        `created`, `duplicate` or `revived`, and what it superseded. Raises `InvalidRequestError`.
        """
        return self._transport.send(calls.ingest(self._address, items))

    def recall(
        self,
        query: str | None = None,
        *,
        k: int = 10,
        embedding: Any = None,
        model: str | None = None,
        topic_key: str | None = None,
        types: Sequence[str] | str | None = None,
        session_id: str | None = None,
        source: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        include_superseded: bool = False,
        include_turns: bool = False,
        as_of: At | None = None,
    ) -> Hits:
        """The memories that answer a question best, at most `k`, each with its score and the channels that found it.

        Ask with words, with an `embedding` (and its `model`), for a `topic_key`, or with several of these. Times
        are those of `valid_from`, `since` included. With `include_turns` the turns of `db.turns` are searched as
        well, and come as hits of type `turn` with who said it as `source`. `as_of` recalls from a checkpoint, a
        txid or a time.
        """
        return self._transport.send(
            calls.recall(
                self._address, query, k, embedding, model, topic_key, types, session_id, source,
                since, until, include_superseded, include_turns, as_of,
            )
        )  # fmt: skip

    def get(self, id: str) -> MemoryChain | None:  # noqa: A002
        """A memory with its chain: what has been held of its topic. None if it is not there."""
        return self._transport.send(calls.get(self._address, id))

    def forget(self, id: str) -> ForgetResult:  # noqa: A002
        """Remove a memory with its index entries and its embedding; what it superseded stays superseded."""
        return self._transport.send(calls.forget(self._address, id))

    def sessions(self) -> list[MemorySession]:
        """The sessions, in the order of their names."""
        return self._transport.send(calls.sessions(self._address))

    def end_session(self, session_id: str, *, turns: bool = False) -> EndSessionResult:
        """Remove the tasks of a session, and its turns if `turns` is set."""
        return self._transport.send(calls.end_session(self._address, session_id, turns))

    def embed(self) -> EmbedResult:
        """Give the memories without an embedding one. Raises `InvalidRequestError` if no embedder was named."""
        return self._transport.send(calls.embed(self._address))

    def export_lines(self, progress: Progress | None = None) -> Iterator[dict[str, Any]]:
        """All memories and turns as they are now, as objects for `import_lines`, read as they are asked for."""
        lines = calls.Lines()
        done = 0
        with self._transport.stream(calls.export(self._address)) as response:
            for piece in response.pieces():
                found = lines.feed(piece)
                for line in found:
                    yield line
                done += len(found)
                if progress is not None and found:
                    progress(done, 0)
            for line in lines.end():
                yield line

    def import_lines(
        self,
        lines: Iterable[Mapping[str, Any]],
        *,
        session_id: str | None = None,
        progress: Progress | None = None,
    ) -> MemoryImport:
        """Remember what was exported, history included, or messages in the common chat shape.

        Messages (`role` and `content`, or `messages` of such) become turns of the session that they name, else of
        `session_id`. What is there already stays as it is: importing twice changes nothing.
        """
        call = calls.import_(self._address, session_id)
        return self._transport.send(call, calls.Sent(lines, progress))

    # The memory as a whole.

    def checkpoint(self, name: str, *, move: bool = False) -> CheckpointInfo:
        """Name the present state. Raises `ConflictError` if the name stands elsewhere, unless `move` is set."""
        return self.db.branch.checkpoint(name, move=move)

    def rewind(self, to: At) -> RewindResult:
        """Remember what was remembered at a checkpoint, a txid or a time, and nothing else."""
        return self.db.branch.rewind(to)

    def undo(self, token: str) -> UndoResult:
        """Take back a rewind by the token that it returned."""
        return self.db.branch.undo(token)

    def fork(
        self, name: str, *, checkpoint: str | None = None, txid: int | None = None,
        at: datetime | str | None = None, ttl: float | None = None,
    ) -> Profile:  # fmt: skip
        """A copy on a branch of its own, from now or from a position; with `ttl` it goes after so many seconds."""
        self.db.branch.create(name, checkpoint=checkpoint, txid=txid, at=at, ttl=ttl)
        return Profile(self._transport, Address(self._address.database, name, None))

    def at(self, position: At) -> Profile:
        """A read-only handle to a checkpoint, a txid or a time."""
        return Profile(self._transport, self._address._replace(position=parse_position(position)))

    @cached_property
    def db(self) -> Database:
        """The database underneath."""
        from memoturn.faces.client.sync.client import Database

        return Database(self._transport, self._address)

    def __repr__(self) -> str:
        return f"Profile({str(self._address)!r})"
