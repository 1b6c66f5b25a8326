"""Memoturn against a small model of what branches are, over histories that Hypothesis thinks up."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memoturn import (
    AlreadyExistsError,
    BranchExpiredError,
    BranchNotFoundError,
    ConflictError,
    Database,
    Memoturn,
    TxidNotRetainedError,
)
from memoturn.base.settings import CacheSettings, CommitSettings, Settings
from tests.support import ManualClock, assert_view_is_whole, branch_of, values

Content = tuple[int, ...] | None
"""The values in table t, or None before there was one."""


@dataclass
class ModelBranch:
    """What a branch should be: the content of every position, when it came to be, and the names."""

    content: dict[int, Content]
    times: dict[int, int]
    head: int
    parent: str | None
    first: int
    created: int
    ttl_at: int | None = None
    checkpoints: dict[str, int] = field(default_factory=dict)
    undo: list[tuple[str, int]] = field(default_factory=list)
    parents_born: int = 0
    born: int = 0


class Branches(RuleBasedStateMachine):
    """One database with up to five branches."""

    url = "memory:"

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.directory: str | None = None
        self.next_value = 0
        self.births = 0
        self.model: dict[str, ModelBranch] = {}
        self.default = "main"
        self.deleted: dict[str, tuple[str, ModelBranch]] = {}

    @initialize()
    def create(self) -> None:
        self.open()
        self.mt.databases.create("x")
        now = self.clock.ms
        self.model["main"] = ModelBranch({0: None}, {0: now}, 0, None, 1, now)

    def open(self) -> None:
        # A tiny page cache and few open branches make the paths that are rare elsewhere the usual ones.
        tight = Settings(
            cache=CacheSettings(page_cache_bytes=64 << 10),
            commit=CommitSettings(ship_interval_ms=20),
            hot_cap=2,
        )
        self.mt = Memoturn(self.url, settings=tight, clock=self.clock)

    def teardown(self) -> None:
        if hasattr(self, "mt"):
            self.mt.close()
        if self.directory is not None:
            shutil.rmtree(self.directory)

    # Helpers.

    def db(self, name: str) -> Database:
        return self.mt.db("x" if name == self.default else f"x@{name}")

    def pick(self, which: int) -> str:
        names = sorted(self.model)
        return names[which % len(names)]

    def expired(self, name: str) -> bool:
        ttl_at = self.model[name].ttl_at
        return ttl_at is not None and ttl_at <= self.clock.ms

    def living(self, which: int) -> str:
        names = sorted(name for name in self.model if not self.expired(name))
        return names[which % len(names)]

    def moved(self, name: str, content: Content, head: int) -> None:
        branch = self.model[name]
        assert head == branch.head + 1
        branch.head = head
        branch.content[head] = content
        branch.times[head] = self.clock.ms

    # Rules.

    @rule(which=st.integers(0, 9), rows=st.integers(1, 3))
    def write(self, which: int, rows: int) -> None:
        name = self.living(which)
        branch, db = self.model[name], self.db(name)
        before = branch.content[branch.head]
        new = tuple(range(self.next_value, self.next_value + rows))
        self.next_value += rows
        statements = [("INSERT INTO t VALUES (?, zeroblob(2000))", [v]) for v in new]
        if before is None:
            done = db.batch([("CREATE TABLE t(v, padding)", None), *statements])
        else:
            done = db.batch(statements)
        self.moved(name, (before or ()) + new, done.txid)

    @rule(which=st.integers(0, 9), keep=st.integers(0, 5), vacuum=st.booleans())
    def delete_rows(self, which: int, keep: int, vacuum: bool) -> None:
        name = self.living(which)
        branch, db = self.model[name], self.db(name)
        before = branch.content[branch.head]
        if not before or keep >= len(before):
            return
        done = db.sql("DELETE FROM t WHERE v NOT IN (SELECT v FROM t ORDER BY rowid LIMIT ?)", [keep])
        self.moved(name, before[:keep], done.txid)
        if vacuum:
            txid = db.sql("VACUUM").txid
            if txid != branch.head:
                self.moved(name, before[:keep], txid)
            assert values(db, "PRAGMA freelist_count") == [0]

    @rule(which=st.integers(0, 9), label=st.sampled_from(["a", "b", "c"]), move=st.booleans())
    def checkpoint(self, which: int, label: str, move: bool) -> None:
        name = self.living(which)
        branch = self.model[name]
        there = branch.checkpoints.get(label, branch.head)
        if there != branch.head and not move:
            with pytest.raises(ConflictError):
                self.db(name).branch.checkpoint(label)
            return
        assert self.db(name).branch.checkpoint(label, move=move).txid == branch.head
        branch.checkpoints[label] = branch.head

    @rule(which=st.integers(0, 9), label=st.sampled_from(["a", "b", "c"]))
    def drop_checkpoint(self, which: int, label: str) -> None:
        name = self.living(which)
        if self.model[name].checkpoints.pop(label, None) is not None:
            self.db(name).branch.delete_checkpoint(label)

    @rule(which=st.integers(0, 9), back=st.integers(0, 30), how=st.sampled_from(["txid", "name", "time"]))
    def rewind(self, which: int, back: int, how: str) -> None:
        name = self.living(which)
        branch, db = self.model[name], self.db(name)
        target = branch.head - back % (branch.head + 1)
        if how == "name" and branch.checkpoints:
            label = sorted(branch.checkpoints)[back % len(branch.checkpoints)]
            target = branch.checkpoints[label]
            done = db.branch.rewind(label)
        elif how == "time":
            at = branch.times[target]
            target = self.at_time(branch, at)
            done = db.branch.rewind(datetime.fromtimestamp(at / 1000, UTC))
        else:
            done = db.branch.rewind(target)
        assert done.restored_txid == target
        branch.undo.append((done.undo, branch.head))
        self.moved(name, branch.content[target], done.txid)

    def at_time(self, branch: ModelBranch, ms: int) -> int:
        """The last position at or before a time; the clock of this test never runs backwards."""
        return max(txid for txid, time in branch.times.items() if time <= ms)

    @rule(which=st.integers(0, 9))
    def undo(self, which: int) -> None:
        name = self.living(which)
        branch = self.model[name]
        if not branch.undo:
            return
        token, before = branch.undo.pop()
        done = self.db(name).branch.undo(token)
        assert done.undo is not None
        branch.undo.append((done.undo, branch.head))
        assert done.txid is not None
        self.moved(name, branch.content[before], done.txid)

    @rule(
        which=st.integers(0, 9),
        name=st.sampled_from(["b1", "b2", "b3", "b4"]),
        back=st.integers(0, 30),
        how=st.sampled_from(["head", "txid", "name", "time"]),
        ttl=st.none() | st.integers(1, 100),
    )
    def fork(self, which: int, name: str, back: int, how: str, ttl: int | None) -> None:
        source = self.living(which)
        parent, handle = self.model[source], self.db(source)
        at = parent.head
        position: dict[str, object] = {}
        if how == "txid":
            at = parent.head - back % (parent.head + 1)
            position = {"txid": at}
        elif how == "name" and parent.checkpoints:
            label = sorted(parent.checkpoints)[back % len(parent.checkpoints)]
            at = parent.checkpoints[label]
            position = {"checkpoint": label}
        elif how == "time":
            time = parent.times[parent.head - back % (parent.head + 1)]
            at = self.at_time(parent, time)
            position = {"at": datetime.fromtimestamp(time / 1000, UTC)}
        if name in self.model and not self.expired(name):
            with pytest.raises(AlreadyExistsError):
                handle.branch.create(name, ttl=ttl, **position)  # type: ignore[arg-type]
            return
        child = handle.branch.create(name, ttl=ttl, **position)  # type: ignore[arg-type]
        assert child.txid == at
        self.births += 1
        self.model[name] = ModelBranch(
            content={t: c for t, c in parent.content.items() if t <= at},
            times={t: m for t, m in parent.times.items() if t <= at},
            head=at,
            parent=source,
            first=at + 1,
            created=self.clock.ms,
            ttl_at=None if ttl is None else self.clock.ms + ttl * 1000,
            parents_born=parent.born,
            born=self.births,
        )
        self.deleted.pop(name, None)

    @rule(which=st.integers(0, 9))
    def reset(self, which: int) -> None:
        name = self.living(which)
        branch = self.model[name]
        if branch.parent is None:
            with pytest.raises(ConflictError):
                self.db(name).branch.reset()
            return
        parent = self.model.get(branch.parent)
        if parent is None or self.expired(branch.parent):
            with pytest.raises((BranchNotFoundError, BranchExpiredError)):
                self.db(name).branch.reset()
            return
        if parent.born != branch.parents_born:
            with pytest.raises(ConflictError):
                self.db(name).branch.reset()
            return
        done = self.db(name).branch.reset()
        assert done.restored_txid == parent.head
        branch.undo.append((done.undo, branch.head))
        self.moved(name, parent.content[parent.head], done.txid)

    @rule(which=st.integers(0, 9))
    def promote(self, which: int) -> None:
        name = self.living(which)
        handle = self.mt.db(f"x@{name}")
        handle.branch.promote()
        self.default = name
        self.model[name].ttl_at = None

    @rule(which=st.integers(0, 9), ttl=st.none() | st.integers(1, 100))
    def extend(self, which: int, ttl: int | None) -> None:
        name = self.living(which)
        if name == self.default and ttl is not None:
            with pytest.raises(ConflictError):
                self.db(name).branch.extend(ttl)
            return
        self.db(name).branch.extend(ttl)
        self.model[name].ttl_at = None if ttl is None else self.clock.ms + ttl * 1000

    @rule(which=st.integers(0, 9))
    def delete(self, which: int) -> None:
        name = self.living(which)
        handle = self.mt.db(f"x@{name}")
        if name == self.default:
            with pytest.raises(ConflictError):
                handle.branch.delete()
            return
        done = handle.branch.delete()
        self.deleted[name] = (done.undo, self.model.pop(name))

    @precondition(lambda self: self.deleted)
    @rule(which=st.integers(0, 9))
    def undelete(self, which: int) -> None:
        names = sorted(self.deleted)
        name = names[which % len(names)]
        token, branch = self.deleted.pop(name)
        assert name not in self.model
        self.mt.db("x").branch.undo(token)
        self.model[name] = branch

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def ship(self) -> None:
        self.mt.sync()

    @rule(which=st.integers(0, 9))
    def read_every_position(self, which: int) -> None:
        name = self.living(which)
        branch, db = self.model[name], self.db(name)
        for txid, content in branch.content.items():
            at = db.at(txid)
            if content is None:
                assert at.sql("SELECT count(*) AS n FROM sqlite_schema") == [{"n": 0}]
            else:
                assert tuple(values(at)) == content, (name, txid)
            assert_view_is_whole(branch_of(db).view_at(txid))  # type: ignore[arg-type]
        with pytest.raises(TxidNotRetainedError):
            db.at(branch.head + 1).sql("SELECT 1")

    @rule(which=st.integers(0, 9))
    def look_at_history(self, which: int) -> None:
        name = self.living(which)
        branch = self.model[name]
        entries = list(self.db(name).branch.history())
        own = [entry.txid for entry in entries if entry.kind != "fork"]
        assert own == list(range(branch.head, branch.first - 1, -1))
        assert [entry.kind for entry in entries].count("fork") == (branch.parent is not None)
        named = {label: entry.txid for entry in entries for label in entry.checkpoints}
        assert named == {
            k: v for k, v in branch.checkpoints.items() if v >= branch.first - bool(branch.parent)
        }

    @invariant()
    def every_branch_is_what_the_model_says(self) -> None:
        if not self.model:
            return
        for name, branch in self.model.items():
            db = self.mt.db(f"x@{name}")
            if self.expired(name):
                with pytest.raises(BranchExpiredError):
                    db.sql("SELECT 1")
                continue
            assert db.txid == branch.head
            content = branch.content[branch.head]
            if content is not None:
                assert tuple(values(db)) == content
        for name in self.deleted:
            with pytest.raises(BranchNotFoundError):
                self.mt.db(f"x@{name}").sql("SELECT 1")
        listed = {info.name: info for info in self.mt.db("x").branch.list()}
        assert set(listed) == {name for name in self.model if not self.expired(name)}
        assert [name for name, info in listed.items() if info.is_default] == [self.default]


class BranchesInFiles(Branches):
    """The same on disk, where the store may also be closed and opened again."""

    @initialize()
    def create(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="memoturn-test-")
        self.url = f"file:{self.directory}"
        super().create()

    @rule()
    def reopen(self) -> None:
        self.mt.close()
        self.open()


_BOUNDS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
TestBranches = Branches.TestCase
TestBranches.settings = settings(max_examples=250, stateful_step_count=50, **_BOUNDS)
TestBranchesInFiles = BranchesInFiles.TestCase
TestBranchesInFiles.settings = settings(max_examples=40, stateful_step_count=40, **_BOUNDS)
