"""The database beneath: an agent breaks it and gets it back, with its bucket and other processes to look at."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from memoturn.base.errors import InternalError, InvalidRequestError
from memoturn.faces.cli.demo.telling import Teller
from memoturn.faces.cli.output import size

if TYPE_CHECKING:
    from memoturn.faces.embedded.client import Database, Memoturn

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
NAME: Final = "music"


class DatabaseStory:
    """The story, chapter by chapter; every figure is measured or read while it is told."""

    def __init__(self, teller: Teller, memory: Memoturn, home: Path) -> None:
        self._teller = teller
        self._memory = memory
        self._home = home
        self.db: Database = memory.db(NAME)

    def run(self, source: Path) -> None:
        """Import, harm, rewind, undo, try again, and look beneath."""
        self._teller.part("The database beneath")
        self._import(source)
        before = self._measure(self.db)
        self._checkpoint()
        self._harm()
        self._damage(before)
        self._rewind(before)
        self._burner(before)
        self._bucket()
        self._elsewhere(before)

    def _import(self, source: Path) -> None:
        self._teller.chapter("A real database goes in")
        done = self._teller.step(
            lambda: self._memory.databases.import_file(NAME, source),
            lambda r: f"imported {source.name}: {r.pages:,} pages, {size(r.bytes)}, as database {NAME}",
        )
        tables = self._teller.step(
            lambda: self.db.sql("SELECT name FROM sqlite_schema WHERE type = 'table'"),
            lambda rows: f"first query: {len(rows)} tables, at txid {rows.txid}",
        )
        if not {row["name"] for row in tables} >= _NEEDED:
            raise InvalidRequestError(
                f"the demo's story needs the tables {', '.join(sorted(_NEEDED))} as Chinook has them"
            )
        self._teller.expect(done.txid == tables.txid, "the import is what is read")

    def _checkpoint(self) -> None:
        self._teller.chapter("A checkpoint, before the agent may touch anything")
        self._teller.step(
            lambda: self.db.branch.checkpoint("before-task"),
            lambda mark: f"checkpoint {mark.name} is at txid {mark.txid}: one small write, nothing copied",
        )

    def _harm(self) -> None:
        self._teller.chapter("The agent migrates, with confidence")
        for thought, statements in _HARM:
            told = "; ".join(" ".join(text.split()) for text in statements)
            self._teller.step(
                partial(self.db.batch, statements), f"txid {{0.txid}}  {thought}: {told}".format
            )

    def _damage(self, before: dict[str, Any]) -> None:
        self._teller.chapter("The damage, beside the past")
        after = self._teller.step(
            lambda: self._measure(self.db), lambda _: "looked at the branch as it is now"
        )
        then = self._teller.step(
            lambda: self._measure(self.db.at("before-task")),
            lambda _: f'looked at the same through db.at("before-task"): {NAME}@main:before-task',
        )
        self._teller.expect(then == before and after != before, "the past reads as it was")
        self._teller.table(
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
        self._teller.note(
            f"history says when: txid {guilty.txid} at {guilty.time:%H:%M:%S} UTC wrote {guilty.pages} pages"
        )

    def _rewind(self, before: dict[str, Any]) -> None:
        self._teller.chapter("Rewind, undo, rewind again")
        told = "rewound to before-task: txid {0.txid} has the content of txid {0.restored_txid}"
        first = self._teller.step(lambda: self.db.branch.rewind("before-task"), told.format)
        self._teller.expect(self._measure(self.db) == before, "the rewind brought everything back")
        self._teller.note(
            f"{_figure(before['tracks'])} tracks and {_figure(before['revenue'])} revenue are back"
        )
        self._teller.step(
            lambda: self.db.branch.undo(first.undo),
            lambda done: (
                f"undid the rewind: txid {done.txid} is the damage again, nothing was lost by going back"
            ),
        )
        self._teller.expect(self._measure(self.db) != before, "the undo brought the damage back")
        self._teller.step(lambda: self.db.branch.rewind("before-task"), told.format)
        self._teller.expect(self._measure(self.db) == before, "the second rewind brought everything back")

    def _burner(self, before: dict[str, Any]) -> None:
        self._teller.chapter("A better migration, tried on a burner branch")
        burner = self._teller.step(
            lambda: self.db.branch.create("try-migration", ttl=3600),
            lambda _: f"forked {NAME}@try-migration, which expires in an hour",
        )
        self._teller.step(
            lambda: burner.batch(_MIGRATION),
            lambda done: f"migrated there at txid {done.txid}: a column, filled, with an index",
        )
        longest = "SELECT Name, Seconds FROM Track ORDER BY Seconds DESC LIMIT 1"
        row = self._teller.step(
            lambda: burner.sql(longest)[0],
            _longest,
        )
        names = {r["name"] for r in self.db.sql("SELECT name FROM pragma_table_info('Track')")}
        self._teller.expect("Seconds" not in names, "main has not seen the migration")
        self._teller.note("main has no such column: it never saw the experiment")
        self._teller.step(
            burner.branch.promote,
            lambda done: f"promoted: {NAME} now stands for {NAME}@{done.default_branch}, which may stay",
        )
        self._teller.expect(self.db.sql(longest)[0] == row, "the promoted branch is the default one")
        self._teller.expect(self._measure(self.db) == before, "the promoted branch has the same data")

    def _bucket(self) -> None:
        self._teller.chapter("What lies in the bucket")
        self._teller.step(self._memory.sync, lambda _: "everything is in object storage (here a directory)")
        objects = self._home / "objects"
        own = objects / "db" / self._memory.databases.get(NAME).db_uuid
        found = [
            objects / "catalog" / f"{NAME}.json",
            *sorted(path for path in own.rglob("*") if path.is_file()),
        ]
        self._teller.table(
            ("object", "bytes"),
            [(str(path.relative_to(objects)), f"{path.stat().st_size:,}") for path in found],
        )
        manifest = next(path for path in found if path.name == "main.json")
        self._teller.note("the manifest of main, which is all there is to a branch:")
        for name, value in json.loads(manifest.read_bytes()).items():
            self._teller.note(f"{name}: {json.dumps(value)}", "dim")

    def _elsewhere(self, before: dict[str, Any]) -> None:
        self._teller.chapter("The same, from other processes, while this one has the store open")
        counting = "SELECT count(*) AS tracks FROM Track"
        for address in (NAME, f"{NAME}@main", f"{NAME}@main:{self._damaged_txid()}"):
            answer = self._other("sql", address, counting, "--json")
            tracks = json.loads(answer)["rows"][0]["tracks"]
            same = tracks == before["tracks"]
            self._teller.expect(same == (":" not in address), f"{address} reads as it should elsewhere")
            self._teller.note(f"{tracks:,} tracks" + ("" if same else ", the damage, still in the past"))
        insert = "INSERT INTO Playlist (PlaylistId, Name) VALUES (?, ?)"
        self._other("sql", NAME, insert, "999", "Written elsewhere")
        row = self._teller.step(
            lambda: self.db.sql("SELECT Name FROM Playlist WHERE PlaylistId = 999")[0],
            lambda row: f"this process reads what the other one wrote: “{row['Name']!s}”",
        )
        self._teller.expect(row["Name"] == "Written elsewhere", "the other process's commit is seen")

    def _damaged_txid(self) -> int:
        return self._memory.db(f"{NAME}@main").at("before-task").txid + len(_HARM)

    def _other(self, *words: str) -> str:
        command = [sys.executable, "-m", "memoturn.faces.cli", "--url", f"file:{self._home}", *words]
        done = self._teller.step(
            lambda: subprocess.run(command, capture_output=True, text=True, check=False),
            lambda _: f"$ memoturn {shlex.join(words)}",
        )
        self._teller.expect(
            done.returncode == 0, f"the other process ended with {done.returncode}: {done.stderr}"
        )
        return done.stdout

    def _measure(self, handle: Database) -> dict[str, Any]:
        tables = {r["name"] for r in handle.sql("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        return {
            name: handle.sql(query)[0]["n"] if table in tables else None for name, table, query in _MEASURES
        }


def _longest(track: dict[str, Any]) -> str:
    return f"the longest track there: “{track['Name']}”, {track['Seconds']:,} seconds"


def _figure(value: float | None) -> str:
    if value is None:
        return "gone"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
