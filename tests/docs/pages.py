"""Runs the examples of a page of the documentation, from its beginning to its end, in a directory of their own.

Blocks of `python` share their names. In blocks of `console` a line that begins with `$` is a command for a shell, and
the lines below it are what it prints: an ellipsis stands for anything on a line, one alone on a line for any lines, a
run of spaces for any other. A command that begins with `memoturn serve` goes on in the background, until the page
ends. Port 8080 stands for a free one.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.bucket.services import free_port

ROOT = Path(__file__).parents[2]
RUN = ("python", "console")
SHOWN = ("sh", "json", "yaml", "text", "env")
"""Languages of blocks that are not run: what they show has another test, or is no example."""


class Block(NamedTuple):
    """One fenced block of a page."""

    language: str
    body: str


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of a page."""
    return [
        Block(*found)
        for found in re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)
    ]


class Shell:
    """Where the examples of one page run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._servers: list[subprocess.Popen[bytes]] = []
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("MEMOTURN_")
        }
        # The `memoturn` of this checkout, whichever directory it is called in.
        programs = directory / ".bin"
        programs.mkdir()
        (programs / "memoturn").write_text(f'#!/bin/sh\nexec {sys.executable} -m memoturn.faces.cli "$@"\n')
        (programs / "memoturn").chmod(0o755)
        path = [str(programs), sysconfig.get_path("scripts"), self._environment.get("PATH", "")]
        source = [str(ROOT / "src"), *filter(None, [self._environment.get("PYTHONPATH")])]
        self._environment |= {"PATH": os.pathsep.join(path), "PYTHONPATH": os.pathsep.join(source)}

    def placed(self, text: str) -> str:
        """An example, with the port that is free here."""
        return text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")

    def call(self, command: str) -> str:
        """What a command prints, errors among it, and the port that pages speak of."""
        if re.match(r"(set -a; \S+ \S+; set \+a; )?memoturn serve\b", command):
            return self._serve(command)
        done = subprocess.run(
            ["bash", "-c", self.placed(command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            env=self._environment,
            timeout=120,
        )
        printed = done.stdout.replace(f"127.0.0.1:{self.port}", "127.0.0.1:8080")
        return printed + "\n" if printed and not printed.endswith("\n") else printed

    def _serve(self, command: str) -> str:
        log = self.directory / f".serve-{len(self._servers)}.log"
        foreground = command.replace("memoturn serve", "exec memoturn serve").removesuffix("&")
        with log.open("wb") as out:
            server = subprocess.Popen(
                ["bash", "-c", foreground],
                stdout=out,
                stderr=out,
                cwd=self.directory,
                env={**self._environment, "MEMOTURN_LISTEN": f"127.0.0.1:{self.port}"},
            )
        self._servers.append(server)
        for _ in range(300):
            assert server.poll() is None, log.read_text()
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1).close()
                return ""
            time.sleep(0.1)
        raise AssertionError(f"the server is not ready: {log.read_text()}")

    def close(self) -> None:
        for server in self._servers:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def run_page(path: Path, directory: Path) -> set[str]:
    """Run every example of a page, and compare what it prints; returns the languages that there were."""
    shell = Shell(directory)
    names: dict[str, object] = {}
    languages = set()
    with in_directory(directory):
        try:
            for language, body in blocks_of(path):
                languages.add(language)
                if language == "python":
                    exec(compile(shell.placed(body), path.name, "exec"), names)
                elif language == "console":
                    for command, expected in calls_of(body):
                        printed = shell.call(command)
                        assert as_pattern(expected).fullmatch(printed), f"$ {command}\n{printed}"
        finally:
            shell.close()
    return languages


@contextlib.contextmanager
def in_directory(directory: Path) -> Iterator[None]:
    """Work in a directory."""
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


def calls_of(body: str) -> list[tuple[str, str]]:
    """Each command of a console block with the lines below it. A command goes on after a backslash."""
    calls = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
    found = []
    for call in calls:
        command, _, printed = call.partition("\n")
        while command.endswith("\\"):
            more, _, printed = printed.partition("\n")
            command = f"{command}\n{more}"
        found.append((re.sub(r"\s+# .*$", "", command), printed))
    return found


def as_pattern(expected: str) -> re.Pattern[str]:
    """An ellipsis stands for anything on a line, a run of spaces for any other; one alone for any lines."""
    lines = re.split(r"^…\n", expected, flags=re.MULTILINE)
    return re.compile("(?:.*\n)*".join(map(_of_lines, lines)))


def _of_lines(text: str) -> str:
    return "[^\n]*".join(re.sub(r"(\\ )+", " +", re.escape(part)) for part in text.split("…"))
