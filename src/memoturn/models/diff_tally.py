"""From rows that differ to what they mean: exact counts, and the first examples of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from memoturn.base.clock import time_of
from memoturn.base.results.diffs import (
    DocChange,
    DocsDiff,
    Kind,
    KvChange,
    KvDiff,
    MemoriesDiff,
    MemoryChange,
    RowChange,
    TableDiff,
    TurnsDiff,
    VectorChange,
    VectorsDiff,
)
from memoturn.base.results.transcripts import Turn
from memoturn.base.txids import UnixMs
from memoturn.models.diff_rows import Change, Row
from memoturn.models.documents import decode
from memoturn.models.memory_draft import id_text
from memoturn.models.stored_json import given

T = TypeVar("T")
MemoryKind = Literal["added", "superseded", "revived", "forgotten", "expired", "changed"]


class Sink(Protocol):
    """Takes the rows of one table that differ."""

    def add(self, change: Change) -> None:
        """Take one."""


class Examples(Generic[T]):
    """How many of each kind there are, and the first of each, `limit` in all when they are asked for."""

    def __init__(self, limit: int, kinds: tuple[str, ...]) -> None:
        self.counts: Counter[str] = Counter()
        self._limit = limit
        self._first: dict[str, list[T]] = {kind: [] for kind in kinds}

    def add(self, kind: str, make: Callable[[], T]) -> None:
        """Count one, and keep it if it is among the first."""
        self.counts[kind] += 1
        kept = self._first[kind]
        if len(kept) < self._limit:
            kept.append(make())

    def count(self, kind: str, more: int) -> None:
        """Count some of which no example is needed."""
        self.counts[kind] += more

    def first(self) -> list[T]:
        """The examples: of each kind about as many, in the order of the kinds."""
        share = dict.fromkeys(self._first, 0)
        left = self._limit
        while left and any(share[kind] < len(kept) for kind, kept in self._first.items()):
            for kind, kept in self._first.items():
                if left and share[kind] < len(kept):
                    share[kind] += 1
                    left -= 1
        return list(chain.from_iterable(kept[: share[kind]] for kind, kept in self._first.items()))

    def __bool__(self) -> bool:
        return bool(self.counts)


_KINDS: Final = ("changed", "added", "removed")


class TableTally:
    """The rows of a table of the user's."""

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.rows: Examples[RowChange] = Examples(limit, _KINDS)

    def add(self, change: Change) -> None:
        kind: Kind = change.kind
        self.rows.add(kind, lambda: RowChange(kind, change.key, change.before, change.after))

    def result(self) -> TableDiff:
        counts = self.rows.counts
        return TableDiff(self.name, counts["added"], counts["removed"], counts["changed"], self.rows.first())


class KvTally:
    """Keys, by their namespace."""

    def __init__(self, limit: int, then: UnixMs) -> None:
        self._limit = limit
        self._then = then
        self._found: dict[str, Examples[KvChange]] = {}

    def add(self, change: Change) -> None:
        row: Any = change.after or change.before
        kind: Literal["set", "deleted", "expired"] = "set"
        if change.after is None:
            expires_at = row["expires_at"]
            kind = "expired" if expires_at is not None and expires_at <= self._then else "deleted"
        found = self._found.setdefault(row["ns"], Examples(self._limit, ("set", "deleted", "expired")))
        found.add(
            kind,
            lambda: KvChange(row["k"].decode(), kind, _get(change.before, "v"), _get(change.after, "v")),
        )

    def results(self) -> Iterator[KvDiff]:
        for ns, found in sorted(self._found.items()):
            counts = found.counts
            yield KvDiff(ns, counts["set"], counts["deleted"], counts["expired"], found.first())


class DocsTally:
    """The documents of a collection."""

    def __init__(self, collection: str, limit: int) -> None:
        self._collection = collection
        self._found: Examples[DocChange] = Examples(limit, _KINDS)

    def add(self, change: Change) -> None:
        kind: Kind = change.kind
        self._found.add(kind, lambda: self._change(kind, change))

    def _change(self, kind: Kind, change: Change) -> DocChange:
        row: Any = change.after or change.before
        before, after = _document(change.before), _document(change.after)
        paths = sorted(set(changed_paths(before, after))) if kind == "changed" else []
        return DocChange(row["id"], kind, paths, before, after)

    def results(self) -> Iterator[DocsDiff]:
        counts = self._found.counts
        if self._found:
            yield DocsDiff(
                self._collection, counts["added"], counts["removed"], counts["changed"], self._found.first()
            )


