"""What the tests count on, so that none of them says how busy the machine is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bucket.services import free_port


@given(st.integers(0, 9))
@settings(max_examples=2)
def test_an_example_may_take_its_time(value: int) -> None:
    time.sleep(0.25 + value / 1000)


def test_a_port_is_given_once_and_never_by_the_system() -> None:
    bounds = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not bounds.exists():
        pytest.skip("this system does not say which ports it gives to connections")
    low, high = map(int, bounds.read_text().split())
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert not [port for port in ports if low <= port <= high]
