"""Branches: forks, names for positions, and going back; the same on a store and on a server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from memoturn import (
    AlreadyExistsError,
    BranchInfo,
    BranchNotFoundError,
    CheckpointInfo,
    CheckpointNotFoundError,
    ConflictError,
    HistoryEntry,
    InvalidRequestError,
    PromoteResult,
    Promotion,
    RestorePoints,
    RewindResult,
    TxidNotRetainedError,
)


@pytest.fixture
def grown(db: Any) -> Any:
    """A database with rows at txids 2, 3 and 4, and a checkpoint at 3."""
    db.sql("CREATE TABLE t (v)")
    for value in range(3):
        db.sql("INSERT INTO t VALUES (?)", [value])
        if value == 1:
            db.branch.checkpoint("two")
    return db


def count(db: Any) -> int:
    return int(db.sql("SELECT count(*) AS n FROM t")[0]["n"])


def test_a_fork_is_a_handle_to_itself(mt: Any, grown: Any, name: str) -> None:
    fork = grown.branch.create("try", ttl=3600)
    assert repr(fork) == f"Database('{name}@try')"
    assert isinstance(fork.forked, BranchInfo)
    assert (fork.forked.fork_txid, fork.forked.parent, fork.forked.exact) == (4, "main", True)
    fork.sql("DELETE FROM t")
    assert (count(fork), count(grown), count(mt.db(f"{name}@try"))) == (0, 3, 0)
    assert [one.name for one in grown.branch.list()] == ["main", "try"]
    assert fork.branch.get().ttl_at is not None
    assert fork.branch.extend(None).ttl_at is None
    assert grown.branch.get().is_default
    assert grown.branch.get("try").name == "try"
    gone = fork.branch.delete()
    with pytest.raises(BranchNotFoundError):
        count(fork)
    assert grown.branch.undo(gone.undo).name == "try"
    assert grown.branch.delete("try").name == "try"


@pytest.mark.parametrize(
    ("where", "rows"),
    [({"checkpoint": "two"}, 2), ({"txid": 2}, 1), ({}, 3), ({"from_": "main", "txid": 1}, 0)],
)
def test_a_fork_begins_where_it_is_told(grown: Any, where: dict[str, Any], rows: int) -> None:
    assert count(grown.branch.create("there", **where)) == rows


def test_a_fork_of_the_past_begins_there(mt: Any, grown: Any, name: str) -> None:
    assert count(grown.at("two").branch.create("from-handle")) == 2
    assert count(mt.db(f"{name}@main:2").branch.create("from-address")) == 1
    now = datetime.now(UTC)
    assert count(grown.branch.create("from-time", at=now)) == 3
    assert count(grown.branch.create("from-text", at=now.isoformat())) == 3


@pytest.mark.parametrize(
    ("kind", "wanted", "where"),
    [
        (AlreadyExistsError, "main", {}),
        (InvalidRequestError, "Bad Name", {}),
        (InvalidRequestError, "x", {"ttl": 0}),
        (InvalidRequestError, "x", {"ttl": -1}),
        (InvalidRequestError, "x", {"txid": 1, "checkpoint": "two"}),
        (InvalidRequestError, "x", {"txid": "1"}),
        (InvalidRequestError, "x", {"at": "yesterday"}),
        (CheckpointNotFoundError, "x", {"checkpoint": "never"}),
        (TxidNotRetainedError, "x", {"txid": 99}),
        (BranchNotFoundError, "x", {"from_": "nowhere"}),
    ],
)
def test_a_fork_that_cannot_be_is_refused(
    grown: Any, kind: type[Exception], wanted: str, where: dict[str, Any]
) -> None:
    with pytest.raises(kind):
        grown.branch.create(wanted, **where)


def test_checkpoints_are_names_for_positions(grown: Any) -> None:
    mark = grown.branch.checkpoint("now")
    assert mark == CheckpointInfo("now", 4)
    assert grown.branch.checkpoints() == [CheckpointInfo("two", 3), mark]
    assert grown.branch.checkpoint("now") == mark
    with pytest.raises(ConflictError):
        grown.branch.checkpoint("two")
    assert grown.branch.checkpoint("two", move=True).txid == 4
    assert grown.branch.delete_checkpoint("two") is None
    with pytest.raises(CheckpointNotFoundError):
        grown.branch.delete_checkpoint("two")
    for bad in ("12", "a b", ""):
        with pytest.raises(InvalidRequestError):
            grown.branch.checkpoint(bad)


def test_a_rewind_is_undone_and_done_again(mt: Any, grown: Any, name: str) -> None:
    for handle in (grown, mt.db(f"{name}@main")):
        done = handle.branch.rewind("two")
        assert isinstance(done, RewindResult)
        assert (done.restored_txid, done.exact, count(handle)) == (3, True, 2)
        undone = handle.branch.undo(done.undo)
        assert (undone.what, undone.name, count(handle)) == ("rewind", "main", 3)
        handle.branch.undo(undone.undo)
        assert count(handle) == 2
        assert count(handle) == 2
        handle.branch.rewind(4)
        assert count(handle) == 3
    assert grown.branch.rewind(datetime.now(UTC)).exact
    with pytest.raises(CheckpointNotFoundError):
        grown.branch.rewind("never")
    with pytest.raises(TxidNotRetainedError):
        grown.branch.rewind(999)
    for bad in (-1, "a:b", None):
        with pytest.raises(InvalidRequestError):
            grown.branch.rewind(bad)
    with pytest.raises(InvalidRequestError):
        grown.branch.undo("nonsense")


def test_a_branch_takes_its_parents_content_and_place(grown: Any, name: str) -> None:
    fork = grown.branch.create("try")
    fork.sql("DELETE FROM t")
    would = fork.branch.promote(dry_run=True)
    assert isinstance(would, Promotion)
    assert (would.default_branch, would.would_be, would.diff.tables[0].removed) == ("main", "try", 3)
    done = fork.branch.promote()
    assert isinstance(done, PromoteResult)
    assert (done.default_branch, count(grown), grown.branch.get().name) == ("try", 0, "try")
    assert grown.branch.undo(done.undo).what == "promote"
    assert count(grown) == 3
    assert fork.branch.reset().restored_txid == 4
    assert count(fork) == 3
    with pytest.raises(ConflictError):
        grown.branch.reset()
    for act in (grown.branch.promote, grown.branch.delete):
        with pytest.raises(InvalidRequestError, match="name the branch"):
            act()


def test_history_is_read_as_it_is_asked_for(grown: Any) -> None:
    grown.branch.rewind("two")
    found = grown.branch.history()
    assert isinstance(found, Iterator)
    entries = list(found)
    assert all(isinstance(one, HistoryEntry) for one in entries)
    assert [(one.txid, one.kind) for one in entries] == [
        (5, "rewind"), (4, "commit"), (3, "commit"), (2, "commit"), (1, "commit"),
    ]  # fmt: skip
    assert (entries[0].base_txid, entries[2].checkpoints) == (3, ("two",))
    points = grown.branch.restore_points()
    assert isinstance(points, RestorePoints)
    assert (points.ranges[0].from_txid, points.ranges[-1].to_txid) == (0, 5) or points.ranges


def test_a_long_history_comes_in_pages(db: Any) -> None:
    db.sql("CREATE TABLE t (v)")
    for _ in range(1100):
        db.kv.put("n", "k", b"v")
    found = [one.txid for one in db.branch.history()]
    assert found == list(range(db.txid, 0, -1))
    assert len(found) > 1000
