"""The demo runs on the samples it makes and on files, and tells what really happened."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path

import apsw
import msgspec
import pytest

from memoturn.faces.cli.demo import conversation, memory, music_store, small_talk
from memoturn.faces.cli.demo.memory import MemoryStory
from memoturn.faces.cli.demo.telling import Teller
from memoturn.faces.embedded.client import Memoturn
from tests.faces.conftest import Cli, Outcome


def test_the_demo_tells_its_story(cli: Cli, tmp_path: Path) -> None:
    told = cli("demo", "--keep", "kept").out
    for words in (
        "stored 32 turns of 4 sessions word for word",
        "1 superseded an older one",
        "asked all questions: 12 of 12 answered rightly, 12 proved by the turn that says so",
        "“What does Noor not eat?”  meat, cheese or eggs: she is vegan",
        "asked all questions: 0 of 12 answered rightly",
        "memories            12 added, 12 superseded",
        "turns poisoned-run  12 appended",
        "rewound to before-run: txid 12 has the content of txid 9",
        "threw the burner away",
        "forked the memory as demo--agent@coach",
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
    assert len(re.findall(r"^ *[\d.]+ (µs|ms|s)   \S", told, re.MULTILINE)) > 40
    listed = cli("branch", "list", "music", "--url", "file:./kept", "--json").json
    assert [(branch["name"], branch["is_default"]) for branch in listed] == [
        ("main", False),
        ("try-migration", True),
    ]
    listed = cli("branch", "list", "demo--agent", "--url", "file:./kept", "--json").json
    assert [branch["name"] for branch in listed] == ["coach", "main"]


def test_the_demo_leaves_nothing_behind(cli: Cli, tmp_path: Path) -> None:
    cli("demo")
    assert list(tmp_path.iterdir()) == []


def test_the_demo_takes_a_file_and_a_new_directory(cli: Cli, tmp_path: Path) -> None:
    music_store.write(tmp_path / "store.sqlite")
    assert "imported store.sqlite" in cli("demo", "--file", "store.sqlite").out
    (tmp_path / "taken").mkdir()
    cli("demo", "--keep", "taken", code=4)
    cli("demo", "--file", "nowhere.sqlite", code=3)
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


def test_the_demo_as_json_is_one_document_without_colours(cli: Cli) -> None:
    told = cli("demo", "--json").json
    assert {chapter["part"] for chapter in told["chapters"]} == {"An agent's memory", "The database beneath"}
    steps = [step for chapter in told["chapters"] for step in chapter["steps"]]
    assert sum("seconds" in step for step in steps) > 40
    assert all("text" in step or "table" in step for step in steps)
    assert "\\u001b" not in msgspec.json.encode(told).decode()


def _with(cli: Cli, tmp_path: Path, samples: object, code: int = 0) -> Outcome:
    (tmp_path / "talk.json").write_bytes(msgspec.json.encode(samples))
    return cli("demo", "--conversation", "talk.json", code=code)


def test_the_story_is_that_of_the_conversation_it_is_given(cli: Cli, tmp_path: Path) -> None:
    sample = deepcopy(small_talk.samples()[0])
    del sample["conversation"]["session_4"], sample["conversation"]["session_4_date_time"]
    told = _with(cli, tmp_path, [sample]).out
    assert "stored 24 turns of 3 sessions" in told
    assert "9 of 9 answered rightly" in told


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([], "the file has none"),
        ([{"sample_id": "x"}], "KeyError: 'conversation'"),
        ({"a": 1}, "LoCoMo's form"),
        ([{"sample_id": "x", "conversation": {"speaker_a": "a"}, "qa": []}], "x has 0"),
        ([small_talk.samples()[0] | {"qa": [{"question": "?", "category": 4, "evidence": 7}]}], "TypeError"),
    ],
)
def test_what_is_no_conversation_is_refused(cli: Cli, tmp_path: Path, samples: object, said: str) -> None:
    assert said in _with(cli, tmp_path, samples, code=1).err


def test_a_conversation_that_cannot_be_read_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("[")
    assert "broken.json has no conversations" in cli("demo", "--conversation", "broken.json", code=1).err
    assert "there is no file nowhere.json" in cli("demo", "--conversation", "nowhere.json", code=3).err


def test_a_question_asked_again_supersedes_its_answer() -> None:
    asked = memory.asked_of(conversation.parse(small_talk.samples())[0])
    answers = {one.topic: one.answer for one in asked}
    assert answers["noor.not.eat"].endswith("vegan")
    assert len(asked) == 12


def test_the_story_stops_where_something_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from memoturn.faces.embedded.memory import Profile

    monkeypatch.setattr(Profile, "rewind", lambda self, to: self.db.branch.rewind(self.db.txid))
    with Memoturn("memory:") as mt, pytest.raises(Exception, match="the rewind brought every answer back"):
        MemoryStory(Teller(as_json=False), mt, conversation.parse(small_talk.samples())).run()
