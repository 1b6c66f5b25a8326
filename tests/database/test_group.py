"""Transactions that another thread runs: whose they are, what fails with them, and what is too long for it."""

from __future__ import annotations

import errno
import functools
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import apsw
import pytest

from memoturn.base.errors import InvalidRequestError, SqlError
from memoturn.database import group as groups
from memoturn.database.branch import Branch
from memoturn.database.group import LogFailedError
from memoturn.database.tail import TailView
from memoturn.faces.embedded.client import Database
from tests.database.faulty import FaultyBucket, House, Process, StepClock
from tests.database.test_log import Gate, _InterruptAt

_MANY_STEPS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT max(i) FROM n"
)


class Caller(threading.Thread):
    """A call on a thread of its own, and how it ended."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.result: Any = None
        self.error: BaseException | None = None
        self._call = call
        self.start()

    def run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:
            self.error = error

    def ended(self) -> Any:
        self.join(timeout=20)
        assert not self.is_alive(), "a writer waits for ever"
        if self.error is not None:
            raise self.error
        return self.result


class Street:
    """A process with some databases, each with a table `t(v UNIQUE)`, whose transactions others may run."""

    def __init__(self, databases: int = 4) -> None:
        self.house, self.clock = House(), StepClock()
        self.bucket = FaultyBucket(self.clock)
        self.process = Process(self.house, self.bucket, self.clock, "n1")
        self.dbs = [self.process.create(f"d{number}") for number in range(databases)]
        for db in self.dbs:
            db.sql("CREATE TABLE t(v UNIQUE)")
            db.sql("INSERT INTO t VALUES (0)")
        self.log = self.process.log

    def branch(self, number: int) -> Branch:
        return self.process.branch(f"d{number}")

    def led(self, *calls: Callable[[], Any], after: Callable[[], None] = lambda: None) -> list[Caller]:
        """Make the calls while another thread leads; the first leads the rest. `after` is called in each sync.

        Who leads meanwhile writes the last database.
        """
        gate = Gate(self.process.directory)
        wait = self.process.directory.on_sync

        def sync() -> None:
            wait()
            after()

        self.process.directory.on_sync = sync
        leader = Caller(lambda: self.dbs[-1].sql("INSERT INTO t VALUES (abs(random()))"))
        gate.next()
        callers = []
        for count, call in enumerate(calls, 1):
            callers.append(Caller(call))
            self.wait_for(count)
        gate.let(100)
        leader.ended()
        for caller in callers:
            caller.join(timeout=20)
            assert not caller.is_alive(), "a writer waits for ever"
        self.process.directory.on_sync = lambda: None
        return callers

    def wait_for(self, count: int) -> None:
        """Until so many wait for the next group."""
        while len(self.log._group.waiters) < count:
            threading.Event().wait(0.001)

    def writes(self, number: int, work: Callable[[apsw.Connection], Any]) -> Callable[[], Any]:
        return lambda: self.branch(number).write(work, anywhere=True)

    def killed(self) -> Process:
        self.process.kill()
        return Process(self.house, self.bucket, self.clock, "n2")


def column(db: Database) -> list[Any]:
    return [row["v"] for row in db.sql("SELECT v FROM t ORDER BY rowid")]


def insert(value: object) -> Callable[[apsw.Connection], int]:
    """Inserts, and returns the thread that does it."""

    def work(connection: apsw.Connection) -> int:
        connection.execute("INSERT INTO t VALUES (?)", (value,))  # type: ignore[arg-type]
        return threading.get_ident()

    return work


@pytest.fixture
def street() -> Street:
    return Street()


def test_a_leader_runs_what_waits_and_syncs_once(street: Street) -> None:
    syncs = street.log.syncs
    callers = street.led(*[street.writes(number, insert(7)) for number in range(3)])
    assert {caller.ended()[0] for caller in callers} == {callers[0].ident}
    assert street.log.syncs == syncs + 2
    assert [column(db) for db in street.dbs[:3]] == [[0, 7]] * 3
    again = street.killed()
    assert [column(again.db(f"d{number}")) for number in range(3)] == [[0, 7]] * 3


def test_each_has_its_own_result_and_txid(street: Street) -> None:
    street.dbs[1].sql("INSERT INTO t VALUES ('one more')")
    before = [db.txid for db in street.dbs]
    sql = "INSERT INTO t VALUES (?) RETURNING v"
    callers = street.led(*[functools.partial(street.dbs[n].sql, sql, (n + 10,)) for n in range(3)])
    assert [caller.ended() for caller in callers] == [[{"v": 10}], [{"v": 11}], [{"v": 12}]]
    assert [caller.ended().txid for caller in callers] == [txid + 1 for txid in before[:3]]


def test_what_fails_fails_for_its_owner_alone(street: Street) -> None:
    callers = street.led(
        street.writes(0, insert(1)),
        lambda: street.dbs[1].sql("INSERT INTO t VALUES (0)"),
        street.writes(2, insert(2)),
    )
    callers[0].ended()
    with pytest.raises(SqlError, match="UNIQUE"):
        callers[1].ended()
    callers[2].ended()
    assert [column(db) for db in street.dbs[:3]] == [[0, 1], [0], [0, 2]]
    street.dbs[1].sql("INSERT INTO t VALUES (5)")
    assert column(street.dbs[1]) == [0, 5]


def test_what_fails_after_its_commit_is_there_once(street: Street) -> None:
    """SQLite commits before it gives the row that cannot be decoded."""
    broken = "INSERT INTO t VALUES (CAST(x'ff' AS TEXT)) RETURNING v"
    with pytest.raises(InvalidRequestError):
        street.dbs[0].sql(broken)
    alone = street.dbs[0].txid
    (_, caller) = street.led(street.writes(1, insert(1)), lambda: street.dbs[2].sql(broken))
    with pytest.raises(InvalidRequestError):
        caller.ended()
    assert street.dbs[2].txid == alone
    assert len(street.dbs[2].sql("SELECT rowid FROM t")) == len(street.dbs[0].sql("SELECT rowid FROM t"))


def test_a_failed_sync_fails_all_of_its_group_and_leaves_nothing(street: Street) -> None:
    syncs = iter(range(10))
    epochs = [street.branch(number)._epoch for number in range(3)]
    calls = [street.writes(number, insert(7)) for number in range(3)]

    def fail_the_second() -> None:
        if next(syncs) == 1:
            raise OSError(errno.EIO, "the disk is gone")

    for caller in street.led(*calls, after=fail_the_second):
        with pytest.raises(LogFailedError, match="the disk is gone"):
            caller.ended()
    for number, db in enumerate(street.dbs[:3]):
        assert column(db) == [0]
        db.sql("INSERT INTO t VALUES (8)")
        assert column(db) == [0, 8]
        assert street.branch(number)._epoch > epochs[number]
    again = street.killed()
    assert [column(again.db(f"d{number}")) for number in range(3)] == [[0, 8]] * 3


def test_a_long_transaction_is_given_up_and_run_by_its_own_thread(street: Street) -> None:
    threads: list[int] = []

    def long(connection: apsw.Connection) -> int:
        threads.append(threading.get_ident())
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (1)")
        street.clock.sleep(1)
        connection.execute(_MANY_STEPS).fetchall()
        connection.execute("COMMIT")
        return threading.get_ident()

    callers = street.led(street.writes(0, insert(7)), street.writes(1, long), street.writes(2, insert(7)))
    assert [caller.ended()[0] for caller in callers] == [callers[0].ident, callers[1].ident, callers[0].ident]
    assert threads == [callers[0].ident, callers[1].ident]
    assert [column(db) for db in street.dbs[:3]] == [[0, 7], [0, 1], [0, 7]]
    # From now on that branch runs its own.
    callers = street.led(street.writes(0, insert(8)), street.writes(1, insert(8)))
    assert [caller.ended()[0] for caller in callers] == [caller.ident for caller in callers]


def test_a_transaction_of_many_pages_is_run_by_its_own_thread(street: Street) -> None:
    callers = street.led(street.writes(0, insert(7)), street.writes(1, insert(b"x" * 1_000_000)))
    assert [caller.ended()[0] for caller in callers] == [caller.ident for caller in callers]
    assert [len(value) for value in column(street.dbs[1])[1:]] == [1_000_000]


def test_two_transactions_in_one_work_are_run_by_their_own_thread(street: Street) -> None:
    def two(connection: apsw.Connection) -> int:
        insert(1)(connection)
        return insert(2)(connection)

    before = street.dbs[1].txid
    callers = street.led(street.writes(0, insert(7)), street.writes(1, two))
    assert [caller.ended()[0] for caller in callers] == [caller.ident for caller in callers]
    assert column(street.dbs[1]) == [0, 1, 2]
    assert callers[1].ended()[1] == before + 2


def test_a_page_that_has_to_be_fetched_is_fetched_by_its_own_thread(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FaultyBucket, "is_local", False)
    monkeypatch.setattr(TailView, "is_in_memory", lambda _self, _page_no: False)

    def cold(connection: apsw.Connection) -> int:
        # What SQLite has cached it need not read.
        guard, connection.authorizer = connection.authorizer, None
        connection.execute("PRAGMA shrink_memory")
        connection.authorizer = guard
        return insert(1)(connection)

    callers = street.led(street.writes(0, insert(7)), street.writes(1, cold))
    assert callers[0].ended()[0] == callers[0].ident
    assert callers[1].ended()[0] == callers[1].ident
    assert column(street.dbs[1]) == [0, 1]


def test_the_main_thread_runs_its_own_transactions_and_no_others(street: Street) -> None:
    """Only there can a signal's handler raise."""
    syncs = iter(range(100))
    callers: list[Caller] = []

    def crowd() -> None:
        if next(syncs) == 0:
            callers.extend(Caller(street.writes(number, insert(7))) for number in (1, 2))
            street.wait_for(2)

    street.process.directory.on_sync = crowd
    ident, _ = street.branch(0).write(insert(7), anywhere=True)
    assert ident == threading.get_ident()
    assert threading.get_ident() not in {caller.ended()[0] for caller in callers}
    assert [column(db) for db in street.dbs[:3]] == [[0, 7]] * 3


