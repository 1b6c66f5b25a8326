"""An answer that says durable speaks of the very commit that it was asked for, whoever has the branch by then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memoturn.base.errors import UnavailableError, UndecidedWriteError
from memoturn.base.settings import Durability
from memoturn.faces.http.call import Answer, Call, Context
from memoturn.faces.http.handlers import HANDLERS
from memoturn.faces.http.work import Sent, perform, refused
from memoturn.faces.wire.routes import BY_NAME
from tests.database.faulty import FaultyBucket, House, Process, StepClock
from tests.faces.http.running import FREE


def put(process: Process, durable: bool) -> Sent:
    """What a server on the process answers to a put."""
    call = Call(
        Context(process.engine, FREE, Path("x")), BY_NAME["kv.put"], {"db": "db", "ns": "n", "key": "k"}, b""
    )
    call.body = b"mine"
    call.headers = {"memoturn-durability": "durable"} if durable else {}
    call.locate()
    sent = perform(call)
    assert isinstance(sent, Sent)
    return sent


@pytest.mark.parametrize(
    ("durability", "asked"), [("standard", True), ("durable", False), ("standard", False)]
)
def test_a_commit_that_was_lost_before_it_shipped_is_not_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability, asked: bool
) -> None:
    clock = StepClock()
    bucket = FaultyBucket(clock)
    here = Process(House(tmp_path / "here"), bucket, clock, "here", durability, remote=True)
    there = Process(House(tmp_path / "there"), bucket, clock, "there", remote=True)
    here.create("db").kv.put("n", "k", b"old")
    here.db("db").sync()
    real: Callable[[Call], Answer] = HANDLERS["kv.put"]

    def overtaken(call: Call) -> Answer:
        answer = real(call)
        clock.sleep(1)
        there.db("db").kv.put("n", "k", b"theirs")
        there.db("db").sync()
        here.branch("db").look_again()  # As whoever reads there does sooner or later.
        return answer

    monkeypatch.setitem(HANDLERS, "kv.put", overtaken)
    sent = put(here, asked)
    assert here.db("db").kv.get("n", "k") == b"theirs"
    if durability == "standard" and not asked:
        assert sent.status == 200
    else:
        assert sent.status == 409, sent.body
        assert b"set aside" in sent.body  # type: ignore[operator]


def test_nobody_is_told_to_try_again_what_may_yet_take_effect() -> None:
    assert b"retry-after" in dict(refused(UnavailableError("x"), None).headers)
    assert b"retry-after" not in dict(refused(UndecidedWriteError("x"), None).headers)


def test_a_program_is_told_that_the_work_was_done(tmp_path: Path) -> None:
    clock = StepClock()
    bucket = FaultyBucket(clock)
    process = Process(House(tmp_path), bucket, clock, durability="durable")
    db = process.create("db")
    db.kv.put("n", "k", b"old")

    def down(verb: str, _key: str) -> None:
        if verb == "put":
            raise UnavailableError("the store is away")

    bucket.fault = down
    with pytest.raises(
        UnavailableError, match="the work was done, and is not in the object store yet: the store"
    ):
        db.kv.put("n", "k", b"new")
    assert db.kv.get("n", "k") == b"new"
