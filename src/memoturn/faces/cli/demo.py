"""`memoturn demo`: an agent breaks a database and gets it back, on a real store, with a clock beside every step."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from memoturn.base.clock import SystemClock
from memoturn.base.errors import ConflictError, InternalError, InvalidRequestError
from memoturn.faces.cli.errors import UsageError
from memoturn.faces.cli.output import size
from memoturn.faces.cli.session import Session

if TYPE_CHECKING:
    from rich.console import Console

    from memoturn.faces.embedded.client import Database, Memoturn

T = TypeVar("T")

_HARM: Final = (
    (
        "“prices are untidy, round them”",
        (
            "UPDATE Track SET UnitPrice = round(UnitPrice)",
            "UPDATE InvoiceLine SET UnitPrice = round(UnitPrice)",
        ),
    ),
    (
        "“these tracks look like duplicates, and foreign keys are in the way”",
        (
            "PRAGMA foreign_keys=OFF",
            "DELETE FROM Track WHERE TrackId NOT IN (SELECT min(TrackId) FROM Track GROUP BY AlbumId)",
        ),
    ),
    ("“nobody uses this table”", ("DROP TABLE PlaylistTrack",)),
)
_MIGRATION: Final = (
    "ALTER TABLE Track ADD COLUMN Seconds INTEGER",
    "UPDATE Track SET Seconds = Milliseconds / 1000",
    "CREATE INDEX TracksBySeconds ON Track (Seconds)",
)
_MEASURES: Final = (
    ("tracks", "Track", "SELECT count(*) AS n FROM Track"),
    ("revenue", "InvoiceLine", "SELECT round(sum(UnitPrice * Quantity), 2) AS n FROM InvoiceLine"),
    (
        "sold tracks that are gone",
        "Track",
        "SELECT count(*) AS n FROM InvoiceLine WHERE TrackId NOT IN (SELECT TrackId FROM Track)",
    ),
    ("playlist entries", "PlaylistTrack", "SELECT count(*) AS n FROM PlaylistTrack"),
)
_NEEDED: Final = frozenset(["Playlist", *(table for _, table, _ in _MEASURES)])
_NAME: Final = "music"


def demo(
    session: Session,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="FILE", help="A Chinook database to use; else a small one is made."),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="DIR", help="Leave the store in this new directory to look at."),
    ] = None,
) -> None:
    """Break a database and get it back: a short tour, all of it real."""
    if session.as_json:
        raise UsageError("the demo is for people; it has no --json")
    from rich.console import Console

    from memoturn.faces.embedded.client import Memoturn

    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="memoturn-demo-")))
        home = scratch / "store" if keep is None else Path(keep).absolute()
        if home.exists():
            raise ConflictError(f"{keep} exists already; the demo wants a new directory")
        source = Path(file) if file is not None else scratch / "music-store.sqlite"
        if file is None:
            from memoturn.faces.cli import music_store

            music_store.write(source)
        console = Console(highlight=False, soft_wrap=True)
        memory = stack.enter_context(Memoturn(f"file:{home}", settings=session.configuration.settings))
        _Tour(console, memory, home).run(source)
        if keep is not None:
            console.print(f"Look around: memoturn --url file:{keep} branch list {_NAME}", markup=False)


class _Tour:
    """The story, chapter by chapter; every figure is measured or read while it is told."""

    def __init__(self, console: Console, memory: Memoturn, home: Path) -> None:
        self._console = console
        self._memory = memory
        self._home = home
        self._clock = SystemClock()
        self._chapter = 0
        self.db: Database = memory.db(_NAME)

    def run(self, source: Path) -> None:
        began = self._clock.monotonic()
        self._import(source)
        before = self._measure(self.db)
        self._checkpoint()
        self._harm()
        self._damage(before)
        self._rewind(before)
        self._burner(before)
        self._bucket()
        self._elsewhere(before)
        took = self._clock.monotonic() - began
        self._console.print(f"\n[bold green]All of it held,[/] in {took:.1f} s.")

    def _import(self, source: Path) -> None:
        self._title("A real database goes in")
        done = self._step(
            lambda: self._memory.databases.import_file(_NAME, source),
            lambda r: f"imported {source.name}: {r.pages:,} pages, {size(r.bytes)}, as database {_NAME}",
        )
        tables = self._step(
            lambda: self.db.sql("SELECT name FROM sqlite_schema WHERE type = 'table'"),
            lambda rows: f"first query: {len(rows)} tables, at txid {rows.txid}",
        )
        if not {row["name"] for row in tables} >= _NEEDED:
            raise InvalidRequestError(
                f"the demo's story needs the tables {', '.join(sorted(_NEEDED))} as Chinook has them"
            )
        self._expect(done.txid == tables.txid, "the import is what is read")

    def _checkpoint(self) -> None:
        self._title("A checkpoint, before the agent may touch anything")
        self._step(
            lambda: self.db.branch.checkpoint("before-task"),
            lambda mark: f"checkpoint {mark.name} is at txid {mark.txid}: one small write, nothing copied",
        )

    def _harm(self) -> None:
        self._title("The agent migrates, with confidence")
        for thought, statements in _HARM:
            told = "; ".join(" ".join(text.split()) for text in statements)
            self._step(partial(self.db.batch, statements), f"txid {{0.txid}}  {thought}: {told}".format)

    def _damage(self, before: dict[str, Any]) -> None:
        self._title("The damage, beside the past")
        after = self._step(lambda: self._measure(self.db), lambda _: "looked at the branch as it is now")
        then = self._step(
            lambda: self._measure(self.db.at("before-task")),
            lambda _: f'looked at the same through db.at("before-task"): {_NAME}@main:before-task',
        )
        self._expect(then == before and after != before, "the past reads as it was")
        self._table(
            ("", "before-task", "now"),
            [(name, _figure(then[name]), _figure(after[name])) for name in then],
        )
        guilty = None
        for entry in self.db.branch.history():
            there = self._measure(self.db.at(entry.txid))
            if there["tracks"] == before["tracks"]:
                break
            guilty = entry
        if guilty is None:
            raise InternalError("the demo found no commit that lost the tracks")
        self._note(
            f"history says when: txid {guilty.txid} at {guilty.time:%H:%M:%S} UTC wrote {guilty.pages} pages"
        )

    def _rewind(self, before: dict[str, Any]) -> None:
        self._title("Rewind, undo, rewind again")
        told = "rewound to before-task: txid {0.txid} has the content of txid {0.restored_txid}"
        first = self._step(lambda: self.db.branch.rewind("before-task"), told.format)
        self._expect(self._measure(self.db) == before, "the rewind brought everything back")
        self._note(f"{_figure(before['tracks'])} tracks and {_figure(before['revenue'])} revenue are back")
        self._step(
            lambda: self.db.branch.undo(first.undo),
            lambda done: (
                f"undid the rewind: txid {done.txid} is the damage again, nothing was lost by going back"
            ),
        )
        self._expect(self._measure(self.db) != before, "the undo brought the damage back")
        self._step(lambda: self.db.branch.rewind("before-task"), told.format)
        self._expect(self._measure(self.db) == before, "the second rewind brought everything back")

    def _burner(self, before: dict[str, Any]) -> None:
        self._title("A better migration, tried on a burner branch")
        burner = self._step(
            lambda: self.db.branch.create("try-migration", ttl=3600),
            lambda _: f"forked {_NAME}@try-migration, which expires in an hour",
        )
        self._step(
            lambda: burner.batch(_MIGRATION),
            lambda done: f"migrated there at txid {done.txid}: a column, filled, with an index",
        )
        longest = "SELECT Name, Seconds FROM Track ORDER BY Seconds DESC LIMIT 1"
        row = self._step(
            lambda: burner.sql(longest)[0],
            _longest,
        )
        names = {r["name"] for r in self.db.sql("SELECT name FROM pragma_table_info('Track')")}
        self._expect("Seconds" not in names, "main has not seen the migration")
        self._note("main has no such column: it never saw the experiment")
        self._step(
            burner.branch.promote,
            lambda done: f"promoted: {_NAME} now stands for {_NAME}@{done.default_branch}, which may stay",
        )
        self._expect(self.db.sql(longest)[0] == row, "the promoted branch is the default one")
        self._expect(self._measure(self.db) == before, "the promoted branch has the same data")

    def _bucket(self) -> None:
        self._title("What lies in the bucket")
        self._step(self._memory.sync, lambda _: "everything is in object storage (here a directory)")
        objects = self._home / "objects"
        found = sorted(
            path for path in objects.rglob("*") if path.is_file() and ".memoturn" not in path.parts
        )
        self._table(
            ("object", "bytes"),
            [(str(path.relative_to(objects)), f"{path.stat().st_size:,}") for path in found],
        )
        manifest = next(path for path in found if path.name == "main.json")
        self._note("the manifest of main, which is all there is to a branch:")
        for name, value in json.loads(manifest.read_bytes()).items():
            self._console.print(f"             {name}: {json.dumps(value)}", markup=False, style="dim")

    def _elsewhere(self, before: dict[str, Any]) -> None:
        self._title("The same, from other processes, while this one has the store open")
        counting = "SELECT count(*) AS tracks FROM Track"
        for address in (_NAME, f"{_NAME}@main", f"{_NAME}@main:{self._damaged_txid()}"):
            answer = self._other("sql", address, counting, "--json")
            tracks = json.loads(answer)["rows"][0]["tracks"]
            same = tracks == before["tracks"]
            self._expect(same == (":" not in address), f"{address} reads as it should elsewhere")
            self._note(
                f"             {tracks:,} tracks" + ("" if same else ", the damage, still in the past")
            )
        insert = "INSERT INTO Playlist (PlaylistId, Name) VALUES (?, ?)"
        self._other("sql", _NAME, insert, "999", "Written elsewhere")
        row = self._step(
            lambda: self.db.sql("SELECT Name FROM Playlist WHERE PlaylistId = 999")[0],
            lambda row: f"this process reads what the other one wrote: “{row['Name']!s}”",
        )
        self._expect(row["Name"] == "Written elsewhere", "the other process's commit is seen")

    def _damaged_txid(self) -> int:
        return self._memory.db(f"{_NAME}@main").at("before-task").txid + len(_HARM)

    def _other(self, *words: str) -> str:
        command = [sys.executable, "-m", "memoturn.faces.cli", "--url", f"file:{self._home}", *words]
        done = self._step(
            lambda: subprocess.run(command, capture_output=True, text=True, check=False),
            lambda _: f"$ memoturn {shlex.join(words)}",
        )
        self._expect(done.returncode == 0, f"the other process ended with {done.returncode}: {done.stderr}")
        return done.stdout

    # Telling.

    def _measure(self, handle: Database) -> dict[str, Any]:
        tables = {r["name"] for r in handle.sql("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        return {
            name: handle.sql(query)[0]["n"] if table in tables else None for name, table, query in _MEASURES
        }

    def _title(self, text: str) -> None:
        self._chapter += 1
        self._console.print(f"\n[bold cyan]{self._chapter}. {text}[/]")

    def _step(self, act: Callable[[], T], tell: Callable[[T], str]) -> T:
        began = self._clock.monotonic()
        result = act()
        took = self._clock.monotonic() - began
        self._console.print(f"[green]{_duration(took):>10}[/]   ", end="")
        self._console.print(tell(result), markup=False)
        return result

    def _note(self, text: str) -> None:
        self._console.print(f"             {text.strip()}", markup=False)

    def _table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        widths = [max(len(name), *(len(row[i]) for row in rows)) for i, name in enumerate(columns)]
        for number, line in enumerate([columns, *rows]):
            cells = [
                line[0].ljust(widths[0]),
                *(t.rjust(w) for t, w in zip(line[1:], widths[1:], strict=True)),
            ]
            style = "bold" if number == 0 else ""
            self._console.print("             " + "   ".join(cells), style=style, markup=False)

    def _expect(self, held: bool, what: str) -> None:
        if not held:
            raise InternalError(f"the demo found that this does not hold: {what}")


def _duration(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _longest(track: dict[str, Any]) -> str:
    return f"the longest track there: “{track['Name']}”, {track['Seconds']:,} seconds"


def _figure(value: float | None) -> str:
    if value is None:
        return "gone"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
