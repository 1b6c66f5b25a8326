"""A machine for Hypothesis in which a model is kept on a branch and on a fork of it, and both are rewound."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from memoturn import Memoturn
from memoturn.base.clock import Clock
from memoturn.faces.embedded.client import Database


class Branching(RuleBasedStateMachine):
    """`now` is what each branch holds, `then` what it held at each txid, copied."""

    def begin(self, nothing: Any, clock: Clock | None = None) -> None:
        """Make a database whose one branch holds `nothing`."""
        self.mt = Memoturn("memory:", clock=clock)
        self.mt.databases.create("x")
        self.now: dict[str, Any] = {"main": nothing}
        self.then: dict[str, dict[int, Any]] = {"main": {0: deepcopy(nothing)}}

    def teardown(self) -> None:
        self.mt.close()

    def db(self, name: str) -> Database:
        return self.mt.db(f"x@{name}")

    def branch(self, which: int) -> str:
        return sorted(self.now)[which % len(self.now)]

    def kept(self, name: str, txid: int) -> None:
        """The branch holds at this txid what it holds now."""
        self.then[name][txid] = deepcopy(self.now[name])

    @rule(which=st.integers(0, 1), back=st.integers(0, 10))
    def rewind(self, which: int, back: int) -> None:
        name = self.branch(which)
        positions = sorted(self.then[name])
        target = positions[-1 - back % len(positions)]
        done = self.db(name).branch.rewind(target)
        self.now[name] = deepcopy(self.then[name][target])
        self.kept(name, done.txid)

    @rule()
    def fork(self) -> None:
        if "fork" not in self.now:
            txid = self.db("main").branch.create("fork").txid
            self.now["fork"] = deepcopy(self.now["main"])
            self.then["fork"] = {t: kept for t, kept in self.then["main"].items() if t <= txid}
