"""Programs that tests run as processes of their own, on a store that several of them share.

A program reads commands from its standard input, one JSON list a line, and answers each with one JSON line:
`["ok", result]` or `["error", class, message]`. So a test decides who does what when, and never waits for a time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from memoturn import ConflictError, Memoturn, MemoturnError
from memoturn.base.settings import CommitSettings, Settings


class Program:
    """The other end: a process with the store open."""

    def __init__(self, url: str, busy_timeout: float = 20.0, ship_interval_ms: int = 60_000) -> None:
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.database.programs", url, str(busy_timeout), str(ship_interval_ms)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])},
        )
        assert self._answer() == "ready"

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self, *command: Any) -> None:
        """Give a command without waiting for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def finish(self) -> Any:
        """The answer to the command that was started. Raises `ProgramError` for an error."""
        return self._answer()

    def do(self, *command: Any) -> Any:
        self.start(*command)
        return self.finish()

    def sql(self, address: str, text: str, params: list[Any] | None = None) -> Any:
        """The rows, as lists of dicts."""
        return self.do("sql", address, text, params)

    def stop(self) -> None:
        """Freeze it, whatever it is doing."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it without a chance to say goodbye."""
        self.process.kill()
        self.process.wait()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise ProgramError("Gone", f"process {self.pid} ended with {self.process.wait()}")
        kind, *rest = json.loads(line)
        if kind == "error":
            raise ProgramError(*rest)
        return rest[0]

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.resume()
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()


class ProgramError(Exception):
    """An error in the other process: the name of its class, and its message."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


def main(url: str, busy_timeout: float, ship_interval_ms: int) -> None:
    commit = CommitSettings(busy_timeout=busy_timeout, ship_interval_ms=ship_interval_ms)
    with Memoturn(url, settings=Settings(commit=commit)) as mt:
        print(json.dumps(["ok", "ready"]), flush=True)
        for line in sys.stdin:
            try:
                answer = ["ok", run(mt, *json.loads(line))]
            except MemoturnError as error:
                answer = ["error", type(error).__name__, str(error)]
            print(json.dumps(answer), flush=True)


def run(mt: Memoturn, what: str, *args: Any) -> Any:
    if what == "sql":
        address, text, params = args
        return mt.db(address).sql(text, params)
    if what == "insert":
        address, first, count = args
        db = mt.db(address)
        for i in range(first, first + count):
            db.sql("INSERT INTO t VALUES (?)", [i])
        return db.txid
    if what == "count":
        # Compare and set until it fits, as agents do that share a counter.
        address, ns, key, times = args
        kv = mt.db(address).kv
        for _ in range(times):
            while True:
                there = kv.entry(ns, key)
                value = b"%d" % (1 + (0 if there is None else int(there.value)))
                try:
                    if there is None:
                        kv.put(ns, key, value, if_absent=True)
                    else:
                        kv.put(ns, key, value, if_version=there.version)
                    break
                except ConflictError:
                    pass
        return times
    if what == "create":
        return mt.databases.create(args[0]).name
    if what == "branch":
        address, method, *rest = args
        answer = getattr(mt.db(address).branch, method)(*rest)
        return getattr(answer, "undo", None) or str(answer)
    if what == "delete":
        return mt.databases.delete(args[0]).undo
    if what == "undo":
        return mt.databases.undo(*args).what
    if what == "sync":
        return mt.sync()
    raise ValueError(what)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
