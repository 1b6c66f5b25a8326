"""Nodes on one store that has a clock of its own, and what the tests of garbage collection ask of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from memoturn.base.clock import Clock
from memoturn.base.names import parse_address
from memoturn.base.results.maintenance import GcResult
from memoturn.base.settings import HistorySettings, Settings
from memoturn.base.txids import TXID
from memoturn.bucket.memory import MemoryBucket
from memoturn.database.neighbours import NoNeighbours
from memoturn.faces.embedded.client import Database
from memoturn.history.reach import objects_of
from memoturn.manifest import keys
from memoturn.manifest.model import Manifest
from memoturn.manifest.watch import Watch
from memoturn.models.guard import protect
from memoturn.node.engine import Engine, Surroundings
from memoturn.operations import databases, maintenance
from tests.stand_ins import NeverSure, NoShipper
from tests.support import ManualClock, assert_view_is_whole

GRACE = 600


class StopWatch(ManualClock):
    """A clock whose seconds pass only when it is told to."""

    def monotonic(self) -> float:
        return self.ms / 1000


class Node:
    """One process on the store, with a clock that need not agree with the store's."""

    def __init__(
        self,
        bucket: Any,
        clock: Clock,
        grace: int = GRACE,
        watch: Watch | None = None,
        history: HistorySettings | None = None,
    ) -> None:
        settings = Settings(history=replace(history or HistorySettings(), gc_grace_secs=grace))
        around = Surroundings(
            node_id="n",
            bucket=bucket,
            watch=watch or NeverSure(),
            neighbours=NoNeighbours(),
            shipper=NoShipper(),
        )
        self.engine = Engine("memory:", settings, prepare=protect, clock=clock, surroundings=around)
        self.bucket = bucket

    def create(self, name: str = "x", ttl: float | None = None) -> Database:
        databases.create(self.engine, name, ttl)
        return self.db(name)

    def db(self, address: str = "x") -> Database:
        return Database(self.engine, parse_address(address))

    def gc(self, name: str | None = None, dry_run: bool = False) -> GcResult:
        return maintenance.gc(self.engine, name, dry_run)

    def uuid(self, name: str = "x") -> str:
        return self.engine.entry(name).db_uuid


class World:
    """A store, its clock, and nodes."""

    def __init__(self, grace: int = GRACE, history: HistorySettings | None = None) -> None:
        self.clock = StopWatch()
        self.store = MemoryBucket(self.clock)
        self.grace = grace
        self.history = history

    def node(self, clock: Clock | None = None, bucket: Any = None, watch: Watch | None = None) -> Node:
        return Node(
            self.store if bucket is None else bucket, clock or self.clock, self.grace, watch, self.history
        )

    def objects(self, prefix: str = "db/") -> list[str]:
        return [info.key for info in self.store.list(prefix)]

    def kinds(self) -> dict[str, int]:
        """How many objects of each kind there are."""
        found: dict[str, int] = {}
        for key in self.objects(""):
            kind = keys.place_of(key).kind if key.startswith("db/") else key.partition("/")[0]
            found[kind] = found.get(kind, 0) + 1
        return found

    def settle(self, node: Node, passes: int = 8) -> None:
        """Let grace periods pass until nothing is left to be done."""
        for _ in range(passes):
            self.clock.advance(self.grace + 1)
            result = node.gc()
            if not result.removed and not result.waiting and result.ready_at is None:
                return
        raise AssertionError(f"after {passes} passes there still is {result}")

    def assert_nothing_dead(self) -> None:
        """Each object is a catalog entry, a manifest, or named by a manifest."""
        named: set[str] = set()
        manifests = [key for key in self.objects() if keys.place_of(key).kind == "manifest"]
        for key in manifests:
            manifest = msgspec.json.decode(self.store.get(key)[0], type=Manifest)
            prefix = keys.database_prefix(keys.uuid_of(key))
            named |= {f"{prefix}{manifest.incarnation}/{name}" for name in objects_of(manifest)}
        left = {key for key in self.objects() if key not in named} - set(manifests)
        assert not left, f"dead, and still there: {sorted(left)}"
        assert named <= set(self.objects()), f"named, and gone: {sorted(named - set(self.objects()))}"


def put_rows(db: Database, *values: int) -> int:
    """One shipped commit."""
    if db.txid == 0:
        db.sql("CREATE TABLE t(v)")
    for value in values:
        db.sql("INSERT INTO t VALUES (?)", [value])
    return db.sync()


def rows(db: Database) -> list[int]:
    return [row["v"] for row in db.sql("SELECT v FROM t ORDER BY rowid")]


def assert_readable(node: Node, address: str, txids: list[int]) -> None:
    """Positions of a branch, read from the bucket by a process that has nothing in memory."""
    branch = node.engine.branch(*parse_address(address)[:2])
    for txid in txids:
        assert_view_is_whole(branch.view_at(TXID(txid)))  # type: ignore[arg-type]
