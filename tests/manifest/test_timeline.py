"""Where a position's content comes from, against a model that copies everything."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from memoturn.base.txids import EMPTY, TXID, UnixMs
from memoturn.manifest import rules
from memoturn.manifest.model import Manifest
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import stretch_at

Content = tuple[str, ...]


class Model:
    """Branches whose every position has its content beside it: the names of the commits that made it."""

    def __init__(self) -> None:
        self.manifests = {"b0": rules.root("b0", "i0", UnixMs(0))}
        self.content: dict[str, dict[int, Content]] = {"b0": {0: ()}}
        self.commits: set[tuple[str, int]] = set()
        self.now = 0
        self.heads_before: list[tuple[str, int]] = []

    def resolve(self, name: str, txid: int) -> Content:
        """The content of a position by the rules of the timeline, commit by commit."""
        made: list[str] = []
        m, at = self.manifests[name], TXID(txid)
        while True:
            stretch = stretch_at(m, at)
            made += [
                f"{m.branch_id}:{t}"
                for t in range(at, stretch.from_txid - 1, -1)
                if (m.branch_id, t) in self.commits
            ]
            if stretch.base == "empty":
                return tuple(reversed(made))
            if stretch.base == "parent":
                assert m.parent is not None
                m = self.manifests[m.parent.branch_id]
            at = stretch.base_txid

    def apply(self, step: tuple[str, int, int]) -> None:
        what, which, how_far = step
        name = sorted(self.manifests)[which % len(self.manifests)]
        m, content = self.manifests[name], self.content[name]
        head = m.head_txid
        past = TXID(head - how_far % (head + 1))
        self.now += 1
        now = UnixMs(self.now)
        new: Manifest
        if what == "commit":
            first, last = TXID(head + 1), TXID(head + 1 + how_far % 3)
            new = rules.append(m, m.epoch, SegmentName.pack(0, first, last, 1))
            for txid in range(first, last + 1):
                self.commits.add((name, txid))
                content[txid] = (*content[txid - 1], f"{name}:{txid}")
        elif what == "rewind":
            new = rules.rewind(m, past, now)
            content[new.head_txid] = content[past]
            self.heads_before.append((name, head))
        elif what == "undo" and self.heads_before:
            name, before = self.heads_before.pop()
            m, content = self.manifests[name], self.content[name]
            new = rules.rewind(m, TXID(before), now)
            content[new.head_txid] = content[before]
        elif what == "reset" and m.parent is not None:
            parent = m.parent.branch_id
            head_there = self.manifests[parent].head_txid
            new = rules.reset(m, head_there, now)
            content[new.head_txid] = self.content[parent][head_there]
        elif what == "fork" and len(self.manifests) < 6:
            name = f"b{len(self.manifests)}"
            new = rules.fork(m, "d", past, name, f"i{len(self.manifests)}", now, None)
            self.content[name] = {txid: made for txid, made in content.items() if txid <= past}
        else:
            return
        self.manifests[name] = new


steps = st.tuples(
    st.sampled_from(["commit", "commit", "rewind", "undo", "reset", "fork"]),
    st.integers(0, 5),
    st.integers(0, 20),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(steps, min_size=1, max_size=30))
def test_every_position_of_every_branch_has_the_content_that_it_had(
    history: list[tuple[str, int, int]],
) -> None:
    model = Model()
    for step in history:
        model.apply(step)
    for name, content in model.content.items():
        assert set(content) == set(range(model.manifests[name].head_txid + 1))
        for txid, made in content.items():
            assert model.resolve(name, txid) == made, (name, txid)


def test_below_its_first_stretch_a_branch_has_the_history_of_its_parent() -> None:
    parent = rules.append(rules.root("p", "i", UnixMs(1)), 0, SegmentName.pack(0, TXID(1), TXID(9), 1))
    child = rules.fork(parent, "d", TXID(5), "c", "j", UnixMs(2), None)
    for txid in range(6):
        stretch = stretch_at(child, TXID(txid))
        assert (stretch.base, stretch.base_txid) == ("parent", txid)
    assert stretch_at(child, TXID(6)).base_txid == 5
    assert stretch_at(parent, EMPTY).base == "empty"
