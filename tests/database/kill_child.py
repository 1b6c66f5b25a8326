"""A process that writes to a store until it is killed, saying on its standard output what it does.

Run as `python -m tests.database.kill_child`; it imports everything, then waits for a `Task` on its standard input.
Before each call it writes `["try", writer, op]`, after it `["ok", writer, txid]`; if a call fails, `["error", …]`.
A task to check writes what the store contains, as `["found", …]`.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from dataclasses import replace
from typing import Any

import msgspec

from memoturn import Memoturn
from memoturn.base.settings import CommitSettings, Durability, Settings
from memoturn.database import log
from memoturn.faces.embedded.client import Database
from tests.database.stories import verify_branch

DB = "db"


class Op(msgspec.Struct, frozen=True, array_like=True):
    """One call: what, on which branch, with which keys, checkpoint or new branch."""

    what: str
    branch: str
    keys: tuple[int, ...] = ()
    name: str = ""


class Content(msgspec.Struct, frozen=True, array_like=True):
    """What a branch contains: its keys, those at each checkpoint, and its head."""

    keys: tuple[int, ...]
    checkpoints: dict[str, tuple[int, ...]]
    txid: int


class Task(msgspec.Struct, frozen=True):
    """What the process is to do: `write` for ever with one thread for each list of branches, or `check` once."""

    do: str
    root: str
    durability: Durability = "standard"
    seed: int = 0
    first_key: int = 0
    writers: tuple[tuple[str, ...], ...] = ()
    known: dict[str, Content] = {}
    inserts_only: bool = False


def value(key: int) -> bytes:
    """What belongs under a key; some are large."""
    return random.Random(key).randbytes(120_000 if key % 23 == 0 else 9_000 if key % 5 == 0 else 30)


def open_store(root: str, durability: Durability = "standard") -> Memoturn:
    """Open a store whose log files are small, so that they are cut and changed often."""
    log.FIRST_FILE_BYTES, log.FILE_BYTES = 256 << 10, 384 << 10  # type: ignore[misc]
    commit = CommitSettings(durability=durability, ship_interval_ms=8, busy_timeout=30)
    return Memoturn(f"file:{root}", settings=replace(Settings(), commit=commit))


def content_of(db: Database) -> Content:
    """What a branch contains, every page, row and checkpoint of it verified."""
    verify_branch(db._engine.branch(db._address.database, db._address.branch))
    txid = db.txid
    checkpoints = {found.name: _keys(db.at(found.name)) for found in db.branch.checkpoints()}
    return Content(_keys(db), checkpoints, txid)


def _keys(db: Database) -> tuple[int, ...]:
    keys = []
    for row in db.sql("SELECT k, v FROM t ORDER BY k"):
        key = row["k"]
        assert isinstance(key, int)
        assert row["v"] == value(key), f"key {key} of {db} holds what was never written"
        keys.append(key)
    return tuple(keys)


def check(store: Memoturn) -> dict[str, Content]:
    """What every branch of the store contains."""
    return {info.name: content_of(store.db(f"{DB}@{info.name}")) for info in store.db(DB).branch.list()}


def perform(store: Memoturn, op: Op) -> int:
    """Carry out one call; returns the txid that it acknowledges, or 0."""
    db = store.db(f"{DB}@{op.branch}")
    if op.what == "insert":
        return db.sql("INSERT INTO t VALUES(?, ?)", (op.keys[0], value(op.keys[0]))).txid
    if op.what == "batch":
        return db.batch([("INSERT INTO t VALUES(?, ?)", (key, value(key))) for key in op.keys]).txid
    if op.what == "delete":
        return db.sql("DELETE FROM t WHERE k <= ?", (op.keys[0],)).txid
    if op.what == "vacuum":
        return db.sql("VACUUM").txid
    if op.what == "checkpoint":
        db.branch.checkpoint(op.name)
    elif op.what == "rewind":
        return db.branch.rewind(op.name).txid
    elif op.what == "fork":
        db.branch.create(op.name)
    elif op.what == "drop":
        db.branch.delete()
    return 0


def say(*words: Any) -> None:
    """One line, written at once, so that threads do not mix theirs."""
    os.write(1, msgspec.json.encode(words) + b"\n")


class _Writer:
    """Writes to its branches in turn, and remembers just enough to choose calls that must succeed."""

    def __init__(self, number: int, store: Memoturn, task: Task) -> None:
        self._number = number
        self._store = store
        self._rng = random.Random(task.seed * 100 + number)
        self._key = task.first_key + number * 1_000_000
        self._branches = list(task.writers[number])
        self._inserts_only = task.inserts_only
        self._checkpoints = {name: list(content.checkpoints) for name, content in task.known.items()}
        self._sizes = {name: len(content.keys) for name, content in task.known.items()}

    def run(self) -> None:
        try:
            while True:
                op = self._next()
                say("try", self._number, op)
                say("ok", self._number, perform(self._store, op))
                self._learn(op)
        except BaseException as error:
            say("error", self._number, repr(error))
            raise

    def _next_key(self) -> int:
        self._key += 1
        return self._key

    def _next(self) -> Op:
        rng, branch = self._rng, self._rng.choice(self._branches)
        dice = rng.random() * (0.8 if self._inserts_only else 1)
        if dice < 0.6:
            return Op("insert", branch, (self._next_key(),))
        if dice < 0.8:
            return Op("batch", branch, tuple(self._next_key() for _ in range(rng.randint(2, 6))))
        if self._sizes[branch] > 40:
            return Op("delete", branch, (self._key - 10,))
        checkpoints = self._checkpoints[branch]
        if dice < 0.87:
            return Op("checkpoint", branch, (), f"c{self._next_key()}")
        if dice < 0.93 and checkpoints:
            return Op("rewind", branch, (), rng.choice(checkpoints))
        if dice < 0.96 and len(self._branches) < 3:
            return Op("fork", branch, (), f"f{self._next_key()}")
        if dice < 0.98 and branch.startswith("f") and len(self._branches) > 1:
            return Op("drop", branch)
        return Op("vacuum", branch)

    def _learn(self, op: Op) -> None:
        if op.what in ("insert", "batch"):
            self._sizes[op.branch] += len(op.keys)
        elif op.what == "delete":
            self._sizes[op.branch] = 10
        elif op.what == "checkpoint":
            self._checkpoints[op.branch].append(op.name)
        elif op.what == "fork":
            self._branches.append(op.name)
            self._checkpoints[op.name] = []
            self._sizes[op.name] = self._sizes[op.branch]
        elif op.what == "drop":
            self._branches.remove(op.branch)


def main() -> None:
    task = msgspec.json.decode(sys.stdin.buffer.readline() or b"null", type=Task | None)
    if task is None:
        return
    store = open_store(task.root, task.durability)
    if task.do == "check":
        say("found", check(store))
        store.close()
        return
    writers = [_Writer(number, store, task) for number in range(len(task.writers))]
    threads = [threading.Thread(target=writer.run, daemon=True) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
