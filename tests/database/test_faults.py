"""Every write of the commit log and every page read fails, at every point that a workload reaches."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import apsw
import pytest

from memoturn import Memoturn
from memoturn.base.errors import (
    CorruptError,
    MemoturnError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
    UndecidedWriteError,
)
from memoturn.bucket import StaleVersionError, Version
from memoturn.database import log
from memoturn.database.record import HEAD_SIZE, START, read_file_header, read_records
from tests.database.faulty import (
    FaultyBucket,
    FaultyDirectory,
    House,
    Operation,
    Process,
    StepClock,
    away,
)
from tests.database.stories import (
    State,
    Step,
    batch,
    checkpoint,
    create_table,
    delete_below,
    insert,
    rewind,
    rows_of,
    ship,
    state_of,
    vacuum,
)

STORY: list[Step] = [
    create_table(),
    insert(1),
    insert(2, 3000),
    checkpoint("early"),
    batch([3, 4, 5], 2000),
    insert(6, 4000),
    ship(),
    batch(range(10, 16), 1500),
    insert(20),
    delete_below(4),
    vacuum(),
    checkpoint("late"),
    rewind("early"),
    insert(30, 3000),
    insert(31, 3000),
    insert(32, 9000),
    ship(),
    insert(33),
    insert(34),
]


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the story fills several log files, cuts them and uses them again."""
    monkeypatch.setattr(log, "FIRST_FILE_BYTES", 32 << 10)
    monkeypatch.setattr(log, "FILE_BYTES", 48 << 10)


class Stage:
    """A house with one process and one database, and what the database must contain."""

    def __init__(self, directory: FaultyDirectory | None = None, **settings: Any) -> None:
        self.clock = StepClock()
        self.bucket = FaultyBucket(self.clock)
        self.house = House()
        self.house.logs["n1"] = directory or FaultyDirectory()
        self.process = Process(self.house, self.bucket, self.clock, "n1", **settings)
        self.db = self.process.create("db")
        self.state = State()

    @property
    def directory(self) -> FaultyDirectory:
        return self.process.directory

    def tell(self, steps: list[Step]) -> Step | None:
        """Take steps until one fails; returns that one."""
        for step in steps:
            try:
                step.do(self.db)
            except (MemoturnError, OSError):
                return step
            self.state = step.effect(self.state)
        return None

    def recovered(self, survived: int, reordered: bool = False) -> Process:
        """Another process, on what a power cut has left."""
        house = House()
        house.logs["n1"] = self.directory.surviving(survived, reordered)
        return Process(house, self.bucket.copy(self.clock), self.clock, "n2")

    def killed(self) -> Process:
        """Another process, after this one was killed."""
        self.process.kill()
        return Process(self.house, self.bucket, self.clock, "n2")


def _whole_story() -> FaultyDirectory:
    stage = Stage()
    assert stage.tell(STORY) is None
    return stage.directory


def test_story_reaches_every_kind_of_write() -> None:
    directory = _whole_story()
    assert directory.calls["create"] >= 2
    assert len(directory.files) >= 2
    generations = [read_file_header(bytes(file.visible()[:64])) for file in directory.files.values()]
    assert any(generation is not None and generation > 1 for generation in generations), (
        "no file was used again"
    )


# Crashes.


