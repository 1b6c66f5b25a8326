"""Machines that come and go over one store, each running the engine, and clients that use it."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import random
import shutil
import sys
import tempfile
import threading as real_threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import apsw

from memoturn.base.cache import GenerationalCache
from memoturn.base.errors import (
    ConflictError,
    InternalError,
    InvalidRequestError,
    MemoturnError,
    NotFoundError,
    SqlError,
)
from memoturn.base.ids import Ids
from memoturn.base.names import Address, AtCheckpoint, AtTxid, Position
from memoturn.base.settings import CacheSettings, CommitSettings, HistorySettings, Settings
from memoturn.base.txids import TXID, PageNo
from memoturn.database import log as log_module
from memoturn.database.shipper import Shippable
from memoturn.history import planning
from memoturn.manifest import keys
from memoturn.manifest.watch import AgeWatch
from memoturn.models import sql as sql_module
from memoturn.models.guard import protect
from memoturn.node.engine import Engine, Surroundings
from memoturn.operations import branches, databases, maintenance, transfer, undo
from memoturn.operations import sql as statements
from memoturn.pages.view import open_view
from memoturn.segments.checksum import CHECKSUM_FLAG, page_checksum

from .bucket import Faults, SimBucket, Store
from .disk import Disk, SimDirectory, SimLog, SimNeighbours
from .oracle import READ_TOKENS, Image, Line, Oracle, Standard, require
from .scheduler import Clock, Crash, Process, Scheduler, Task, Threading, Violation

DATABASE = "db"
_PASSES = 8
BRANCHES = ("main", "main", "main", "a", "a", "b", "c")
CHECKPOINTS = ("red", "green", "blue")
_CREATE = "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, token TEXT, pad BLOB)"
_INSERT = "INSERT INTO t(token, pad) VALUES (?, ?)"
_PATIENCE = 8
_CLOCKS_DIFFER = 5.0
_SMALL = {"MOST_PACKS": 3, "LEAST_MERGED": 2, "LEAST_BASE": 3000, "SMALL_BASE": 2000, "SLOT_MS": 10_000}
"""Compaction in a world in which a branch has some ten commits."""
_scratch = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
_runs = itertools.count()


class Operation:
    """One call of a client; the writes that are made on its behalf carry it as their label."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.logged: tuple[str, int, int] | None = None
        self.stretches = 0


class SimShipper:
    """Ships on a task of its own, as the real one does on threads."""

    def __init__(self, scheduler: Scheduler, interval: float) -> None:
        self._scheduler = scheduler
        self._interval = interval
        self._waiting: dict[int, Shippable] = {}
        self._idle: list[Task] = []
        self._busy = False
        self._closed = False

    def notice(self, branch: Shippable) -> None:
        self._waiting[id(branch)] = branch
        self._scheduler.wake(self._idle)

    def run(self) -> None:
        while not self._closed:
            if not self._waiting:
                self._scheduler.block(self._idle)
                continue
            self._scheduler.sleep(self._interval)
            due, self._waiting = list(self._waiting.values()), {}
            self._busy = True
            for branch in due:
                try:
                    branch.ship()
                except (ConflictError, NotFoundError):
                    continue
                except MemoturnError as error:
                    _check_error("the shipper", error)
                    self._waiting[id(branch)] = branch
            self._busy = False

    def close(self) -> None:
        self._closed = True
        self._scheduler.wake(self._idle)
        while self._busy:
            self._scheduler.sleep(0.01)


