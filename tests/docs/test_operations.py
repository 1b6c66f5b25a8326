"""docs/operations.md names the work, the commands and the settings that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

from typer.testing import CliRunner

from memoturn.base.settings import HistorySettings, MaintenanceSettings, Settings
from memoturn.faces.cli.main import app
from memoturn.faces.cli.settings import configure
from memoturn.faces.http.metrics import Metrics, Requests
from memoturn.node.timetable import Kind
from memoturn.operations.measures import measure
from memoturn.operations.opening import open_engine

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def test_every_kind_of_work_is_described() -> None:
    table = PAGE.partition("## What runs in the background")[2].partition("\n\nIt keeps")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(get_args(Kind))


def test_every_command_is_there() -> None:
    commands = re.findall(r"^\$ (memoturn [^#\n]+)", PAGE, re.MULTILINE)
    commands += re.findall(r"`(memoturn [^`]+)`", PAGE)
    assert len(commands) >= 10
    for command in commands:
        words = shlex.split(command)[1:]
        names = [word for word in words[:2] if re.fullmatch(r"[a-z][a-z-]+", word)]
        options = [word for word in words if word.startswith("--")]
        shown = CliRunner().invoke(app, [*names, "--help"])
        assert shown.exit_code == 0, command
        assert [option for option in options if option not in shown.output] == [], command


def test_settings_have_the_defaults_that_it_tells() -> None:
    shown = {setting.name: setting.value for setting in configure(None, {}).shown}
    for name, told in re.findall(r"^\| `(MEMOTURN_\w+)` \| (\S+) \|", PAGE, re.MULTILINE):
        assert str(shown[name]) == told.replace(",", "").strip("`"), name
    history, maintenance = HistorySettings(), MaintenanceSettings()
    assert (history.work_share, history.work_bytes_per_second) == (0.25, 32 << 20)
    assert (maintenance.drill_bytes_per_minute, maintenance.idle_secs) == (4 << 20, 60)


def test_every_metric_is_described() -> None:
    engine = open_engine("memory:", Settings())
    try:
        requests = Requests()
        requests.begin()
        requests.end("kv.get", 200, 0.1)
        shown = Metrics(requests, lambda: measure(engine)).text().decode()
    finally:
        engine.close()
    table = PAGE.partition("## What to watch")[2].partition("\n\n`/readyz`")[0]
    told = {name.removesuffix("_total") for name in re.findall(r"`(memoturn_\w+)`", table)}
    assert told == {name.removesuffix("_total") for name in re.findall(r"^# TYPE (\w+)", shown, re.MULTILINE)}
