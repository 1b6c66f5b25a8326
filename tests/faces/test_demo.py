"""The demo runs on the sample it makes and on a file, and tells what really happened."""

from __future__ import annotations

import re
from pathlib import Path

import apsw

from memoturn.faces.cli import music_store
from tests.faces.conftest import Cli


def test_the_demo_tells_its_story(cli: Cli, tmp_path: Path) -> None:
    told = cli("demo", "--keep", "kept").out
    for words in (
        "checkpoint before-task is at txid 1",
        "rewound to before-task: txid 5 has the content of txid 1",
        "undid the rewind",
        "promoted: music now stands for music@try-migration",
        "base/1-1.ltx",
        '"before-task": 1',
        "this process reads what the other one wrote: “Written elsewhere”",
        "All of it held",
    ):
        assert words in told, told
    assert len(re.findall(r"^ *[\d.]+ (µs|ms|s)   \S", told, re.MULTILINE)) > 20
    listed = cli("branch", "list", "music", "--url", "file:./kept", "--json").json
    assert [(branch["name"], branch["is_default"]) for branch in listed] == [
        ("main", False),
        ("try-migration", True),
    ]


def test_the_demo_leaves_nothing_behind(cli: Cli, tmp_path: Path) -> None:
    cli("demo")
    assert list(tmp_path.iterdir()) == []


def test_the_demo_takes_a_file_and_a_new_directory(cli: Cli, tmp_path: Path) -> None:
    music_store.write(tmp_path / "store.sqlite")
    assert "imported store.sqlite" in cli("demo", "--file", "store.sqlite").out
    (tmp_path / "taken").mkdir()
    cli("demo", "--keep", "taken", code=4)
    cli("demo", "--file", "nowhere.sqlite", code=1)
    apsw.Connection(str(tmp_path / "other.sqlite")).execute("CREATE TABLE t (a)")
    assert "Track" in cli("demo", "--file", "other.sqlite", code=1).err


def test_the_sample_is_an_intact_store_and_always_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        music_store.write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    store = apsw.Connection(str(tmp_path / "a"))
    assert list(store.execute("PRAGMA integrity_check")) == [("ok",)]
    assert list(store.execute("PRAGMA foreign_key_check")) == []
    invoices = list(store.execute("SELECT round(sum(Total), 2) FROM Invoice"))
    assert invoices == list(store.execute("SELECT round(sum(UnitPrice * Quantity), 2) FROM InvoiceLine"))
    store.close()
