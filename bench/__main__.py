"""`python -m bench [name …]`: print the table, and write it where the README quotes it."""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import apsw

from bench import (
    background,
    branches,
    collection,
    commits,
    differences,
    history,
    memories,
    models,
    reads,
    recall,
    server,
)
from bench.measure import Figure
from bench.samples import sqlite_file

_README = Path(__file__).parent.parent / "README.md"
_HEAD = "| figure | must reach | measured | peer | reached |\n| --- | --- | --- | --- | --- |"
_BEGIN, _END = "<!-- bench:begin -->", "<!-- bench:end -->"

_GROUPS = [
    "branches",
    "reads",
    "commits",
    "models",
    "memories",
    "recall",
    "collection",
    "differences",
    "history",
    "background",
    "server",
]


def main(names: list[str]) -> None:
    """Measure everything, or the groups that are named: then only their rows change in the README."""
    with tempfile.TemporaryDirectory(prefix="memoturn-bench-") as directory:
        scratch = Path(directory)
        lines: list[str] = []
        print(_HEAD, flush=True)
        for figure in _figures(scratch, names or _GROUPS):
            lines.append(_line(figure))
            print(lines[-1], flush=True)
    _write(lines, names)


def _figures(scratch: Path, names: list[str]) -> Iterator[Figure]:
    groups = set(names)
    if groups & {"branches", "reads", "history", "server", "differences"}:
        big = sqlite_file(scratch / "big.sqlite", 1024)
        small = sqlite_file(scratch / "small.sqlite", 1)
    if "branches" in groups:
        yield from branches.figures(big, small, scratch)
    if "reads" in groups:
        yield from reads.figures(big, small, scratch)
    if "commits" in groups:
        yield from commits.figures(scratch)
    if "models" in groups:
        yield from models.figures(scratch)
    if "memories" in groups:
        yield from memories.figures(scratch)
    if "recall" in groups:
        yield from recall.figures()
    if "collection" in groups:
        yield from collection.figures()
    if "differences" in groups:
        yield from differences.figures(big, scratch)
    if "history" in groups:
        yield from history.figures(big, small, scratch)
    if "background" in groups:
        yield from background.figures(scratch)
    if "server" in groups:
        yield from server.figures(big, scratch)


def _line(figure: Figure) -> str:
    mark = {True: "yes", False: "**no**", None: ""}[figure.reached]
    return f"| {figure.name} | {figure.goal} | {figure.measured} | {figure.peer} | {mark} |"


def _write(lines: list[str], names: list[str]) -> None:
    text = _README.read_text()
    if _BEGIN not in text:
        return
    if names:
        lines = _merged(text.partition(_BEGIN)[2].partition(_END)[0].splitlines(), lines)
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    table = "\n".join(
        [
            f"`make bench` on {datetime.now(UTC):%Y-%m-%d}, {machine}, SQLite {apsw.sqlite_lib_version()}:",
            "",
            _HEAD,
            *lines,
        ]
    )
    head, _, rest = text.partition(_BEGIN)
    _README.write_text(f"{head}{_BEGIN}\n{table}\n{_END}{rest.partition(_END)[2]}")


def _merged(old: list[str], new: list[str]) -> list[str]:
    """The rows of the table that there is, with those that were measured again in their places, then the others."""
    measured = {_name(line): line for line in new}
    rows = [line for line in old if line.startswith("| ") and line not in _HEAD.splitlines()]
    kept = [measured.pop(_name(row), row) for row in rows]
    return [*kept, *measured.values()]


def _name(row: str) -> str:
    return row.split(" | ")[0]


if __name__ == "__main__":
    main(sys.argv[1:])
