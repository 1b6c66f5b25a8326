"""Histories of forks, rewinds, deletions, undos, merges, crashes and passes, thought up by Hypothesis.

The model is the content of every own position of every living branch. Passes run on nodes whose clocks are hours off.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memoturn import AlreadyExistsError, BranchExpiredError, BranchNotFoundError, TxidNotRetainedError
from memoturn.base.names import parse_address
from memoturn.base.settings import HistorySettings
from memoturn.base.txids import TXID
from memoturn.operations import branches, maintenance
from memoturn.operations.undo import undo
from tests.history.collecting import GRACE, Node, World, put_rows, rows
from tests.stand_ins import Between
from tests.support import ManualClock, plain_connection

NAMES = ["a", "b", "c", "d"]
WAITS = [GRACE / 4, GRACE + 1, 7 * GRACE]


class DiedError(Exception):
    """The process of a pass is no more."""


@dataclass
class Twin:
    """A branch as it should be: the content of its own positions, and where it can be rewound to."""

    content: dict[int, list[int]]
    head: int
    ttl_at: int | None = None
    checkpoints: dict[str, int] = field(default_factory=dict)


class Collections(RuleBasedStateMachine):
    """One database; users on one node, collectors on others."""

    history = HistorySettings()
    forgets = False
    """Whether maintenance lets go of old positions: then heads and checkpoints are all that is sure to stay."""

    @initialize()
    def begin(self) -> None:
        self.world = World(history=self.history)
        self.user = self.world.node()
        put_rows(self.user.create(), 0)
        head = self.user.db().txid
        self.twins = {"main": Twin({1: [], head: [0]}, head)}
        self.tokens: dict[str, tuple[str, Twin]] = {}
        self.next_value = 1

    def pick(self, which: int) -> str:
        living = sorted(name for name, twin in self.twins.items() if not self.expired(twin))
        return living[which % len(living)]

    def position(self, twin: Twin, back: int) -> int:
        known = {twin.head, *twin.checkpoints.values()} if self.forgets else set(twin.content)
        return sorted(known)[-1 - back % len(known)]

    def expired(self, twin: Twin) -> bool:
        return twin.ttl_at is not None and twin.ttl_at <= self.world.clock.ms

    # What users do.

    @rule(which=st.integers(0, 9))
    def write(self, which: int) -> None:
        name = self.pick(which)
        twin = self.twins[name]
        value, self.next_value = self.next_value, self.next_value + 1
        head = put_rows(self.user.db(f"x@{name}"), value)
        twin.content[head] = [*twin.content[twin.head], value]
        twin.head = head

    @rule(which=st.integers(0, 9), back=st.integers(0, 3), name=st.sampled_from(NAMES), burns=st.booleans())
    def fork(self, which: int, back: int, name: str, burns: bool) -> None:
        source = self.pick(which)
        twin = self.twins[source]
        txid = self.position(twin, back)
        ttl = GRACE * 2 if burns else None
        try:
            self.user.db(f"x@{source}").branch.create(name, txid=txid, ttl=ttl)
        except AlreadyExistsError:
            assert name in self.twins and not self.expired(self.twins[name])  # noqa: PT018
            return
        self.tokens.pop(name, None)
        ttl_at = None if ttl is None else self.world.clock.ms + ttl * 1000
        self.twins[name] = Twin({txid: twin.content[txid]}, txid, ttl_at)

    @rule(which=st.integers(0, 9), back=st.integers(0, 3))
    def rewind(self, which: int, back: int) -> None:
        name = self.pick(which)
        twin = self.twins[name]
        to = self.position(twin, back)
        done = self.user.db(f"x@{name}").branch.rewind(to)
        twin.content[done.txid] = twin.content[to]
        twin.head = done.txid

    @rule(which=st.integers(0, 9), set_it=st.booleans())
    def checkpoint(self, which: int, set_it: bool) -> None:
        name = self.pick(which)
        twin, handle = self.twins[name], self.user.db(f"x@{name}").branch
        if set_it:
            handle.checkpoint("here", move=True)
            twin.checkpoints["here"] = twin.head
        elif twin.checkpoints:
            handle.delete_checkpoint("here")
            twin.checkpoints.clear()

    @rule(which=st.integers(0, 9))
    def delete(self, which: int) -> None:
        name = self.pick(which)
        if name != "main":
            token = branches.delete(self.user.engine, "x", name).undo
            self.tokens[name] = token, self.twins.pop(name)

    @precondition(lambda self: self.tokens)
    @rule(which=st.integers(0, 9))
    def take_back(self, which: int) -> None:
        name = sorted(self.tokens)[which % len(self.tokens)]
        token, twin = self.tokens.pop(name)
        try:
            undo(self.user.engine, "x", token)
        except (TxidNotRetainedError, BranchNotFoundError):
            return
        self.twins[name] = twin

    # What happens to the store.

    @rule()
    def merge(self) -> None:
        maintenance.compact(self.user.engine, "x")

    @rule()
    def let_go(self) -> None:
        if self.forgets:
            maintenance.retain(self.user.engine, "x")

    @rule(which=st.integers(0, 9), level=st.integers(0, 2))
    def leave_an_orphan(self, which: int, level: int) -> None:
        manifest = self.user.engine.branch("x", self.pick(which)).manifest()
        name = f"ltx/{level}/1-{max(manifest.head_txid, 1)}-{manifest.epoch}-{self.next_value:08x}.ltx"
        self.next_value += 1
        self.world.store.put(f"db/{self.user.uuid()}/{manifest.incarnation}/{name}", b"orphan")

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(hours=st.integers(-5, 5))
    def collect(self, hours: int) -> None:
        clock = ManualClock(self.world.clock.ms + hours * 3_600_000)
        self.world.node(clock).gc()

    @rule(calls=st.integers(1, 60))
    def collect_and_die(self, calls: int) -> None:
        bucket = Between(self.world.store)
        node = self.world.node(bucket=bucket)

        def die(call: int, _name: str, _key: object) -> None:
            if call >= calls:
                raise DiedError

        bucket.calls = 0
        bucket.before = die
        with contextlib.suppress(DiedError):
            node.gc()

    @rule()
    def begin_anew(self) -> None:
        self.user = self.world.node()

    # What has to be true.

    @invariant()
    def heads_are_what_they_should_be(self) -> None:
        if hasattr(self, "world"):
            fresh = self.world.node()
            for name, twin in self.twins.items():
                if self.expired(twin):
                    with pytest.raises((BranchExpiredError, BranchNotFoundError)):
                        fresh.db(f"x@{name}").sql("SELECT 1")
                else:
                    assert rows(fresh.db(f"x@{name}")) == twin.content[twin.head], name

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.settle(self.world.node(), passes=16)
        self.heads_are_what_they_should_be()
        fresh = self.world.node()
        for name, twin in self.twins.items():
            if not self.expired(twin):
                for back in range(len(twin.content)):
                    txid = self.position(twin, back)
                    assert content_at(fresh, name, txid) == twin.content[txid], (name, txid)
        self.world.assert_nothing_dead()


def content_at(node: Node, name: str, txid: int) -> list[int]:
    branch = node.engine.branch(*parse_address(f"x@{name}")[:2])
    with plain_connection(branch.view_at(TXID(txid))) as connection:
        return [row[0] for row in connection.execute("SELECT v FROM t ORDER BY rowid")]


class Forgetful(Collections):
    """With a fine window of half an hour and snapshots for two."""

    history = HistorySettings(pitr_retention_secs=1800, pitr_snapshot_retention_secs=7200)
    forgets = True


_settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

TestCollections = Collections.TestCase
TestCollections.settings = _settings
TestForgetful = Forgetful.TestCase
TestForgetful.settings = _settings