def test_whoever_forks_is_the_main_thread_of_the_child() -> None:
    """There it is where a signal's handler raises."""
    assert groups.in_main_thread()
    program = """if True:
        import os, threading
        from memoturn.database.group import in_main_thread
        def fork():
            assert not in_main_thread()
            child = os.fork()
            if not child:
                os._exit(0 if in_main_thread() else 1)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        threading.Thread(target=fork).start()
    """
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", program]).returncode == 0


def test_the_main_thread_is_not_woken_to_lead_what_others_left(street: Street) -> None:
    gate = Gate(street.process.directory)
    leader = Caller(street.writes(3, insert(1)))
    gate.next()
    callers: list[Caller] = []

    def queue_behind_the_main_thread() -> None:
        street.wait_for(1)
        callers.extend(Caller(street.writes(number, insert(7))) for number in (1, 2))
        street.wait_for(3)
        gate.let(100)

    helper = Caller(queue_behind_the_main_thread)
    assert street.branch(0).write(insert(7), anywhere=True)[0] == threading.get_ident()
    for caller in (leader, helper):
        caller.ended()
    (ident,) = {caller.ended()[0] for caller in callers}
    assert ident in {caller.ident for caller in callers}
    assert [column(db) for db in street.dbs[:3]] == [[0, 7]] * 3


