"""What a fork, a checkpoint, a rewind and a new database cost, at any size and any number."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import apsw

from bench.history import QUIET, compact
from bench.measure import Figure, Times, best_of, measure, measure_both, ratio, timed, times_of, us
from bench.samples import filled
from memoturn import Database, Memoturn


def figures(big: Path, small: Path, scratch: Path) -> Iterator[Figure]:
    """`big` and `small` are SQLite files of 1 GiB and 1 MiB."""
    yield from _operations()
    yield _create_databases()
    yield from _forks(big, small, scratch)
    yield _many_branches()
    yield _long_history()
    yield _many_segments()


def _operations() -> Iterator[Figure]:
    with Memoturn("memory:") as mt:
        mt.databases.create("a")
        db = mt.db("a")
        filled(db, 1000)
        db.branch.checkpoint("start")
        names = itertools.count()
        create = measure(lambda _: db.branch.create(f"b{next(names)}"), 5000)
        # A hundred branches share the work, so that none grows more history than a busy agent's day.
        branches = [db.branch.create(f"w{number}") for number in range(100)]
        for branch in branches:
            branch.sql("INSERT INTO t(x) VALUES ('own')")
            branch.sync()
        checkpoint = measure(lambda n: branches[n % 100].branch.checkpoint(f"c{n}"), 2000)
        rewind = measure(lambda n: branches[n % 100].branch.rewind(1), 2000)
    for name, times in (("branch create", create), ("checkpoint", checkpoint), ("rewind", rewind)):
        yield Figure(f"{name}, `memory:`", "p50 ≤ 15 µs", str(times), "", times.p50 <= 15)


def _create_databases() -> Figure:
    with Memoturn("memory:") as mt:
        times = measure(lambda n: mt.databases.create(f"d{n}"), 10_000, warm=0)
    return Figure("create database, 10,000 of them", "p50 ≤ 10 µs", str(times), "", times.p50 <= 10)


def _forks(big: Path, small: Path, scratch: Path) -> Iterator[Figure]:
    with Memoturn("memory:") as mt:
        mt.databases.import_file("big", big)
        mt.databases.import_file("small", small)
        of_big, of_small = mt.db("big"), mt.db("small")
        names = itertools.count()
        fork_big, fork_small = measure_both(
            lambda _: of_big.branch.create(f"b{next(names)}"),
            lambda _: of_small.branch.create(f"b{next(names)}"),
            3000,
        )
        copied = best_of(lambda: shutil.copyfile(big, scratch / "copy.sqlite"), 3)
        vacuumed = best_of(lambda: _vacuum_into(big, scratch), 1)
        peers = f"file copy {us(copied)}, VACUUM INTO {us(vacuumed)}"
        template = _postgres_template(scratch)
        if template is not None:
            peers += f", PostgreSQL TEMPLATE (8 MB) {us(template)}"
        yield Figure(
            "fork of 1 GiB against fork of 1 MiB",
            "≤ 1.2×",
            f"{ratio(fork_big.p50, fork_small.p50)} ({us(fork_big.p50)} / {us(fork_small.p50)})",
            peers,
            fork_big.p50 <= 1.2 * fork_small.p50,
        )
        of_big.sql("SELECT x FROM t WHERE id = 5000")
        yield _first_query(of_big)


def _first_query(db: Database) -> Figure:
    both = times_of([_fork_and_query(db, number) for number in range(200)])
    return Figure(
        "fork of 1 GiB, then first point query on it, warm", "≤ 1 ms", str(both), "", both.p50 <= 1000
    )


def _fork_and_query(db: Database, number: int) -> int:
    start = time.perf_counter_ns()
    fork = db.branch.create(f"q{number}")
    fork.sql("SELECT x FROM t WHERE id = ?", [5000 + number % 7])
    return time.perf_counter_ns() - start


def _many_branches() -> Figure:
    with Memoturn("memory:") as mt:
        mt.databases.create("a")
        db = mt.db("a")
        filled(db, 1000)
        first = _create_some(db, 0, 500)
        _create_some(db, 500, 9_500)
        last = _create_some(db, 10_000, 500)
    return Figure(
        "branch 10,000 against branch 1",
        "≤ 1.5×",
        f"{ratio(last.p50, first.p50)} ({us(last.p50)} / {us(first.p50)})",
        "",
        last.p50 <= 1.5 * first.p50,
    )


def _long_history() -> Figure:
    """Fork and rewind after 100,000 commits against the same after 10."""
    forks, rewinds = [], []
    for commits in (10, 100_000):
        with Memoturn("memory:") as mt:
            mt.databases.create("a")
            db = mt.db("a")
            db.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT)")
            for _ in range(commits):
                db.sql("INSERT INTO t(x) VALUES ('value')")
            db.sync()
            forks.append(_create_some(db, 0, 1000))
            rewinds.append(measure(lambda _, db=db: db.branch.rewind(3), 200, warm=10))  # type: ignore[misc]
    return Figure(
        "fork, rewind after 100,000 commits against after 10",
        "the same: ≤ 1.5×",
        f"{ratio(forks[1].p50, forks[0].p50)}, {ratio(rewinds[1].p50, rewinds[0].p50)}",
        f"{us(forks[0].p50)}, {us(rewinds[0].p50)}",
        forks[1].p50 <= 1.5 * forks[0].p50 and rewinds[1].p50 <= 1.5 * rewinds[0].p50,
    )


def _many_segments() -> Figure:
    """Each durable commit is a segment of its own; every 50 of them compaction has its turn."""
    with Memoturn("memory:", durability="durable", settings=QUIET) as mt:
        mt.databases.create("a")
        db = mt.db("a")
        db.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT)")
        branch = mt._engine.branch("a")

        def commits(count: int) -> Times:
            found: list[int] = []
            for number in range(count):
                found.append(timed(lambda _: db.sql("INSERT INTO t(x) VALUES ('value')"), number))
                if number % 50 == 0:
                    compact(mt._engine, branch)
            return times_of(found)

        commits(50)
        first = commits(500)
        commits(19_000)
        last = commits(500)
    return Figure(
        "durable commit after 20,000 segments against the first, `memory:`",
        "≤ 1.5×",
        f"{ratio(last.p50, first.p50)} ({us(last.p50)})",
        us(first.p50),
        last.p50 <= 1.5 * first.p50,
    )


def _create_some(db: Database, start: int, count: int) -> Times:
    return measure(lambda n: db.branch.create(f"b{start + n}"), count, warm=0)


def _vacuum_into(path: Path, scratch: Path) -> None:
    target = scratch / "vacuumed.sqlite"
    target.unlink(missing_ok=True)
    connection = apsw.Connection(str(path))
    connection.execute("VACUUM INTO ?", (str(target),))
    connection.close()


def _postgres_template(scratch: Path) -> float | None:
    """Microseconds of CREATE DATABASE … TEMPLATE on a server of our own, or None without PostgreSQL."""
    bindir = next((Path(found).parent for found in _postgres_programs()), None)
    client = shutil.which("psql")
    if bindir is None or client is None:
        return None
    import os
    import pwd

    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        user: dict[str, object] = {}
        if os.getuid() == 0:
            try:
                account = pwd.getpwnam("postgres")
            except KeyError:
                return None
            os.chown(base, account.pw_uid, account.pw_gid)
            user = {"user": account.pw_uid, "group": account.pw_gid}
        run = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": base, **user}
        data = base / "data"
        options = f"-c listen_addresses='' -k {base}"
        try:
            subprocess.run([bindir / "initdb", "-D", data, "-A", "trust", "-U", "postgres"], **run)  # type: ignore[call-overload]
            subprocess.run([bindir / "pg_ctl", "-D", data, "-w", "-o", options, "start"], **run)  # type: ignore[call-overload]
        except (OSError, subprocess.CalledProcessError):
            return None
        try:
            psql = [client, "-h", base, "-U", "postgres", "-q", "-c"]

            def create() -> None:
                subprocess.run([*psql, "CREATE DATABASE copied TEMPLATE template1"], **run)  # type: ignore[call-overload]

            def drop() -> None:
                subprocess.run([*psql, "DROP DATABASE IF EXISTS copied"], **run)  # type: ignore[call-overload]

            empty = best_of(lambda: subprocess.run([*psql, "SELECT 1"], **run), 3)  # type: ignore[call-overload]
            best = float("inf")
            for _ in range(3):
                drop()
                best = min(best, best_of(create, 1))
            return best - empty
        finally:
            subprocess.run([bindir / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)  # type: ignore[call-overload]


def _postgres_programs() -> list[str]:
    found = shutil.which("initdb")
    known = sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return [found, *known] if found else known
