"""Whatever maintenance does to a manifest, each position that can be named is made of what it was made of.

The model keeps a copy of every position's content, and of what each segment holds; positions are read back through
their lineage alone.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from memoturn.base.errors import InternalError, MemoturnError, TxidNotRetainedError
from memoturn.base.txids import TXID, UnixMs
from memoturn.history.reach import pins_of
from memoturn.manifest import rules
from memoturn.manifest.coverage import has_base_at, lineage, missing
from memoturn.manifest.invariants import check_manifest
from memoturn.manifest.model import Manifest, Stretch
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import check_position
from tests.manifest.test_timeline import Content, Model

Step = tuple[str, int, int]


class Maintained(Model):
    """Branches that are also compacted, thinned, cut and deleted. Every change passes the invariants."""

    def __init__(self) -> None:
        super().__init__()
        self.packs: dict[tuple[str, str], dict[int, str]] = {}
        self.bases: dict[tuple[str, str], Content] = {}
        self.boundaries: dict[str, list[tuple[TXID, TXID]]] = {}
        self.number = 0

    def parts_of(self, name: str, txid: int) -> Content:
        """The content of a position, as its lineage tells it."""
        made: list[str] = []
        at = TXID(txid)
        while True:
            manifest = self.manifests[name]
            found = lineage(manifest, at)
            assert found.gap is None, f"{name}:{at} lacks commit {found.gap}"
            for segment, since, until in found.parts:
                if segment.is_base:
                    return (*self.bases[name, str(segment)], *reversed(made))
                held = self.packs[name, str(segment)]
                made += [held[t] for t in sorted(held, reverse=True) if since <= t <= until]
            if found.inherited is None:
                return tuple(reversed(made))
            assert manifest.parent is not None
            name, at = manifest.parent.branch_id, found.inherited

    def can_be_named(self, name: str, txid: int) -> bool:
        """Whether somebody may fork, rewind to or checkpoint a position; one that is inherited, on the parent too."""
        manifest = self.manifests[name]
        if manifest.deleted_at is not None:
            return False
        try:
            check_position(manifest, TXID(txid))
        except TxidNotRetainedError:
            return False
        if txid >= manifest.timeline[0].from_txid or manifest.parent is None:
            return True
        return txid in (manifest.head_txid, *manifest.checkpoints.values()) or self.can_be_named(
            manifest.parent.branch_id, txid
        )

    def pins(self, name: str) -> frozenset[TXID]:
        """The positions of a branch that others stand on."""
        by_incarnation = {manifest.incarnation: manifest for manifest in self.manifests.values()}
        return pins_of(by_incarnation).get(self.manifests[name].incarnation, frozenset())

    def apply(self, step: Step) -> None:
        what, which, how_far = step
        name = sorted(self.manifests)[which % len(self.manifests)]
        old = self.manifests[name]
        past = TXID(old.head_txid - how_far % (old.head_txid + 1))
        try:
            if what in ("commit", "rewind", "undo", "reset", "fork"):
                self._use(step, name, past)
            else:
                self._change(name, self._maintained(what, name, old, past, how_far))
        except InternalError:
            raise
        except MemoturnError:
            pass  # Refused, as users may be.

    def _use(self, step: Step, name: str, past: TXID) -> None:
        what = step[0]
        if what == "undo" and self.heads_before:
            name, past = self.heads_before[-1][0], TXID(self.heads_before[-1][1])
        if what in ("rewind", "fork", "undo") and not self.can_be_named(name, past):
            return
        parent = self.manifests[name].parent
        if what == "reset" and parent and self.manifests[parent.branch_id].deleted_at is not None:
            return
        old = dict(self.manifests)
        super().apply(step)
        for branch, new in self.manifests.items():
            check_manifest(old.get(branch), new)
            for text in new.segments:
                segment = SegmentName.parse(text)
                if (branch, text) not in self.packs and not segment.is_base:
                    txids = range(segment.min_txid, segment.max_txid + 1)
                    self.packs[branch, text] = {t: f"{branch}:{t}" for t in txids}

    def _change(self, name: str, new: Manifest) -> None:
        old = self.manifests[name]
        if new is not old:
            check_manifest(old, new)
            self.manifests[name] = new

    def _maintained(self, what: str, name: str, old: Manifest, past: TXID, how_far: int) -> Manifest:
        self.now += 1
        self.number += 1
        mark = f"{self.number:08x}"
        names = [SegmentName.parse(text) for text in old.segments]
        if what == "merge":
            began = {stretch.from_txid for stretch in old.timeline}
            packs = sorted((p for p in names if not p.is_base), key=lambda p: p.min_txid)[how_far % 5 :]
            run = packs[:1]
            for pack in packs[1 : 2 + how_far % 3]:
                if not all(t in began for t in range(run[-1].max_txid + 1, pack.min_txid)):
                    break
                run.append(pack)
            if len(run) < 2:
                return old
            into = SegmentName.pack(1, run[0].min_txid, run[-1].max_txid, 1, mark)
            self.packs[name, str(into)] = {
                t: made for pack in run for t, made in self.packs[name, str(pack)].items()
            }
            return rules.merge_segments(old, run, into)
        if what == "base":
            if not self.can_be_named(name, past) or past == 0:
                return old
            base = SegmentName.base(past, 1, mark)
            self.bases[name, str(base)] = self.parts_of(name, past)
            return rules.add_base(old, base)
        if what == "thin":
            return rules.drop_bases(old, [segment for segment in names if segment.is_base])
        if what == "checkpoint":
            return (
                rules.checkpoint(old, f"c{how_far % 3}", past, True, UnixMs(self.now))
                if (self.can_be_named(name, past))
                else old
            )
        if what == "exact":
            bases = [b.max_txid for b in names if b.is_base and b.max_txid <= past]
            return rules.raise_exact(old, max(bases)) if bases else old
        if what == "floor":
            return rules.raise_floor(old, min(past, old.exact_txid))
        if what == "remember":
            self.boundaries.setdefault(name, []).append((old.exact_txid, old.floor_txid))
            return old
        if what == "delete" and len(self.manifests) > 2:
            return rules.delete(old, UnixMs(self.now))
        if what == "undelete" and old.deleted_at is not None:
            return rules.undelete(old, old.incarnation)
        if what == "cut":
            if old.deleted_at is not None:
                return rules.cut_tombstone(old, self.pins(name))
            known = self.boundaries.get(name, [(TXID(0), TXID(0))])
            exact, floor = known[how_far % len(known)]
            return rules.cut(old, exact, floor, self.pins(name))
        return old


USES = ("commit", "commit", "commit", "commit", "rewind", "undo", "reset", "fork")
MAINTENANCE = (
    "merge", "merge", "base", "base", "thin", "checkpoint", "exact", "floor", "remember", "cut", "cut", "delete",
    "undelete",
)  # fmt: skip

a_step = st.tuples(st.sampled_from(USES + MAINTENANCE), st.integers(0, 5), st.integers(0, 20))


@settings(deadline=None, max_examples=100)
@given(st.lists(a_step, min_size=1, max_size=50))
def test_every_position_that_can_be_named_has_the_content_that_it_had(history: list[Step]) -> None:
    model = Maintained()
    for step in history:
        model.apply(step)
    check(model)


@pytest.mark.parametrize("seed", range(150))
def test_long_histories(seed: int) -> None:
    rng = random.Random(seed)
    model = Maintained()
    for number in range(150):
        what = rng.choice(USES if rng.random() < 0.5 else MAINTENANCE)
        model.apply((what, rng.randrange(6), rng.randrange(21)))
        if number % 10 == 9:
            check(model)
    check(model)


def check(model: Maintained) -> None:
    """Every position that can be named is made of what it was made of."""
    for name, content in model.content.items():
        manifest = model.manifests[name]
        if manifest.deleted_at is not None:
            continue
        for txid, made in content.items():
            if model.can_be_named(name, txid):
                assert model.parts_of(name, txid) == made, (name, txid)
        for checkpoint in manifest.checkpoints.values():
            assert model.can_be_named(name, checkpoint)
        assert model.can_be_named(name, manifest.head_txid)


def branch(*segments: str, head: int, **fields: object) -> Manifest:
    first = rules.root("b", "i", UnixMs(0))
    return replace(first, segments=segments, head_txid=TXID(head), **fields)  # type: ignore[arg-type]


def test_a_lineage_goes_from_the_newest_pack_to_the_base_and_no_further() -> None:
    m = branch("ltx/1/1-4-1.ltx", "base/3-1.ltx", "ltx/0/5-6-1.ltx", "ltx/0/7-9-1.ltx", head=9)
    found = lineage(m, TXID(8))
    assert [(str(p.segment), p.since, p.until) for p in found.parts] == [
        ("ltx/0/7-9-1.ltx", 4, 8),
        ("ltx/0/5-6-1.ltx", 4, 8),
        ("ltx/1/1-4-1.ltx", 4, 8),
        ("base/3-1.ltx", 0, 3),
    ]
    assert (found.inherited, found.gap) == (None, None)
    assert [str(p.segment) for p in lineage(m, TXID(3)).parts] == ["base/3-1.ltx"]
    assert [str(p.segment) for p in lineage(m, TXID(2)).parts] == ["ltx/1/1-4-1.ltx"]


def test_what_lacks_a_commit_says_which() -> None:
    m = branch("ltx/0/1-2-1.ltx", "ltx/0/5-6-1.ltx", head=6)
    assert lineage(m, TXID(6)).gap == 4
    assert lineage(m, TXID(2)).gap is None
    assert missing(m, TXID(0)) == 4
    assert missing(branch("base/4-1.ltx", "ltx/0/5-6-1.ltx", head=6), TXID(4)) is None
    assert missing(branch("base/4-1.ltx", "ltx/0/5-6-1.ltx", head=6), TXID(3)) == 3


def test_a_base_is_dropped_only_where_packs_make_up_for_it() -> None:
    m = branch("base/4-1.ltx", "ltx/0/5-6-1.ltx", "base/6-1.ltx", head=6, exact_txid=TXID(4))
    bases = [SegmentName.base(TXID(4), 1), SegmentName.base(TXID(6), 1)]
    assert rules.drop_bases(m, bases).segments == ("base/4-1.ltx", "ltx/0/5-6-1.ltx")
    assert rules.drop_bases(replace(m, exact_txid=TXID(6)), bases).segments == m.segments, "snapshots stay"


def test_a_base_stays_when_a_stretch_that_it_stands_for_was_let_go_of() -> None:
    m = branch("base/6-1.ltx", "ltx/1/1-9-1.ltx", head=9, exact_txid=TXID(5))
    starts = [(4, 2), (5, 1), (6, 4)]
    rewinds = [Stretch(TXID(first), "self", TXID(base), UnixMs(0)) for first, base in starts]
    m = replace(m, timeline=(*m.timeline, *rewinds))
    base = [SegmentName.base(TXID(6), 1)]
    cut = rules.cut(m, TXID(5), TXID(5), [])
    assert [stretch.from_txid for stretch in cut.timeline] == [1, 5, 6]
    assert rules.drop_bases(cut, base) is cut


def test_a_base_that_stands_on_what_was_inherited_stays() -> None:
    parent = rules.append(rules.root("p", "i", UnixMs(1)), 0, SegmentName.pack(0, TXID(1), TXID(9), 1))
    m = rules.fork(parent, "d", TXID(5), "c", "j", UnixMs(2), None)
    m = rules.rewind(rules.append(m, 0, SegmentName.pack(0, TXID(6), TXID(7), 1)), TXID(3), UnixMs(3))
    bases = [SegmentName.base(TXID(txid), 1) for txid in (5, 7, 8)]
    for base in bases:
        m = rules.add_base(m, base)
    assert [str(base) in rules.drop_bases(m, bases).segments for base in bases] == [True, False, True]


def test_a_cut_leaves_what_a_pin_needs_and_nothing_else() -> None:
    m = branch(
        "ltx/0/1-2-1.ltx", "base/2-1.ltx", "ltx/0/3-4-1.ltx", "ltx/0/5-6-1.ltx", "base/6-1.ltx", "ltx/0/7-7-1.ltx",
        head=7, exact_txid=TXID(6), floor_txid=TXID(6),
    )  # fmt: skip
    assert rules.cut(m, TXID(6), TXID(6), []).segments == ("base/6-1.ltx", "ltx/0/7-7-1.ltx")
    pinned = rules.cut(m, TXID(6), TXID(6), [TXID(3)])
    assert pinned.segments == ("base/2-1.ltx", "ltx/0/3-4-1.ltx", "base/6-1.ltx", "ltx/0/7-7-1.ltx")
    assert rules.cut(m, TXID(6), TXID(2), []).segments == ("base/2-1.ltx", "base/6-1.ltx", "ltx/0/7-7-1.ltx")
    assert rules.cut(m, TXID(0), TXID(0), []) is m, "what was nameable a grace period ago stays"
    assert has_base_at(m, TXID(6))
    assert not has_base_at(m, TXID(7))


def test_a_merge_of_what_is_gone_is_refused_and_one_that_was_made_stands() -> None:
    m = branch("ltx/0/1-2-1.ltx", "ltx/0/3-4-1.ltx", head=4)
    packs = [SegmentName.parse(text) for text in m.segments]
    into = SegmentName.pack(1, TXID(1), TXID(4), 1, "0123abcd")
    merged = rules.merge_segments(m, packs, into)
    assert merged.segments == (str(into),)
    assert rules.merge_segments(merged, packs, into) is merged
    with pytest.raises(MemoturnError, match="no longer part"):
        rules.merge_segments(merged, packs, into._replace(mark="99999999"))
    with pytest.raises(MemoturnError, match="no longer part"):
        rules.merge_segments(replace(m, deleted_at=UnixMs(1)), packs, into)
