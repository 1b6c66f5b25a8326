"""Histories to compact: branches with commits, rewinds, forks and resets, and what every position of them holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from memoturn.base.txids import PageNo
from memoturn.database.branch import Branch
from memoturn.faces.embedded.client import Database, Memoturn
from memoturn.history.budget import Budget
from memoturn.history.compaction import Done, compact_branch
from memoturn.history.planning import Aims
from memoturn.pages.view import Source
from tests.support import assert_view_is_whole, branch_of, engine_of

Contents = dict[str, dict[int, str]]


def commit(db: Database, count: int, words: str = "some words ") -> None:
    """So many commits, each shipped by itself."""
    for number in range(count):
        db.sql("INSERT INTO t VALUES (?)", [f"{words}{number}" * 9])
        db.sync()


def digest(view: Source) -> str:
    """The content of a position."""
    made = hashlib.sha256()
    for number in range(1, view.page_count + 1):
        made.update(view.page(PageNo(number)))
    return made.hexdigest()


def contents(mt: Memoturn, database: str = "x") -> Contents:
    """Every position of every branch."""
    found: Contents = {}
    for info in mt.db(database).branch.list():
        branch = branch_of(mt.db(f"{database}@{info.name}"))
        found[info.name] = {txid: digest(branch.view_at(txid)) for txid in range(branch.head().txid + 1)}  # type: ignore[arg-type]
    return found


def forget(mt: Memoturn, database: str = "x") -> None:
    """Begin anew: everything is read from the bucket again."""
    engine = engine_of(mt)
    for info in mt.db(database).branch.list():
        branch_of(mt.db(f"{database}@{info.name}")).forget()
    store = engine.env.store
    for cache in (store._pages, store._indexes, store._buffers):
        cache.clear()


def assert_unchanged(mt: Memoturn, before: Contents, database: str = "x") -> None:
    """Every position has the content that it had, read from the bucket alone, and its recorded checksum."""
    forget(mt, database)
    for name, positions in before.items():
        branch = branch_of(mt.db(f"{database}@{name}"))
        for txid, content in positions.items():
            view = branch.view_at(txid)  # type: ignore[arg-type]
            assert digest(view) == content, f"{name}:{txid}"
            assert_view_is_whole(view)


def compact(branch: Branch, idle: bool = False, max_depth: int = 8) -> list[Done]:
    """All steps for one branch."""
    env = branch._env
    aims = Aims(max_depth, idle)
    return list(compact_branch(env, branch.db_uuid, branch.branch_id, Budget(env.clock), aims))


def a_family(mt: Memoturn, before_fork: int = 20) -> list[Database]:
    """A branch with a rewind into its past and one into that past, a fork from the middle, and one of that fork."""
    mt.databases.create("x")
    db = mt.db("x")
    db.sql("CREATE TABLE t(v)")
    commit(db, before_fork)
    child = db.branch.create("child", txid=before_fork // 2)
    commit(child, 3, "child ")
    db.branch.rewind(before_fork // 3)
    commit(db, 5, "second past ")
    db.branch.rewind(before_fork + 2)
    commit(db, 5, "third past ")
    grandchild = child.branch.create("grandchild", txid=before_fork // 2 + 1)
    commit(grandchild, 4, "grandchild ")
    child.branch.reset()
    commit(child, 3, "after the reset ")
    return [db, child, grandchild]


def levels(segments: Iterable[str]) -> dict[str, int]:
    """How many segments of each kind there are."""
    found: dict[str, int] = {}
    for name in segments:
        kind = name.rpartition("/")[0]
        found[kind] = found.get(kind, 0) + 1
    return found