class Machine:
    """A computer: a disk, a clock, and one process after the other, each with a client or two."""

    def __init__(self, world: World, number: int) -> None:
        rng = world.rng
        self.name = f"m{number}"
        self.world = world
        self.clock = Clock(world.scheduler, rng.choice((0, 0, -3000, 2500)))
        self.disk = Disk(rng, world.scratch / self.name)
        self.disk_generation = 0
        self.off = Process(f"{self.name} is off")
        self.process: Process | None = None
        self.engine: Engine | None = None
        self.durable = False
        self.undo_tokens: list[str] = []
        self.clients = 0
        self.left = world.operations
        self._boots = 0
        self._tokens = 0

    def live(self) -> None:
        """Run processes until there is nothing left to do; the last one is left as it is."""
        scheduler, rng = self.world.scheduler, self.world.rng
        task = scheduler.current
        assert task is not None
        while self.left > 0:
            try:
                self.boot(task)
                if rng.random() < 0.4:
                    self._spawn_second_client()
                self._use()
                if self.left > 0 or rng.random() < 0.3:
                    self._shut_down()
            except Crash:
                if scheduler.failure is not None:
                    raise
                self.crashed(task)
            scheduler.sleep(rng.random() * 2)

    def boot(self, task: Task) -> None:
        """Start a process; what its predecessors have left on the disk is finished first."""
        world, scheduler, rng = self.world, self.world.scheduler, self.world.rng
        self._boots += 1
        node_id = f"{self.name}.{self._boots}"
        process = task.process = self.process = Process(node_id)
        self.engine = None
        self.clients = 0
        self.durable = rng.random() < 0.5
        scheduler.log(f"boots {node_id}, {'durable' if self.durable else 'standard'}")
        settings = Settings(
            commit=CommitSettings(
                durability="durable" if self.durable else "standard",
                backlog_bytes=rng.choice((40_000, 8 << 20)),
            ),
            cache=CacheSettings(
                page_cache_bytes=rng.choice((16 << 10, 1 << 20)),
                block_bytes=rng.choice((4 << 10, 64 << 10)),
                manifest_max_age=rng.choice((0.01, 0.5)),
            ),
            history=world.history,
        )
        ids = Ids(random.Random(rng.getrandbits(64)))
        directory = SimDirectory(self.disk, node_id, scheduler, self._sync_fails)
        shipper = SimShipper(scheduler, rng.choice((0.02, 0.2, 2.0)))
        around = Surroundings(
            node_id,
            SimBucket(world.store, scheduler, process, world.faults, self.clock, ids),
            AgeWatch(self.clock, settings.cache.manifest_max_age, settings.cache.owner_max_age),
            SimNeighbours(self.disk, node_id, scheduler),
            shipper,
            log=SimLog(directory, self.disk, node_id, scheduler, self.clock, world.oracle),
            set_aside=self.disk.set_aside,
        )
        self.engine = Engine(
            "sim:", settings, prepare=protect, clock=self.clock, ids=ids, surroundings=around
        )
        scheduler.spawn(f"{node_id}/ship", process, shipper.run)

    def crashed(self, task: Task) -> None:
        """What is left of a process that died: its disk, or not even that."""
        scheduler, rng = self.world.scheduler, self.world.rng
        task.process = self.off
        task.label = None
        self.engine = self.process = None
        if rng.random() < self.world.disk_loss:
            scheduler.log("the disk is lost")
            self.disk.lose()
            self.disk_generation += 1
        elif rng.random() < 0.6:
            scheduler.log("power is lost")
            self.disk.lose_power()

    def _sync_fails(self) -> bool:
        return self.world.rng.random() < self.world.faults.disk

    def _spawn_second_client(self) -> None:
        process = self.process
        assert process is not None
        self.clients += 1
        client = Client(self)

        def use() -> None:
            for _ in range(self.world.operations // 3):
                client.operate()
            self.clients -= 1

        self.world.scheduler.spawn(f"{process.name}/second", process, use)

    def _use(self) -> None:
        rng = self.world.rng
        client = Client(self)
        client.create_database()
        while self.left > 0 and rng.random() < 0.97:
            self.left -= 1
            client.operate()
        while self.clients:
            self.world.scheduler.sleep(0.1)

    def _shut_down(self) -> None:
        """End the process cleanly, or by pulling the plug between two calls."""
        scheduler, rng = self.world.scheduler, self.world.rng
        assert self.engine is not None
        assert self.process is not None
        if rng.random() < 0.5:
            scheduler.log("closes")
            self.engine.close()
        scheduler.log("ends")
        scheduler.kill(self.process)
        raise Crash

    def token(self) -> str:
        """A text that no other commit contains."""
        self._tokens += 1
        return f"{self.name}-{self._tokens}"


class Client:
    """Calls the engine as a user would, and tells the oracle what it was told."""

    def __init__(self, machine: Machine) -> None:
        assert machine.engine is not None
        assert machine.process is not None
        self._machine = machine
        self._process = machine.process
        self._engine = machine.engine
        self._durable = machine.durable
        self._world = machine.world
        self._rng = machine.world.rng
        self._op = Operation("nothing")
        self._began = 0

    @property
    def _oracle(self) -> Oracle:
        """Nobody hears what a dead client was told."""
        self._world.scheduler.check_alive()
        return self._world.oracle

    def operate(self) -> None:
        """One operation, drawn from the seed."""
        rng = self._rng
        (choice,) = rng.choices(_OPERATIONS, self._world.weights)
        self.call(choice.__name__, lambda: choice(self))
        if rng.random() < 0.2:
            self._world.scheduler.sleep(rng.random())

    def call(self, what: str, work: Callable[[], str | None]) -> bool:
        """Do it as one operation; False if it was refused or its outcome is unknown."""
        scheduler = self._world.scheduler
        task = scheduler.current
        assert task is not None
        self._op = task.label = Operation(what)
        self._began = self._oracle.number
        try:
            answer = work()
        except MemoturnError as error:
            scheduler.log(f"{what}: {type(error).__name__}: {str(error)[:110]}")
            _check_error(what, error)
            return False
        finally:
            task.label = None
        scheduler.log(f"{what} -> {answer}")
        return True

    def create_database(self) -> None:
        """Whoever comes first creates it."""
        self.call("create_database", lambda: str(databases.create(self._engine, DATABASE).name))

    # Operations.

    def write(self, branch: str | None = None) -> str:
        rng, machine = self._rng, self._machine
        branch = branch or rng.choice(BRANCHES)
        token = machine.token()
        self._oracle.attempted[token] = machine.name
        pad = rng.randbytes(6000 if rng.random() < 0.08 else rng.randrange(40))
        generation = machine.disk_generation
        result = statements.batch(
            self._engine, Address(DATABASE, branch, None), [(_CREATE, None), (_INSERT, (token, pad))]
        )
        oracle, logged = self._oracle, self._op.logged
        require(
            logged is not None and logged[2] == result.txid, f"{token} at {result.txid}: logged was {logged}"
        )
        assert logged is not None
        ref, epoch, txid = logged
        if self._durable:
            oracle.durable(token, txid)
        else:
            for there in self._engine.open_branches():
                if there.incarnation == ref.split("/")[2]:
                    known = there._held.record.epoch
                    require(
                        known <= epoch, f"{token} was acknowledged under epoch {epoch}, {known} was known"
                    )
            oracle.acknowledged += 1
            oracle.standard.append(
                Standard(token, ref, epoch, txid, machine.name, generation, self._process.name)
            )
        return f"{token} on {branch} at {txid}, epoch {epoch}"

    def sync(self) -> str:
        branch = self._rng.choice(BRANCHES)
        txid = transfer.sync(self._engine, Address(DATABASE, branch, None))
        self._oracle.promised(
            f"sync of {branch} to {txid}", self._key(branch), self._began, lambda m: m.head_txid >= txid
        )
        return f"{branch} at {txid}"

    def read(self, branch: str | None = None) -> str:
        return self._read(branch or self._rng.choice(BRANCHES), None)

    def read_past(self) -> str:
        branch = self._rng.choice(BRANCHES)
        return self._read(branch, self._position(branch))

    def _read(self, branch: str, position: Position | None) -> str:
        try:
            rows = statements.sql(self._engine, Address(DATABASE, branch, position), READ_TOKENS)
        except SqlError as error:
            if "no such table" not in str(error):
                raise
            return f"{branch} is empty"
        tokens = tuple(str(row["token"]) for row in rows)
        exact = isinstance(position, AtCheckpoint)
        what = f"reading {branch}:{position}"
        self._oracle.read(what, self._key(branch), self._machine.name, rows.txid, tokens, exact)
        return f"{branch}:{position} {len(tokens)} rows at {rows.txid}"

    def checkpoint(self) -> str:
        rng = self._rng
        branch, name = rng.choice(BRANCHES), rng.choice(CHECKPOINTS)
        info = branches.checkpoint(self._engine, DATABASE, branch, name, move=rng.random() < 0.7)
        what = f"checkpoint {name} of {branch} at {info.txid}"
        shown = self._oracle.promised(
            what, self._key(branch), self._began, lambda m: m.checkpoints.get(name) == info.txid
        )
        self._oracle.pinned(what, shown.incarnation, info.txid)
        return what

    def rewind(self, branch: str | None = None) -> str:
        chosen = branch or self._rng.choice(BRANCHES)
        position = self._position(chosen, back=0 if branch else 8)
        branch = chosen
        result = branches.rewind(self._engine, DATABASE, branch, position)
        if isinstance(position, AtTxid):
            restored = result.restored_txid
            nearest = restored == position.txid if result.exact else restored < position.txid
            require(nearest, f"rewind of {branch} to {position} restored {restored}")
        self._machine.undo_tokens.append(result.undo)
        return self._moved(f"rewind of {branch}", branch, "self", result.txid, result.restored_txid)

    def reset(self) -> str:
        branch = self._rng.choice(BRANCHES)
        result = branches.reset(self._engine, DATABASE, branch)
        self._machine.undo_tokens.append(result.undo)
        return self._moved(f"reset of {branch}", branch, "parent", result.txid, result.restored_txid)

    def _moved(self, what: str, branch: str, base: str, txid: int, restored: int) -> str:
        what = f"{what} to {restored} at {txid}"

        def shows(manifest: Any) -> bool:
            return any(
                (s.from_txid, s.base, s.base_txid) == (txid, base, restored) for s in manifest.timeline
            )

        shown = self._oracle.promised(what, self._key(branch), self._began, shows)
        self._oracle.pinned(what, shown.incarnation, txid)
        require(self._op.stretches == 1, f"{what} was done {self._op.stretches} times")
        return what

    def fork(self) -> str:
        rng = self._rng
        name, source = rng.choice(BRANCHES[3:]), rng.choice(BRANCHES)
        position = self._position(source) if rng.random() < 0.3 else None
        ttl = rng.random() * 20 + 0.1 if rng.random() < 0.15 else None
        info = branches.create(self._engine, DATABASE, name, source, position, ttl)
        what = f"fork of {source} as {name} at {info.fork_txid}"
        shown = self._oracle.promised(
            what,
            self._key(name),
            self._began,
            lambda m: (
                m.parent is not None and (m.parent.branch_id, m.parent.fork_txid) == (source, info.fork_txid)
            ),
        )
        self._oracle.pinned(what, shown.incarnation, shown.parent.fork_txid)
        return what

    def delete(self) -> str:
        branch = self._rng.choice(BRANCHES)
        result = branches.delete(self._engine, DATABASE, branch)
        self._machine.undo_tokens.append(result.undo)
        what = f"delete of {branch}"
        self._oracle.promised(what, self._key(branch), self._began, lambda m: m.deleted_at is not None)
        return what

    def promote(self) -> str:
        branch = self._rng.choice(BRANCHES)
        result = branches.promote(self._engine, DATABASE, branch)
        self._machine.undo_tokens.append(result.undo)
        what = f"promotion of {branch}"
        key = keys.catalog_key(DATABASE)
        self._oracle.promised(what, key, self._began, lambda entry: entry.default_branch == branch)
        return what

    def take_back(self) -> str:
        tokens = self._machine.undo_tokens
        if not tokens:
            return "nothing to undo"
        token = tokens.pop(self._rng.randrange(len(tokens)))
        result = undo.undo(self._engine, DATABASE, token)
        if result.undo is not None:
            tokens.append(result.undo)
        return f"{result.what} of {result.name} undone"

    def wait(self) -> str:
        seconds = self._rng.random() * 3
        self._world.scheduler.sleep(seconds)
        return f"{seconds:.1f} s"

    # Maintenance, by whoever feels like it.

    def compact(self) -> str:
        done = maintenance.compact(self._engine, DATABASE, self._rng.choice((*BRANCHES, None)))
        return f"{done.bytes_written} bytes written"

    def retain(self) -> str:
        raised = maintenance.retain(self._engine, DATABASE)
        return f"{raised}"

    def collect(self) -> str:
        """A pass; time goes by before it, so that what others have counted may be ripe."""
        self._world.scheduler.sleep(self._rng.random() * self._world.history.gc_grace_secs)
        done = maintenance.gc(self._engine, self._rng.choice((DATABASE, None)))
        return f"{done.removed} removed, {done.waiting} wait"

    def renew(self) -> str:
        for branch in self._engine.open_branches():
            branch.renew()
        return "views renewed"

    def scratch(self) -> str:
        """Another database comes, is written and goes."""
        name = "scratch"
        if self._rng.random() < 0.5:
            databases.create(self._engine, name)
            token = self._machine.token()
            self._oracle.attempted[token] = self._machine.name
            rows = [(_CREATE, None), (_INSERT, (token, b""))]
            statements.batch(self._engine, Address(name, None, None), rows)
            return f"{name} made"
        databases.delete(self._engine, name)
        return f"{name} deleted"

    def set_clock(self) -> str:
        """The machine's wall clock jumps by an hour."""
        if not self._world.jumps:
            return "the clock is right"
        ms = self._rng.choice((-3_600_000, 3_600_000))
        self._machine.clock.jump(ms)
        return f"the clock jumps by {ms} ms"

    def _position(self, branch: str, back: int = 8) -> Position:
        """One that may be there, `back` txids before the head at most; with none of them it is the head."""
        rng = self._rng
        if back and rng.random() < 0.3:
            return AtCheckpoint(rng.choice(CHECKPOINTS))
        versions = self._oracle.versions.get(self._key(branch), ())
        head = versions[-1].record.head_txid if versions else 0
        return AtTxid(TXID(max(0, head + 1 - int(rng.random() ** 2 * back) if back else head)))

    def _key(self, branch: str) -> str:
        return self._world.key(branch)


_MIX: dict[Callable[[Client], str], int] = {
    Client.write: 48,
    Client.sync: 5,
    Client.read: 8,
    Client.read_past: 5,
    Client.checkpoint: 7,
    Client.rewind: 6,
    Client.reset: 2,
    Client.fork: 9,
    Client.delete: 5,
    Client.promote: 2,
    Client.take_back: 4,
    Client.wait: 3,
}
_UPKEEP: dict[Callable[[Client], str], int] = {
    Client.compact: 9,
    Client.retain: 6,
    Client.collect: 9,
    Client.renew: 3,
    Client.scratch: 2,
    Client.set_clock: 1,
}
_OPERATIONS = [*_MIX, *_UPKEEP]


class World:
    """Everything that one seed decides."""

    def __init__(
        self, seed: int, heat: float | None = None, upkeep: int | None = None, pause: float | None = None
    ) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.scheduler = Scheduler(rng, rng.choice((0.0, 0.5, 0.8)))
        self.oracle = Oracle()
        self.store = Store(self.scheduler, self.oracle)
        self.oracle.objects = self.store.objects
        self.operations = rng.randint(8, 40)
        self.history = HistorySettings(
            pitr_retention_secs=rng.choice((0, 20, 100, 1000)),
            pitr_snapshot_retention_secs=rng.choice((20, 100, 1000)),
            gc_grace_secs=40,
            max_depth=rng.choice((1, 3, 8)),
        )
        self.oracle.now_ms = self.store.now_ms
        self.oracle.grace_ms = self.history.gc_grace_secs * 1000
        self.jumps = rng.random() < 0.3
        drawn = rng.choice((0, 1, 1, 2))
        much = drawn if upkeep is None else upkeep
        self.weights = [*_MIX.values(), *(weight * much for weight in _UPKEEP.values())]
        self.disk_loss = rng.choice((0.0, 0.3))
        weather = rng.choice((0.0, 0.3, 1.0, 2.0))
        heat = weather if heat is None else heat
        self.faults = Faults(
            error=0.02 * heat * rng.random(),
            lost=0.08 * heat * rng.random(),
            late=0.08 * heat * rng.random(),
            echo=0.06 * heat * rng.random(),
            crash=0.01 * heat * rng.random(),
            pause=rng.choice((0.0, 0.01, 0.03)) if pause is None else pause,
            disk=0.04 * heat * rng.random(),
        )
        self.scratch = _scratch / f"memoturn-simulation-{os.getpid()}-{next(_runs)}"
        self.machines = [Machine(self, number) for number in range(rng.choice((1, 2, 2, 3, 3)))]

    def key(self, branch: str) -> str:
        """Where the manifest of a branch lies."""
        versions = self.oracle.versions.get(keys.catalog_key(DATABASE))
        return keys.manifest_key(versions[-1].record.db_uuid if versions else "none", branch)

    def run(self) -> None:
        """From the first boot to the last check. Raises `Violation`."""
        with installed(self.scheduler):
            try:
                self.scheduler.spawn("director", Process("director"), self._direct)
                self.scheduler.run()
            finally:
                shutil.rmtree(self.scratch, ignore_errors=True)

    def _direct(self) -> None:
        scheduler = self.scheduler
        lives = list(self.machines)

        def live(machine: Machine) -> None:
            try:
                machine.live()
            finally:
                lives.remove(machine)

        for machine in self.machines:
            scheduler.spawn(machine.name, machine.off, lambda machine=machine: live(machine))
        while lives:
            scheduler.sleep(1.0)
        Epilogue(self).run()


class Epilogue:
    """The weather clears: everybody must be able to go on, and everything promised must be there."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._oracle = world.oracle

    def run(self) -> None:
        world, scheduler = self._world, self._world.scheduler
        task = scheduler.current
        assert task is not None
        director = task.process
        scheduler.log("the weather clears")
        vars(world.faults).update(vars(Faults()))
        scheduler.sleep(15.0)
        world.store.deliver_all()
        for machine in world.machines:
            if machine.process is None or not machine.process.alive:
                self._boot(machine, task)
            else:
                task.process = machine.process
            self._goes_on(machine)
        for machine in world.machines:
            assert machine.process is not None
            assert machine.engine is not None
            task.process = machine.process
            # A branch that was overtaken says so here.
            with contextlib.suppress(MemoturnError):
                machine.engine.sync()
            if len(machine.disk.directories) > 1:
                # Logs that a boot in bad weather could not finish are finished by the next.
                scheduler.kill(machine.process)
                self._boot(machine, task)
        self._check_standard()
        self._check_positions(task)
        self._come_to_rest(task)
        self._check_positions(task)
        task.process = director
        for machine in world.machines:
            if machine.process is not None:
                scheduler.kill(machine.process)

    @staticmethod
    def _boot(machine: Machine, task: Task) -> None:
        machine.boot(task)
        left = len(machine.disk.directories) - 1
        require(not left, f"{machine.name} left the logs of {left} processes behind")

    def _goes_on(self, machine: Machine) -> None:
        """Every machine, also one that was overtaken without knowing, can read, write and rewind every branch."""
        client = Client(machine)
        self._tries(f"{machine.name} creates the database", lambda: self._database_is_there(client))
        for branch in sorted(set(BRANCHES)):
            versions = self._oracle.versions.get(self._world.key(branch), [])
            if (
                not versions
                or versions[-1].record.deleted_at is not None
                or versions[-1].record.ttl_at is not None
                or self._oracle.is_half_made(versions[-1].record)
            ):
                continue
            for verb in (client.rewind, client.write, client.read):

                def attempt(verb: Any = verb, branch: str = branch) -> bool:
                    return client.call(verb.__name__, lambda: verb(branch))

                self._tries(f"{machine.name} could not {verb.__name__} {branch}", attempt)

    def _database_is_there(self, client: Client) -> bool:
        client.create_database()
        return keys.catalog_key(DATABASE) in self._world.store.objects

    def _tries(self, what: str, attempt: Callable[[], bool]) -> None:
        for _ in range(_PATIENCE):
            if attempt():
                return
            self._world.scheduler.sleep(1.0)
        raise Violation(f"{what}, in calm weather, in {_PATIENCE} tries")

    def _check_standard(self) -> None:
        """What was on a machine's disk is in the store, unless the disk, the branch or the right to it was lost."""
        oracle = self._oracle
        machines = {machine.name: machine for machine in self._world.machines}
        for s in oracle.standard:
            there = oracle.committed.get(s.token)
            if there is not None:
                require(there[1] == s.txid, f"{s.token} was acknowledged at {s.txid} and is at {there[1]}")
                continue
            machine = machines[s.machine]
            db_uuid, branch, incarnation = s.ref.split("/")
            versions = [
                written.record
                for written in oracle.versions[keys.manifest_key(db_uuid, branch)]
                if written.record.incarnation == incarnation
            ]
            if machine.disk_generation != s.disk or any(m.deleted_at or m.ttl_at for m in versions):
                continue
            others = [
                m for m in versions
                if m.epoch > s.epoch and m.owner is not None and not m.owner.node_id.startswith(f"{s.machine}.")
            ]  # fmt: skip
            require(bool(others), f"{s} is lost, and nobody else had taken the branch over")
            require(self._is_set_aside(machine, s), f"{s} was overtaken, and was not set aside")

    @staticmethod
    def _is_set_aside(machine: Machine, s: Standard) -> bool:
        prefix = s.ref.replace("/", "_")
        if not machine.disk.set_aside.exists():
            return False
        for path in machine.disk.set_aside.iterdir():
            if path.name.startswith(prefix) and path.name.endswith(f"-{s.epoch}.ltx"):
                first, last = path.name[len(prefix) + 1 :].split("-")[:2]
                if int(first) <= s.txid <= int(last):
                    return True
        return False

    def _declared(self) -> Iterator[tuple[Line, int, str, Image]]:
        """Every position of every living branch that can be named, with its content when it was made.

        What was promised since is among them: heads, and whatever a checkpoint, a fork or a rewind has pinned.
        """
        oracle = self._oracle
        for pin in oracle.pins:
            now = oracle.image(pin.incarnation, pin.txid)
            require(pin.image == now, f"{pin.what}: what was promised has changed")
        for incarnation, line in oracle.lines.items():
            m = line.manifest
            if m.deleted_at is not None or m.ttl_at is not None or oracle.is_dead(line.key):
                continue
            if oracle.is_half_made(m):
                continue
            names = oracle.nameable(line)
            require(m.head_txid in names, f"{line.key}: the head at {m.head_txid} cannot be named")
            for name, txid in m.checkpoints.items():
                require(txid in names, f"{line.key}: checkpoint {name} at {txid} cannot be named")
            for txid in names:
                yield line, txid, f"txid {txid} of {line.key}", oracle.image(incarnation, txid)

    def _check_positions(self, task: Task) -> None:
        """The engine shows every position that can be named, page by page, as it was when it was made."""
        machine = Machine(self._world, 99)
        machine.boot(task)
        assert machine.engine is not None
        env = machine.engine.env
        for line, txid, what, image in self._declared():
            db_uuid = line.key.split("/")[1]
            view = open_view(env.store, db_uuid, line.manifest, TXID(txid), env.manifest_of)
            require(view.page_count == image.count, f"{what}: {view.page_count} pages, not {image.count}")
            require(view.checksum == image.checksum, f"{what}: the checksum is another one")
            checksum = CHECKSUM_FLAG
            for number in range(1, view.page_count + 1):
                page = view.page(PageNo(number))
                require(page == image.pages[number], f"{what}: page {number} is another one")
                checksum = CHECKSUM_FLAG | (checksum ^ page_checksum(PageNo(number), page))  # type: ignore[assignment]
            require(checksum == image.checksum, f"{what}: the pages do not add up to the checksum")
        assert machine.process is not None
        self._world.scheduler.kill(machine.process)

    def _come_to_rest(self, task: Task) -> None:
        """When nobody does anything any more, nothing dead stays."""
        world, scheduler = self._world, self._world.scheduler
        grace = world.history.gc_grace_secs
        machine = Machine(world, 98)
        machine.boot(task)
        engine = machine.engine
        assert engine is not None
        for machine_there in world.machines:
            if machine_there.process is not None:
                scheduler.kill(machine_there.process)
        # A deleted branch keeps its history for so long for those who descend from it; burners may still live.
        manifests = [line.manifest for line in self._oracle.lines.values()]
        ends = [m.deleted_at or m.ttl_at or 0 for m in manifests]
        left_ms = max(ends, default=0) + world.history.longest_secs * 1000 - world.store.now_ms()
        scheduler.sleep(max(left_ms / 1000, 0.0) + _CLOCKS_DIFFER)
        for _ in range(_PASSES):
            scheduler.sleep(grace + 1.0)
            done = maintenance.gc(engine)
            scheduler.log(f"gc: {done.removed} removed, {done.waiting} wait")
        oracle = self._oracle
        named = set[str]().union(*oracle.named.values())
        left = [
            key
            for key in oracle.objects
            if key.startswith("db/")
            and "/branches/" not in key
            and key not in named
            # A machine that was off may come back and link what continues a head.
            and not oracle.may_be_linked(key)
        ]
        require(not left, f"at rest there are still {left}")
        assert machine.process is not None
        scheduler.kill(machine.process)


def _check_error(what: str, error: MemoturnError) -> None:
    """A fault of ours is never an answer; a refusal of what the clients ask for, which is all allowed, neither."""
    if isinstance(error, InternalError | InvalidRequestError):
        raise Violation(f"{what} failed with {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def installed(scheduler: Scheduler) -> Iterator[None]:
    """The engine's locks are the scheduler's, its log files are small, and nothing is remembered from other runs."""
    for learned in vars(sql_module).values():
        if isinstance(learned, GenerationalCache):
            learned.clear()
    threading = Threading(scheduler)
    with contextlib.ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("memoturn.") and getattr(module, "threading", None) is real_threading:
                stack.enter_context(mock.patch.object(module, "threading", threading))
        stack.enter_context(mock.patch.object(log_module, "FIRST_FILE_BYTES", 24 << 10))
        stack.enter_context(mock.patch.object(log_module, "FILE_BYTES", 48 << 10))
        for name, value in _SMALL.items():
            stack.enter_context(mock.patch.object(planning, name, value))
        stack.enter_context(mock.patch.object(logging.getLogger("memoturn"), "disabled", True))
        before = {id(connection) for connection in apsw.connections()}
        try:
            yield
        finally:
            # Nobody has closed those of processes that died, and the garbage collector cannot see into them.
            for connection in apsw.connections():
                if id(connection) not in before:
                    connection.close(True)


class Result(NamedTuple):
    """What a seed has shown."""

    seed: int
    steps: int
    acknowledged: int
    trace_hash: str
    failure: BaseException | None
    trace: list[str]


def simulate(
    seed: int, heat: float | None = None, upkeep: int | None = None, pause: float | None = None
) -> Result:
    """Run one seed. Drawn like all else unless they are given: how bad the weather is (`heat`), how much maintenance
    there is (`upkeep`), and how likely a request is to be held up by its sender (`pause`).
    """
    world = World(seed, heat, upkeep, pause)
    failure: BaseException | None = None
    try:
        world.run()
    except BaseException as error:
        failure = error
    scheduler = world.scheduler
    digest = hashlib.sha256("\n".join(scheduler.trace).encode()).hexdigest()
    return Result(seed, scheduler.steps, world.oracle.acknowledged, digest, failure, scheduler.trace)
