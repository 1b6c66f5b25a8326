"""`mt.maintenance.compact` and `memoturn compact`: what was done is told, with what it has cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from memoturn.base.errors import BranchNotFoundError, DatabaseNotFoundError, InvalidRequestError
from memoturn.faces.embedded.client import Database, Memoturn
from tests.faces.conftest import Cli
from tests.faces.conftest import cli as cli
from tests.history.histories import a_family, assert_unchanged, commit, contents, levels
from tests.support import branch_of, engine_of


def test_all_branches_of_a_database_are_compacted(mt: Memoturn) -> None:
    family = a_family(mt)
    before = contents(mt)
    done = mt.maintenance.compact("x")
    assert {branch.name for branch in done.branches} == {"main", "child", "grandchild"}
    assert done.bytes_written == sum(branch.bytes_written for branch in done.branches) > 0
    assert done.write_amplification == round(done.bytes_written / done.bytes_of_commits, 3)
    assert engine_of(mt).env.written.compacted == done.bytes_written
    main = next(branch for branch in done.branches if branch.name == "main")
    assert (main.bases_written, main.bases) == (1, 1)
    assert main.packs == levels(branch_of(family[0]).manifest().segments)["ltx/0"]
    assert_unchanged(mt, before)
    again = mt.maintenance.compact("x")
    assert (again.bytes_written, again.write_amplification) == (0, 0.0)


def test_one_branch_is_compacted_with_what_is_not_shipped_yet(mt: Memoturn, db: Database) -> None:
    db.branch.create("b")
    commit(db, 3)
    other = mt.db("x@b")
    other.sql("INSERT INTO t VALUES ('unshipped')")
    done = mt.maintenance.compact("x@b")
    assert [branch.name for branch in done.branches] == ["b"]
    assert done.branches[0].packs == 1
    assert engine_of(mt).env.written.committed > 0


def test_an_empty_database_needs_nothing(mt: Memoturn) -> None:
    mt.databases.create("e")
    done = mt.maintenance.compact("e")
    assert (done.bytes_written, done.bytes_of_commits, done.write_amplification) == (0, 0, 0.0)


def test_progress_ends_where_it_said(mt: Memoturn, db: Database) -> None:
    commit(db, 40)
    seen: list[tuple[int, int]] = []
    mt.maintenance.compact("x", progress=lambda done, total: seen.append((done, total)))
    assert seen
    assert all(done <= total for done, total in seen)


def test_what_is_not_there_is_refused(mt: Memoturn, db: Database) -> None:
    with pytest.raises(DatabaseNotFoundError):
        mt.maintenance.compact("nothing")
    with pytest.raises(BranchNotFoundError):
        mt.maintenance.compact("x@nothing")
    with pytest.raises(InvalidRequestError, match="names a position"):
        mt.maintenance.compact("x@main:3")


def test_the_command_line_tells_what_was_written(cli: Cli, tmp_path: Path) -> None:
    cli("db", "create", "x")
    for number in range(3):
        cli("sql", "x", f"CREATE TABLE t{number}(v)")
    found = cli("compact", "x@main", "--json").json
    assert found["database"] == "x"
    assert found["branches"][0]["bases_written"] == 1
    assert found["write_amplification"] > 0
    told = cli("compact", "x").out
    assert "main" in told
    assert "wrote 0 B for" in told
    assert cli("compact", "y", code=3).err
