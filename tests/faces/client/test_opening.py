"""One name opens a store or a server, and says what is for which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import memoturn
from memoturn import AsyncMemoturn, InvalidRequestError, Memoturn
from memoturn.faces.client.sync import client as sync
from memoturn.faces.embedded import client as embedded

ROOT = Path(__file__).parents[3]


def test_the_url_decides(tmp_path: Path) -> None:
    with Memoturn(f"file:{tmp_path / 'data'}") as store, Memoturn("http://127.0.0.1:9", token="t") as server:
        assert type(store) is embedded.Memoturn
        assert type(server) is sync.Memoturn
        for mt in (store, server):
            assert isinstance(mt, Memoturn)
            assert isinstance(mt.db("a"), memoturn.Database)
            assert isinstance(mt.memory("a", "b"), memoturn.Profile)
    with Memoturn(url="memory:") as mt:
        assert mt.url == "memory:"


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("http://h", {"data_dir": "d"}, "data_dir is for a store"),
        ("memory:", {"token": "t"}, "token is for a server"),
        ("http://h", {"timeout": 0}, "timeout"),
        ("http://h", {"retries": -1}, "retries"),
        ("http://h", {"token": "a\nb"}, "token is not possible"),
        ("http://h", {"token": ""}, "token is not possible"),
        ("http://h", {"durability": "eventual"}, "durability 'eventual'"),
        ("http://", {}, "is no server"),
        ("http://h:x", {}, "is no server"),
        ("http://user:secret@h", {}, "has no user"),
        ("http://h?a=b", {}, "no query"),
        (7, {}, "is no store"),
    ],
)
def test_what_cannot_be_meant_is_refused(url: object, options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        Memoturn(url, **options)  # type: ignore[call-overload]


def test_a_store_has_no_async_client() -> None:
    with pytest.raises(InvalidRequestError, match="is no server"):
        AsyncMemoturn("file:./data")


def test_neither_token_nor_password_is_shown() -> None:
    with Memoturn("http://127.0.0.1:9", token="s3cret") as mt:
        assert "s3cret" not in repr(mt) + repr(mt.db("a")) + repr(mt.memory("a", "b"))
    with pytest.raises(InvalidRequestError) as caught:
        Memoturn("http://u:s3cret@h")
    assert "s3cret" not in str(caught.value)


def test_types_are_right_for_both(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(
        "from memoturn import AsyncMemoturn, Database, KvPut, Memoturn, Rows\n"
        "def f(mt: Memoturn) -> Database:\n"
        "    rows: Rows = mt.db('a').sql('SELECT 1')\n"
        "    return mt.db('a')\n"
        "f(Memoturn('http://h', token='t', timeout=1.0))\n"
        "f(Memoturn('file:./data', data_dir='d'))\n"
        "with Memoturn() as mt:\n"
        "    reveal_type(mt.db('a').kv.get('n', 'k'))\n"
        "async def g() -> KvPut:\n"
        "    async with AsyncMemoturn('http://h') as mt:\n"
        "        n: int = await mt.db('a').txid\n"
        "        async for entry in mt.db('a').branch.history():\n"
        "            reveal_type(entry.txid)\n"
        "        return await mt.db('a').kv.put('n', 'k', b'v')\n"
        "Memoturn('http://h', token='t', data_dir='d')\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--cache-dir",
            str(tmp_path / "cache"),
            str(tmp_path / "p.py"),
        ],
        capture_output=True,
        text=True,
    )
    assert 'p.py:8: note: Revealed type is "bytes | None"' in done.stdout.replace("builtins.", "").replace(
        "Union[bytes, None]", "bytes | None"
    )
    assert "p.py:13: note: Revealed type is" in done.stdout
    assert [line for line in done.stdout.splitlines() if "error" in line and "p.py:15" not in line] == [
        "Found 1 error in 1 file (checked 1 source file)"
    ], done.stdout
