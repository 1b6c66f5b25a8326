"""One client for many: threads share it, and so do the tasks of an event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from memoturn import AsyncMemoturn, ConflictError
from tests.faces.http.running import running


def test_threads_share_a_client(db: Any) -> None:
    def work(number: int) -> tuple[bytes | None, bool]:
        db.kv.put("own", str(number), str(number))
        try:
            db.kv.put("one", "lock", str(number), if_absent=True)
        except ConflictError:
            return db.kv.get("own", str(number)), False
        return db.kv.get("own", str(number)), True

    with ThreadPoolExecutor(12) as pool:
        done = list(pool.map(work, range(120)))
    assert [value for value, _ in done] == [str(number).encode() for number in range(120)]
    first = [number for number, (_, was_first) in enumerate(done) if was_first]
    assert len(first) == 1
    assert db.kv.get("one", "lock") == str(first[0]).encode()
    assert len(list(db.kv.keys("own"))) == 120


def test_more_tasks_than_connections_share_a_client(tmp_path: Path) -> None:
    async def main(url: str) -> None:
        async with AsyncMemoturn(url) as mt:
            await mt.databases.create("a")
            db = mt.db("a")
            async with asyncio.TaskGroup() as tasks:
                for number in range(250):
                    tasks.create_task(db.kv.put("n", f"{number:03}", str(number)))
            assert [key.key async for key in db.kv.keys("n")] == [f"{number:03}" for number in range(250)]
            slow = asyncio.create_task(db.sql(_LONG))
            await asyncio.sleep(0.3)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            assert await db.kv.get("n", "007") == b"7"

    with running(f"file:{tmp_path}/store", tmp_path / "spool") as server:
        asyncio.run(main(server.url))


_LONG = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
