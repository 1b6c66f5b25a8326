"""`memoturn kv`: values byte for byte, versions to compare with, pages that go on."""

from __future__ import annotations

import base64
from datetime import datetime

from tests.faces.conftest import Cli


def test_a_value_goes_in_and_comes_out_as_it_is(agent: Cli) -> None:
    done = agent("kv", "put", "agent-42", "scratch", "plan", "first, tea")
    assert done.out.startswith("put plan, version ")
    assert done.err == "txid: 3\n"
    asked = agent("kv", "get", "agent-42", "scratch", "plan")
    assert (asked.out, asked.err) == ("first, tea", "txid: 3\n")
    for words in (("-",), ()):
        agent("kv", "put", "agent-42", "scratch", "raw", *words, stdin=b"a\r\n\xff\x00")
        asked = agent("kv", "get", "agent-42", "scratch", "raw", "--json")
        assert base64.b64decode(asked.json["value"]) == b"a\r\n\xff\x00"


def test_an_entry_is_there_for_programs(agent: Cli) -> None:
    put = agent(
        "kv", "put", "agent-42", "n", "k", "v", "--ttl", "1h", "--meta", '{"by": "agent"}', "--json"
    ).json
    entry = agent("kv", "get", "agent-42", "n", "k", "--json").json
    assert datetime.fromisoformat(entry.pop("expires_at")).tzinfo is not None
    assert entry == {"value": "dg==", "version": put["version"], "meta": {"by": "agent"}, "txid": 3}


def test_compare_and_set_conflicts_with_four(agent: Cli) -> None:
    version = str(agent("kv", "put", "agent-42", "n", "k", "1", "--if-absent", "--json").json["version"])
    agent("kv", "put", "agent-42", "n", "k", "2", "--if-absent", code=4)
    agent("kv", "put", "agent-42", "n", "k", "2", "--if-version", version)
    failed = agent("kv", "put", "agent-42", "n", "k", "3", "--if-version", version, "--json", code=4)
    assert failed.error["code"] == "conflict"
    agent("kv", "delete", "agent-42", "n", "k", "--if-version", version, code=4)
    assert agent("kv", "get", "agent-42", "n", "k").out == "2"


def test_lists_go_on_page_by_page(agent: Cli) -> None:
    for key in ("a1", "a2", "a3", "b"):
        agent("kv", "put", "agent-42", "n", key, key)
    page = agent("kv", "list", "agent-42", "n", "--prefix", "a", "--limit", "2")
    assert [line.split()[0] for line in page.out.splitlines()] == ["key", "a1", "a2"]
    more, txid = page.err.splitlines()
    cursor = more.removeprefix("more: --cursor ")
    assert txid == "txid: 6"
    rest = agent("kv", "list", "agent-42", "n", "--prefix", "a", "--cursor", cursor, "--json").json
    assert [one["key"] for one in rest["keys"]] == ["a3"]
    assert rest["cursor"] is None
    assert agent("kv", "list", "agent-42", "nothing").out.split() == ["key", "size", "version", "expires"]


def test_what_is_not_there_is_three(agent: Cli) -> None:
    agent("kv", "get", "agent-42", "n", "k", code=3)
    agent("kv", "delete", "agent-42", "n", "k", code=3)
    agent("kv", "get", "nobody", "n", "k", code=3)
    agent("kv", "put", "agent-42", "n", "k", "v")
    agent("kv", "delete", "agent-42", "n", "k")
    agent("kv", "get", "agent-42", "n", "k", code=3)


def test_the_past_is_read(agent: Cli) -> None:
    agent("kv", "put", "agent-42", "n", "k", "then")
    agent("branch", "checkpoint", "agent-42", "before")
    agent("kv", "put", "agent-42", "n", "k", "now")
    assert agent("kv", "get", "agent-42@main:before", "n", "k").out == "then"
    agent("kv", "put", "agent-42@main:before", "n", "k", "never", code=1)


def test_what_cannot_be_is_refused(agent: Cli) -> None:
    assert "ttl of 0" in agent("kv", "put", "agent-42", "n", "k", "v", "--ttl", "0", code=1).err
    assert "namespace" in agent("kv", "get", "agent-42", "a b", "k", code=1).err
    for words in (
        ("put", "agent-42", "n", "k", "v", "--if-version", "x"),
        ("put", "agent-42", "n", "k", "v", "--meta", "[]"),
        ("put", "agent-42", "n", "k", "v", "--meta", "{"),
        ("list", "agent-42", "n", "--limit", "many"),
        ("get", "agent-42", "n"),
    ):
        agent("kv", *words, code=2)