class VectorsTally:
    """The vectors of a collection."""

    def __init__(self, collection: str, limit: int) -> None:
        self._collection = collection
        self._found: Examples[VectorChange] = Examples(limit, _KINDS)

    def add(self, change: Change) -> None:
        row: Any = change.after or change.before
        kind: Kind = change.kind
        self._found.add(
            kind, lambda: VectorChange(row["id"], kind, _object(change.before), _object(change.after))
        )

    def results(self) -> Iterator[VectorsDiff]:
        counts = self._found.counts
        if self._found:
            yield VectorsDiff(
                self._collection, counts["added"], counts["removed"], counts["changed"], self._found.first()
            )


class MemoriesTally:
    """Memories: which are held now that were not, and which no more."""

    def __init__(self, limit: int, then: UnixMs) -> None:
        self._then = then
        self._found: Examples[MemoryChange] = Examples(
            limit, ("added", "superseded", "revived", "forgotten", "expired", "changed")
        )

    def add(self, change: Change) -> None:
        kind = self._kind(change)
        row: Any = change.after or change.before
        self._found.add(kind, lambda: _memory(kind, row))

    def _kind(self, change: Change) -> MemoryKind:
        before: Any = change.before
        after: Any = change.after
        if before is None:
            return "added"
        if after is None:
            expires_at = before["expires_at"]
            return "expired" if expires_at is not None and expires_at <= self._then else "forgotten"
        if before["valid_to"] is None and after["valid_to"] is not None:
            return "superseded"
        # What is learned anew gets a number of its own.
        if after["valid_to"] is None and (before["valid_to"] is not None or before["seq"] != after["seq"]):
            return "revived"
        return "changed"

    def result(self) -> MemoriesDiff | None:
        counts = self._found.counts
        if not self._found:
            return None
        return MemoriesDiff(
            counts["added"],
            counts["superseded"],
            counts["revived"],
            counts["forgotten"],
            counts["expired"],
            counts["changed"],
            self._found.first(),
        )


class TurnsTally:
    """Turns, by their session."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._found: dict[str, tuple[Examples[Turn], Examples[Turn]]] = {}

    def add(self, change: Change) -> None:
        for row, which in ((change.after, 0), (change.before, 1)):
            if row is not None:
                there = self._found.setdefault(
                    str(row["session"]), (Examples(self._limit, ("turn",)), Examples(self._limit, ("turn",)))
                )
                there[which].add("turn", _turn_maker(row))

    def results(self) -> Iterator[TurnsDiff]:
        for session, (came, went) in sorted(self._found.items()):
            yield TurnsDiff(session, came.counts["turn"], went.counts["turn"], came.first(), went.first())


def _get(row: Row | None, name: str) -> Any:
    return None if row is None else row[name]


def _object(row: Row | None) -> dict[str, Any] | None:
    text: Any = _get(row, "data")
    return None if text is None else given(text)


def _document(row: Any) -> dict[str, Any] | None:
    return None if row is None else decode(row["id"], row["data"])


def _turn_maker(row: Any) -> Callable[[], Turn]:
    return lambda: Turn(
        row["session"], row["seq"], row["role"], row["content"], time_of(UnixMs(row["created_at"]))
    )


def _memory(kind: MemoryKind, row: Any) -> MemoryChange:
    by = row["superseded_by"]
    return MemoryChange(
        id_text(row["id"]),
        kind,
        row["type"],
        row["topic_key"],
        row["summary"],
        None if by is None else id_text(by),
    )


def changed_paths(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """The dotted paths at which two JSON values differ, each the deepest that says it all."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in before.keys() | after.keys():
            path = f"{at}.{name}" if at else name
            if name in before and name in after:
                yield from changed_paths(before[name], after[name], path)
            else:
                yield path
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from changed_paths(one, other, f"{at}.{number}")
    elif type(before) is not type(after) or before != after:
        yield at
