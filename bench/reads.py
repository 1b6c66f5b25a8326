"""Reading: hot points, scans cold and warm, chains of forks, and the first query of a new process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw

from bench.measure import Figure, best_of, measure_both, ratio, us
from bench.samples import sqlite_file
from memoturn import Database, Memoturn
from memoturn.base.settings import CacheSettings, Settings
from memoturn.pages.vfs import ReaderFile

MIB = 1 << 20
_POINT = "SELECT id, x FROM t WHERE id = ?"
_SCAN = "SELECT count(*) AS n, sum(length(x)) AS bytes FROM t"


def figures(big: Path, small: Path, scratch: Path) -> Iterator[Figure]:
    """`big` and `small` are SQLite files of 1 GiB and 1 MiB."""
    yield _hot_point(small, scratch)
    yield from _scans(scratch)
    yield _chain(small)
    yield from _new_process(big, small, scratch)


def plain(path: Path, cache_mib: int = 2) -> apsw.Connection:
    """Plain SQLite through the same library, with the same page cache as a reader of ours."""
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA journal_mode=WAL; PRAGMA cache_size=-{cache_mib * 1024}").fetchall()
    return connection


def plain_rows(
    connection: apsw.Connection, sql: str, params: tuple[object, ...] = ()
) -> list[dict[str, object]]:
    """What `db.sql` gives: rows as dicts."""
    cursor = connection.execute(sql, params)
    names = [column[0] for column in cursor.get_description()]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _hot_point(small: Path, scratch: Path) -> Figure:
    copy = scratch / "hot.sqlite"
    copy.write_bytes(small.read_bytes())
    connection = plain(copy)
    with Memoturn(f"file:{scratch / 'hot'}") as mt:
        mt.databases.import_file("a", small)
        db = mt.db("a")
        ours, theirs = measure_both(
            lambda n: db.sql(_POINT, (n % 500 + 1,)),
            lambda n: plain_rows(connection, _POINT, (n % 500 + 1,)),
            20_000,
        )
    connection.close()
    return Figure(
        "hot point read, `file:`",
        "≤ 1.2× plain SQLite",
        f"{ratio(ours.p50, theirs.p50)} ({ours})",
        f"{theirs}",
        ours.p50 <= 1.2 * theirs.p50,
    )


def _scans(scratch: Path) -> Iterator[Figure]:
    path = sqlite_file(scratch / "100.sqlite", 100)
    connection = plain(path)
    warm_theirs = best_of(lambda: plain_rows(connection, _SCAN), 5)

    def cold_plain() -> None:
        fresh = plain(path)
        plain_rows(fresh, _SCAN)
        fresh.close()

    cold_theirs = best_of(cold_plain, 5)
    connection.close()
    home = f"file:{scratch / 'scan'}"
    # The default cache of 64 MiB would hold no such scan; the peer's is the system's, without a limit.
    settings = Settings(cache=CacheSettings(page_cache_bytes=256 * MIB))
    with Memoturn(home) as mt:
        mt.databases.import_file("a", path)

    def cold() -> None:
        with Memoturn(home, settings=settings) as mt:
            mt.db("a").sql(_SCAN)

    cold_ours = best_of(cold, 5)
    with Memoturn(home, settings=settings) as mt:
        db = mt.db("a")
        db.sql(_SCAN)
        warm_ours = best_of(lambda: db.sql(_SCAN), 5)
    for name, goal, ours, theirs in (
        ("cold", 4, cold_ours, cold_theirs),
        ("warm", 2, warm_ours, warm_theirs),
    ):
        yield Figure(
            f"scan of 100 MiB, {name} cache (256 MiB of it), `file:`",
            f"≤ {goal}× plain SQLite",
            f"{ratio(ours, theirs)} ({us(ours)})",
            us(theirs),
            ours <= goal * theirs,
        )


def _chain(small: Path) -> Figure:
    """Reads that SQLite's own cache cannot answer: each is the first on a view that was just opened."""
    with Memoturn("memory:") as mt:
        mt.databases.import_file("a", small)
        shallow = deep = mt.db("a@main")
        for depth in range(8):
            deep = deep.branch.create(f"depth-{depth}")
            deep.sql("UPDATE t SET x = x || 'own' WHERE id = ?", [depth * 50 + 1])
            deep.sync()
        shallow = mt.db("a@main").branch.create("flat")
        for depth in range(8):
            shallow.sql("UPDATE t SET x = x || 'own' WHERE id = ?", [depth * 50 + 1])
        shallow.sync()

        def scan(db: Database, number: int) -> None:
            # A commit elsewhere in the file drops what SQLite has cached; the pages come from the views again.
            db.sql("UPDATE t SET x = x WHERE id = ?", [number % 700 + 1])
            db.sql("UPDATE t SET x = x || '.' WHERE id = 1")
            db.sql(_SCAN)

        scans = measure_both(lambda n: scan(deep, n), lambda n: scan(shallow, n), 400, warm=20)
        fetched = _pages_fetched(deep)
    worst = scans[0].p50 / scans[1].p50
    return Figure(
        "read at chain depth 8 against 0: scan after a commit",
        "≤ 1.1×",
        f"{worst:.2f}× ({us(scans[0].p50)}, {fetched} pages through the view)",
        us(scans[1].p50),
        worst <= 1.1,
    )


