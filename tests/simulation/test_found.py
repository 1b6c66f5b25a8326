"""What the simulator has found, each told as a short story of two nodes over one store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from memoturn.base.errors import FencedError, NotFoundError, UnavailableError
from memoturn.base.ids import Ids
from memoturn.base.names import Address, AtCheckpoint, AtTxid, Position
from memoturn.base.settings import CacheSettings, CommitSettings, Durability, Settings
from memoturn.base.txids import TXID
from memoturn.bucket import Version
from memoturn.bucket.bucket import LandedCheck
from memoturn.bucket.conditional import ConditionalWriter
from memoturn.bucket.memory import MemoryBucket
from memoturn.database.branch import Branch
from memoturn.database.neighbours import NoNeighbours
from memoturn.manifest import keys
from memoturn.manifest.watch import AgeWatch
from memoturn.models.guard import protect
from memoturn.node.engine import Engine, Surroundings
from memoturn.operations import branches, databases
from memoturn.operations import sql as statements
from tests.stand_ins import NoShipper


class HandClock:
    """Time stands still unless somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now_ms(self) -> Any:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class RemoteBucket(MemoryBucket):
    """One node's way to objects in memory: conditional writes are decided by the real writer.

    `after_next_write` is called when the next one has landed; then its answer is lost.
    """

    is_local = False

    def __init__(self, shared: MemoryBucket, clock: HandClock) -> None:
        super().__init__(clock)
        self._shared = shared
        self._objects = shared._objects
        self._lock = shared._lock
        self._number = shared._number
        self._writer = ConditionalWriter(self, clock=clock, ids=Ids())
        self.after_next_write: Callable[[], None] | None = None

    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        return self._writer.create(key, body, landed)

    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        return self._writer.replace(key, body, version, landed)

    def attempt(self, key: str, body: bytes, expected: Version | None) -> Version:
        shared = self._shared
        version = shared.create(key, body) if expected is None else shared.replace(key, body, expected)
        after, self.after_next_write = self.after_next_write, None
        if after is not None:
            after()
            raise UnavailableError("the answer was lost")
        return version


class Node:
    """An engine of its own over the shared objects."""

    def __init__(
        self, name: str, shared: MemoryBucket, clock: HandClock, durability: Durability = "standard"
    ) -> None:
        self.clock = clock
        self.bucket = RemoteBucket(shared, clock)
        settings = Settings(
            commit=CommitSettings(durability=durability), cache=CacheSettings(manifest_max_age=0.5)
        )
        around = Surroundings(name, self.bucket, AgeWatch(clock, 0.5), NoNeighbours(), NoShipper())
        self.engine = Engine("test:", settings, prepare=protect, clock=clock, surroundings=around)

    def sql(self, text: str, branch: str = "main", position: Position | None = None) -> list[Any]:
        rows = statements.sql(self.engine, Address("db", branch, position), text)
        return [next(iter(row.values())) for row in rows]

    def branch(self, name: str = "main") -> Branch:
        return self.engine.branch("db", name)

    def take_over(self, text: str, branch: str = "main") -> None:
        """Write after what this node remembers has gone stale, and ship."""
        self.clock.sleep(1)
        self.sql(text, branch)
        self.branch(branch).ship()


Nodes = tuple[Node, Node]


@pytest.fixture
def nodes() -> Nodes:
    clock = HandClock()
    shared = MemoryBucket(clock)
    first, second = Node("first", shared, clock), Node("second", shared, clock)
    databases.create(first.engine, "db")
    first.take_over("CREATE TABLE t(x)")
    return first, second


def test_a_fork_is_not_read_through_an_older_manifest_of_its_parent(nodes: Nodes) -> None:
    first, second = nodes
    assert second.sql("SELECT x FROM t") == []
    first.sql("INSERT INTO t VALUES (1)")
    branches.create(first.engine, "db", "fork")
    assert second.sql("SELECT x FROM t", "fork") == [1]


def test_a_checkpoint_of_another_owner_is_not_shown_as_what_is_unshipped_here(nodes: Nodes) -> None:
    first, second = nodes
    first.sql("INSERT INTO t VALUES ('unshipped')")
    second.take_over("INSERT INTO t VALUES ('shipped')")
    branches.checkpoint(second.engine, "db", None, "red")
    assert first.sql("SELECT x FROM t", position=AtCheckpoint("red")) == ["shipped"]


def test_readers_do_not_go_on_from_commits_that_were_lost(nodes: Nodes) -> None:
    first, second = nodes
    first.sql("INSERT INTO t VALUES ('lost')")
    assert first.sql("SELECT x FROM t") == ["lost"]
    second.take_over("INSERT INTO t VALUES ('kept')")
    first.branch().look_again()
    assert first.sql("SELECT x FROM t") == ["kept"]


