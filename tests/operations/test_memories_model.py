"""Any sequence of ingests, forgets, sessions ended, forks and rewinds, against a small model, field for field."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memoturn import Memory, Memoturn, Profile
from memoturn.base.clock import ms_of, time_of
from memoturn.models.memory_draft import draft_of, id_text
from tests.support import ManualClock


@dataclass
class Held:
    """What the model remembers of a memory."""

    id: str
    type: str
    topic_key: str | None
    summary: str
    keywords: list[str]
    content: Any
    session_id: str | None
    source: str | None
    valid_from: int
    valid_to: int | None = None
    superseded_by: str | None = None
    expires_at: int | None = None
    embedding: list[float] | None = None


@dataclass
class State:
    """A branch: what it remembers, in the order in which it was learned, and its states by txid."""

    held: list[Held] = field(default_factory=list)
    past: dict[int, list[Held]] = field(default_factory=dict)

    def find(self, memory: str) -> Held | None:
        return next((one for one in self.held if one.id == memory), None)

    def ingest(self, item: dict[str, Any], now: int) -> tuple[str, str, str | None]:
        new = Held(
            id_text(draft_of(item).id), item["type"], item.get("topic_key"), item["summary"],
            list(item.get("keywords", [])), item.get("content", item["summary"]), item.get("session_id"),
            item.get("source"), ms_of(datetime.fromisoformat(item["valid_from"])) if "valid_from" in item else now,
            embedding=item.get("embedding"),
        )  # fmt: skip
        if new.type == "task":
            new.expires_at = now + int(item.get("ttl", 86_400) * 1000)
        old = self.find(new.id)
        status = "created"
        if old is not None:
            if old.valid_to is None and (old.expires_at is None or old.expires_at > now):
                old.embedding = old.embedding or new.embedding
                return old.id, "duplicate", None
            status = "revived"
            new.embedding = new.embedding or old.embedding
            self.held.remove(old)
        superseded = None
        if new.topic_key is not None and new.type in ("fact", "instruction"):
            for one in self.held:
                if (one.type, one.topic_key, one.valid_to) == (new.type, new.topic_key, None):
                    superseded = one.id
                    one.valid_to, one.superseded_by = max(one.valid_from, new.valid_from), new.id
        self.held.append(new)
        return new.id, status, superseded

    def forget(self, memory: str) -> bool:
        gone = self.find(memory)
        if gone is None:
            return False
        self.held.remove(gone)
        for one in self.held:
            if one.superseded_by == memory:
                one.superseded_by = gone.superseded_by
        return True

    def end(self, session_id: str) -> int:
        tasks = [one for one in self.held if one.type == "task" and one.session_id == session_id]
        return sum(self.forget(one.id) for one in tasks)


def shape(held: Held) -> Memory:
    """A memory as `get` has it."""
    return Memory(
        id=held.id,
        type=held.type,  # type: ignore[arg-type]
        topic_key=held.topic_key,
        summary=held.summary,
        keywords=held.keywords,
        content=held.content,
        session_id=held.session_id,
        source=held.source,
        valid_from=time_of(held.valid_from),  # type: ignore[arg-type]
        valid_to=None if held.valid_to is None else time_of(held.valid_to),  # type: ignore[arg-type]
        superseded_by=held.superseded_by,
        expires_at=None if held.expires_at is None else time_of(held.expires_at),  # type: ignore[arg-type]
        model=None if held.embedding is None else "",
    )


ITEMS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["fact", "fact", "instruction", "event", "task"]),
        "summary": st.sampled_from(["tea", "milk", "cup", "water"]),
    },
    optional={
        "topic_key": st.sampled_from(["a", "b"]),
        "content": st.sampled_from([1, {"x": [1.5, None]}, "tea", {"x": [1.5, None], "y": True}]),
        "keywords": st.sampled_from([["k"], ["k", "naïve"]]),
        "session_id": st.sampled_from(["s", "t"]),
        "source": st.sampled_from(["Ann", "Bob"]),
        "valid_from": st.sampled_from(["2027-01-01T00:00:00+00:00", "2027-03-01T00:00:00+00:00"]),
        "embedding": st.sampled_from([[1.0, 0.5], [0.25, -2.0]]),
    },
).map(lambda item: {**item, "ttl": 60} if item["type"] == "task" and "source" in item else item)


class Remembering(RuleBasedStateMachine):
    """One profile and its forks."""

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock()
        self.mt = Memoturn("memory:", clock=self.clock)
        self.pairs: list[tuple[Profile, State]] = [(self.mt.memory("a", "b"), State())]
        self.now = 0

    def teardown(self) -> None:
        if hasattr(self, "mt"):
            self.mt.close()

    @property
    def memory(self) -> Profile:
        return self.pairs[self.now][0]

    @property
    def state(self) -> State:
        return self.pairs[self.now][1]

    def is_there(self) -> bool:
        return bool(self.pairs[0][1].past)

    def committed(self, txid: int) -> None:
        self.state.past[txid] = copy.deepcopy(self.state.held)

    @rule(items=st.lists(ITEMS, min_size=1, max_size=6))
    def ingest(self, items: list[dict[str, Any]]) -> None:
        done = self.memory.ingest(items)
        wanted = [self.state.ingest(item, self.clock.ms) for item in items]
        assert [(one.id, one.status, one.superseded) for one in done.memories] == wanted
        self.committed(done.txid)

    @precondition(is_there)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        ids = [one.id for one in self.state.held] + ["mem_" + "0" * 32]
        memory = data.draw(st.sampled_from(ids))
        done = self.memory.forget(memory)
        assert done.forgotten == self.state.forget(memory)
        self.committed(done.txid)

    @precondition(is_there)
    @rule(session=st.sampled_from(["s", "t", "u"]))
    def end_session(self, session: str) -> None:
        done = self.memory.end_session(session)
        assert done.tasks == self.state.end(session)
        self.committed(done.txid)

    @rule(seconds=st.sampled_from([0.001, 60, 86_400]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.is_there() and len(self.pairs) < 4)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        txid = data.draw(st.sampled_from(sorted(self.state.past)))
        held = copy.deepcopy(self.state.past[txid])
        fork = self.memory.fork(f"f{len(self.pairs)}", txid=txid)
        self.pairs.append((fork, State(held, {txid: copy.deepcopy(held)})))

    @precondition(is_there)
    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        txid = data.draw(st.sampled_from(sorted(self.state.past)))
        done = self.memory.rewind(txid)
        self.state.held = copy.deepcopy(self.state.past[txid])
        self.committed(done.txid)

    @rule(data=st.data())
    def another_branch(self, data: st.DataObject) -> None:
        self.now = data.draw(st.integers(0, len(self.pairs) - 1))

    @rule()
    def move_elsewhere(self) -> None:
        lines = [json.loads(json.dumps(line)) for line in self.memory.export_lines()]
        with Memoturn("memory:", clock=self.clock) as other:
            bob = other.memory("a", "c")
            assert bob.import_lines(lines).created == len(lines)
            assert list(bob.export_lines()) == lines
            assert bob.import_lines(lines).created == 0

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        if not hasattr(self, "pairs"):
            return
        for memory, state in self.pairs:
            lines = list(memory.export_lines())
            assert [line["id"] for line in lines] == [one.id for one in state.held]
            assert [line.get("embedding") for line in lines] == [one.embedding for one in state.held]
            for held in state.held:
                found = memory.get(held.id)
                assert found is not None
                fields = {name: getattr(found, name) for name in Memory.__struct_fields__}
                assert Memory(**fields) == shape(held)
                same = [held]
                if held.topic_key is not None and held.type in ("fact", "instruction"):
                    same = [
                        one for one in state.held if (one.type, one.topic_key) == (held.type, held.topic_key)
                    ]
                assert found.chain == [shape(one) for one in same]
            living = {
                one.id
                for one in state.held
                if one.valid_to is None and (one.expires_at is None or one.expires_at > self.clock.ms)
            }
            assert {
                hit.id for hit in memory.recall("January March 2027 tea milk cup water", k=1000)
            } == living
            counts = {found.session_id: found.memories for found in memory.sessions()}
            wanted: dict[str, int] = {}
            for one in state.held:
                if one.session_id is not None:
                    wanted[one.session_id] = wanted.get(one.session_id, 0) + 1
            assert counts == wanted


Remembering.TestCase.settings = settings(max_examples=60, stateful_step_count=20)
TestMemoriesAreThoseOfTheModel = Remembering.TestCase
