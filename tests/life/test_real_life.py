"""A server as it is run: set up, driven by all clients, killed under load, and started again somewhere else.

What was acknowledged as durable is found by a server on an empty disk over the same bucket; what was acknowledged at
all is found by one on the same disk. Nothing is found that was not written, and of each writer's rows none is missing
between two that are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from memoturn import AsyncMemoturn, Memoturn, MemoturnError
from memoturn.base.settings import Durability
from tests.bucket.services import BUCKET, versitygw
from tests.life.processes import Server, environment, memoturn, rows, serving

DATABASES = ["acme--sync-1", "acme--sync-2", "acme--async-1", "acme--async-2"]
TABLE = "CREATE TABLE log(n INTEGER PRIMARY KEY, text)"
ENOUGH = 25
"""Acknowledgements of every writer before the server is killed."""


class Store(NamedTuple):
    """A store for servers: their settings by the directory that they have as their disk."""

    env: Callable[[Path], dict[str, str]]
    move: Callable[[Path, Path], None]
    """Take the bucket, and nothing else, from one disk to another, where it does not lie elsewhere anyway."""


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "file":
        yield Store(
            lambda disk: {"MEMOTURN_URL": f"file:{disk}"},
            lambda old, new: shutil.copytree(old / "objects", new / "objects"),  # type: ignore[arg-type, return-value]
        )
        return
    with versitygw(tmp_path) as service:
        options = service.options
        found = {
            "MEMOTURN_OBJECT_STORE": f"s3://{BUCKET}",
            "AWS_ENDPOINT_URL": service.endpoint,
            "AWS_REGION": options["region"],
            "AWS_ACCESS_KEY_ID": options["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": options["secret_access_key"],
        }
        yield Store(lambda disk: found | {"MEMOTURN_DATA_DIR": str(disk)}, lambda _old, _new: None)


class Load:
    """Writers of both clients, one for each database, each of which notes what was acknowledged."""

    def __init__(self, url: str, token: str, durability: Durability | None) -> None:
        self.acknowledged: dict[str, list[int]] = {name: [] for name in DATABASES}
        self.checkpoints: list[tuple[str, str]] = []
        self.failures: dict[str, Exception] = {}
        self._url, self._token, self._durability = url, token, durability
        self._threads = [
            *(threading.Thread(target=self._sync, args=(name,)) for name in DATABASES[:2]),
            threading.Thread(target=lambda: asyncio.run(self._both())),
        ]

    def run(self, server: Server, first: int) -> None:
        """Write from the number `first` on, and kill the server when every writer has got somewhere."""
        self._first = first
        for thread in self._threads:
            thread.start()
        while any(len(done) < ENOUGH for done in self.acknowledged.values()):
            assert not self.failures, self.failures
            threading.Event().wait(0.01)
        server.kill()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()
        assert set(self.failures) == set(DATABASES)

    def _sync(self, name: str) -> None:
        with Memoturn(self._url, token=self._token, durability=self._durability, retries=0) as mt:
            db = mt.db(name)
            try:
                for n in itertools.count(self._first):
                    db.sql("INSERT INTO log VALUES (?, ?)", [n, f"row {n}"])
                    self.acknowledged[name].append(n)
                    if n % 10 == 0:
                        db.branch.checkpoint(f"at-{n}")
                        self.checkpoints.append((name, f"at-{n}"))
            except MemoturnError as error:
                self.failures[name] = error

    async def _both(self) -> None:
        async with AsyncMemoturn(self._url, token=self._token, durability=self._durability, retries=0) as mt:
            await asyncio.gather(*(self._async(mt, name) for name in DATABASES[2:]))

    async def _async(self, mt: AsyncMemoturn, name: str) -> None:
        db = mt.db(name)
        try:
            for n in itertools.count(self._first):
                await db.batch([("INSERT INTO log VALUES (?, ?)", [n, f"row {n}"])])
                self.acknowledged[name].append(n)
        except MemoturnError as error:
            self.failures[name] = error


def check_found(found: dict[str, list[int]], loads: list[Load]) -> int:
    """All that was acknowledged is there, without a gap; returns the highest number that any writer has reached."""
    for name, numbers in found.items():
        written = [n for load in loads for n in load.acknowledged[name]]
        assert set(written) <= set(numbers), f"{name} has lost {sorted(set(written) - set(numbers))[:10]}"
        for load in loads:
            mine = [n for n in numbers if load.acknowledged[name][0] <= n <= load.acknowledged[name][-1]]
            assert mine == load.acknowledged[name]
            # One at most that was written and not acknowledged in time.
            assert load.acknowledged[name][-1] + 2 not in numbers
    return max(numbers[-1] for numbers in found.values())


def numbers_of(mt: Memoturn) -> dict[str, list[int]]:
    return {name: [row["n"] for row in mt.db(name).sql("SELECT n FROM log ORDER BY n")] for name in DATABASES}


async def numbers_by_async(url: str, token: str) -> dict[str, list[int]]:
    async with AsyncMemoturn(url, token=token) as mt:
        found = {}
        for name in DATABASES:
            found[name] = [row["n"] for row in await mt.db(name).sql("SELECT n FROM log ORDER BY n")]
        return found


def test_what_was_acknowledged_outlives_the_server_and_its_disk(store: Store, tmp_path: Path) -> None:
    # As fast as it goes: this is about what is kept, not about how much is let in.
    base = environment(MEMOTURN_CONTROL_PER_SECOND="0")
    memoturn("init", "--file", "keys.env", env=base, cwd=tmp_path)
    lines = (tmp_path / "keys.env").read_text().splitlines()
    base |= dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    platform, log = base["MEMOTURN_PLATFORM_KEY"], tmp_path / "log"
    first, second = tmp_path / "disk-1", tmp_path / "disk-2"

    # Set up by the command line, with the platform key; and then used with a token.
    with serving(base | store.env(first), tmp_path, log) as server:
        admin = base | {"MEMOTURN_URL": server.url}
        for name in DATABASES[::2]:
            memoturn("db", "create", name, env=admin, cwd=tmp_path)
            memoturn("sql", name, TABLE, env=admin, cwd=tmp_path)
        with Memoturn(server.url, token=platform) as mt:
            for name in DATABASES[1::2]:
                mt.databases.create(name)
                mt.db(name).sql(TABLE)
        token = memoturn("token", "create-ns", "acme", "--scope", "admin", env=admin, cwd=tmp_path).strip()
        durable = Load(server.url, token, "durable")
        durable.run(server, 1)

    # Another machine, with an empty disk. It finds all that was acknowledged as durable.
    store.move(first, second)
    with serving(base | store.env(second), tmp_path, log) as server:
        user = environment(MEMOTURN_URL=server.url, MEMOTURN_TOKEN=token)
        by_cli = {
            name: [
                row["n"]
                for row in rows(
                    memoturn("sql", name, "SELECT n FROM log ORDER BY n", "--json", env=user, cwd=tmp_path)
                )
            ]
            for name in DATABASES[::2]
        }
        with Memoturn(server.url, token=token) as mt:
            found = numbers_of(mt)
            assert {name: found[name] for name in by_cli} == by_cli
            highest = check_found(found, [durable])
            for name, checkpoint in durable.checkpoints:
                assert mt.db(name).at(checkpoint).sql("SELECT max(n) AS n FROM log")[0]["n"] == int(
                    checkpoint.removeprefix("at-")
                )
            assert durable.checkpoints
        assert asyncio.run(numbers_by_async(server.url, token)) == found
        memoturn("verify", env=base | {"MEMOTURN_URL": server.url}, cwd=tmp_path)

        # It goes on, with standard durability, and is killed as well.
        standard = Load(server.url, token, None)
        standard.run(server, highest + 100)

    # On the same disk nothing at all is lost that was acknowledged.
    with serving(base | store.env(second), tmp_path, log) as server:
        with Memoturn(server.url, token=token) as mt:
            check_found(numbers_of(mt), [durable, standard])
            mt.db(DATABASES[0]).sql("INSERT INTO log VALUES (1000000, 'the last one')")
        server.stop()

    # Told to stop, it has shipped everything: no disk is needed any more.
    third = tmp_path / "disk-3"
    store.move(second, third)
    with serving(base | store.env(third), tmp_path, log) as server:
        with Memoturn(server.url, token=token) as mt:
            found = numbers_of(mt)
            assert found[DATABASES[0]].pop() == 1000000
            check_found(found, [durable, standard])
        server.stop()

    told = log.read_text()
    assert platform not in told
    assert token not in told
    assert "Traceback" not in told


def test_a_server_that_is_told_to_stop_ships_first(tmp_path: Path) -> None:
    """Else a machine that is taken down in good order would take with it what its last moments have acknowledged."""
    env = environment(MEMOTURN_URL=f"file:{tmp_path}/one", MEMOTURN_SHIP_INTERVAL_MS="600000")
    with serving(env, tmp_path, tmp_path / "log") as server:
        with Memoturn(server.url) as mt:
            mt.databases.create("x")
            mt.db("x").sql("CREATE TABLE t(v)")
            mt.db("x").sql("INSERT INTO t VALUES (1)")
        server.stop()
    shutil.copytree(tmp_path / "one" / "objects", tmp_path / "two" / "objects")
    with contextlib.closing(Memoturn(f"file:{tmp_path}/two")) as mt:
        assert mt.db("x").sql("SELECT v FROM t") == [{"v": 1}]
