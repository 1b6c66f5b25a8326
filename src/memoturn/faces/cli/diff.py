"""`memoturn diff`: what differs between two positions, a summary first, and how a diff is told to people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Final, NamedTuple

import typer

from memoturn.base.names import parse_address
from memoturn.faces.cli.output import cell
from memoturn.faces.cli.session import Session
from memoturn.faces.cli.values import nearest, parse_count
from memoturn.faces.wire import Diff, DiffSide, DocChange, MemoryChange, RowChange

_WIDTH: Final = 60
_COLOURS: Final = {"+": "32", "-": "31", "~": "33", "#": "1"}
_SIGNS: Final = {
    "added": "+", "appended": "+", "set": "+", "revived": "+",
    "removed": "-", "deleted": "-", "expired": "-", "forgotten": "-",
    "changed": "~", "superseded": "~",
}  # fmt: skip

Limit = Annotated[
    str, typer.Option("--limit", metavar="N", help="Show at most N rows of each table; counts are exact.")
]


class Part(NamedTuple):
    """One thing that differs: its name, how much of it, and lines that begin with `+`, `-` or `~`."""

    name: str
    counts: tuple[tuple[str, int], ...]
    lines: list[str]

    @property
    def summary(self) -> str:
        """What has become of how many."""
        return ", ".join(f"{count:,} {what}" for what, count in self.counts if count)


def diff(
    session: Session,
    db: Annotated[str, typer.Argument(metavar="DB@A", help="From where: DB[@BRANCH[:POSITION]].")],
    other: Annotated[str, typer.Argument(metavar="DB@B", help="To where: DB[@BRANCH[:POSITION]].")],
    limit: Limit = "20",
    table: Annotated[
        str | None, typer.Option("--table", metavar="NAME", help="Look at this table alone.")
    ] = None,
) -> None:
    """Show what differs between two positions of a database: a summary, then examples."""
    found = session.db(parse_address(db)).diff(other, limit=parse_count("--limit", limit), table=table)
    session.say(found, *tell(found), txid=found.after.txid)
    if not session.as_json:
        for side in (found.before, found.after):
            for note in nearest(side.exact, side.txid):
                print(f"note: {note}", file=sys.stderr)


def tell(found: Diff) -> Iterator[str]:
    """The lines for people, in colour where they are shown on a terminal."""
    yield _paint(f"{_side(found.before)} -> {_side(found.after)}", "#")
    parts = list(_parts(found))
    if not parts:
        yield f"no difference in content; {found.pages:,} pages differ" if found.pages else "no difference"
        return
    width = max(len(part.name) for part in parts)
    for part in parts:
        yield f"  {part.name.ljust(width)}  {part.summary}"
    for part in parts:
        if part.lines:
            yield ""
            yield _paint(part.name, "#")
            yield from (f"  {_paint(line, line[0])}" for line in part.lines)
            left = sum(count for _, count in part.counts) - len(part.lines)
            if left > 0:
                yield f"  … and {left:,} more"


def _side(side: DiffSide) -> str:
    return f"{side.database}@{side.branch} at txid {side.txid}"


def _parts(found: Diff) -> Iterator[Part]:
    if found.schema:
        lines = [f"{_SIGNS[c.kind]} {c.type} {cell(c.name)}" for c in found.schema]
        yield Part("schema", _counts(found.schema), lines)
    for table in found.tables:
        yield Part(f"table {cell(table.name)}", _three(table), [_row(row) for row in table.rows])
    for kv in found.kv:
        yield Part(
            f"keys {kv.ns}",
            (("set", kv.set), ("deleted", kv.deleted), ("expired", kv.expired)),
            [f"{_sign(k.kind, k.before)} {_short(k.key)}{_values(k.before, k.after)}" for k in kv.keys],
        )
    for docs in found.docs:
        yield Part(f"documents {docs.collection}", _three(docs), [_document(d) for d in docs.documents])
    for vectors in found.vectors:
        lines = [f"{_SIGNS[v.kind]} {_short(v.id)}" for v in vectors.vectors]
        yield Part(f"vectors {vectors.collection}", _three(vectors), lines)
    if found.memories is not None:
        names = ("added", "superseded", "revived", "forgotten", "expired", "changed")
        lines = [_memory(change) for change in found.memories.memories]
        yield Part("memories", tuple((name, getattr(found.memories, name)) for name in names), lines)
    for turns in found.turns:
        lines = [f"+ {t.seq} {cell(t.role)}: {_short(t.content)}" for t in turns.turns]
        lines += [f"- {t.seq} {cell(t.role)}: {_short(t.content)}" for t in turns.gone]
        yield Part(
            f"turns {cell(turns.session)}", (("appended", turns.appended), ("removed", turns.removed)), lines
        )


def _three(part: Any) -> tuple[tuple[str, int], ...]:
    return (("added", part.added), ("removed", part.removed), ("changed", part.changed))


def _counts(changes: list[Any]) -> tuple[tuple[str, int], ...]:
    return tuple(
        (kind, sum(change.kind == kind for change in changes)) for kind in ("added", "removed", "changed")
    )


def _sign(kind: str, before: object) -> str:
    return "~" if kind == "set" and before is not None else _SIGNS[kind]


def _row(row: RowChange) -> str:
    key = ", ".join(f"{cell(name)}={_short(value)}" for name, value in row.key.items())
    before, after = row.before or {}, row.after or {}
    if row.kind == "changed":
        names = [name for name in {**before, **after} if not _equal(before.get(name), after.get(name))]
        values = [f"{cell(n)}: {_short(before.get(n))} -> {_short(after.get(n))}" for n in names]
    else:
        values = [f"{cell(n)}={_short(v)}" for n, v in (after or before).items() if n not in row.key]
    return f"{_SIGNS[row.kind]} {key}" + (f"  {', '.join(values)}" if values else "")


def _document(change: DocChange) -> str:
    what = ""
    if change.kind == "changed":
        what = f"  {', '.join(map(_short, change.paths[:8]))}" + (" …" if len(change.paths) > 8 else "")
    return f"{_SIGNS[change.kind]} {_short(change.id)}{what}"


def _memory(change: MemoryChange) -> str:
    topic = f" {_short(change.topic_key)}" if change.topic_key else ""
    return f"{_SIGNS[change.kind]} {change.kind} {change.type}{topic}: {_short(change.summary)}"


def _values(before: bytes | None, after: bytes | None) -> str:
    shown = [_short(_text(value)) for value in (before, after) if value is not None]
    return f"  {' -> '.join(shown)}"


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _equal(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _short(value: object) -> str:
    text = cell("NULL" if value is None else value[: _WIDTH + 1] if isinstance(value, str) else value)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _paint(text: str, kind: str) -> str:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m"
