"""How patient a remote store is dealt with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Patience, in seconds."""

    retry_s: float = 30.0
    """How long a read, a listing, a `put` or a `delete` is tried again before the store counts as unavailable."""
    decide_s: float = 30.0
    """How long a conditional write may stay undecided."""
    first_pause_s: float = 0.05
    """The pause after the first undecided attempt; it doubles with each, and half of it is random."""
    longest_pause_s: float = 2.0
