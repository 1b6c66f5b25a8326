"""How the demo tells: parts, chapters, and steps with the time that each has taken; for people, or as one JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from memoturn.base.clock import SystemClock
from memoturn.base.errors import InternalError
from memoturn.faces.cli import output

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
_INDENT = " " * 13


class Teller:
    """Tells each step when it is done, or, `as_json`, all of them at the end."""

    def __init__(self, as_json: bool) -> None:
        self._clock = SystemClock()
        self._began = self._clock.monotonic()
        self._chapters: list[dict[str, Any]] = []
        self._part = ""
        self._console: Console | None = None
        if not as_json:
            from rich.console import Console

            self._console = Console(highlight=False, soft_wrap=True)

    def part(self, title: str) -> None:
        """A story of its own, with chapters."""
        self._part = title
        if self._console is not None:
            if self._chapters:
                self._console.print()
            self._console.rule(f"[bold]{title}[/]", align="left", style="cyan")

    def chapter(self, title: str) -> None:
        """What the steps that follow are about."""
        self._chapters.append({"part": self._part, "title": title, "steps": []})
        if self._console is not None:
            self._console.print(f"\n[bold cyan]{len(self._chapters)}. {title}[/]")

    def step(self, act: Callable[[], T], tell: Callable[[T], str]) -> T:
        """Do something, and tell what has happened and how long it took."""
        began = self._clock.monotonic()
        result = act()
        took = self._clock.monotonic() - began
        text = tell(result)
        self._chapters[-1]["steps"].append({"text": text, "seconds": round(took, 6)})
        if self._console is not None:
            self._console.print(f"[green]{_duration(took):>10}[/]   ", end="")
            self._console.print(output.cell(text), markup=False)
        return result

    def note(self, text: str, style: str = "") -> None:
        """What there is to see in the last step."""
        self._chapters[-1]["steps"].append({"text": text})
        self._line(output.cell(text), style)

    def painted(self, lines: Iterable[str]) -> None:
        """Lines that may have a terminal's colours in them already."""
        from rich.text import Text

        for line in lines:
            text = Text.from_ansi(line)
            self._chapters[-1]["steps"].append({"text": text.plain})
            if self._console is not None:
                self._console.print(Text(_INDENT) + text if text else text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Figures side by side; the first column names them."""
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        self._chapters[-1]["steps"].append({"table": named})
        widths = [max(len(name), *(len(row[i]) for row in rows)) for i, name in enumerate(columns)]
        for number, line in enumerate([columns, *rows]):
            cells = [
                line[0].ljust(widths[0]),
                *(t.rjust(w) for t, w in zip(line[1:], widths[1:], strict=True)),
            ]
            self._line("   ".join(cells), "bold" if number == 0 else "")

    def expect(self, held: bool, what: str) -> None:
        """The demo shows nothing that does not hold."""
        if not held:
            raise InternalError(f"the demo found that this does not hold: {what}")

    def end(self, *notes: str) -> None:
        """The last line; as JSON, the story as a whole."""
        took = self._clock.monotonic() - self._began
        if self._console is None:
            output.write_json({"chapters": self._chapters, "seconds": round(took, 3)})
            return
        self._console.print(f"\n[bold green]All of it held,[/] in {took:.1f} s.")
        for note in notes:
            self._console.print(note, markup=False)

    def _line(self, text: str, style: str) -> None:
        if self._console is not None:
            self._console.print(_INDENT + text, markup=False, style=style)


def shortened(text: str, width: int = 96) -> str:
    """A text on one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def _duration(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
