"""Makes the sync client, `faces/client/sync/`, from the async one; with `--check` it only says whether it is current.

    python tools/generate_sync.py [--check]

Sources are changed as texts: names, words and nothing else. What is made is formatted by ruff.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parent.parent / "src" / "memoturn" / "faces" / "client"
NOTE = "# Made from ../aio/{name} by tools/generate_sync.py; change that, and `make client`.\n\n"

WORDS = (
    (r"The client for programs with an event loop; what is here is written by hand\.",
     "The client for programs without an event loop; what is here is made from `aio/`."),
    (r"memoturn\.faces\.client\.aio\b", "memoturn.faces.client.sync"),
    (r"import anyio\n", ""),
    (r"await anyio\.sleep\(", "self._clock.sleep("),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bhandle_async_request\b", "handle_request"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\baiter_stream\b", "iter_stream"),
    (r"\baread\b", "read"),
    (r"\baclose\b", "close"),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\bAsync([A-Z])", r"\1"),
)  # fmt: skip


def sync_of(source: str, name: str) -> str:
    """The sync module that stands for an async one."""
    for pattern, replacement in WORDS:
        source = re.sub(pattern, replacement, source)
    return _formatted(NOTE.format(name=name) + source)


def _formatted(source: str) -> str:
    for command in (["check", "--fix-only", "--quiet", "--select", "I,UP"], ["format", "--quiet"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(CLIENT / "sync" / "made.py"), "-"],
            input=source, capture_output=True, text=True, check=True,
        )  # fmt: skip
        source = done.stdout
    return source


def made() -> dict[Path, str]:
    """Every file of the sync client as it has to be."""
    return {
        CLIENT / "sync" / path.name: sync_of(path.read_text(), path.name)
        for path in sorted((CLIENT / "aio").glob("*.py"))
    }


def stale() -> list[str]:
    """What is not as it has to be: changed, missing, or left over."""
    wanted = made()
    there = set((CLIENT / "sync").glob("*.py"))
    return sorted(
        path.name
        for path in there | set(wanted)
        if path not in there or path not in wanted or path.read_text() != wanted[path]
    )


def main() -> None:
    if "--check" in sys.argv[1:]:
        if names := stale():
            raise SystemExit(f"not current: {', '.join(names)}; run `make client`")
        return
    wanted = made()
    for path in set((CLIENT / "sync").glob("*.py")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
