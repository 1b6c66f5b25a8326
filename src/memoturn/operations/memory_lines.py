"""Memories as lines of JSON: all of a profile, and back. What is imported twice is there once.

A line is an object with the fields of `ingest`, and of what was exported also with `id`, `valid_to`,
`superseded_by` and `expires_at`, so that history comes back as it was. An id has to be that of the content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import numpy as np

from memoturn.base.clock import format_time
from memoturn.base.errors import DatabaseNotFoundError, InvalidRequestError, PayloadTooLargeError
from memoturn.base.names import Address, AtTxid
from memoturn.base.results import MemoryImport
from memoturn.base.txids import TXID
from memoturn.models import memories as model
from memoturn.models.memories import Kept, Past
from memoturn.models.memory_draft import Draft, draft_of, id_bytes, id_text, moment_of
from memoturn.models.reserved import Connection
from memoturn.node.engine import Engine
from memoturn.operations.memories import write
from memoturn.operations.reading import read, stamps_of

_AT_ONCE: Final = 250
_HISTORY: Final = frozenset(("id", "valid_to", "superseded_by", "expires_at"))

Progress = Callable[[int, int], None]
"""Called with how many are done, and how many there are; 0 if that is not known."""


def export(engine: Engine, address: Address, progress: Progress | None = None) -> Iterator[dict[str, Any]]:
    """Every memory, in the order in which they were learned; the position is the one at which this begins.

    What is forgotten while it runs is still exported. A profile that does not exist has none.
    """
    try:
        total, txid = read(engine, address, model.count)
    except DatabaseNotFoundError:
        return
    if address.position is None:
        address = address._replace(position=AtTxid(txid))
    seq, done = -1, 0
    while True:

        def page(connection: Connection, seq: int = seq) -> list[Kept]:
            return model.after(connection, seq, _AT_ONCE)

        found, _ = read(engine, address, page)
        if not found:
            return
        for kept in found:
            yield _line_of(kept)
        seq, done = found[-1].seq, done + len(found)
        if progress is not None:
            progress(done, total)


def import_(
    engine: Engine,
    address: Address,
    lines: Iterable[Mapping[str, Any]],
    progress: Progress | None = None,
) -> MemoryImport:
    """Remember what lines say, some hundred in a transaction. What is there already stays as it is.

    Raises `InvalidRequestError` for a line that cannot be meant; what came before it has been kept then, and
    importing again goes on where this ended.
    """
    created, known, number, txid = 0, 0, 0, TXID(0)
    rest = iter(lines)
    while some := list(islice(rest, _AT_ONCE)):
        drafts = [_draft_of(line, number + offset) for offset, line in enumerate(some, 1)]

        def work(connection: Connection, drafts: list[tuple[Draft, Past]] = drafts) -> list[model.Outcome]:
            return model.restore(connection, drafts, engine.clock.now_ms(), stamps_of(engine))

        outcomes, txid = write(engine, address, work)
        number += len(some)
        created += sum(one.status == "created" for one in outcomes)
        known += sum(one.status == "duplicate" for one in outcomes)
        if progress is not None:
            progress(number, 0)
    return MemoryImport(created, known, txid)


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
        # Nine digits tell any number of 32 bits from its neighbours.
        line["embedding"] = [float(f"{number:.9g}") for number in np.frombuffer(kept.vector, "<f4").tolist()]
        if kept.model:
            line["model"] = kept.model
    return line


def _draft_of(line: Any, number: int) -> tuple[Draft, Past]:
    try:
        if not isinstance(line, Mapping):
            raise InvalidRequestError(f"it is no object but {type(line).__name__}")
        draft = draft_of({name: value for name, value in line.items() if name not in _HISTORY})
        return draft, _past_of(line, draft)
    except (InvalidRequestError, PayloadTooLargeError) as error:
        error.args = (f"line {number}: {error}",)
        raise


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
    return Past(moment_of("valid_to", line.get("valid_to")), by, expires_at)
