"""The simulator must notice what it is there for: engines that were broken on purpose.

Each of them breaks one rule that everything else stands on, and must be caught within a few seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from memoturn.base.errors import AlreadyExistsError, UnavailableError, UndecidedWriteError
from memoturn.bucket import NO_VERSION, ObjectNotFound, StaleVersionError, Version, conditional
from memoturn.bucket.conditional import ConditionalWriter, Outcome, Unread
from memoturn.database import publish
from memoturn.database.branch import Branch
from memoturn.history import census, collection, retaining
from memoturn.manifest import keys, rules
from memoturn.manifest.model import Manifest
from memoturn.manifest.segment_name import SegmentName
from memoturn.operations import second_look
from memoturn.segments.pack_build import build_pack

from . import disk
from .bucket import SimBucket
from .world import simulate

Patch = Callable[[pytest.MonkeyPatch], None]
_REFUSALS = (AlreadyExistsError, StaleVersionError, ObjectNotFound)


def caught_after(within: int, heat: float = 2.0, upkeep: int = 0, pause: float | None = None) -> str:
    """The first violation. Fails if there is none in that many seeds."""
    for seed in range(within):
        failure = simulate(seed, heat, upkeep, pause).failure
        if failure is not None:
            print(f"caught by seed {seed}: {failure}")
            return str(failure)
    raise AssertionError(f"{within} seeds did not notice")


def _writes_like(after_refusal: Callable[[bool, Any], Version]) -> Any:
    """A writer that sends again after an error and never reads back; it judges a refusal as it is told."""

    def write(self: Any, key: str, body: bytes, expected: Any, landed: Any, refusal: Any) -> Version:
        if expected == NO_VERSION:
            raise refusal()
        failed = False
        for _ in range(20):
            try:
                return self._store.attempt(key, body, expected)
            except _REFUSALS:
                return after_refusal(failed, refusal)
            except UnavailableError:
                failed = True
                self._clock.sleep(0.1)
        raise UndecidedWriteError("gave up")

    return write


def blind_retry(patch: pytest.MonkeyPatch) -> None:
    """A refusal is believed, also that of a second copy of one's own write."""

    def refused(_failed: bool, refusal: Any) -> Version:
        raise refusal()

    patch.setattr(ConditionalWriter, "_write", _writes_like(refused))


def hopeful_retry(patch: pytest.MonkeyPatch) -> None:
    """A refusal after an error is taken to come from one's own first copy."""

    def landed_or_refused(failed: bool, refusal: Any) -> Version:
        if failed:
            return NO_VERSION
        raise refusal()

    patch.setattr(ConditionalWriter, "_write", _writes_like(landed_or_refused))


def absence_is_final(patch: pytest.MonkeyPatch) -> None:
    """A create that cannot be found is taken not to have happened, though it may be on its way."""
    real = conditional.decide

    def decide(body: bytes, expected: Any, answer: Any, seen: Any, landed: Any) -> Outcome:
        if seen is Unread.MISSING:
            return Outcome.GONE
        return real(body, expected, answer, seen, landed)

    patch.setattr(conditional, "decide", decide)


def no_epoch_check(patch: pytest.MonkeyPatch) -> None:
    """A writer that was overtaken may still append."""
    patch.setattr(rules, "check_epoch", lambda _manifest, _epoch: None)


def acknowledge_before_the_cas(patch: pytest.MonkeyPatch) -> None:
    """A commit counts as durable when its pack is in the bucket, before the manifest names it."""
    real = Branch.ship

    def ship(self: Any, through: Any = None, fences: Any = None) -> None:
        if through is None:
            real(self)
            return
        commits = list(self._tail.commits)
        if commits:
            name = SegmentName.pack(0, commits[0].txid, commits[-1].txid, self._epoch)
            key = keys.segment_key(self.db_uuid, self.incarnation, str(name))
            self._env.bucket.put(key, build_pack([commit.packed for commit in commits]).chunks)

    patch.setattr(Branch, "ship", ship)


def acknowledge_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    """A commit counts as being on disk when it was written, before it was synced."""
    patch.setattr(disk.SimFile, "sync", lambda self: self._scheduler.step())


def shipping_is_a_matter_of_txids(patch: pytest.MonkeyPatch) -> None:
    """A commit counts as shipped when the head has passed its txid, whoever has brought it there."""
    real = Branch.ship
    patch.setattr(Branch, "ship", lambda self, through=None, fences=None: real(self, through))


def collection_without_grace(patch: pytest.MonkeyPatch) -> None:
    """What was counted as dead is removed by the next pass, however soon it comes."""
    patch.setattr(census, "is_ripe", lambda _part, _now, _grace_ms: True)
    patch.setattr(collection, "undecided", lambda *_: False)


def grace_by_local_clock(patch: pytest.MonkeyPatch) -> None:
    """A collector takes its own word for what time it is."""
    patch.setattr(collection.Collector, "now", lambda self: self.env.clock.now_ms())


def compaction_drops_what_children_stand_on(patch: pytest.MonkeyPatch) -> None:
    """History is unlinked without looking who has forked from it."""
    patch.setattr(collection, "pins_of", lambda _manifests: {})


def retention_without_the_floor_step(patch: pytest.MonkeyPatch) -> None:
    """History is unlinked as its boundary rises: nobody is told before, and nobody looks again."""
    real = retaining.apply

    def apply(manifest: Manifest, done: Any) -> Manifest:
        raised = real(manifest, done)
        return rules.cut(raised, raised.exact_txid, raised.floor_txid, ())

    patch.setattr(retaining, "apply", apply)
    for look in ("after_fork", "after_rewind", "after_reset"):
        patch.setattr(second_look, look, lambda *_: None)


def publishers_are_trusted(patch: pytest.MonkeyPatch) -> None:
    """What was put is linked however late, and a collector does not make sure of it."""
    patch.setattr(publish.Upload, "age", lambda _self: 0.0)
    patch.setattr(collection.Collector, "_touch", lambda *_: None)


@pytest.mark.parametrize(
    ("broken", "within", "heat"),
    [
        (blind_retry, 50, 2.0),
        (hopeful_retry, 50, 2.0),
        (absence_is_final, 100, 2.0),
        (no_epoch_check, 50, 2.0),
        (acknowledge_before_the_cas, 20, 2.0),
        (acknowledge_before_the_sync, 50, 2.0),
        (shipping_is_a_matter_of_txids, 500, 1.0),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_a_broken_engine_is_caught(
    broken: Patch, within: int, heat: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    caught_after(within, heat)


@pytest.mark.parametrize(
    ("broken", "within", "upkeep", "pause"),
    [
        (collection_without_grace, 30, 3, 0.01),
        (grace_by_local_clock, 100, 3, 0.01),
        (compaction_drops_what_children_stand_on, 500, 3, 0.01),
        (retention_without_the_floor_step, 500, 1, 0.1),
        (publishers_are_trusted, 1000, 3, 0.1),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_broken_maintenance_is_caught(
    broken: Patch, within: int, upkeep: int, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    caught_after(within, heat=0.3, upkeep=upkeep, pause=pause)


@pytest.mark.parametrize(
    ("broken", "within"),
    [(blind_retry, 100), (hopeful_retry, 100)],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_a_wrong_verdict_on_a_write_is_caught_by_what_comes_of_it(
    broken: Patch, within: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, with nobody to compare the verdict with the truth at once."""
    monkeypatch.setattr(SimBucket, "_checked", lambda _self, _key, _body, write: write())
    broken(monkeypatch)
    caught_after(within)