def _pages_fetched(db: Database) -> int:
    """How many pages a scan right after a commit asks the view for."""
    counted = 0
    original = ReaderFile.xRead

    def counting(self: ReaderFile, amount: int, offset: int) -> bytes:
        nonlocal counted
        counted += 1
        return original(self, amount, offset)

    db.sql("UPDATE t SET x = x || '.' WHERE id = 1")
    ReaderFile.xRead = counting  # type: ignore[method-assign]
    try:
        db.sql(_SCAN)
    finally:
        ReaderFile.xRead = original  # type: ignore[method-assign]
    return counted


_CHILD = """
import json, sys, time
from memoturn.faces.embedded.client import Database, Memoturn
start = time.perf_counter_ns()
mt = Memoturn(sys.argv[1])
row = mt.db("a").sql("SELECT x FROM t WHERE id = ?", [int(sys.argv[2])])
took = time.perf_counter_ns() - start
resident = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
mt.close()
print(json.dumps([took / 1000, int(resident[0]), len(row)]))
"""


def _new_process(big: Path, small: Path, scratch: Path) -> Iterator[Figure]:
    results = {}
    empty = scratch / "empty.sqlite"
    connection = apsw.Connection(str(empty))
    connection.execute("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x TEXT)")
    connection.close()
    for name, path, row in (("big", big, 400_000), ("small", small, 300), ("empty", empty, 1)):
        home = f"file:{scratch / ('open-' + name)}"
        with Memoturn(home) as mt:
            mt.databases.import_file("a", path)
        runs = [_run_child(home, row) for _ in range(7)]
        results[name] = (sorted(took for took, _ in runs)[3], min(memory for _, memory in runs))
    slow, quick = results["big"][0], results["small"][0]
    yield Figure(
        "new process, `file:`, 1 GiB: open and first point query, after the imports",
        "≤ 10 ms, ≤ 2× the same at 1 MiB",
        f"{us(slow)}, {ratio(slow, quick)}",
        f"{us(quick)} at 1 MiB",
        slow <= 10_000 and slow <= 2 * quick,
    )
    above = (results["big"][1] - results["empty"][1]) / 1024
    yield Figure(
        "memory to open and query 1 GiB",
        "≤ 64 MiB above an empty database",
        f"{above:.1f} MiB",
        "",
        above <= 64,
    )


def _run_child(home: str, row: int) -> tuple[float, int]:
    out = subprocess.run(
        [sys.executable, "-c", _CHILD, home, str(row)], check=True, capture_output=True, text=True
    ).stdout
    took, memory, rows = json.loads(out)
    assert rows == 1 or row == 1, "the row is there"
    return took, memory
