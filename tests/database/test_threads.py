"""Threads of one process: readers beside a writer, writers of one branch, writers of many databases."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable

import pytest

from memoturn import Database, Memoturn, MemoturnError
from memoturn.base.settings import CacheSettings, CommitSettings, Settings
from memoturn.database.readers import Reader
from tests.support import ManualClock, assert_view_is_whole, assert_whole, branch_of, values

Opener = Callable[..., Memoturn]


def together(*works: Callable[[], object]) -> None:
    """Run them in threads that begin at the same moment; the first failure is raised."""
    ready = threading.Barrier(len(works))
    failures: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        ready.wait()
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.fixture(params=["memory", "file"])
def mt(request: pytest.FixtureRequest, open_store: Opener, file_url: str) -> Memoturn:
    quick = Settings(commit=CommitSettings(ship_interval_ms=5))
    store = open_store("memory:" if request.param == "memory" else file_url, settings=quick)
    store.databases.create("x")
    store.db("x").sql("CREATE TABLE t(v, w)")
    return store


def test_readers_beside_a_writer_see_whole_transactions_in_order(mt: Memoturn) -> None:
    """Every transaction leaves the two columns with equal sums; a view between two would not."""
    db = mt.db("x")
    done = threading.Event()

    def write() -> None:
        try:
            for i in range(150):
                db.batch(
                    [("INSERT INTO t VALUES (?, 0)", [i]), ("UPDATE t SET w = v WHERE rowid = ?", [i + 1])]
                )
                if i % 40 == 0:
                    db.sql("VACUUM")
        finally:
            done.set()

    def read() -> None:
        seen = txid = 0
        while not done.is_set():
            rows = db.sql("SELECT count(*) AS n, coalesce(sum(v), 0) AS a, coalesce(sum(w), 0) AS b FROM t")
            n, a, b = rows[0]["n"], rows[0]["a"], rows[0]["b"]
            assert isinstance(n, int)
            assert a == b == n * (n - 1) // 2
            assert n >= seen
            assert rows.txid >= txid
            seen, txid = n, rows.txid

    together(write, *[read] * 6)
    assert_view_is_whole(branch_of(db).head())


def test_readers_of_the_past_beside_a_writer_see_what_was_there(mt: Memoturn) -> None:
    db = mt.db("x")
    for i in range(20):
        db.sql("INSERT INTO t VALUES (?, NULL)", [i])
    done = threading.Event()

    def write() -> None:
        try:
            for i in range(60):
                db.sql("UPDATE t SET v = -1") if i % 2 else db.branch.rewind(21)
        finally:
            done.set()

    def read(start: int) -> Callable[[], None]:
        def work() -> None:
            i = start
            while not done.is_set():
                i = i % 20 + 1
                assert values(db.at(i + 1)) == list(range(i))

        return work

    together(write, *(read(i) for i in range(5)))


def test_writers_of_one_branch_take_turns(mt: Memoturn) -> None:
    db = mt.db("x")
    txids: list[int] = []

    def write(low: int) -> Callable[[], None]:
        def work() -> None:
            txids.extend(db.sql("INSERT INTO t VALUES (?, NULL)", [low + i]).txid for i in range(40))

        return work

    together(*(write(100 * n) for n in range(8)))
    assert sorted(txids) == list(range(2, 2 + 320)), "no txid twice, none left out"
    assert sorted(values(db)) == sorted(100 * n + i for n in range(8) for i in range(40))
    assert_whole(db, [])


def test_branch_operations_beside_writers_lose_nothing(mt: Memoturn) -> None:
    db = mt.db("x")
    forks: list[tuple[str, int]] = []

    def write() -> None:
        for i in range(100):
            db.sql("INSERT INTO t VALUES (?, NULL)", [i])

    def fork() -> None:
        for i in range(20):
            child = db.branch.create(f"f{i}")
            forks.append((f"x@f{i}", child.txid))

    def mark() -> None:
        for i in range(20):
            db.branch.checkpoint(f"c{i}")

    together(write, fork, mark)
    assert values(db) == list(range(100))
    for name, txid in forks:
        assert values(mt.db(name)) == list(range(txid - 1))
    for mark_ in db.branch.checkpoints():
        assert values(db.at(mark_.name)) == list(range(mark_.txid - 1))


def test_thirty_two_databases_written_by_as_many_threads_are_all_there_afterwards(
    open_store: Opener, file_url: str
) -> None:
    mt = open_store(file_url)
    for n in range(32):
        mt.databases.create(f"d{n}")
        mt.db(f"d{n}").sql("CREATE TABLE t(v)")
    log = mt._engine.env.log
    assert log is not None
    before = log.commits

    def write(n: int) -> Callable[[], None]:
        def work() -> None:
            db = mt.db(f"d{n}")
            for i in range(15):
                db.sql("INSERT INTO t VALUES (?)", [i])

        return work

    together(*(write(n) for n in range(32)))
    assert log.commits - before == 32 * 15
    mt.close()
    again = open_store(file_url)
    for n in range(32):
        assert values(again.db(f"d{n}")) == list(range(15))
        assert_view_is_whole(branch_of(again.db(f"d{n}")).head())


def test_branches_that_come_and_go_under_their_writers_lose_nothing(
    open_store: Opener, file_url: str, clock: ManualClock
) -> None:
    """Two branches are kept open, eight are written: each rests many times while somebody is about to write it."""
    tight = Settings(hot_cap=2, commit=CommitSettings(ship_interval_ms=1), cache=CacheSettings(64 << 10))
    mt = open_store(file_url, settings=tight)
    for n in range(8):
        mt.databases.create(f"d{n}")
        mt.db(f"d{n}").sql("CREATE TABLE t(v)")

    def write(n: int, low: int) -> Callable[[], None]:
        def work() -> None:
            db = mt.db(f"d{n}")
            for i in range(25):
                db.sql("INSERT INTO t VALUES (?)", [low + i])
                assert len(values(db)) > i

        return work

    together(*(write(n, low) for n in range(8) for low in (0, 100)))
    for n in range(8):
        assert sorted(values(mt.db(f"d{n}"))) == [*range(25), *range(100, 125)]
        assert_view_is_whole(branch_of(mt.db(f"d{n}")).head())


def test_a_branch_has_one_object_as_long_as_somebody_uses_it(mt: Memoturn) -> None:
    engine = mt._engine
    branch = branch_of(mt.db("x"))
    engine._branches.clear()  # As if others had pushed it out.
    assert branch_of(mt.db("x")) is branch
    engine._branches.clear()
    branch.rest()
    branch.write(lambda connection: connection.execute("INSERT INTO t VALUES (1, 1)"))
    assert engine.open_branches() == [branch], "whoever owns is found by those who ask for it"


def test_a_deletion_beside_writers_ends_them_with_a_clear_error(mt: Memoturn) -> None:
    for _ in range(5):
        fork = mt.db("x").branch.create("f")
        acknowledged: list[int] = []
        refused: list[str] = []
        tokens: list[str] = []
        together(
            functools.partial(_write_until_refused, fork, acknowledged, refused),
            functools.partial(_delete_after_five, fork, acknowledged, tokens),
        )
        assert refused == ["branch_not_found"]
        mt.db("x").branch.undo(tokens[0])
        assert values(fork) == acknowledged, "what was acknowledged before the deletion comes back with it"
        fork.branch.delete()


def _write_until_refused(fork: Database, acknowledged: list[int], refused: list[str]) -> None:
    for i in range(10_000):
        try:
            fork.sql("INSERT INTO t VALUES (?, NULL)", [i])
        except MemoturnError as error:
            refused.append(error.code)
            return
        acknowledged.append(i)


def _delete_after_five(fork: Database, acknowledged: list[int], tokens: list[str]) -> None:
    while len(acknowledged) < 5:
        pass
    tokens.append(fork.branch.delete().undo)


def test_a_reader_that_another_thread_takes_while_it_is_chosen_is_left_to_it(mt: Memoturn) -> None:
    class Contended(list[Reader]):
        def remove(self, reader: Reader) -> None:
            if not theirs:
                theirs.append(self.pop(self.index(reader)))
            super().remove(reader)

    db = mt.db("x")
    first = branch_of(db).head()
    pool = branch_of(db).readers
    pool.close()
    pool.give_back(pool.take(first))
    db.sql("INSERT INTO t VALUES (1, 1)")
    pool._idle = Contended(pool._idle)
    theirs: list[Reader] = []
    mine = pool.take(branch_of(db).head())
    assert theirs
    assert mine not in theirs
    for reader in (mine, *theirs):
        pool.give_back(reader)


def test_readers_that_move_between_views_are_never_shared(mt: Memoturn) -> None:
    db = mt.db("x")
    views = [branch_of(db).head()]
    for i in range(4):
        db.sql("INSERT INTO t VALUES (?, NULL)", [i])
        views.append(branch_of(db).head())
    pool = branch_of(db).readers
    taken: set[int] = set()

    def read(n: int) -> None:
        for i in range(300):
            count = (i * n) % 5
            reader = pool.take(views[count])
            assert id(reader) not in taken
            taken.add(id(reader))
            assert reader.connection.execute("SELECT count(*) FROM t").fetchall() == [(count,)]
            taken.discard(id(reader))
            pool.give_back(reader)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        together(*(functools.partial(read, n) for n in range(1, 9)))
    finally:
        sys.setswitchinterval(usual)
