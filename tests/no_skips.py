"""With `NO_SKIPS=1` in the environment a skipped test has failed: where all tools are, nothing may be missing."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Final, TypeVar

import pytest

_ON: Final = os.environ.get("NO_SKIPS") == "1"
_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _strict((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _strict((yield))


def _strict(report: _Report) -> _Report:
    if _ON and report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped with NO_SKIPS=1: {why}"
    return report
