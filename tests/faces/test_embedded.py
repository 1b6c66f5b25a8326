"""`Memoturn` as a program holds it: opening, closing, handles, stores that come back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memoturn
from memoturn import InvalidRequestError, Memoturn, MemoturnError
from memoturn.base.errors import ClosedError
from memoturn.base.settings import Settings
from tests.support import assert_whole, branch_of, values

Opener = Callable[..., Memoturn]


def test_everything_that_is_exported_is_there() -> None:
    for name in memoturn.__all__:
        assert getattr(memoturn, name) is not None
    with pytest.raises(AttributeError):
        memoturn.no_such_name  # noqa: B018


@pytest.mark.parametrize("form", ["file:{}/s", "file://{}/s", "file:{}/with space and ü", "file:{}/s/"])
def test_a_file_store_is_a_directory_that_comes_back(open_store: Opener, tmp_path: Path, form: str) -> None:
    url = form.format(tmp_path)
    with open_store(url) as mt:
        mt.databases.create("x")
        db = mt.db("x")
        db.batch(["CREATE TABLE t(v)", ("INSERT INTO t VALUES (?)", ["here"])])
        db.branch.checkpoint("c")
        db.branch.create("f").sql("INSERT INTO t VALUES ('f')")
    with open_store(url) as mt:
        assert values(mt.db("x")) == ["here"]
        assert values(mt.db("x@main:c")) == ["here"]
        assert values(mt.db("x@f")) == ["here", "f"]
        assert_whole(mt.db("x@f"))


def test_a_relative_store_lies_where_the_program_was_started(
    open_store: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    mt = open_store("file:./data")
    mt.databases.create("x")
    monkeypatch.chdir(tmp_path / "elsewhere")
    mt.db("x").sql("CREATE TABLE t(v)")
    mt.sync()
    assert os.listdir(tmp_path / "elsewhere") == []
    assert (tmp_path / "here" / "data" / "objects" / "catalog" / "x.json").exists()


@pytest.mark.parametrize("url", ["", "nowhere", "file:", "ftp://x/y", "http:x", "file"])
def test_a_store_that_cannot_be_is_refused_with_what_can(open_store: Opener, url: str) -> None:
    with pytest.raises(MemoturnError) as refused:
        open_store(url)
    assert refused.value.status in (400, 503)


def test_an_unknown_durability_is_refused(open_store: Opener) -> None:
    with pytest.raises(InvalidRequestError, match="durability"):
        open_store(durability="fast")


def test_two_memory_stores_share_nothing(open_store: Opener) -> None:
    one, two = open_store(), open_store()
    one.databases.create("x")
    assert [info.name for info in two.databases.list()] == []


def test_a_closed_store_says_so_to_everything(open_store: Opener, file_url: str) -> None:
    mt = open_store(file_url)
    mt.databases.create("x")
    db = mt.db("x")
    db.sql("CREATE TABLE t(v)")
    mt.close()
    mt.close()
    for call in (
        lambda: db.sql("SELECT 1"),
        lambda: db.sql("INSERT INTO t VALUES (1)"),
        lambda: db.txid,
        lambda: db.sync(),
        lambda: db.branch.rewind(1),
        lambda: db.branch.undo("u_x"),
        lambda: mt.sync(),
        lambda: mt.databases.create("y"),
        lambda: mt.databases.get("x"),
        lambda: list(mt.databases.list()),
        lambda: mt.databases.delete("x"),
    ):
        with pytest.raises((ClosedError, InvalidRequestError)) as closed:
            call()
        assert closed.value.code == "invalid_request"


def test_a_handle_follows_its_name(mt: Memoturn) -> None:
    """Handles may be made before what they name, and outlive it."""
    db, fork = mt.db("x"), mt.db("x@f")
    mt.databases.create("x")
    db.batch(["CREATE TABLE t(v)", "INSERT INTO t VALUES (1)"])
    db.branch.create("f")
    fork.sql("INSERT INTO t VALUES (2)")
    fork.branch.promote()
    assert values(db) == [1, 2]
    mt.databases.delete("x")
    mt.databases.create("x")
    assert db.txid == 0


def test_handles_and_stores_tell_what_they_are(mt: Memoturn) -> None:
    assert repr(mt) == "Memoturn('memory:')"
    assert repr(mt.db("x@main:3")) == "Database('x@main:3')"


def test_more_databases_than_are_kept_open_all_work(open_store: Opener, file_url: str) -> None:
    mt = open_store(file_url, settings=Settings(hot_cap=3))
    for n in range(12):
        mt.databases.create(f"d{n}")
        mt.db(f"d{n}").batch(["CREATE TABLE t(v)", ("INSERT INTO t VALUES (?)", [n])])
    for _ in range(2):
        for n in range(12):
            mt.db(f"d{n}").sql("UPDATE t SET v = v + 100")
    assert [values(mt.db(f"d{n}")) for n in range(12)] == [[n + 200] for n in range(12)]
    assert len(mt._engine.open_branches()) <= 4


def test_what_is_asked_for_stays_open_however_many_others_come(open_store: Opener, file_url: str) -> None:
    mt = open_store(file_url, settings=Settings(hot_cap=4))
    for n in range(20):
        mt.databases.create(f"d{n}")
        mt.db(f"d{n}").sql("CREATE TABLE t(v)")
    busy = branch_of(mt.db("d0"))
    for n in range(1, 20):
        assert mt.db("d0").sql("SELECT * FROM t") == []
        mt.db(f"d{n}").sql("INSERT INTO t VALUES (1)")
        assert busy in mt._engine.open_branches()
        assert len(mt._engine.open_branches()) <= 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"checkpoint": "1"}, "all digits"),
        ({"txid": "1"}, "not a whole number"),
        ({"at": "yesterday"}, "is not a time"),
        ({"at": "2026-11-22T10:00:00"}, "write RFC 3339"),
    ],
)
def test_a_position_is_read_as_what_it_is_called(given: dict[str, Any], says: str) -> None:
    with Memoturn("memory:") as mt:
        mt.databases.create("a")
        with pytest.raises(InvalidRequestError, match=says):
            mt.db("a").branch.create("b", **given)
        assert [branch.name for branch in mt.db("a").branch.list()] == ["main"]


def test_an_empty_name_does_not_mean_the_branch_of_the_handle() -> None:
    with Memoturn("memory:") as mt:
        mt.databases.create("a")
        fork = mt.db("a").branch.create("fork")
        with pytest.raises(MemoturnError):
            fork.branch.delete("")
        assert fork.branch.get().name == "fork"
