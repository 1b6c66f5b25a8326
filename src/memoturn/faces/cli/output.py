"""What a command prints: tables for people, one line of JSON for programs, progress on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

Cells = Sequence[Any]
Progress = Callable[[int, int], None]


def write_json(value: object) -> None:
    """One line of JSON on stdout, always in UTF-8; times are RFC 3339, and bytes base64."""
    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")


def write_raw(value: bytes) -> None:
    """Bytes on stdout as they are; on a terminal one line, with nothing in it that a terminal would obey."""
    if sys.stdout.isatty():
        try:
            print(cell(value.decode()))
        except UnicodeDecodeError:
            print(cell(value))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(value)
    sys.stdout.buffer.flush()


def write_table(columns: Sequence[str], rows: Sequence[Cells]) -> None:
    """A table on stdout: drawn on a terminal, aligned text when piped."""
    if sys.stdout.isatty():
        _draw(columns, rows)
    else:
        _align(columns, rows)


def write_details(pairs: Sequence[tuple[str, Any]]) -> None:
    """What is known of one thing, a line each."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        print(f"{name.ljust(width)}  {cell(value)}")


def cell(value: object) -> str:
    """A value as text on one line, with nothing in it that a terminal would obey."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%SZ}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        return f"x'{value[:32].hex()}'" + (f"… {len(value):,} bytes" if len(value) > 32 else "")
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def size(count: int) -> str:
    """Bytes as people read them."""
    if count < 10_000:
        return f"{count:,} B"
    return f"{count / 1024:,.1f} KiB" if count < 1 << 20 else f"{count / (1 << 20):,.1f} MiB"


def _align(columns: Sequence[str], rows: Sequence[Cells]) -> None:
    texts = [[cell(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[i]) for row in texts)]) for i, name in enumerate(columns)]
    numeric = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
    for line in [list(columns), *texts]:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def _draw(columns: Sequence[str], rows: Sequence[Cells]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for i, name in enumerate(columns):
        right = bool(rows) and all(_is_number(row[i]) for row in rows)
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell(value), style="dim" if value is None else "") for value in row])
    Console().print(table)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


@contextlib.contextmanager
def progress(title: str, shown: bool, unit: Literal["bytes", "lines"] = "bytes") -> Iterator[Progress | None]:
    """A progress bar on stderr while the block runs; None where nobody would see it."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    amount = (
        (DownloadColumn(binary_units=True), TransferSpeedColumn())
        if unit == "bytes"
        else (MofNCompleteColumn(),)
    )
    columns = (TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextlib.contextmanager
def counting(title: str, shown: bool) -> Iterator[Progress | None]:
    """Two numbers on stderr while the block runs: looked at, and removed; None where nobody would see them."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda looked_at, removed: bars.update(
            task, description=f"{title}: {looked_at:,} objects looked at, {removed:,} removed"
        )