def test_nothing_is_left_to_the_main_thread_while_it_waits_for_others(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "_SHORTEST_PAUSE", 20.0)
    gate = Gate(street.process.directory)
    leader = Caller(street.writes(3, insert(1)))
    gate.next()
    callers: list[Caller] = []

    def come_late() -> None:
        street.wait_for(1)
        gate.let(100)
        while street.log._gathering is None:
            threading.Event().wait(0.001)
        callers.append(Caller(street.writes(1, insert(7))))

    helper = Caller(come_late)
    street.branch(0).write(insert(7), anywhere=True)
    for caller in (leader, helper):
        caller.ended()
    assert callers[0].ended()[0] == callers[0].ident
    assert street.log.syncs == 4 * 2 + 2, "it was waited for"


def test_a_signal_in_the_main_thread_hits_no_transaction_of_another() -> None:
    number = 0
    while True:
        number += 1
        street = Street(3)
        callers: list[Caller] = []

        def crowd(street: Street = street, callers: list[Caller] = callers) -> None:
            street.process.directory.on_sync = lambda: None
            callers.extend(Caller(street.writes(n, insert(7))) for n in (1, 2))
            street.wait_for(2)

        street.process.directory.on_sync = crowd
        interrupt = _InterruptAt(number)
        sys.settrace(interrupt)
        try:
            street.branch(0).write(insert(7), anywhere=True)
        except (KeyboardInterrupt, LogFailedError):
            assert interrupt.where
        finally:
            sys.settrace(None)
        for caller in callers:
            caller.ended()
        for n in (1, 2) if callers else ():
            assert column(street.dbs[n]) == [0, 7], f"after an interrupt in {interrupt.where}"
        street.dbs[0].sql("INSERT INTO t VALUES (9)")
        assert column(street.dbs[0]) in ([0, 9], [0, 7, 9])
        if not interrupt.where:
            return
