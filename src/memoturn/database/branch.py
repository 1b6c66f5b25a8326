"""One open branch: reads at any position, writes at the head, and the branch's own changes of its manifest.

Three states follow each other on the way of a commit: *logged* (durable on this machine), *visible* (readers see it),
*shipped* (in the bucket, linked by the manifest). Reading is in `standing.py`, shipping and owning in `ownership.py`.
"""

from __future__ import annotations

import contextlib

from memoturn.base.errors import (
    BranchNotFoundError,
    ConflictError,
    FencedError,
    MemoturnError,
    NotFoundError,
    TxidNotRetainedError,
)
from memoturn.base.txids import TXID
from memoturn.database.ownership import HeadWish, Wish
from memoturn.database.tail import Commit
from memoturn.database.writing import Writing
from memoturn.manifest import rules
from memoturn.manifest.model import Manifest
from memoturn.manifest.register import OUTDATED


class Branch(Writing):
    """A branch that is open in this process. Threads may share it."""

    def _ship(self, commits: list[Commit]) -> None:
        super()._ship(commits)
        self._env.on_shipped(self, sum(len(commit.packed.data) for commit in commits))

    def _take(self, then: HeadWish | None) -> None:
        super()._take(then)
        self._env.on_owned(self)

    # Branch operations: the manifest's rules, applied with everything shipped.

    def change(self, wish: Wish) -> Manifest:
        """Change the manifest without moving the head. A commit of this machine that is visible is shipped first."""
        with self._writing:
            self.settle_head()
            with self._shipping:
                try:
                    held = self._update(wish)
                except BranchNotFoundError as error:
                    raise self._explained(error) from error
                if self._owned and self._overtaken(held.record):
                    # The change is made, but what is written from now on would be under an epoch that has passed.
                    self._fence(held.record)
                if self._owned:
                    self._adopt(held, held.token)
                else:
                    # A neighbour may have committed since we looked: look again before the next read.
                    self._adopt(held, OUTDATED, [])
            return held.record

    def settle_head(self) -> TXID:
        """Ship what is visible, whoever on this machine wrote it; returns the head."""
        with self._writing:
            head = self.head().txid
            if head > self._held.record.head_txid and not self._owned:
                self._own()
            self.ship()
            return self._held.record.head_txid

    def move_head(self, wish: HeadWish) -> Manifest:
        """Change the manifest so that the head moves, or so that the branch ends. Only an owner may.

        A neighbour hands the branch over first: what it acknowledged is shipped, and it acknowledges nothing more.
        """
        with self._writing:
            applied = self._own(wish)
            if not applied:
                self.ship()
                with self._shipping:
                    try:
                        held = self._update(
                            lambda m: wish(_still_ours(m, self._epoch), self._last_time(m, []))
                        )
                    except (FencedError, BranchNotFoundError) as error:
                        raise self._explained(error) from error
                    except (ConflictError, NotFoundError, TxidNotRetainedError):
                        raise
                    except BaseException:
                        # The head may have moved, or may yet: only under the next epoch can we know.
                        self._must_raise_epoch = True
                        raise
                    self._held, self._seen, self._ttl_at = held, held.token, held.record.ttl_at
            self._discard_writer()
            with self._state:
                self._head = self._shipped = None
            if self._held.record.deleted_at is not None:
                # Whoever waits to write next must find that there is nothing to own any more.
                self._give_up()
            return self._held.record

    def is_writing(self) -> bool:
        """Whether somebody is writing it, or moving its head, at this moment."""
        if not self._writing.acquire(blocking=False):
            return True
        self._writing.release()
        return False

    def rest(self) -> None:
        """Ship if the store takes it, and let go of everything; the next call begins anew.

        What cannot be shipped stays in the log, and stays ours.
        """
        with self._writing:
            self._finish()
            self._give_up()
            self.forget()

    def retire(self) -> None:
        """Let go of a branch that was deleted or replaced; what cannot be shipped goes with it."""
        with self._writing:
            with contextlib.suppress(MemoturnError):
                self._finish()
            self._give_up()
            self.forget()

    def forget(self) -> None:
        """Drop connections and views; what was not shipped is left to the log."""
        self._discard_writer()
        self.readers.close()
        self._past.clear()
        with self._state:
            self._head = self._shipped = None
            self._seen = OUTDATED


def _still_ours(manifest: Manifest, epoch: int) -> Manifest:
    rules.check_epoch(manifest, epoch)
    return manifest
