"""One bucket opened by one process: its registers, its caches, its commit log, and the branches in use."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

import apsw

from memoturn.base import deadline
from memoturn.base.cache import GenerationalCache
from memoturn.base.clock import Clock, SystemClock
from memoturn.base.errors import (
    BranchNotFoundError,
    ClosedError,
    DatabaseNotFoundError,
    MemoturnError,
)
from memoturn.base.ids import Ids
from memoturn.base.names import check_name
from memoturn.base.settings import MIB, Settings
from memoturn.base.txids import EMPTY
from memoturn.bucket import Bucket, ObjectNotFound, directory_of, open_bucket, probe
from memoturn.database.branch import Branch
from memoturn.database.environment import Environment
from memoturn.database.log import CommitLog
from memoturn.database.logfile import DiskDirectory
from memoturn.database.neighbours import Machine, Neighbours, NoNeighbours
from memoturn.database.publish import Publisher
from memoturn.database.recovery import overtaken, set_aside
from memoturn.database.shipper import Shippable, Shipper
from memoturn.manifest import keys, rules
from memoturn.manifest.invariants import check_catalog, check_manifest
from memoturn.manifest.model import CatalogEntry, Manifest, Owner, Parent
from memoturn.manifest.register import Held, Register
from memoturn.manifest.watch import AgeWatch, AloneWatch, SharedWatch, Watch
from memoturn.node.maintenance import Maintenance
from memoturn.node.notes import Notes
from memoturn.pages.disk import DiskTier
from memoturn.pages.store import SegmentStore
from memoturn.pages.view import Source

_log: Final = logging.getLogger("memoturn")
_DERIVED_BYTES: Final = 256 * MIB
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Derived(Protocol):
    """What was computed from the content of a database, and can be computed again."""

    @property
    def weight(self) -> int:
        """Bytes in memory."""


class BackgroundShipper(Protocol):
    """Ships branches behind the back of those who write them."""

    def notice(self, branch: Shippable) -> None:
        """The branch has committed."""

    def close(self) -> None:
        """Ship nothing more."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an engine stands on: the store, and of this machine its neighbours, its disk and a shipper.

    An engine finds its own; whoever passes others owns them, such as a simulation.
    """

    node_id: str
    bucket: Bucket
    watch: Watch
    neighbours: Neighbours
    shipper: BackgroundShipper
    log: CommitLog | None = None
    disk: DiskTier | None = None
    set_aside: Path | None = None
    maintained: bool = False
    """Whether there is background work, which its owner does by calling `maintenance.step`."""


class AtHand(NamedTuple):
    """The head of a branch that nothing has to be done for, and the entry of its database."""

    entry: CatalogEntry
    branch: Branch
    view: Source


class Engine:
    """Everything below the operations, for one store. Threads may share it.

    `url` names the store: `memory:`, `file:./data`, `s3://…`, `gs://…` or `az://…`. Of a `file:` store the
    objects lie in `objects/`, and what belongs to this machine (logs, locks) in `node/`; for other stores
    that lies in `settings.data_dir`.
    """

    def __init__(
        self,
        url: str,
        settings: Settings | None = None,
        *,
        prepare: Callable[[apsw.Connection], None] = lambda _connection: None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        options: Mapping[str, str] | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.url = url
        self.settings = settings = settings or Settings()
        self.clock = clock = clock or SystemClock()
        self.ids = ids = ids or Ids()
        self._branches: dict[tuple[str, str], Branch] = {}
        # One object for each incarnation, as long as anybody has it in hand: two of them would both believe to hold
        # the machine's lock, and each would take the other's unshipped commits for its own.
        self._living: weakref.WeakValueDictionary[tuple[str, str, str], Branch] = (
            weakref.WeakValueDictionary()
        )
        self._opening = threading.Lock()
        self._asked_for: set[str] = set()
        self._asks = itertools.count(1)
        self.derived: GenerationalCache[Hashable, Derived] = GenerationalCache(
            _DERIVED_BYTES, lambda kept: kept.weight
        )
        self._closed: str | None = None

        self._machine: Machine | None = None
        self._shared: SharedWatch | None = None
        self._notes_home: Path | None = None
        around = surroundings or self._surroundings(url, options)
        self.bucket: Bucket = around.bucket
        self.shipper = around.shipper
        self.catalog = Register(CatalogEntry, check_catalog, self.bucket, around.watch, ids)
        self.manifests = Register(Manifest, check_manifest, self.bucket, around.watch, ids)
        self.notes = Notes(self._notes_home)
        self.maintenance: Maintenance | None = None
        if settings.maintenance.on and (surroundings is None or surroundings.maintained):
            self.maintenance = Maintenance(self, threaded=surroundings is None)
        self.env = Environment(
            bucket=self.bucket,
            manifests=self.manifests,
            store=SegmentStore(self.bucket, settings.cache, around.disk),
            log=around.log,
            neighbours=around.neighbours,
            watch=around.watch,
            owner=Owner(around.node_id, settings.advertise),
            clock=clock,
            ids=ids,
            settings=settings.commit,
            set_aside=around.set_aside,
            prepare=prepare,
            on_unshipped=self.shipper.notice,
            on_owned=self._keep,
            publisher=Publisher(self.manifests, clock, ids, settings.history.gc_grace_secs),
            on_shipped=_nothing if self.maintenance is None else self.maintenance.shipped,
            grace=settings.history.gc_grace_secs,
        )
        _engines.add(self)
        self._finish_for_the_dead(around.neighbours)

    def _surroundings(self, url: str, options: Mapping[str, str] | None) -> Surroundings:
        """What the store and this machine really are."""
        settings, clock, ids = self.settings, self.clock, self.ids
        home = _home_of(url, settings)
        bucket = open_bucket(_bucket_url(url, home), clock=clock, ids=ids, options=options)
        if not bucket.is_local:
            probe(bucket, clock=clock, ids=ids)
        if settings.node_id is not None:
            check_name("node", settings.node_id)
        node_id = f"{settings.node_id or 'n'}_{ids.ulid(clock.now_ms())}"
        commit = settings.commit
        interval, side_by_side = commit.ship_interval_ms / 1000, 1 if bucket.is_local else 4
        shipper = Shipper(clock, interval, commit.ship_bytes, _on_ship_failure, side_by_side)
        if home is None:
            return Surroundings(node_id, bucket, AloneWatch(), NoNeighbours(), shipper)
        node = home / "node"
        self._notes_home = node / "maintenance"
        # The node comes last: it would be left behind, alive, if the disk were full for something else.
        watch: Watch
        disk: DiskTier | None = None
        if bucket.is_local:
            self._shared = watch = SharedWatch(node / "changes", ids)
        else:
            watch = AgeWatch(clock, settings.cache.manifest_max_age, settings.cache.owner_max_age)
            if settings.cache.disk_cache_bytes:
                disk = DiskTier(node / "cache", settings.cache.disk_cache_bytes)
        self._machine = machine = Machine(node, node_id, self._hand_over)
        log = CommitLog(DiskDirectory(machine.home), clock, machine.publish, machine.publish_failed)
        return Surroundings(
            node_id, bucket, watch, machine, shipper, log=log, disk=disk, set_aside=home / "set-aside"
        )

    def check_open(self) -> None:
        """Raise `ClosedError` if this engine was closed, or belongs to the parent of this process."""
        if self._closed is not None:
            raise ClosedError(self._closed)

    def look(self) -> None:
        """For whatever may take long, to be called all the time: raise `RequestTimeoutError` if it is to stop."""
        deadline.look(self.clock.monotonic())

    def is_closed(self) -> bool:
        """Whether whatever still runs in the background has to stop."""
        return self._closed is not None

    # Finding things.

    def entry(self, name: str) -> CatalogEntry:
        """The catalog entry of a living database. Raises `DatabaseNotFoundError`."""
        if self._closed is not None:
            self.check_open()
        try:
            entry = self.catalog.current(keys.catalog_key(name)).record
        except ObjectNotFound:
            raise DatabaseNotFoundError(f"there is no database {name!r}") from None
        if entry.deleted_at is not None or entry.ttl_at is not None:
            rules.check_existing(entry, name, self.clock.now_ms())
        return entry

    def branch(self, name: str, branch_id: str | None = None) -> Branch:
        """A living branch, the default one unless it is named.

        Raises `DatabaseNotFoundError`, `BranchNotFoundError` or `BranchExpiredError`.
        """
        entry = self.entry(name)
        if branch_id is None:
            branch_id = entry.default_branch
        branch = self._branches.get((entry.db_uuid, branch_id))
        if branch is not None and branch.is_current():
            branch.asked_for = next(self._asks)
            return branch
        return self._open(name, entry.db_uuid, branch_id)

    def at_head(self, name: str, branch_id: str | None) -> tuple[Branch, Source]:
        """`branch` and its head, with one look whether that is still current instead of two."""
        entry = self.entry(name)
        branch = self._branches.get((entry.db_uuid, branch_id or entry.default_branch))
        if branch is not None:
            view = branch.current_head()
            if view is not None:
                branch.asked_for = next(self._asks)
                return branch, view
        branch = self.branch(name, branch_id)
        return branch, branch.head()

    def at_hand(self, name: str, branch_id: str | None) -> AtHand | None:
        """`at_head`, if nothing has to be opened or looked at for it. Raises `BranchExpiredError`."""
        entry = None if self._closed is not None else self.catalog.at_hand(keys.catalog_key(name))
        if entry is None or entry.deleted_at is not None or entry.ttl_at is not None:
            return None
        branch = self._branches.get((entry.db_uuid, branch_id or entry.default_branch))
        view = None if branch is None else branch.current_head()
        if branch is None or view is None:
            return None
        branch.asked_for = next(self._asks)
        return AtHand(entry, branch, view)

    def manifest(self, name: str, db_uuid: str, branch_id: str) -> Held[Manifest]:
        """The manifest of a living branch, without opening it."""
        try:
            held = self.manifests.current(keys.manifest_key(db_uuid, branch_id))
        except ObjectNotFound:
            raise BranchNotFoundError(f"database {name!r} has no branch {branch_id!r}") from None
        rules.check_living(held.record, self.clock.now_ms())
        return held

    def _open(self, name: str, db_uuid: str, branch_id: str) -> Branch:
        held = self.manifest(name, db_uuid, branch_id)
        with self._opening:
            former = self._branches.get((db_uuid, branch_id))
            if former is not None and former.incarnation == held.record.incarnation:
                return former
            place = (db_uuid, branch_id, held.record.incarnation)
            branch = self._living.get(place)
            if branch is None:
                branch = self._living[place] = Branch(self.env, db_uuid, branch_id, held)
            branch.asked_for = next(self._asks)
        if former is not None:
            former.retire()
        self._keep(branch)
        if self.maintenance is not None:
            self.maintenance.used(name, branch)
        self._make_room()
        return branch

    def _keep(self, branch: Branch) -> None:
        """Keep a branch at hand, because it is being used or has become ours to write."""
        with self._opening:
            self._branches[branch.db_uuid, branch.branch_id] = branch

    def _make_room(self) -> None:
        """Let the branches rest that nobody has asked for the longest, if there are too many.

        One that is just being written stays: whoever opens another one should not have to wait for it.
        """
        resting: list[Branch] = []
        with self._opening:
            excess = len(self._branches) - self.settings.hot_cap
            if excess <= 0:
                return
            for place, branch in sorted(self._branches.items(), key=lambda item: item[1].asked_for):
                if len(resting) < excess and not branch.is_writing():
                    resting.append(self._branches.pop(place))
        for old in resting:
            self._rest(old)

    def _rest(self, branch: Branch) -> None:
        try:
            branch.rest()
        except MemoturnError as error:
            _log.warning("branch %s could not be shipped: %s", branch.branch_id, error)
            with self._opening:
                self._branches.setdefault((branch.db_uuid, branch.branch_id), branch)

    def forget(self, db_uuid: str, branch_id: str) -> None:
        """Stop using a branch that was deleted or replaced."""
        with self._opening:
            branch = self._branches.pop((db_uuid, branch_id), None)
        if branch is not None:
            branch.retire()
        if self.maintenance is not None:
            self.maintenance.touched(db_uuid)

    def open_branches(self) -> list[Branch]:
        """The branches in use, the least recently opened first."""
        with self._opening:
            return list(self._branches.values())

    # Neighbours.

    def _hand_over(self, incarnation: str) -> None:
        """Another process asks for a branch. It asks again and again; each branch waits for its own writer only."""
        for branch in self.open_branches():
            if branch.incarnation == incarnation and incarnation not in self._asked_for:
                self._asked_for.add(incarnation)
                try:
                    threading.Thread(
                        target=self._hand_over_now, args=(branch,), name="memoturn-hand-over", daemon=True
                    ).start()
                except BaseException:
                    self._asked_for.discard(incarnation)
                    raise

    def _hand_over_now(self, branch: Branch) -> None:
        try:
            branch.hand_over()
        except MemoturnError as error:
            _log.warning("branch %s was asked for and is kept: %s", branch.branch_id, error)
        except Exception:
            _log.exception("branch %s was asked for and is kept", branch.branch_id)
        finally:
            self._asked_for.discard(branch.incarnation)

    def _finish_for_the_dead(self, neighbours: Neighbours) -> None:
        """Ship what processes that died had acknowledged; what cannot be shipped now stays for the next time."""
        for node_id in neighbours.dead():
            try:
                for ref in sorted(neighbours.branches_of(node_id)):
                    self._finish_branch(neighbours, node_id, ref)
                neighbours.bury(node_id)
            except (MemoturnError, OSError) as error:
                _log.warning("the commit log of %s is kept, it could not be shipped: %s", node_id, error)

    def _finish_branch(self, neighbours: Neighbours, node_id: str, ref: str) -> None:
        """Ship what a dead node had acknowledged on a branch, or set aside what has been overtaken."""
        db_uuid, branch_id, incarnation = ref.split("/")
        try:
            manifest = self.env.manifest_of(Parent(db_uuid, branch_id, incarnation, EMPTY), EMPTY)
        except BranchNotFoundError:
            return  # Nobody can reach that branch any more, nor what was committed on it.
        now = self.clock.now_ms()
        if manifest.ttl_at is not None and manifest.ttl_at <= now:
            return
        if manifest.deleted_at is None:
            branch = self._open(branch_id, db_uuid, branch_id)
            branch.settle_head()
            manifest = branch.manifest()
        records = neighbours.records_of(node_id, ref)
        for epoch, commits in overtaken(records, self.env.store, db_uuid, manifest):
            path = set_aside(self.env.set_aside, ref, epoch, commits)
            _log.warning(
                "%d commits of %s are no part of branch %s, because they had failed or it was taken over before "
                "they were shipped; they are set aside in %s",
                len(commits),
                node_id,
                branch_id,
                path,
            )

    # The end.

    def sync(self) -> None:
        """Ship all that this process has committed. Raises `UnavailableError` if the store does not take it.

        A branch that cannot be shipped keeps no other from it; the first such error is raised at the end.
        """
        self.check_open()
        errors = []
        for branch in self.open_branches():
            try:
                branch.ship()
            except MemoturnError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Ship, and let go of everything. What the store does not take now is shipped by whoever opens it next."""
        if self._closed is not None:
            return
        if self.maintenance is not None:
            self.maintenance.stop()
        self.shipper.close()
        for branch in self.open_branches():
            try:
                branch.rest()
            except MemoturnError as error:
                _log.warning("branch %s keeps commits in the log: %s", branch.branch_id, error)
        if self.maintenance is not None:
            self.maintenance.note_shipped()
        self._closed = "this Memoturn was closed; open a new one"
        log = self.env.log
        if log is not None:
            unshipped = not log.is_empty()
            log.close()
            if self._machine is not None:
                self._machine.close(keep_log=unshipped)
        if self._shared is not None:
            self._shared.close()
        self.bucket.close()

    def _forked(self) -> None:
        self._closed = "this Memoturn was opened before a fork; open a new one in the child process"
        if self.maintenance is not None:
            self.maintenance.abandon_after_fork()
        if self._machine is not None:
            self._machine.abandon_after_fork()


def _nothing(_branch: Branch, _bytes: int) -> None:
    return None


def _on_ship_failure(branch: Shippable, error: Exception) -> None:
    unforeseen = None if isinstance(error, MemoturnError) else error
    _log.warning("%s bytes of commits wait to be shipped: %s", branch.backlog, error, exc_info=unforeseen)


def _abandon_after_fork() -> None:
    for engine in list(_engines):
        engine._forked()


os.register_at_fork(after_in_child=_abandon_after_fork)


def _home_of(url: str, settings: Settings) -> Path | None:
    """The directory of what belongs to this machine, or None if nothing outlives the process."""
    scheme = url.partition(":")[0]
    if scheme == "memory":
        return None
    return Path(directory_of(url) if scheme == "file" else settings.data_dir).absolute()


def _bucket_url(url: str, home: Path | None) -> str:
    return f"file:{quote(str(home / 'objects'))}" if url.startswith("file:") and home is not None else url
