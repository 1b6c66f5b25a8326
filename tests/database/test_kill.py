"""kill -9 in a loop: what was acknowledged is there, and of what was not, one call a writer at most.

Each round opens the store that the last one left. Children are started ahead of their use, and told what to do when
their turn comes, so that a round costs no start of an interpreter.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from memoturn.base.settings import Durability
from tests.database.kill_child import DB, Content, Op, Task, check, open_store

ROOT = Path(__file__).parents[2]
ROUNDS = 20
"""Kills a store; there are ten stores."""


class Child:
    """A process of `kill_child`, and what it has said so far."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.database.kill_child"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )
        self.tried: dict[int, Op] = {}
        """The call that each writer has begun and not ended."""
        self.acknowledged: list[tuple[Op, int]] = []
        self.found: dict[str, Content] = {}

    @property
    def pid(self) -> int:
        return self._process.pid

    def begin(self, task: Task) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(task) + b"\n")
        self._process.stdin.close()

    def listen(self, until: int | None = None) -> None:
        """Hear what it says until it has acknowledged so many calls, or has nothing more to say."""
        assert self._process.stdout is not None
        while until is None or len(self.acknowledged) < until:
            line = self._process.stdout.readline()
            if not line.endswith(b"\n"):
                assert until is None, "the child has ended by itself"
                return
            word, *rest = msgspec.json.decode(line)
            if word == "try":
                self.tried[rest[0]] = msgspec.convert(rest[1], Op)
            elif word == "ok":
                self.acknowledged.append((self.tried.pop(rest[0]), rest[1]))
            elif word == "found":
                self.found = msgspec.convert(rest[0], dict[str, Content])
            else:
                raise AssertionError(f"a call has failed: {rest[1]}")

    def kill(self) -> None:
        """End it without a warning, and hear its last words."""
        self._process.send_signal(signal.SIGKILL)
        self.listen()
        self.end()

    def end(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Nursery:
    """Children that are waiting for a task."""

    def __init__(self) -> None:
        self._waiting = [Child(), Child()]

    def take(self) -> Child:
        self._waiting.append(Child())
        return self._waiting.pop(0)

    def close(self) -> None:
        for child in self._waiting:
            child.end()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    children = Nursery()
    yield children
    children.close()


Model = dict[str, Content]


def apply(model: Model, op: Op, txid: int) -> Model:
    """What the store contains after a call; `txid` is the one that it has acknowledged, or 0."""
    if op.branch not in model:
        return model
    content = model[op.branch]
    keys, checkpoints = content.keys, content.checkpoints
    moved = max(txid, content.txid)
    if op.what in ("insert", "batch"):
        changed = Content(tuple(sorted((*keys, *op.keys))), checkpoints, moved)
    elif op.what == "delete":
        changed = Content(tuple(key for key in keys if key > op.keys[0]), checkpoints, moved)
    elif op.what == "checkpoint":
        changed = Content(keys, {**checkpoints, op.name: keys}, moved)
    elif op.what == "rewind":
        changed = Content(checkpoints[op.name], checkpoints, moved)
    elif op.what == "fork":
        return {**model, op.name: Content(keys, {}, content.txid)}
    elif op.what == "drop":
        return {name: other for name, other in model.items() if name != op.branch}
    else:
        changed = Content(keys, checkpoints, moved)
    return {**model, op.branch: changed}


def agrees(found: Model, model: Model, in_flight: list[Op]) -> str:
    """Why `found` is neither `model` nor that with some of the calls in flight; empty if it is."""
    branches = {op.branch for op in in_flight} | {op.name for op in in_flight if op.what == "fork"}
    for name in found.keys() | model.keys():
        allowed = [model]
        if name in branches:
            for op in in_flight:
                if name in (op.branch, op.name):
                    allowed += [apply(other, op, 0) for other in allowed]
        if not any(_same(found.get(name), other.get(name)) for other in allowed):
            return (
                f"branch {name}: found {found.get(name)}, expected {[other.get(name) for other in allowed]}"
            )
        if name in found and name in model:
            moves = sum(op.branch == name for op in in_flight)
            if not model[name].txid <= found[name].txid <= model[name].txid + moves:
                return f"branch {name}: head {found[name].txid}, acknowledged was {model[name].txid}"
    return ""


def _same(one: Content | None, other: Content | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.keys == other.keys and one.checkpoints == other.checkpoints


class Siege:
    """One store that is killed again and again."""

    def __init__(self, root: Path, durability: Durability, seed: int, nursery: Nursery) -> None:
        self._root = str(root)
        self._durability = durability
        self._rng = random.Random(seed)
        self._nursery = nursery
        self._first_key = 1
        self.kills = self.acknowledged = 0
        with open_store(self._root) as store:
            store.databases.create(DB)
            store.db(DB).sql("CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)")
            store.db(DB).branch.create("side")
            self.model = check(store)

    def task(self, writers: tuple[tuple[str, ...], ...], inserts_only: bool = False) -> Task:
        self._first_key += 10_000_000
        return Task(
            "write",
            self._root,
            self._durability,
            self._rng.getrandbits(32),
            self._first_key,
            writers,
            self.model,
            inserts_only,
        )

    def round(self, number: int) -> None:
        kind = self._rng.choice(["one", "one", "one", "two"])
        in_flight = self._two_writers() if kind == "two" else self._one_writer()
        # Whoever looks first recovers: this process, another one, or two that race for it.
        looking = [self._nursery.take() for _ in range(self._rng.choice([0, 0, 0, 0, 0, 1, 2]))]
        for child in looking:
            child.begin(Task("check", self._root))
        for child in looking:
            child.listen()
            child.end()
        with open_store(self._root) as store:
            found = check(store)
        for other in [found, *(child.found for child in looking)]:
            wrong = agrees(other, self.model, in_flight)
            assert not wrong, f"round {number} ({kind}): {wrong}; in flight: {in_flight}"
            assert other == found, f"round {number}: two looks differ"
        self.model = found

    def _one_writer(self) -> list[Op]:
        """A process with a thread for each of some groups of branches, who run each other's transactions."""
        branches = sorted(self.model)
        threads = min(len(branches), self._rng.choice([2, 3, 4]))
        child = self._nursery.take()
        child.begin(self.task(tuple(tuple(branches[first::threads]) for first in range(threads))))
        child.listen(until=self._rng.randint(0, 60))
        return self._kill(child)

    def _two_writers(self) -> list[Op]:
        """Two processes that take the same branches from each other; the second outlives the first for a while."""
        branches = tuple(sorted(self.model))
        children = [self._nursery.take(), self._nursery.take()]
        for child in children:
            child.begin(self.task((branches,), inserts_only=True))
        for child in children:
            child.listen(until=self._rng.randint(0, 8))
        in_flight = self._kill(children[0])
        children[1].listen(until=len(children[1].acknowledged) + self._rng.randint(0, 8))
        return in_flight + self._kill(children[1])

    def _kill(self, child: Child) -> list[Op]:
        time.sleep(self._rng.random() * 0.003)
        child.kill()
        self.kills += 1
        self.acknowledged += len(child.acknowledged)
        for op, txid in child.acknowledged:
            self.model = apply(self.model, op, txid)
        return list(child.tried.values())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("durability", ["standard", "durable"])
def test_kill_loses_nothing_acknowledged(
    tmp_path: Path, durability: Durability, seed: int, nursery: Nursery
) -> None:
    siege = Siege(tmp_path / "store", durability, seed, nursery)
    number = 0
    while siege.kills < ROUNDS:
        number += 1
        siege.round(number)
    assert siege.acknowledged > 5 * ROUNDS
    nodes = tmp_path / "store" / "node" / "nodes"
    for left in nodes.iterdir():
        # Of a process that was killed while it appeared, or while it buried another one: forgotten after a while.
        assert left.name.startswith("."), "a dead process has left something"
        os.utime(left, (0, 0))
    open_store(str(tmp_path / "store")).close()
    assert not list(nodes.iterdir()), "a dead process has left something for good"
