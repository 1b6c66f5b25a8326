"""What `Memoturn-Consistency` asks for, where another machine writes the same store."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from memoturn.faces.http.call import Call, Context
from memoturn.faces.http.work import Sent, perform
from memoturn.faces.wire.routes import BY_NAME
from memoturn.operations import databases
from tests.database.faulty import FaultyBucket, House, Process, StepClock
from tests.faces.http.running import FREE


class Machines(NamedTuple):
    """Two machines and one bucket: `here` answers, `there` writes."""

    clock: StepClock
    bucket: FaultyBucket
    here: Process
    there: Process

    def read(self, consistency: str | None, db: str = "db") -> tuple[int, bytes]:
        """What `here` answers to who asks for a key: its txid, and the value."""
        context = Context(self.here.engine, FREE, Path("unused"))
        call = Call(context, BY_NAME["kv.get"], {"db": db, "ns": "n", "key": "k"}, b"")
        call.headers = {} if consistency is None else {"memoturn-consistency": consistency}
        call.locate()
        sent = perform(call)
        assert isinstance(sent, Sent)
        assert isinstance(sent.body, bytes)
        return int(dict(sent.headers)[b"memoturn-txid"]), sent.body

    def write(self, by: Process, value: bytes, db: str = "db") -> None:
        """Put a value and ship it."""
        by.db(db).kv.put("n", "k", value)
        by.db(db).sync()


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    clock = StepClock()
    bucket = FaultyBucket(clock)
    here = Process(House(tmp_path / "here"), bucket, clock, "here", remote=True)
    there = Process(House(tmp_path / "there"), bucket, clock, "there", remote=True)
    there.create("db")
    return Machines(clock, bucket, here, there)


@pytest.mark.parametrize("consistency", [None, "cached"])
def test_cached_is_half_a_second_old_at_most_and_asks_the_store_for_nothing(
    machines: Machines, consistency: str | None
) -> None:
    machines.write(machines.there, b"old")
    assert machines.read(consistency) == (1, b"old")
    machines.write(machines.there, b"new")
    asked = len(machines.bucket.requests)
    assert machines.read(consistency) == (1, b"old")
    assert len(machines.bucket.requests) == asked
    machines.clock.sleep(0.5)
    assert machines.read(consistency) == (2, b"new")


def test_primary_is_what_the_store_has(machines: Machines) -> None:
    machines.write(machines.there, b"old")
    assert machines.read("primary") == (1, b"old")
    machines.write(machines.there, b"new")
    assert machines.read("primary") == (2, b"new")


def test_primary_is_what_the_store_has_also_where_an_owner_was_overtaken(machines: Machines) -> None:
    machines.write(machines.here, b"mine")
    machines.clock.sleep(0.5)
    assert machines.read("cached") == (1, b"mine")
    machines.write(machines.there, b"theirs")
    assert machines.read("cached") == (1, b"mine")
    assert machines.read("primary") == (2, b"theirs")


def test_primary_knows_which_branch_the_name_stands_for(machines: Machines) -> None:
    machines.write(machines.there, b"main")
    other = machines.there.db("db").branch.create("other")
    other.kv.put("n", "k", b"other")
    other.sync()
    assert machines.read("cached") == (1, b"main")
    other.branch.promote()
    assert machines.read("cached") == (1, b"main")
    assert machines.read("primary") == (2, b"other")


def test_primary_knows_that_a_database_is_gone(machines: Machines) -> None:
    machines.write(machines.there, b"old")
    assert machines.read("cached") == (1, b"old")
    databases.delete(machines.there.engine, "db")
    assert machines.read("cached") == (1, b"old")
    txid, body = machines.read("primary")
    assert (txid, b'"code":"database_not_found"' in body) == (0, True)


def test_primary_knows_that_another_branch_has_the_name_by_now(machines: Machines) -> None:
    for value in (b"first", b"second"):
        branch = machines.there.db("db").branch.create("b")
        branch.kv.put("n", "k", value)
        branch.sync()
        if value == b"first":
            assert machines.read("cached", "db@b") == (1, b"first")
            branch.branch.delete()
    assert machines.read("cached", "db@b") == (1, b"first")
    assert machines.read("primary", "db@b") == (1, b"second")
    machines.there.db("db@b").branch.delete()
    txid, body = machines.read("primary", "db@b")
    assert (txid, b'"code":"branch_not_found"' in body) == (0, True)