def test_crash_at_every_operation_keeps_what_was_acknowledged() -> None:
    reached = len(_whole_story().steps)
    survivors = 0
    for number in range(1, reached + 1):
        stage = Stage()
        stage.directory.freeze_at = number
        failed = stage.tell(STORY)
        assert failed is not None or number > len(stage.directory.steps) - 1
        allowed = [stage.state] + ([failed.effect(stage.state)] if failed else [])
        unsynced = stage.directory.unsynced_bytes()
        classes = {0, 1, HEAD_SIZE - 1, HEAD_SIZE, HEAD_SIZE + 1, unsynced // 2, unsynced - 1, unsynced}
        for survived in sorted(c for c in classes if 0 <= c <= unsynced):
            for reordered in (False, True):
                found = state_of(stage.recovered(survived, reordered).db("db"))
                assert found in allowed, (
                    f"crash at operation {number} ({failed}), {survived} bytes of {unsynced}"
                )
                survivors += 1
    assert survivors > 3 * reached


def test_recovery_can_crash_and_be_repeated() -> None:
    """Whoever finishes for the dead may die of it, at every request to the store."""
    stage = Stage()
    assert stage.tell(STORY) is None
    stage.process.kill()
    for number in range(100):
        bucket = stage.bucket.copy(stage.clock)
        house = House()
        house.logs["n1"] = stage.directory.surviving(0)
        requests = 0

        def stop(verb: str, key: str, number: int = number) -> None:
            nonlocal requests
            requests += 1
            if requests > number:
                raise UnavailableError("the store does not answer")

        bucket.fault = stop
        Process(house, bucket, stage.clock, "n2").kill()
        bucket.fault = lambda _verb, _key: None
        found = state_of(Process(house, bucket, stage.clock, "n3").db("db"))
        assert found == stage.state, f"the store went away after {number} requests"
        if requests <= number:
            return
    raise AssertionError("recovery takes more than a hundred requests")


# Errors.


def _errors() -> Iterator[tuple[Operation, int, int]]:
    calls = _whole_story().calls
    for kind, code in (
        ("sync", errno.EIO),
        ("write", errno.ENOSPC),
        ("write", errno.EIO),
        ("create", errno.ENOSPC),
    ):
        for number in range(1, calls[kind] + 1):  # type: ignore[index]
            yield kind, number, code  # type: ignore[misc]


def test_error_at_every_write_voids_that_commit_alone() -> None:
    failures = 0
    for kind, number, code in _errors():
        stage = Stage()
        stage.directory.fail(kind, number, OSError(code, "injected"))
        where = f"{kind} {number} failed with {errno.errorcode[code]}"
        rest = list(STORY)
        while rest:
            failed = stage.tell(rest)
            if failed is None:
                break
            failures += 1
            assert state_of(stage.db) == stage.state, f"{where}: {failed.name} is half there"
            del rest[: rest.index(failed)]
            assert stage.tell(rest[:1]) is None, f"{where}: {failed.name} cannot be repeated"
            assert state_of(stage.db) == stage.state, f"{where}: after repeating {failed.name}"
            del rest[:1]
        # After a power cut nobody remembers which sync had failed, and its bytes may be on the disk all the same.
        everything = stage.directory.unsynced_bytes()
        assert state_of(stage.recovered(everything).db("db")) == stage.state, f"{where}: after a power cut"
        assert state_of(stage.killed().db("db")) == stage.state, f"{where}: after a kill"
    assert failures > 20


@pytest.mark.parametrize("ending", ["kill", "power cut", "close", "hand over"])
def test_commit_whose_sync_failed_stays_void(ending: str) -> None:
    """Its bytes are in the file, and may even be on the disk: nobody may take them for a commit."""
    stage = Stage()
    assert stage.tell([create_table(), insert(1)]) is None
    stage.directory.fail("sync", stage.directory.calls["sync"] + 1, OSError(errno.EIO, "injected"))
    failed = stage.tell([insert(2)])
    assert failed is not None
    allowed = [stage.state]
    if ending == "kill":
        process = stage.killed()
    elif ending == "power cut":
        # Then nobody remembers that the sync had failed, and replay decides.
        process = stage.recovered(stage.directory.unsynced_bytes())
        allowed.append(failed.effect(stage.state))
    elif ending == "close":
        stage.process.engine.close()
        process = stage.killed()
    else:
        process = Process(stage.house, stage.bucket, stage.clock, "n2")
        assert state_of(process.db("db")) == stage.state, "a neighbour reads along what is void"
        insert(3).do(process.db("db"))
        stage.state = insert(3).effect(stage.state)
        allowed = [stage.state]
    assert state_of(process.db("db")) in allowed


def test_neighbour_does_not_read_what_failed_in_a_group_with_others() -> None:
    """Of two branches whose commits failed together, one goes on in another file; the first stays unread."""
    stage = Stage()
    assert stage.tell([create_table(), insert(1)]) is None
    other = stage.process.create("other")
    other.sql("CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)")
    stage.directory.fail("sync", stage.directory.calls["sync"] + 1, OSError(errno.EIO, "injected"))
    assert stage.tell([insert(2)]) is not None
    insert(7).do(other)  # The log has a new file now, and the failed one is not the active one any more.
    neighbour = Process(stage.house, stage.bucket, stage.clock, "n2")
    assert state_of(neighbour.db("db")) == stage.state
    assert state_of(neighbour.db("other")).rows == ((7, 10),)


def test_full_disk_stays_full_and_is_emptied() -> None:
    stage = Stage()
    assert stage.tell(STORY[:5]) is None
    step, directory = directory_full(stage)
    for key in range(100, 103):
        failed = stage.tell([insert(key)])
        assert failed is not None
        assert state_of(stage.db) == stage.state
    directory.step = step  # type: ignore[method-assign]
    assert stage.tell([insert(103)]) is None
    assert state_of(stage.db) == stage.state
    assert state_of(stage.killed().db("db")) == stage.state


def directory_full(stage: Stage) -> tuple[Callable[[Operation, str], None], FaultyDirectory]:
    directory = stage.directory
    step = directory.step

    def full(kind: Operation, name: str) -> None:
        if kind in ("create", "write"):
            raise OSError(errno.ENOSPC, "no space left")
        step(kind, name)

    directory.step = full  # type: ignore[method-assign]
    return step, directory


# Torn and damaged files.


def _four_groups() -> tuple[Stage, str, list[tuple[int, int]], list[State]]:
    """A stage, its log file, where each record lies in it, and the state after each."""
    stage = Stage()
    states = [stage.state]
    for step in (create_table(), insert(1, 200), insert(2, 200), insert(3, 200)):
        assert stage.tell([step]) is None
        states.append(stage.state)
    (name,) = stage.directory.names()
    data = bytes(stage.directory.files[name].visible())
    generation = read_file_header(data[:64])
    assert generation is not None
    spans, at = [], START
    for record in read_records(data, START, generation)[0]:
        length = HEAD_SIZE + len(record.branch) + len(record.commit)
        spans.append((at, length))
        at += length
    assert len(spans) == 4
    return stage, name, spans, states


def _with(stage: Stage, name: str, change: Callable[[bytearray], None]) -> Process:
    """A new process on a copy of everything, with the log file changed."""
    house = House()
    house.logs["n1"] = stage.directory.surviving(0)
    change(house.logs["n1"].files[name].durable)
    return Process(house, stage.bucket.copy(stage.clock), stage.clock, "n2")


@pytest.fixture(scope="module")
def groups() -> tuple[Stage, str, list[tuple[int, int]], list[State]]:
    return _four_groups()


Groups = tuple[Stage, str, list[tuple[int, int]], list[State]]


@pytest.mark.parametrize("filling", [b"\0", b"\xff"])
def test_tail_torn_anywhere_loses_the_last_group_alone(groups: Groups, filling: bytes) -> None:
    stage, name, spans, states = groups
    start, length = spans[-1]
    for kept in sorted({*range(HEAD_SIZE + 150), *range(0, length, 61), *range(length - 20, length + 1)}):

        def tear(content: bytearray, kept: int = kept) -> None:
            content[start + kept : start + length] = filling * (length - kept)

        found = state_of(_with(stage, name, tear).db("db"))
        missing = stage.directory.files[name].visible()[start + kept : start + length]
        torn = missing != filling * (length - kept)
        assert found == (states[3] if torn else states[4]), f"{kept} bytes of {length} are left"


def test_flipped_bit_in_any_record_but_the_last_is_loud(
    groups: Groups, caplog: pytest.LogCaptureFixture
) -> None:
    stage, name, spans, _ = groups
    for start, length in spans[:-1]:
        for at in [*range(HEAD_SIZE), *range(HEAD_SIZE, length, 379), length - 1]:

            def flip(content: bytearray, at: int = start + at) -> None:
                content[at] ^= 0x10

            caplog.clear()
            process = _with(stage, name, flip)
            assert name in caplog.text, f"nothing was said about byte {at} of the record at {start}"
            with pytest.raises(CorruptError, match=name):
                process.db("db").sql("SELECT * FROM t")
            assert "n1" in process.house.logs, "a damaged log was removed"


def test_flipped_bit_in_the_last_record_is_a_torn_tail(groups: Groups) -> None:
    stage, name, spans, states = groups
    start, length = spans[-1]
    for at in [*range(HEAD_SIZE), *range(HEAD_SIZE, length, 37), length - 1]:

        def flip(content: bytearray, at: int = start + at) -> None:
            content[at] ^= 0x10

        assert state_of(_with(stage, name, flip).db("db")) == states[3], f"byte {at}"


def test_flipped_bit_in_the_file_header_is_loud(groups: Groups) -> None:
    stage, name, _, _ = groups
    for at in range(16):
        for bit in range(8):

            def flip(content: bytearray, at: int = at, bit: int = bit) -> None:
                content[at] ^= 1 << bit

            with pytest.raises(CorruptError, match=name):
                _with(stage, name, flip).db("db").sql("SELECT * FROM t")


def test_lost_file_header_is_loud(groups: Groups) -> None:
    stage, name, _, _ = groups

    def wipe(content: bytearray) -> None:
        content[:START] = bytes(START)

    with pytest.raises(CorruptError, match=name):
        _with(stage, name, wipe).db("db").sql("SELECT * FROM t")


# Signals.


def test_interrupt_during_the_sync_voids_the_commit() -> None:
    stage = Stage()
    assert stage.tell([create_table(), insert(1)]) is None

    def interrupt() -> None:
        stage.directory.on_sync = lambda: None
        raise KeyboardInterrupt

    stage.directory.on_sync = interrupt
    with pytest.raises(KeyboardInterrupt):
        insert(2).do(stage.db)
    assert state_of(stage.db) == stage.state
    assert stage.tell([insert(2, 50), insert(3)]) is None
    assert state_of(stage.db) == stage.state
    assert state_of(stage.killed().db("db")) == stage.state


_ROOMS = ("/memoturn/database/", "/memoturn/pages/", "/memoturn/operations/", "/memoturn/models/")


class _Interrupt:
    """Raises KeyboardInterrupt at the n-th line of ours that runs; lines at which no signal can arrive do not count.

    A signal's handler runs after a call or at the beginning of a function, never between two simple lines.
    """

    def __init__(self, number: int) -> None:
        self.left = number
        self.where = ""

    def __call__(self, frame: FrameType, event: str, _arg: object) -> Callable[..., Any] | None:
        if not any(room in frame.f_code.co_filename for room in _ROOMS):
            return None
        if event == "call" and self.left > 0:
            self.left -= 1
            if self.left == 0:
                code = frame.f_code
                self.where = f"{Path(code.co_filename).name}:{code.co_name}"
                raise KeyboardInterrupt
        return self


@pytest.mark.parametrize("durability", ["standard", "durable"])
def test_interrupt_at_every_call_of_a_write_leaves_all_or_nothing(durability: str) -> None:
    number, places = 0, set()
    while True:
        number += 1
        stage = Stage(durability=durability)
        assert stage.tell([create_table(), insert(1), batch([2, 3])]) is None
        interrupt = _Interrupt(number)
        step = insert(4, 5000)
        sys.settrace(interrupt)
        try:
            step.do(stage.db)
            stage.state = step.effect(stage.state)
        except BaseException:
            assert interrupt.where
        finally:
            sys.settrace(None)
        if not interrupt.where:
            break
        places.add(interrupt.where)
        found = state_of(stage.db)
        assert found in (stage.state, step.effect(stage.state)), f"{number}: interrupted at {interrupt.where}"
        stage.state = found
        neighbour = Process(stage.house, stage.bucket, stage.clock, f"neighbour-{number}")
        assert state_of(neighbour.db("db")) == found, (
            f"{number}: a neighbour reads along after {interrupt.where}"
        )
        assert stage.tell([insert(5), batch([6, 7], 3000)]) is None, f"{number}: after {interrupt.where}"
        assert state_of(stage.db) == stage.state, f"{number}: after {interrupt.where}"
        assert state_of(stage.killed().db("db")) == stage.state, f"{number}: killed after {interrupt.where}"
    assert {"group.py:commit", "log.py:_write", "vfs.py:_hand_over", "writing.py:_publish"} <= places


def test_exception_in_a_big_transaction_leaves_nothing_of_it() -> None:
    stage = Stage()
    assert stage.tell([create_table(), batch(range(1, 50), 500)]) is None
    branch = stage.process.branch("db")

    def work(connection: apsw.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM t")
        for key in range(1000, 3000):
            connection.execute("INSERT INTO t VALUES(?, randomblob(800))", (key,))
        raise error

    for error in (KeyboardInterrupt(), ValueError("from above"), MemoryError()):
        with pytest.raises(type(error)):
            branch.write(work)
        assert state_of(stage.db) == stage.state
    assert stage.tell([insert(60), delete_below(20)]) is None
    assert state_of(stage.db) == stage.state
    assert state_of(stage.killed().db("db")) == stage.state


# Reading pages.


def _cold() -> tuple[Stage, Process]:
    """A store with a story in it, and a process that has read nothing of it yet."""
    stage = Stage()
    assert stage.tell(STORY) is None
    stage.process.engine.close()
    return stage, stage.killed()


def test_read_error_at_every_request_gives_an_error_and_never_wrong_rows() -> None:
    for number in range(1, 200):
        stage, process = _cold()
        left = number

        def once(verb: str, key: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise UnavailableError("the store does not answer")

        stage.bucket.fault = once
        try:
            found: State | None = state_of(process.db("db"))
        except UnavailableError:
            found = None
        stage.bucket.fault = lambda _verb, _key: None
        assert found is None if left <= 0 else found == stage.state
        assert state_of(process.db("db")) == stage.state, f"after request {number} had failed"
        if left > 0:
            return
    raise AssertionError("reading everything takes more than 200 requests")


def test_read_error_inside_a_write_rolls_it_back() -> None:
    for number in range(1, 200):
        stage, process = _cold()
        left = number

        def once(verb: str, key: str) -> None:
            nonlocal left
            if verb == "get_range":
                left -= 1
                if left == 0:
                    raise UnavailableError("the store does not answer")

        stage.bucket.fault = once
        step = Step("update", lambda db: db.sql("UPDATE t SET v = v"), lambda state: state)
        try:
            step.do(process.db("db"))
        except UnavailableError:
            assert left <= 0
        stage.bucket.fault = lambda _verb, _key: None
        assert state_of(process.db("db")) == stage.state
        insert(77).do(process.db("db"))
        assert state_of(process.db("db")) == insert(77).effect(stage.state)
        if left > 0:
            assert number > 1
            return
    raise AssertionError("an update of everything takes more than 200 reads")


def test_page_that_came_spoiled_is_fetched_again() -> None:
    stage, process = _cold()
    spoiled: set[str] = set()

    def spoil(key: str, data: bytes) -> bytes:
        if key in spoiled:
            return data
        spoiled.add(key)
        return data[:-1] + bytes([data[-1] ^ 1])

    stage.bucket.spoil = spoil
    assert state_of(process.db("db")) == stage.state
    assert spoiled


def test_page_that_stays_spoiled_is_an_error_that_names_the_object() -> None:
    stage, process = _cold()
    stage.bucket.spoil = lambda _key, data: data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(CorruptError, match=r"ltx/0/\d+-\d+-\d+\.ltx"):
        process.db("db").sql("SELECT * FROM t")
    with pytest.raises(CorruptError, match=r"ltx/0/\d+-\d+-\d+\.ltx"):
        process.db("db").sql("INSERT INTO t VALUES(1000, '')")
    stage.bucket.spoil = lambda _key, data: data
    assert state_of(process.db("db")) == stage.state


# Shipping.


def _refuse(verb_that_fails: str, error: type[MemoturnError]) -> Callable[[str, str], None]:
    def refuse(verb: str, key: str) -> None:
        if verb == verb_that_fails:
            raise error("injected")

    return refuse


@pytest.mark.parametrize("lands", [True, False])
@pytest.mark.parametrize(
    ("verb", "error"),
    [("put", UnavailableError), ("replace", UnavailableError), ("replace", UndecidedWriteError)],
)
def test_store_that_takes_nothing_delays_shipping_and_loses_nothing(
    verb: str, error: type[MemoturnError], lands: bool
) -> None:
    stage = Stage()
    assert stage.tell([create_table(), insert(1), ship()]) is None
    assert stage.tell([insert(2), insert(3)]) is None
    stage.bucket.lands = lands
    stage.bucket.fault = _refuse(verb, error)
    with pytest.raises(UnavailableError):
        stage.db.sync()
    assert state_of(stage.db) == stage.state
    assert stage.tell([insert(4), batch([5, 6])]) is None, "a standard commit does not wait for the store"
    with pytest.raises(UnavailableError):
        stage.db.sync()
    assert state_of(stage.db) == stage.state
    stage.bucket.fault = lambda _verb, _key: None
    assert stage.tell([insert(7), ship()]) is None
    assert state_of(stage.db) == stage.state
    assert stage.process.log.is_empty()
    # Everything is in the store: another machine, without this one's log, finds it.
    assert state_of(Process(House(), stage.bucket, stage.clock, "far", remote=True).db("db")) == stage.state


@pytest.mark.parametrize("lands", [True, False])
@pytest.mark.parametrize("step", [rewind("early"), checkpoint("new"), insert(50)], ids=lambda step: step.name)
def test_undecided_change_of_the_manifest_is_decided_by_the_next(step: Step, lands: bool) -> None:
    stage = Stage(durability="durable")
    # More than one page, so that pages of two histories do not fit together.
    assert stage.tell([create_table(), insert(1, 3000), checkpoint("early"), insert(2, 3000)]) is None
    stage.bucket.lands = lands
    stage.bucket.fault = _refuse("replace", UndecidedWriteError)
    assert stage.tell([step]) is not None
    stage.bucket.fault = lambda _verb, _key: None
    insert(3).do(stage.db)
    insert(4).do(stage.db)
    both = (insert(4).effect(insert(3).effect(state)) for state in (stage.state, step.effect(stage.state)))
    found = state_of(stage.db)
    assert found in both
    assert state_of(stage.killed().db("db")) == found


def test_rewind_that_lands_late_takes_no_acknowledged_commit_with_it() -> None:
    """Its outcome was unknown, the next commit took the same txid, and only then it arrives at the store."""
    stage = Stage()
    assert stage.tell([create_table(), insert(1, 3000), checkpoint("early"), insert(2, 3000), ship()]) is None
    manifest = stage.process.branch("db").key
    replace_now, late = stage.bucket.inner.replace, []

    def lose(key: str, body: bytes, version: Version, landed: object = None) -> Version:
        late.append((key, body, version))
        raise UndecidedWriteError("the answer was lost")

    stage.bucket.inner.replace = lose  # type: ignore[method-assign,assignment]
    assert stage.tell([rewind("early")]) is not None
    stage.bucket.inner.replace = replace_now  # type: ignore[method-assign]
    assert stage.tell([insert(3, 3000), insert(4, 3000)]) is None
    assert [key for key, _, _ in late] == [manifest]
    with contextlib.suppress(StaleVersionError):
        replace_now(*late[0])
    assert stage.tell([ship()]) is None
    assert state_of(stage.db) == stage.state
    assert state_of(stage.killed().db("db")) == stage.state


@pytest.mark.parametrize("lands", [True, False])
def test_undecided_raise_of_the_epoch_is_not_taken_for_a_fence(lands: bool) -> None:
    stage = Stage()
    assert stage.tell([create_table(), insert(1)]) is None
    stage.directory.fail("sync", stage.directory.calls["sync"] + 1, OSError(errno.EIO, "injected"))
    stage.bucket.lands = lands
    stage.bucket.fault = _refuse("replace", UndecidedWriteError)
    assert stage.tell([insert(2)]) is not None
    assert stage.tell([insert(3)]) is not None
    assert stage.tell([ship()]) is not None or lands
    stage.bucket.fault = lambda _verb, _key: None
    assert stage.tell([insert(4), ship(), insert(5)]) is None
    assert state_of(stage.db) == stage.state
    assert state_of(stage.killed().db("db")) == stage.state


def test_backlog_is_bounded_and_drains() -> None:
    limit = 200_000
    stage = Stage(backlog_bytes=limit)
    assert stage.tell([create_table(), ship()]) is None
    stage.bucket.fault = away
    branch = stage.process.branch("db")
    before = stage.clock.seconds
    slowed_at, largest = 0, 0
    refused: MemoturnError | None = None
    for key in range(1, 1000):
        step = insert(key, 2000)
        try:
            step.do(stage.db)
        except OverloadedError as error:
            refused = error
            break
        largest = max(largest, branch.backlog)
        if stage.clock.seconds > before and not slowed_at:
            slowed_at = branch.backlog
        stage.state = step.effect(stage.state)
    assert refused is not None, "writers are never refused"
    assert str(branch.backlog) in str(refused)
    assert limit // 2 <= slowed_at < limit, "writers are slowed from half of the backlog on"
    assert largest < limit + 40_000
    for _ in range(5):
        with pytest.raises(OverloadedError):
            insert(2000, 2000).do(stage.db)
    assert branch.backlog == largest, "a refused write grew the backlog"
    assert rows_of(stage.db) == stage.state.rows, "what was acknowledged can be read meanwhile"
    stage.bucket.fault = lambda _verb, _key: None
    assert stage.tell([insert(3000), ship()]) is None
    assert branch.backlog == 0
    assert state_of(stage.db) == stage.state
    assert stage.process.log.is_empty()


# Objects on a real disk.


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, Path]:
    """A file store with one pack, and the pack's file."""
    root = tmp_path / "store"
    with Memoturn(f"file:{root}") as store:
        store.databases.create("db")
        db = store.db("db")
        db.batch(
            ["CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)", "INSERT INTO t VALUES(1, randomblob(20000))"]
        )
    (pack,) = (root / "objects").rglob("*.ltx")
    return root, pack


def _key(root: Path, pack: Path) -> str:
    return str(pack.relative_to(root / "objects"))


def _read(root: Path) -> object:
    with Memoturn(f"file:{root}") as store:
        return store.db("db").sql("SELECT length(v) AS n FROM t")


def test_flipped_bit_in_a_stored_object_names_it(stored: tuple[Path, Path]) -> None:
    root, pack = stored
    whole = pack.read_bytes()
    for at in [*range(100, len(whole), 199), *range(len(whole) - 120, len(whole))]:
        pack.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        said = ""
        try:
            assert _read(root) == [{"n": 20000}], f"byte {at}: wrong rows"
        except CorruptError as error:
            said = str(error)
        assert not said or _key(root, pack) in said
    pack.write_bytes(whole)
    assert _read(root) == [{"n": 20000}]


def test_truncated_object_names_it(stored: tuple[Path, Path]) -> None:
    root, pack = stored
    whole = pack.read_bytes()
    for length in [0, 1, 31, 32, len(whole) // 2, len(whole) - 33, len(whole) - 32, len(whole) - 1]:
        pack.write_bytes(whole[:length])
        with pytest.raises(CorruptError, match=_key(root, pack)):
            _read(root)


def test_missing_object_names_it(stored: tuple[Path, Path]) -> None:
    root, pack = stored
    pack.unlink()
    with pytest.raises((CorruptError, NotFoundError), match=_key(root, pack)):
        _read(root)


def test_damaged_log_on_disk_is_named_with_its_path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "store"
    store = Memoturn(f"file:{root}")
    store.databases.create("db")
    store.db("db").sql("CREATE TABLE t(k)")
    store._engine.bucket.put = _refuse_put  # type: ignore[method-assign]
    for key in range(3):
        store.db("db").sql("INSERT INTO t VALUES(?)", (key,))
    store.close()
    (path,) = (root / "node" / "nodes").glob("*/*.log")
    content = bytearray(path.read_bytes())
    content[START + HEAD_SIZE + 10] ^= 1
    path.write_bytes(content)
    caplog.set_level(logging.WARNING)
    with Memoturn(f"file:{root}") as store:
        assert str(path) in caplog.text
        with pytest.raises(CorruptError, match=str(path)):
            store.db("db").sql("SELECT * FROM t")
    path.unlink()
    with Memoturn(f"file:{root}") as store:
        store.db("db").sql("SELECT 1")


def _refuse_put(key: str, data: object) -> None:
    raise UnavailableError("the store does not answer")
