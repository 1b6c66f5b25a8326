"""Databases: create, list, get, delete, and names that come back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memoturn import AlreadyExistsError, ConflictError, DatabaseNotFoundError, InvalidRequestError, Memoturn
from memoturn.operations import databases
from tests.support import ManualClock, assert_whole, values

Opener = Callable[..., Memoturn]


def test_a_new_database_is_empty_and_two_objects(mt: Memoturn) -> None:
    info = mt.databases.create("x")
    assert (info.name, info.default_branch, info.ttl_at) == ("x", "main", None)
    keys = [o.key for o in mt._engine.bucket.list("")]
    assert keys == ["catalog/x.json", f"db/{info.db_uuid}/branches/main.json"]
    db = mt.db("x")
    assert (db.txid, db.sql("SELECT 1 AS n").txid) == (0, 0)
    assert list(db.branch.history()) == []
    assert mt.databases.get("x") == info


@pytest.mark.parametrize("name", ["", "X", "a/b", "../x", "x@y", "x" * 64])
def test_a_database_needs_a_proper_name(mt: Memoturn, name: str) -> None:
    for call in (mt.databases.create, mt.databases.get):
        with pytest.raises(InvalidRequestError, match="database"):
            call(name)
    assert list(mt._engine.bucket.list("")) == []


def test_a_name_is_taken_once(mt: Memoturn) -> None:
    mt.databases.create("x")
    mt.db("x").sql("CREATE TABLE t(v)")
    with pytest.raises(AlreadyExistsError):
        mt.databases.create("x")
    assert mt.db("x").txid == 1


def test_databases_are_listed_without_the_gone_whole_or_page_by_page(
    mt: Memoturn, clock: ManualClock
) -> None:
    for name in ("b", "a.b", "a", "a-b", "c", "d"):
        mt.databases.create(name, ttl=5 if name == "d" else None)
    mt.databases.delete("c")
    assert sorted(info.name for info in mt.databases.list()) == ["a", "a-b", "a.b", "b", "d"]
    clock.advance(6)
    names = [info.name for info in mt.databases.list()]
    assert sorted(names) == ["a", "a-b", "a.b", "b"]
    engine = mt._engine
    walked: list[str] = []
    cursor = None
    while page := [info.name for info in databases.list_(engine, cursor, limit=2)]:
        walked += page
        cursor = page[-1]
    assert walked == names, "page by page it is the same list"


def test_a_database_that_is_not_there_says_so(mt: Memoturn) -> None:
    db = mt.db("nowhere")
    for call in (
        lambda: db.sql("SELECT 1"),
        lambda: db.sql("CREATE TABLE t(v)"),
        lambda: db.txid,
        lambda: db.branch.create("f"),
        lambda: list(db.branch.list()),
        lambda: mt.databases.get("nowhere"),
        lambda: mt.databases.delete("nowhere"),
    ):
        with pytest.raises(DatabaseNotFoundError, match="nowhere") as missing:
            call()
        assert (missing.value.code, missing.value.status) == ("database_not_found", 404)


def test_a_deleted_name_is_another_database_when_it_comes_back(mt: Memoturn) -> None:
    for round_ in range(4):
        first = mt.databases.create("x").db_uuid
        db = mt.db("x")
        assert db.txid == 0
        db.sql("CREATE TABLE t(v)")
        db.sql("INSERT INTO t VALUES (?)", [round_])
        assert values(db) == [round_]
        token = mt.databases.delete("x").undo
        mt.databases.undo("x", token)
        assert values(db) == [round_]
        assert mt.databases.get("x").db_uuid == first
        mt.databases.delete("x")
    with pytest.raises(DatabaseNotFoundError):
        db.sql("SELECT 1")


def test_an_undone_deletion_of_a_name_that_was_given_away_is_a_conflict(mt: Memoturn) -> None:
    mt.databases.create("x")
    token = mt.databases.delete("x").undo
    mt.databases.create("x")
    with pytest.raises(ConflictError):
        mt.databases.undo("x", token)
    mt.databases.delete("x")
    with pytest.raises(ConflictError):
        mt.databases.undo("x", token)


def test_what_was_unshipped_when_a_database_was_deleted_comes_back_with_it(
    open_store: Opener, file_url: str
) -> None:
    mt = open_store(file_url)
    mt.databases.create("x")
    db = mt.db("x")
    db.sql("CREATE TABLE t(v)")
    fork = db.branch.create("f")
    for i in range(10):
        fork.sql("INSERT INTO t VALUES (?)", [i])
        db.sql("INSERT INTO t VALUES (?)", [-i])
    token = mt.databases.delete("x").undo
    mt.close()
    again = open_store(file_url)
    again.databases.undo("x", token)
    assert values(again.db("x@f")) == list(range(10))
    assert values(again.db("x")) == [-i for i in range(10)]
    assert_whole(again.db("x@f"))
