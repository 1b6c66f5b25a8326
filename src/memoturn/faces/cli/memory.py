"""`memoturn memory`: what is remembered of a user or by an agent."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import msgspec
import typer

from memoturn.base.errors import NotFoundError
from memoturn.faces.cli.command import Group, command
from memoturn.faces.cli.errors import UsageError
from memoturn.faces.cli.output import Progress, progress
from memoturn.faces.cli.session import Session
from memoturn.faces.cli.values import parse_count

if TYPE_CHECKING:
    from memoturn.faces.embedded.memory import Profile as Handle

app = typer.Typer(cls=Group, no_args_is_help=True, help="Remember, recall and forget.")

Namespace = Annotated[str, typer.Argument(metavar="NS", help="The namespace.")]
Profile = Annotated[
    str, typer.Argument(metavar="PROFILE[@BRANCH[:POSITION]]", help="The profile, now or in its past.")
]
Writable = Annotated[str, typer.Argument(metavar="PROFILE[@BRANCH]", help="The profile, and a branch of it.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id, mem_….")]


Type = Annotated[
    str | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        help="fact, instruction, event or task: with it, MEMORY is what to remember.",
    ),
]
Types = Annotated[
    list[str] | None, typer.Option("--type", metavar="TYPE", help="Only of this type; can be repeated.")
]
Topic = Annotated[
    str | None, typer.Option("--topic", metavar="KEY", help="What it is about, such as user.diet.")
]
SessionId = Annotated[str | None, typer.Option("--session", metavar="ID", help="The session.")]
Source = Annotated[str | None, typer.Option("--source", metavar="NAME", help="Who says so.")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Only what is valid since then or later.")
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Only what is valid since before then.")
]
AsOf = Annotated[
    str | None,
    typer.Option("--as-of", metavar="POSITION", help="As it was at a checkpoint, a txid or a time."),
]
End = Annotated[str | None, typer.Option("--end", metavar="ID", help="End this session: its tasks go.")]


@command(app, "ingest")
def ingest(
    session: Session,
    ns: Namespace,
    profile: Writable,
    memories: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MEMORY", help="Each a JSON object; - or nothing reads lines of them from stdin."
        ),
    ] = None,
    kind: Type = None,
    topic: Topic = None,
    session_id: SessionId = None,
    source: Source = None,
) -> None:
    """Remember, in one transaction: `--type fact --topic user.diet "vegetarian"`, or JSON objects."""
    words = list(memories or ())
    if words in ([], ["-"]):
        words = [line for line in _stdin().read().decode().splitlines() if line.strip()]
    common = {"type": kind, "topic_key": topic, "session_id": session_id, "source": source}
    common = {name: value for name, value in common.items() if value is not None}
    items = [
        {"summary": word, **common} if kind is not None else {**_object(number, word), **common}
        for number, word in enumerate(words, 1)
    ]
    done = _profile(session, ns, profile, create=True).ingest(items)
    rows = [(one.status, one.id, one.superseded) for one in done.memories]
    session.table(done, ("status", "id", "superseded"), rows)
    _degraded(done.degraded)
    session.txid(done.txid)


@command(app, "recall")
def recall(
    session: Session,
    ns: Namespace,
    profile: Profile,
    query: Annotated[str | None, typer.Argument(metavar="QUESTION", help="What is asked.")] = None,
    k: Annotated[str, typer.Option("-k", metavar="N", help="So many at most.")] = "10",
    topic: Topic = None,
    kinds: Types = None,
    session_id: SessionId = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    as_of: AsOf = None,
    superseded: Annotated[bool, typer.Option("--superseded", help="Also what was superseded.")] = False,
    turns: Annotated[bool, typer.Option("--turns", help="Also turns, as they were said.")] = False,
) -> None:
    """Find what answers a question, the best first, and say how it was found."""
    hits = _profile(session, ns, profile).recall(
        query,
        k=parse_count("-k", k),
        topic_key=topic,
        types=list(kinds or ()),
        session_id=session_id,
        source=source,
        since=since,
        until=until,
        include_superseded=superseded,
        include_turns=turns,
        as_of=as_of,
    )
    rows = [
        (
            f"{hit.score:.3f}",
            hit.type,
            hit.topic_key,
            hit.summary,
            hit.source,
            hit.valid_from,
            hit.id,
            ", ".join(f"{name} {value:.2f}" for name, value in hit.channels.items()),
        )
        for hit in hits
    ]
    columns = ("score", "type", "topic", "summary", "source", "since", "id", "found by")
    session.table(hits, columns, rows)
    _degraded(hits.degraded)
    session.txid(hits.txid)


@command(app, "get")
def get(session: Session, ns: Namespace, profile: Profile, memory: Id) -> None:
    """Show a memory and what has been held of its topic."""
    found = _profile(session, ns, profile).get(memory)
    if found is None:
        raise NotFoundError(f"there is no memory {memory!r} in {ns} {profile}")
    if session.as_json:
        session.say(found, txid=found.txid)
        return
    fields = (
        "id",
        "type",
        "topic_key",
        "summary",
        "content",
        "session_id",
        "source",
        "valid_from",
        "valid_to",
    )
    pairs = [(name, getattr(found, name)) for name in (*fields, "superseded_by", "expires_at", "model")]
    session.details(found, [pair for pair in pairs if pair[1] is not None])
    if len(found.chain) > 1:
        print()
        rows = [(one.valid_from, one.valid_to, one.summary, one.id) for one in found.chain]
        session.table(found, ("from", "to", "summary", "id"), rows)
    session.txid(found.txid)


@command(app, "forget")
def forget(session: Session, ns: Namespace, profile: Writable, memory: Id) -> None:
    """Remove a memory, its index entries and its embedding."""
    done = _profile(session, ns, profile).forget(memory)
    if not done.forgotten:
        raise NotFoundError(f"there is no memory {memory!r} in {ns} {profile}")
    session.say(done, f"forgot {memory}", txid=done.txid)


@command(app, "sessions")
def sessions(
    session: Session,
    ns: Namespace,
    profile: Profile,
    end: End = None,
    turns: Annotated[bool, typer.Option("--turns", help="With --end: its turns go as well.")] = False,
) -> None:
    """List the sessions of a profile, or end one."""
    handle = _profile(session, ns, profile)
    if end is None:
        if turns:
            raise UsageError("--turns goes with --end")
        found = handle.sessions()
        rows = [(one.session_id, one.memories, one.turns, one.first, one.last) for one in found]
        session.table(found, ("session", "memories", "turns", "first", "last"), rows)
        return
    done = handle.end_session(end, turns=turns)
    session.say(done, f"ended {end}: {done.tasks} tasks and {done.turns} turns are gone", txid=done.txid)


@command(app, "profiles")
def profiles(session: Session, ns: Namespace) -> None:
    """List the profiles of a namespace."""
    found = session.memory().profiles(ns)
    session.table(found, ("profile",), [(name,) for name in found])


@command(app, "export")
def export(
    session: Session,
    ns: Namespace,
    profile: Profile,
    path: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Where to; it must not exist. Else stdout.")
    ] = None,
) -> None:
    """Write all memories and turns as lines of JSON."""
    handle = _profile(session, ns, profile)
    count = 0
    with ExitStack() as stack:
        out = sys.stdout.buffer if path is None else stack.enter_context(_new_file(path))
        bar = stack.enter_context(progress(f"exporting {ns} {profile}", shown=path is not None, unit="lines"))
        sys.stdout.flush()
        for line in handle.export_lines(bar):
            out.write(msgspec.json.encode(line) + b"\n")
            count += 1
    if path is not None:
        session.say({"path": path, "lines": count}, f"exported {ns} {profile} to {path}: {count:,} lines")


@command(app, "import")
def import_(
    session: Session,
    ns: Namespace,
    profile: Writable,
    path: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Where from; - or nothing reads stdin.")
    ] = None,
    session_id: SessionId = None,
) -> None:
    """Read lines of JSON: what was exported, memories, or messages with role and content as turns.

    What is there already stays as it is, so that importing again changes nothing.
    """
    with ExitStack() as stack:
        given = _stdin() if path in (None, "-") else stack.enter_context(_file(str(path)))
        bar = stack.enter_context(progress(f"importing {ns} {profile}", shown=not session.as_json))
        done = _profile(session, ns, profile, create=True).import_lines(
            _lines(given, bar), session_id=session_id
        )
    session.say(done, f"imported {done.created:,}; {done.known:,} were there already", txid=done.txid)


def _profile(session: Session, ns: str, profile: str, create: bool = False) -> Handle:
    """The profile that `profile`, `profile@branch` or `profile@branch:position` names."""
    name, at, rest = profile.partition("@")
    branch, colon, position = rest.partition(":")
    if (at and not branch) or (colon and not position):
        raise UsageError(
            f"{profile!r} names no profile; write PROFILE, PROFILE@BRANCH or PROFILE@BRANCH:POSITION"
        )
    handle = session.memory(create, embed=True).memory(ns, name, branch or None)
    return handle.at(position) if position else handle


def _object(number: int, text: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise UsageError(
            f"memory {number} is no JSON: {error}; with --type, words are taken as they are"
        ) from error
    if not isinstance(value, dict):
        raise UsageError(f"memory {number} is no JSON object")
    return value


def _lines(given: BinaryIO, advance: Progress | None) -> Iterator[Any]:
    size = os.fstat(given.fileno()).st_size if advance is not None else 0
    done = 0
    for number, line in enumerate(given, 1):
        done += len(line)
        if advance is not None and number % 100 == 0:
            advance(done, max(done, size))
        if line.strip():
            try:
                yield msgspec.json.decode(line)
            except (msgspec.MsgspecError, UnicodeError) as error:
                raise UsageError(f"line {number} is no JSON: {error}") from error


def _file(path: str) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _new_file(path: str) -> BinaryIO:
    try:
        return Path(path).open("xb")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def _stdin() -> BinaryIO:
    if sys.stdin.isatty():
        raise UsageError("give a file, or lines of JSON on stdin")
    return sys.stdin.buffer


def _degraded(reason: str | None) -> None:
    if reason is not None:
        sys.stdout.flush()
        print(f"warning: {reason}", file=sys.stderr)