def test_a_reader_comes_back_from_the_empty_database(nodes: Nodes) -> None:
    first, _ = nodes
    emptied = branches.rewind(first.engine, "db", None, AtTxid(TXID(0))).txid
    first.sql("CREATE TABLE u(x)")
    names = "SELECT name FROM sqlite_schema"
    assert first.sql(names) == ["u"]
    assert first.sql(names, position=AtTxid(TXID(emptied))) == []
    assert first.sql(names) == ["u"]


def test_an_overtaken_node_can_rewind_when_it_has_been_told(nodes: Nodes) -> None:
    first, second = nodes
    second.take_over("INSERT INTO t VALUES (1)")
    with pytest.raises(FencedError):
        branches.rewind(first.engine, "db", None, AtTxid(TXID(1)))
    assert branches.rewind(first.engine, "db", None, AtTxid(TXID(1))).restored_txid == 1


def test_a_checkpoint_of_an_overtaken_node_ends_its_ownership(nodes: Nodes) -> None:
    first, second = nodes
    second.take_over("INSERT INTO t VALUES (1)")
    assert branches.checkpoint(first.engine, "db", None, "red").txid == 2
    with pytest.raises(FencedError):
        first.sql("INSERT INTO t VALUES (2)")
    first.take_over("INSERT INTO t VALUES (2)")
    assert first.sql("SELECT x FROM t") == [1, 2]


@pytest.mark.parametrize("verb", ["rewind", "checkpoint"])
def test_an_owner_lets_go_of_a_branch_that_was_replaced(nodes: Nodes, verb: str) -> None:
    first, second = nodes
    branches.create(first.engine, "db", "a")
    first.take_over("INSERT INTO t VALUES (1)", "a")
    first.clock.sleep(1)
    branches.delete(second.engine, "db", "a")
    branches.create(second.engine, "db", "a")
    second.take_over("INSERT INTO t VALUES (2)", "a")

    def use() -> None:
        if verb == "rewind":
            branches.rewind(first.engine, "db", "a", AtTxid(TXID(1)))
        else:
            branches.checkpoint(first.engine, "db", "a", "red")

    with pytest.raises((FencedError, NotFoundError)):
        use()
    first.clock.sleep(1)
    use()


def test_a_head_that_has_passed_a_txid_does_not_make_it_durable(nodes: Nodes) -> None:
    first, second = nodes
    first.sql("INSERT INTO t VALUES ('first')")
    branch, fences = first.branch(), first.branch()._fences
    second.take_over("INSERT INTO t VALUES ('second')")
    branch.look_again()  # As another thread of the first node might, before the writer gets to ship.
    with pytest.raises(FencedError):
        branch.ship(TXID(2), fences)


def test_a_take_over_that_was_overtaken_at_once_does_not_use_the_other_epoch(nodes: Nodes) -> None:
    first, second = nodes
    first.clock.sleep(1)
    second.bucket.after_next_write = lambda: first_takes_over_again(first)
    second.sql("INSERT INTO t VALUES ('second')")
    with pytest.raises(FencedError):
        second.branch().ship()
    first.branch().ship()
    first.clock.sleep(1)
    assert second.sql("SELECT x FROM t") == ["first"]


def first_takes_over_again(first: Node) -> None:
    with pytest.raises(FencedError):
        branches.rewind(first.engine, "db", None, AtTxid(TXID(1)))
    first.sql("INSERT INTO t VALUES ('first')")


def test_a_writer_overtaken_by_many_writes_learns_it(nodes: Nodes) -> None:
    first, second = nodes
    first.sql("INSERT INTO t VALUES ('lost')")
    for number in range(10):
        second.take_over(f"INSERT INTO t VALUES ({number})")
    with pytest.raises(UnavailableError):
        first.branch().ship()
    with pytest.raises(FencedError):
        first.branch().ship()


def test_what_an_expired_branch_still_ships_is_kept_for_its_children(nodes: Nodes) -> None:
    first, second = nodes
    branches.create(first.engine, "db", "a", ttl=10)
    first.sql("INSERT INTO t VALUES (1)", "a")
    incarnation = first.branch("a").incarnation
    first.clock.sleep(20)
    branches.create(first.engine, "db", "a")
    key = keys.former_manifest_key(first.engine.entry("db").db_uuid, "a", incarnation)
    kept = second.engine.manifests.read(key).record
    assert (kept.head_txid, len(kept.segments)) == (2, 1)


def test_syncing_ships_the_branches_behind_one_that_was_overtaken(nodes: Nodes) -> None:
    first, second = nodes
    branches.create(first.engine, "db", "a")
    first.sql("INSERT INTO t VALUES ('lost')")
    first.sql("INSERT INTO t VALUES ('kept')", "a")
    second.take_over("INSERT INTO t VALUES ('other')")
    with pytest.raises(FencedError):
        first.engine.sync()
    second.clock.sleep(1)
    assert second.sql("SELECT x FROM t", "a") == ["kept"]
