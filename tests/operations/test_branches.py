"""Branches as people use them: create, checkpoint, rewind, reset, promote, delete, expiry, history, addresses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memoturn import (
    AlreadyExistsError,
    BranchExpiredError,
    BranchNotFoundError,
    CheckpointNotFoundError,
    ConflictError,
    CorruptError,
    DatabaseNotFoundError,
    FencedError,
    InvalidRequestError,
    Memoturn,
    TxidNotRetainedError,
)
from memoturn.base.clock import format_time
from memoturn.faces.embedded.client import Database
from memoturn.operations.undo import Undo
from tests.support import START_MS, ManualClock, assert_whole, branch_of, values

Opener = Callable[..., Memoturn]


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


@pytest.fixture
def times(db: Database, clock: ManualClock) -> dict[int, int]:
    """Commits 2, 3 and 4 insert 2, 3 and 4, ten seconds apart; when each of them was made."""
    made = {}
    for txid in (2, 3, 4):
        clock.advance(10)
        assert db.sql("INSERT INTO t VALUES (?)", [txid]).txid == txid
        made[txid] = clock.ms
    clock.advance(10)
    return made


# Create.


def test_a_branch_is_created_from_the_head_a_checkpoint_a_txid_or_a_time(
    db: Database, times: dict[int, int]
) -> None:
    db.branch.checkpoint("four")
    db.sql("INSERT INTO t VALUES (5)")
    assert values(db.branch.create("head")) == [2, 3, 4, 5]
    assert values(db.branch.create("named", checkpoint="four")) == [2, 3, 4]
    assert values(db.branch.create("numbered", txid=3)) == [2, 3]
    assert values(db.branch.create("timed", at=moment(times[3] + 9_999))) == [2, 3]
    assert values(db.branch.create("written", at=format_time(times[2]))) == [2]  # type: ignore[arg-type]
    assert values(db.at(2).branch.create("from-a-view")) == [2]
    for name in ("head", "named", "numbered", "timed"):
        assert_whole(branch_handle(db, name))


def branch_handle(db: Database, name: str) -> Database:
    return Database(db._engine, db._address._replace(branch=name, position=None))


def test_a_fork_and_its_parent_go_their_own_ways(db: Database, times: dict[int, int]) -> None:
    fork = db.branch.create("f")
    assert fork.sql("INSERT INTO t VALUES ('fork')").txid == 5
    assert db.sql("INSERT INTO t VALUES ('parent')").txid == 5
    assert values(fork) == [2, 3, 4, "fork"]
    assert values(db) == [2, 3, 4, "parent"]
    assert values(fork.at(3)) == values(db.at(3)) == [2, 3]


def test_a_fork_of_a_fork_of_the_past_of_a_fork(mt: Memoturn, db: Database, times: dict[int, int]) -> None:
    one = db.branch.create("one")
    one.sql("INSERT INTO t VALUES ('one')")
    two = one.branch.create("two", txid=3)
    two.sql("INSERT INTO t VALUES ('two')")
    three = two.branch.create("three")
    three.sql("INSERT INTO t VALUES ('three')")
    four = three.branch.create("four", txid=2)
    assert values(three) == [2, 3, "two", "three"]
    assert values(four) == [2]
    one.branch.delete()
    two.branch.delete()
    assert values(mt.db("x@three")) == [2, 3, "two", "three"]
    assert values(mt.db("x@three:4")) == [2, 3, "two"]
    assert_whole(three)
    assert_whole(four)


def test_a_fork_of_an_empty_database_starts_empty(mt: Memoturn) -> None:
    mt.databases.create("e")
    fork = mt.db("e").branch.create("f")
    assert fork.txid == 0
    assert fork.sql("CREATE TABLE t(v)").txid == 1
    assert mt.db("e").sql("SELECT count(*) AS n FROM sqlite_schema") == [{"n": 0}]
    assert_whole(fork)


def test_a_burners_child_outlives_it_and_the_next_of_its_name(
    mt: Memoturn, db: Database, clock: ManualClock
) -> None:
    burner = db.branch.create("burner", ttl=60)
    burner.sql("INSERT INTO t VALUES ('burner')")
    child = burner.branch.create("child")
    clock.advance(61)
    with pytest.raises(BranchExpiredError):
        burner.sql("SELECT 1")
    assert values(child) == ["burner"]
    again = db.branch.create("burner")
    again.sql("INSERT INTO t VALUES ('again')")
    child.sql("INSERT INTO t VALUES ('child')")
    assert values(child) == ["burner", "child"]
    assert values(again) == ["again"]
    assert values(mt.db("x@child:2")) == ["burner"]
    with pytest.raises(ConflictError, match="parent"):
        child.branch.reset()
    assert_whole(child)


def test_a_name_that_is_taken_stays_whose_it_is(db: Database) -> None:
    fork = db.branch.create("f")
    fork.sql("INSERT INTO t VALUES (1)")
    for name in ("f", "main"):
        with pytest.raises(AlreadyExistsError):
            db.branch.create(name)
    assert values(fork) == [1]


@pytest.mark.parametrize(
    "name", ["", "F", "a b", "a/b", "../x", "-x", ".x", "a@b", "a:b", "a~b", "x" * 64, "é"]
)
def test_a_branch_needs_a_proper_name(db: Database, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="branch"):
        db.branch.create(name)


def test_a_position_is_given_once(db: Database) -> None:
    with pytest.raises(InvalidRequestError, match="one of"):
        db.branch.create("f", checkpoint="c", txid=1)
    with pytest.raises(TxidNotRetainedError) as refused:
        db.branch.create("f", txid=99)
    assert refused.value.nearest == (1,)
    with pytest.raises(CheckpointNotFoundError):
        db.branch.create("f", checkpoint="nowhere")
    with pytest.raises(BranchNotFoundError):
        db.branch.create("f", from_="nowhere")
    assert [info.name for info in db.branch.list()] == ["main"]


def test_another_source_is_taken_at_its_own_head(db: Database, times: dict[int, int]) -> None:
    fork = db.branch.create("f")
    fork.sql("INSERT INTO t VALUES ('f')")
    assert values(db.at(2).branch.create("g", from_="f")) == [2, 3, 4, "f"]


# Checkpoints.


def test_a_checkpoint_is_kept_moved_and_dropped(db: Database) -> None:
    db.sql("INSERT INTO t VALUES (1)")
    assert db.branch.checkpoint("c").txid == 2
    assert db.branch.checkpoint("c").txid == 2
    db.sql("INSERT INTO t VALUES (2)")
    with pytest.raises(ConflictError, match="stands at txid 2"):
        db.branch.checkpoint("c")
    db.branch.checkpoint("d")
    assert [(c.name, c.txid) for c in db.branch.checkpoints()] == [("c", 2), ("d", 3)]
    assert values(db.at("c")) == [1]
    assert db.branch.checkpoint("c", move=True).txid == 3
    assert values(db.at("c")) == [1, 2]
    db.branch.delete_checkpoint("c")
    with pytest.raises(CheckpointNotFoundError):
        db.at("c").sql("SELECT 1")
    with pytest.raises(CheckpointNotFoundError):
        db.branch.rewind("c")
    with pytest.raises(CheckpointNotFoundError):
        db.branch.delete_checkpoint("c")
    assert db.branch.checkpoint("c").txid == 3
    assert values(db.at("c")) == [1, 2]


@pytest.mark.parametrize("name", ["42", "0", "", "a b", "a/b", "x" * 129, "-", "2026-11-22T10:00:00Z"])
def test_a_checkpoint_needs_a_name_that_is_no_txid_and_no_time(db: Database, name: str) -> None:
    with pytest.raises(InvalidRequestError):
        db.branch.checkpoint(name)


def test_checkpoints_belong_to_their_branch(db: Database) -> None:
    db.branch.checkpoint("c")
    fork = db.branch.create("f")
    with pytest.raises(CheckpointNotFoundError):
        fork.at("c").sql("SELECT 1")
    fork.sql("INSERT INTO t VALUES (1)")
    assert fork.branch.checkpoint("c").txid == 2
    assert [c.txid for c in db.branch.checkpoints()] == [1]


# Rewind.


@pytest.mark.parametrize("to", ["name", "txid", "digits", "datetime", "text"])
def test_a_rewind_takes_a_name_a_txid_or_a_time(db: Database, times: dict[int, int], to: str) -> None:
    db.branch.checkpoint("four")
    db.sql("INSERT INTO t VALUES (5)")
    target = {
        "name": "four",
        "txid": 4,
        "digits": "4",
        "datetime": moment(times[4]),
        "text": format_time(times[4]),  # type: ignore[arg-type]
    }[to]
    done = db.branch.rewind(target)
    assert (done.txid, done.restored_txid) == (6, 4)
    assert db.txid == 6
    assert values(db) == [2, 3, 4]
    assert values(db.at(5)) == [2, 3, 4, 5]
    assert db.sql("INSERT INTO t VALUES ('on')").txid == 7
    assert_whole(db)


def test_a_rewind_to_the_very_beginning_leaves_nothing(db: Database) -> None:
    db.branch.rewind(0)
    assert db.sql("SELECT count(*) AS n FROM sqlite_schema") == [{"n": 0}]
    assert db.sql("CREATE TABLE other(v)").txid == 3
    assert_whole(db)


def test_a_fork_rewinds_into_what_it_inherited(db: Database, times: dict[int, int]) -> None:
    fork = db.branch.create("f")
    fork.sql("INSERT INTO t VALUES ('f')")
    assert fork.branch.rewind(2).txid == 6
    assert values(fork) == [2]
    fork.sql("INSERT INTO t VALUES ('g')")
    assert values(fork) == [2, "g"]
    assert values(db) == [2, 3, 4]
    assert_whole(fork)


def test_a_rewind_keeps_txids_rising_and_is_undone_any_number_of_times(
    db: Database, times: dict[int, int]
) -> None:
    done = db.branch.rewind(2)
    seen = [done.txid]
    for content in ([2, 3, 4], [2], [2, 3, 4], [2]):
        done = db.branch.undo(done.undo)  # type: ignore[assignment]
        seen.append(done.txid)
        assert values(db) == content
    assert seen == [5, 6, 7, 8, 9]
    assert_whole(db)


def test_an_undo_goes_back_to_the_head_before_whatever_came_after(
    db: Database, times: dict[int, int]
) -> None:
    done = db.branch.rewind(2)
    db.sql("INSERT INTO t VALUES ('after')")
    undone = db.branch.undo(done.undo)
    assert values(db) == [2, 3, 4]
    db.branch.undo(undone.undo)  # type: ignore[arg-type]
    assert values(db) == [2, "after"]


def test_an_open_reader_keeps_its_view_through_a_rewind(db: Database, times: dict[int, int]) -> None:
    branch = branch_of(db)
    with branch.readers.on(branch.head()) as connection:
        cursor = connection.execute("SELECT v FROM t")
        assert next(cursor) == (2,)
        db.branch.rewind(2)
        assert values(db) == [2]
        assert cursor.fetchall() == [(3,), (4,)]


def test_positions_ahead_or_before_all_time_name_what_would_work(db: Database, times: dict[int, int]) -> None:
    for ahead in (5, "99999999999999999999999999"):
        with pytest.raises(TxidNotRetainedError) as refused:
            db.branch.rewind(ahead)
        assert refused.value.nearest == (4,)
    with pytest.raises(TxidNotRetainedError, match="created at"):
        db.branch.rewind(moment(times[2] - 3_600_000))
    with pytest.raises(TxidNotRetainedError):
        db.at(moment(times[2] - 3_600_000)).sql("SELECT 1")


def test_a_handle_to_the_past_changes_nothing(db: Database) -> None:
    past = db.at(1)
    for call in (
        lambda: past.sql("INSERT INTO t VALUES (1)"),
        lambda: past.batch(["INSERT INTO t VALUES (1)"]),
        lambda: past.sql("DELETE FROM t RETURNING v"),
        lambda: past.sql("VACUUM"),
        lambda: past.sql("PRAGMA user_version=3"),
        lambda: past.sql("CREATE TABLE u(v)"),
        lambda: past.branch.checkpoint("c"),
        lambda: past.branch.rewind(0),
        lambda: past.branch.delete(),
        lambda: past.branch.promote(),
        lambda: past.branch.extend(5),
        lambda: past.branch.delete_checkpoint("c"),
    ):
        with pytest.raises(InvalidRequestError):
            call()
    assert db.txid == 1
    assert values(db, "PRAGMA user_version") == [0]


# Reset and promote.


def test_a_reset_takes_the_parents_head_in_place(db: Database) -> None:
    fork = db.branch.create("f")
    fork.sql("INSERT INTO t VALUES ('f')")
    fork.branch.checkpoint("mine")
    db.sql("INSERT INTO t VALUES ('p')")
    done = fork.branch.reset()
    assert (done.txid, done.restored_txid) == (3, 2)
    assert values(fork) == ["p"]
    assert values(fork.at("mine")) == ["f"]
    fork.sql("INSERT INTO t VALUES ('q')")
    db.sql("INSERT INTO t VALUES ('r')")
    assert values(fork) == ["p", "q"]
    fork.branch.undo(done.undo)
    assert values(fork) == ["f"]
    fork.branch.reset()
    assert values(fork) == ["p", "r"]
    assert_whole(fork)


def test_a_branch_without_a_living_parent_cannot_be_reset(db: Database, clock: ManualClock) -> None:
    with pytest.raises(ConflictError, match="no parent"):
        db.branch.reset()
    parent = db.branch.create("p", ttl=5)
    child = parent.branch.create("c")
    clock.advance(6)
    with pytest.raises(BranchExpiredError):
        child.branch.reset()
    assert values(child) == []


def test_a_promoted_branch_is_what_the_name_stands_for(mt: Memoturn, db: Database) -> None:
    fork = db.branch.create("f", ttl=60)
    fork.sql("INSERT INTO t VALUES ('f')")
    done = fork.branch.promote()
    assert mt.databases.get("x").default_branch == "f"
    assert values(db) == ["f"]
    assert fork.branch.get().ttl_at is None, "the default branch does not expire"
    db.sql("INSERT INTO t VALUES ('through the name')")
    assert values(fork) == ["f", "through the name"]
    assert values(mt.db("x@main")) == []
    undone = db.branch.undo(done.undo)
    assert values(db) == []
    db.branch.undo(undone.undo)  # type: ignore[arg-type]
    assert values(db) == ["f", "through the name"]
    with pytest.raises(InvalidRequestError, match="name the branch"):
        db.branch.promote()


# Delete.


def test_the_default_branch_is_not_deleted(mt: Memoturn, db: Database) -> None:
    with pytest.raises(ConflictError, match="default"):
        mt.db("x@main").branch.delete()
    with pytest.raises(ConflictError, match="default"):
        db.branch.delete("main")
    fork = db.branch.create("f")
    fork.branch.promote()
    with pytest.raises(ConflictError):
        fork.branch.delete()
    mt.db("x@main").branch.delete()
    assert [info.name for info in db.branch.list()] == ["f"]
    assert values(fork) == []


def test_a_deleted_branch_is_gone_and_comes_back_whole(db: Database) -> None:
    fork = db.branch.create("f")
    fork.sql("INSERT INTO t VALUES ('f')")
    fork.branch.checkpoint("c")
    done = fork.branch.delete()
    for call in (
        lambda: fork.sql("SELECT 1"),
        lambda: fork.sql("INSERT INTO t VALUES (1)"),
        lambda: fork.branch.get(),
        lambda: fork.branch.delete(),
        lambda: fork.branch.rewind(1),
        lambda: fork.branch.promote(),
        lambda: list(fork.branch.history()),
        lambda: fork.branch.checkpoints(),
    ):
        with pytest.raises(BranchNotFoundError):
            call()
    assert [info.name for info in db.branch.list()] == ["main"]
    db.branch.undo(done.undo)
    assert values(fork) == ["f"]
    assert values(fork.at("c")) == ["f"]
    fork.sql("INSERT INTO t VALUES ('g')")
    assert values(fork) == ["f", "g"]
    assert_whole(fork)


def test_a_deleted_name_is_used_again_and_the_old_branch_stays_gone(db: Database) -> None:
    fork = db.branch.create("f")
    fork.sql("INSERT INTO t VALUES ('old')")
    old = branch_of(fork)
    done = fork.branch.delete()
    again = db.branch.create("f")
    assert values(again) == []
    with pytest.raises((BranchNotFoundError, FencedError)):
        old.write(lambda connection: connection.execute("INSERT INTO t VALUES ('zombie')"))
    again.sql("INSERT INTO t VALUES ('new')")
    assert values(again) == ["new"]
    with pytest.raises(ConflictError, match="created again"):
        db.branch.undo(done.undo)
    again.branch.delete()
    with pytest.raises(ConflictError):
        db.branch.undo(done.undo)


def test_a_name_can_be_born_many_times_with_children_of_each(mt: Memoturn, db: Database) -> None:
    for i in range(5):
        fork = db.branch.create("f")
        fork.sql("INSERT INTO t VALUES (?)", [i])
        fork.branch.create(f"child{i}")
        fork.branch.delete()
    mt.sync()
    for i in range(5):
        child = mt.db(f"x@child{i}")
        assert values(child) == [i]
        child.sql("INSERT INTO t VALUES ('more')")
        assert values(child) == [i, "more"]
        assert_whole(child)


def test_a_deleted_database_comes_back_with_its_branches(mt: Memoturn, db: Database) -> None:
    fork = db.branch.create("f")
    fork.sql("INSERT INTO t VALUES ('f')")
    done = mt.databases.delete("x")
    for call in (lambda: db.sql("SELECT 1"), lambda: fork.sql("SELECT 1"), lambda: mt.databases.delete("x")):
        with pytest.raises(DatabaseNotFoundError):
            call()
    assert list(mt.databases.list()) == []
    mt.databases.undo("x", done.undo)
    assert values(fork) == ["f"]
    fork.sql("INSERT INTO t VALUES ('g')")
    assert [info.name for info in mt.databases.list()] == ["x"]
    token = mt.databases.delete("x").undo
    mt.databases.create("x")
    with pytest.raises(ConflictError, match="created again"):
        mt.databases.undo("x", token)
    with pytest.raises(BranchNotFoundError):
        fork.sql("SELECT 1")
    assert mt.db("x").txid == 0


# Expiry.


def test_an_expired_branch_says_so_to_everything(db: Database, clock: ManualClock) -> None:
    fork = db.branch.create("f", ttl=60)
    fork.sql("INSERT INTO t VALUES (1)")
    token = fork.branch.rewind(1).undo
    assert fork.branch.get().ttl_at == moment(clock.ms + 60_000)
    clock.advance(59.999)
    assert values(fork) == []
    clock.advance(0.001)
    for call in (
        lambda: fork.sql("SELECT 1"),
        lambda: fork.at(1).sql("SELECT 1"),
        lambda: fork.sql("INSERT INTO t VALUES (1)"),
        lambda: fork.batch(["INSERT INTO t VALUES (1)"]),
        lambda: fork.txid,
        lambda: fork.sync(),
        lambda: fork.branch.get(),
        lambda: fork.branch.checkpoint("c"),
        lambda: fork.branch.checkpoints(),
        lambda: fork.branch.delete_checkpoint("c"),
        lambda: fork.branch.rewind(1),
        lambda: fork.branch.reset(),
        lambda: fork.branch.extend(60),
        lambda: fork.branch.extend(None),
        lambda: fork.branch.promote(),
        lambda: fork.branch.delete(),
        lambda: fork.branch.create("g"),
        lambda: fork.branch.create("g", txid=1),
        lambda: list(fork.branch.history()),
        lambda: fork.branch.restore_points(),
        lambda: db.branch.undo(token),
    ):
        with pytest.raises(BranchExpiredError):
            call()
    assert [info.name for info in db.branch.list()] == ["main"]
    assert values(db.branch.create("f")) == []


def test_a_life_is_extended_or_made_lasting(db: Database, clock: ManualClock) -> None:
    fork = db.branch.create("f", ttl=60)
    clock.advance(50)
    assert fork.branch.extend(60).ttl_at == moment(clock.ms + 60_000)
    clock.advance(50)
    assert values(fork) == []
    assert fork.branch.extend(None).ttl_at is None
    clock.advance(1e9)
    assert values(fork) == []
    fork.branch.extend(1)
    clock.advance(2)
    with pytest.raises(BranchExpiredError):
        fork.sql("SELECT 1")
    with pytest.raises(ConflictError, match="default"):
        db.branch.extend(5)


def test_a_database_with_a_ttl_goes_as_a_whole(mt: Memoturn, clock: ManualClock) -> None:
    mt.databases.create("short", ttl=10)
    db = mt.db("short")
    db.sql("CREATE TABLE t(v)")
    clock.advance(10)
    with pytest.raises(DatabaseNotFoundError):
        db.sql("SELECT 1")
    assert [info.name for info in mt.databases.list()] == []
    mt.databases.create("short")
    assert db.txid == 0


# Addresses, time and history.


def test_a_position_is_addressed_in_every_form(mt: Memoturn, db: Database, times: dict[int, int]) -> None:
    db.branch.checkpoint("before-task")
    db.sql("DELETE FROM t")
    when = format_time(times[3])  # type: ignore[arg-type]
    assert values(mt.db("x@main:3")) == [2, 3]
    assert values(mt.db("x@main:before-task")) == [2, 3, 4]
    assert values(mt.db(f"x@main:{when}")) == [2, 3]
    offset = moment(times[3]).astimezone(tz=None).isoformat()
    assert values(mt.db(f"x@main:{offset}")) == [2, 3]
    assert values(mt.db("x@main")) == values(mt.db("x")) == []
    assert str(mt.db("x@main:3")._address) == "x@main:3"
    assert mt.db("x@main:3").txid == 3


@pytest.mark.parametrize(
    "address",
    [
        "",
        "X",
        "x@",
        "x@main:",
        "x@:3",
        "x@Main",
        "x@main:-1",
        "x@main:a b",
        "x:3",
        "x/y",
        "x@main@f",
        "x@main:3:4",
    ],
)
def test_a_bad_address_is_refused_at_once(mt: Memoturn, address: str) -> None:
    with pytest.raises(InvalidRequestError):
        mt.db(address)


def test_time_travel_goes_through_rewinds_and_forks(
    db: Database, clock: ManualClock, times: dict[int, int]
) -> None:
    clock.advance(10)
    db.branch.rewind(2)
    rewound = clock.ms
    clock.advance(10)
    db.sql("INSERT INTO t VALUES ('new')")
    new = clock.ms
    clock.advance(10)
    fork = db.branch.create("f")
    clock.advance(10)
    fork.sql("INSERT INTO t VALUES ('f')")
    forked = clock.ms
    for handle in (db, fork):
        assert values(handle.at(moment(times[4]))) == [2, 3, 4]
        assert values(handle.at(moment(rewound - 1))) == [2, 3, 4]
        assert values(handle.at(moment(rewound))) == [2]
        assert values(handle.at(moment(new - 1))) == [2]
        assert values(handle.at(moment(new))) == [2, "new"]
        assert values(handle.at(moment(forked - 1))) == [2, "new"]
    assert values(fork.at(moment(forked))) == [2, "new", "f"]
    assert values(db.at(moment(forked))) == [2, "new"]
    assert values(db.at(moment(forked) + timedelta(days=365))) == [2, "new"]
    fork.branch.reset()
    assert values(fork.at(moment(forked))) == [2, "new"], "the reset began at the same moment, and came later"


def test_a_clock_that_runs_backwards_does_not_turn_history_round(db: Database, clock: ManualClock) -> None:
    for i in range(6):
        db.sql("INSERT INTO t VALUES (?)", [i])
        if i == 3:
            db.branch.rewind(3)
        clock.advance(-7)
    times = [entry.time for entry in db.branch.history()]
    assert times == sorted(times, reverse=True)
    assert values(db.at(times[0])) == values(db)


@pytest.mark.parametrize("shipped", [True, False])
def test_the_history_tells_every_txid_newest_first(
    db: Database, clock: ManualClock, times: dict[int, int], shipped: bool
) -> None:
    db.branch.checkpoint("four")
    db.branch.rewind(2)
    fork = db.branch.create("f")
    fork.sql("INSERT INTO t VALUES ('f')")
    fork.branch.reset()
    fork.sql("INSERT INTO t VALUES ('g')")
    if shipped:
        fork.sync()
    own = [(e.txid, e.kind, e.base_txid, e.checkpoints) for e in fork.branch.history()]
    assert own == [
        (8, "commit", None, ()),
        (7, "reset", 5, ()),
        (6, "commit", None, ()),
        (5, "fork", 5, ()),
    ]
    mains = list(db.branch.history())
    assert [(e.txid, e.kind, e.base_txid, e.checkpoints) for e in mains] == [
        (5, "rewind", 2, ()),
        (4, "commit", None, ("four",)),
        (3, "commit", None, ()),
        (2, "commit", None, ()),
        (1, "commit", None, ()),
    ]
    assert [e.time for e in mains[1:4]] == [moment(times[t]) for t in (4, 3, 2)]
    assert all(e.pages > 0 and e.bytes > 0 for e in mains if e.kind == "commit")
    points = db.branch.restore_points()
    assert [(r.branch, r.from_txid, r.to_txid) for r in points.ranges] == [("main", 0, 5)]
    assert points.points == []


def test_a_branch_tells_where_it_stands(db: Database, clock: ManualClock) -> None:
    fork = db.branch.create("f")
    fork.sql("INSERT INTO t VALUES (1)")
    fork.branch.checkpoint("c")
    info = fork.branch.get()
    assert (info.name, info.head_txid, info.parent, info.fork_txid) == ("f", 2, "main", 1)
    assert (info.is_default, info.checkpoints, info.ttl_at) == (False, {"c": 2}, None)
    assert info.created_at == moment(clock.ms)
    assert db.branch.get().is_default
    assert db.branch.get("f") == info
    assert [i.name for i in db.branch.list()] == ["f", "main"]


def test_a_branch_that_cannot_be_read_is_not_passed_over(open_store: Opener, file_url: str) -> None:
    mt = open_store(file_url)
    mt.databases.create("x")
    for name in ("broken", "gone"):
        mt.db("x").branch.create(name)
    mt.db("x").branch.delete("gone")
    mt.db("x").branch.create("expired", ttl=0.001)
    mt.close()
    path = next(Path(file_url.removeprefix("file:")).rglob("broken.json"))
    good = path.read_bytes()
    again = open_store(file_url, clock=ManualClock(START_MS + 1000))
    assert [info.name for info in again.db("x").branch.list()] == ["broken", "main"]
    again.close()
    path.write_bytes(b"{")
    with pytest.raises(CorruptError, match="broken"):
        list(open_store(file_url).db("x").branch.list())
    path.write_bytes(good)
    catalog = next(Path(file_url.removeprefix("file:")).rglob("catalog/x.json"))
    catalog.write_bytes(b"{")
    with pytest.raises(CorruptError, match="catalog/x"):
        list(open_store(file_url).databases.list())


# Undo tokens.


def test_a_token_is_good_for_its_own_database_only(mt: Memoturn, db: Database) -> None:
    token = db.branch.rewind(1).undo
    mt.databases.create("y")
    with pytest.raises(InvalidRequestError, match="was given for database 'x'"):
        mt.db("y").branch.undo(token)
    mt.databases.delete("x")
    mt.databases.create("x")
    with pytest.raises(ConflictError, match="created again"):
        db.branch.undo(token)


def forged(**fields: object) -> str:
    given = {
        "what": "rewind",
        "database": "x",
        "db_uuid": "d",
        "branch_id": "main",
        "incarnation": "b",
        "txid": 1,
    }
    return Undo(**{**given, **fields}).token()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "token",
    [
        "",
        "u_",
        "u_!!!",
        "u_e30",
        "ü",
        None,
        7,
        b"u_",
        forged(database="../x"),
        forged(branch_id="../../catalog/x"),
        forged(branch_id="main~b_1", what="delete-branch"),
        forged(what="drop everything"),
    ],
)
def test_what_is_no_token_is_refused(db: Database, token: object) -> None:
    with pytest.raises((InvalidRequestError, ConflictError)):
        db.branch.undo(token)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["delete-branch", "rewind", "promote"])
def test_a_forged_token_reaches_no_other_object(mt: Memoturn, db: Database, what: str) -> None:
    fork = db.branch.create("f")
    fork.branch.delete()
    db.branch.create("f")
    uuid = mt.databases.get("x").db_uuid
    former = [o.key for o in mt._engine.bucket.list("") if "~" in o.key]
    assert len(former) == 1
    name = former[0].rpartition("/")[2].removesuffix(".json")
    token = forged(what=what, db_uuid=uuid, branch_id=name, incarnation=name.partition("~")[2])
    before = mt._engine.bucket.get(former[0])
    with pytest.raises(InvalidRequestError, match="no undo token"):
        db.branch.undo(token)
    assert mt._engine.bucket.get(former[0]) == before


def test_a_token_of_a_database_that_never_was_says_so(mt: Memoturn, open_store: Opener) -> None:
    other = open_store()
    other.databases.create("z")
    token = other.databases.delete("z").undo
    with pytest.raises(DatabaseNotFoundError):
        mt.databases.undo("z", token)
