"""A write whose answer was lost is not done twice, also if the server has died and another has come up meanwhile."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from memoturn import Memoturn, UnavailableError
from tests.faces.http.test_process import served


class Way:
    """A way to a server that can be changed, and on which the answer to a write gets lost once."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.came_back = threading.Event()
        """Set when the server has answered the write."""
        self.goes_on = threading.Event()
        """To be set when whoever waits for the answer is to learn that it is lost."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        writes = threading.Event()

        def forth() -> None:
            with contextlib.suppress(OSError):
                while sent := near.recv(65536):
                    if b"INSERT" in sent:
                        writes.set()
                    far.sendall(sent)
                far.shutdown(socket.SHUT_WR)

        with near, socket.create_connection(("127.0.0.1", self.to)) as far:
            sending = threading.Thread(target=forth)
            sending.start()
            with contextlib.suppress(OSError):
                while answer := far.recv(65536):
                    if writes.is_set() and not self.came_back.is_set():
                        self.came_back.set()
                        self.goes_on.wait(60)
                        break
                    near.sendall(answer)
            with contextlib.suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)
            sending.join()


@contextmanager
def way(to: int) -> Iterator[Way]:
    found = Way(to)
    try:
        yield found
    finally:
        found.close()


def test_a_server_that_was_started_since_does_not_do_it_again(tmp_path: Path) -> None:
    failures: list[UnavailableError] = []

    def insert(mt: Memoturn) -> None:
        try:
            mt.db("a").sql("INSERT INTO t VALUES (1)")
        except UnavailableError as error:
            failures.append(error)

    with served(tmp_path) as (first, http), way(http.base_url.port or 0) as between:
        http.post("/v1/databases", json={"name": "a"}).raise_for_status()
        with Memoturn(between.url) as mt:
            mt.db("a").sql("CREATE TABLE t(x)")
            writing = threading.Thread(target=insert, args=(mt,))
            writing.start()
            assert between.came_back.wait(60)
            first.kill()
            first.wait()
            with served(tmp_path) as (_, second):
                between.to = second.base_url.port or 0
                between.goes_on.set()
                writing.join(60)
                assert [row["n"] for row in mt.db("a").sql("SELECT count(*) AS n FROM t")] == [1]
    assert len(failures) == 1
    assert "whether that was obeyed is not known" in str(failures[0])


@pytest.mark.parametrize("attempts", [1, 3])
def test_the_same_server_gives_its_answer_again(tmp_path: Path, attempts: int) -> None:
    with served(tmp_path) as (_, http), way(http.base_url.port or 0) as between:
        http.post("/v1/databases", json={"name": "a"}).raise_for_status()
        between.goes_on.set()
        with Memoturn(between.url, retries=attempts) as mt:
            mt.db("a").sql("CREATE TABLE t(x)")
            assert mt.db("a").sql("INSERT INTO t VALUES (1)").txid == 2
            assert [row["n"] for row in mt.db("a").sql("SELECT count(*) AS n FROM t")] == [1]
