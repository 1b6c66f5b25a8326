"""Two who promote, extend, delete and undo at the same time: each call of one to the bucket, the other comes between.

What is left must be what those operations that were acknowledged make of it in some order, one after another; one
that was refused leaves no trace. Whatever happens, the default branch lives, and has no ttl.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest

from memoturn import Memoturn
from memoturn.base.clock import Clock
from memoturn.base.errors import MemoturnError, UnavailableError
from memoturn.base.settings import CommitSettings, Settings
from memoturn.bucket.memory import MemoryBucket
from memoturn.database.neighbours import NoNeighbours
from memoturn.manifest import keys
from memoturn.node.engine import Engine, Surroundings
from memoturn.operations import branches, databases
from memoturn.operations.undo import undo
from tests.stand_ins import Between, NeverSure, NoShipper
from tests.support import ManualClock, branch_of, values


class Actor(NamedTuple):
    engine: Engine
    undo_of_gone: str


Op = Callable[[Actor], object]


def promote(branch: str) -> Op:
    return lambda actor: branches.promote(actor.engine, "x", branch)


def extend(branch: str, ttl: float | None) -> Op:
    return lambda actor: branches.extend(actor.engine, "x", branch, ttl)


def delete(branch: str) -> Op:
    return lambda actor: branches.delete(actor.engine, "x", branch)


OPS: dict[str, Op] = {
    "promote burner": promote("burner"),
    "promote other": promote("other"),
    "promote main": promote("main"),
    "promote gone": promote("gone"),
    "extend burner": extend("burner", 60),
    "extend burner for good": extend("burner", None),
    "extend other": extend("other", 60),
    "extend main": extend("main", 60),
    "delete burner": delete("burner"),
    "delete other": delete("other"),
    "delete main": delete("main"),
    "undo the deletion of gone": lambda actor: undo(actor.engine, "x", actor.undo_of_gone),
}
TOGETHER: list[tuple[str, ...]] = [
    ("promote other", "delete burner"),
    ("promote other", "delete main"),
    ("promote other", "extend main"),
    ("promote other", "extend burner"),
    ("promote burner", "promote other"),
    ("extend burner for good", "delete burner"),
    ("promote burner", "delete main"),
    ("promote burner", "extend main"),
    ("undo the deletion of gone", "promote gone"),
]
Standing = tuple[str, dict[str, tuple[bool, int | None]]]


def open_engine(name: str, bucket: Any, clock: Clock) -> Engine:
    around = Surroundings(name, bucket, NeverSure(), NoNeighbours(), NoShipper())
    return Engine("memory:", clock=clock, surroundings=around)


class Store:
    """A database with the branches `main`, `burner`, `other` and, deleted, `gone`; one actor can be interrupted."""

    def __init__(self) -> None:
        clock = ManualClock()
        bucket = MemoryBucket(clock)
        self.calls = Between(bucket)
        first, second = open_engine("one", self.calls, clock), open_engine("two", bucket, clock)
        databases.create(second, "x")
        branches.create(second, "x", "burner", ttl=600)
        branches.create(second, "x", "other")
        branches.create(second, "x", "gone")
        token = branches.delete(second, "x", "gone").undo
        self.one, self.two = Actor(first, token), Actor(second, token)

    def standing(self) -> Standing:
        engine = self.two.engine
        entry = engine.entry("x")
        names = ("main", "burner", "other", "gone")
        records = [engine.manifests.read(keys.manifest_key(entry.db_uuid, name)).record for name in names]
        return entry.default_branch, {m.branch_id: (m.deleted_at is None, m.ttl_at) for m in records}


def acknowledged(name: str, actor: Actor) -> bool:
    try:
        OPS[name](actor)
    except MemoturnError:
        return False
    return True


@cache
def in_order(names: tuple[str, ...]) -> Standing | None:
    """What the operations make of it, or None if one is refused."""
    store = Store()
    return store.standing() if all(acknowledged(name, store.two) for name in names) else None


def orders(first: str | None, second: tuple[str, ...]) -> list[tuple[str, ...]]:
    if first is None:
        return [second]
    return [(*second[:i], first, *second[i:]) for i in range(len(second) + 1)]


def race(first: str, second: tuple[str, ...], at: int) -> tuple[Store, bool, tuple[str, ...]]:
    """Do `first`, and all of `second` before its call number `at`; tells what was acknowledged."""
    store = Store()
    done: list[str] = []

    def between(number: int, name: str, key: str) -> None:
        if number == at:
            done.extend(name for name in second if acknowledged(name, store.two))

    store.calls.calls, store.calls.before = 0, between
    return store, acknowledged(first, store.one), tuple(done)


@pytest.mark.parametrize("first", OPS)
def test_whoever_comes_between_nothing_acknowledged_is_undone(first: str) -> None:
    wrong = []
    for second in [*((name,) for name in OPS), *TOGETHER]:
        for at in itertools.count():
            store, kept, done = race(first, second, at)
            default, standing = found = store.standing()
            expected = [in_order(order) for order in orders(first if kept else None, done)]
            if standing[default] != (True, None) or found not in expected:
                wrong.append((second, at, "kept" if kept else "refused", done, found))
            if store.calls.calls <= at:
                break
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("landed", [False, True])
def test_a_promotion_that_fails_leaves_a_burner_its_ttl(landed: bool) -> None:
    store = Store()
    before = store.standing()

    def between(number: int, name: str, key: str) -> None:
        if name == "replace" and key == keys.catalog_key("x"):
            if landed:
                databases.delete(store.two.engine, "x")
                databases.create(store.two.engine, "x")
                return
            raise UnavailableError("the store is away")

    entry = store.two.engine.entry("x")
    store.calls.before = between
    with pytest.raises(MemoturnError):
        promote("burner")(store.one)
    key = keys.manifest_key(entry.db_uuid, "burner")
    assert store.two.engine.manifests.read(key).record.ttl_at == before[1]["burner"][1]
    assert store.two.engine.entry("x").default_branch == "main"


def test_the_token_of_a_promotion_goes_back_to_what_it_took_the_place_of() -> None:
    store = Store()

    def between(number: int, name: str, key: str) -> None:
        if name == "replace" and key == keys.catalog_key("x"):
            store.calls.before = lambda _number, _name, _key: None
            promote("other")(store.two)

    store.calls.before = between
    token = branches.promote(store.one.engine, "x", "burner").undo
    undo(store.one.engine, "x", token)
    assert store.standing()[0] == "other"


def test_what_a_neighbour_was_told_is_kept_comes_back_with_the_branch(
    open_store: Callable[..., Memoturn], file_url: str
) -> None:
    commit = CommitSettings(busy_timeout=10.0, ship_interval_ms=60_000)
    one, two = (open_store(file_url, clock=None, settings=Settings(commit=commit)) for _ in range(2))
    one.databases.create("x")
    fork = one.db("x").branch.create("f")
    fork.sql("CREATE TABLE t(v)")
    fork.sql("INSERT INTO t VALUES (1)")
    fork.sync()
    told = [1]
    key = branch_of(fork).key
    manifests = two._engine.manifests
    update = manifests.update

    def between(where: str, *args: Any) -> Any:
        if where == key and len(told) == 1:
            told.append(2)
            try:
                fork.sql("INSERT INTO t VALUES (2)")
            except MemoturnError:
                told[:] = [1, 0]
        return update(where, *args)

    manifests.update = between  # type: ignore[method-assign]
    token = two.db("x@f").branch.delete().undo
    assert len(told) == 2, "the neighbour came in between"
    with pytest.raises(MemoturnError):
        fork.sql("INSERT INTO t VALUES (3)")
    with contextlib.suppress(MemoturnError):
        one.sync()
    two.db("x").branch.undo(token)
    assert values(two.db("x@f")) == [v for v in told if v]
    fork.sql("INSERT INTO t VALUES (4)")
    assert values(two.db("x@f"))[-1] == 4
