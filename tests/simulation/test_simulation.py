"""Thousands of seeds, each a different bad day for a few machines over one store.

MEMOTURN_SIM_SEEDS=100000 pytest tests/simulation      more of them
MEMOTURN_SIM_SEED=4711 pytest tests/simulation -s      one of them, with its trace
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from .world import Result, simulate

SEEDS = int(os.environ.get("MEMOTURN_SIM_SEEDS", "2000"))
ONE = os.environ.get("MEMOTURN_SIM_SEED")
PARTS = 20
_SHOWN = 250


def report(result: Result) -> str:
    """What someone needs who has never seen this seed before."""
    return "\n".join(
        [
            f"seed {result.seed} broke a promise after {result.steps} steps:",
            *result.trace[-_SHOWN:],
            f"{type(result.failure).__name__}: {result.failure}",
            f"replay: MEMOTURN_SIM_SEED={result.seed} pytest tests/simulation -s",
        ]
    )


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS) if ONE is None else ())
def test_every_seed_keeps_every_promise(part: int) -> None:
    acknowledged = 0
    for seed in range(part, SEEDS, PARTS):
        result = simulate(seed)
        if result.failure is not None:
            pytest.fail(report(result), pytrace=False)
        acknowledged += result.acknowledged
    assert acknowledged > 5 * len(range(part, SEEDS, PARTS)), "the machines hardly got anything done"


def test_one_seed() -> None:
    """The seed that `MEMOTURN_SIM_SEED` names, with its trace; the first one otherwise."""
    result = simulate(int(ONE or 0))
    if result.failure is not None:
        pytest.fail(report(result), pytrace=False)
    if ONE is not None:
        print("\n".join(result.trace))


def test_a_seed_replays_exactly() -> None:
    for seed in (3, 17, 40, 99):
        assert simulate(seed).trace_hash == simulate(seed).trace_hash


def test_a_seed_replays_exactly_in_another_process() -> None:
    program = textwrap.dedent("""
        from tests.simulation.world import simulate
        print(simulate(5).trace_hash, simulate(8).trace_hash)
    """)
    root = Path(__file__).parents[2]
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert hashes == {f"{simulate(5).trace_hash} {simulate(8).trace_hash}\n"}
