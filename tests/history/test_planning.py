"""What is done next follows from the manifest and from what its segments weigh, and from nothing else."""

from __future__ import annotations

from msgspec.structs import replace

from memoturn.base.txids import TXID, UnixMs
from memoturn.history.planning import (
    FOLDED_AGAIN,
    LARGE_PACK,
    LEAST_BASE,
    MIB,
    SLOT_MS,
    Aims,
    Merge,
    Thin,
    WriteBase,
    plan,
)
from memoturn.manifest import rules
from memoturn.manifest.coverage import Part
from memoturn.manifest.model import Manifest, Stretch
from memoturn.manifest.segment_name import SegmentName


class Weighed:
    """Facts as they are told: so many bytes a transaction, unless a segment is given its own weight."""

    def __init__(self, each: int = 100, own: dict[str, int] | None = None, inherited: int = 0) -> None:
        self.each = each
        self.own = own or {}
        self.inherited = inherited

    def size(self, pack: SegmentName) -> int:
        return self.own.get(str(pack), self.each * (pack.max_txid - pack.min_txid + 1))

    def weight(self, part: Part) -> int:
        if part.segment.is_base:
            return self.own.get(str(part.segment), MIB)
        first, last = max(part.since, part.segment.min_txid), min(part.until, part.segment.max_txid)
        return self.own.get(str(part.segment), self.each * (last - first + 1))

    def time(self, base: SegmentName) -> UnixMs:
        return UnixMs(base.max_txid * 1000)

    def is_empty(self) -> bool:
        return False

    def inherited_weight(self) -> int:
        return self.inherited

    def inherited_hops(self, enough: int) -> int:
        return 1


def branch(*segments: str) -> Manifest:
    head = max(SegmentName.parse(text).max_txid for text in segments)
    return replace(rules.root("b", "i", UnixMs(0)), segments=segments, head_txid=head)


def packs(count: int, level: int = 0, first: int = 1) -> list[str]:
    return [f"ltx/{level}/{t}-{t}-1.ltx" for t in range(first, first + count)]


def test_nothing_is_merged_before_there_are_many_packs_and_then_all_of_level_0() -> None:
    assert plan(branch(*packs(119)), Weighed(), Aims()) is None
    step = plan(branch(*packs(120)), Weighed(), Aims())
    assert isinstance(step, Merge)
    assert (len(step.packs), step.level) == (120, 1)


def test_with_few_of_level_0_those_of_level_1_are_merged() -> None:
    step = plan(branch(*packs(105, level=1), *packs(15, first=106)), Weighed(), Aims())
    assert isinstance(step, Merge)
    assert (len(step.packs), step.level) == (105, 2)
    step = plan(branch(*packs(104, level=1), *packs(16, first=105)), Weighed(), Aims())
    assert isinstance(step, Merge)
    assert (len(step.packs), step.level) == (16, 1)


def test_large_packs_are_left_alone_and_merges_stay_bounded() -> None:
    many = branch(*packs(200))
    assert plan(many, Weighed(LARGE_PACK, own={}), Aims()) == WriteBase(TXID(200), "volume")
    step = plan(many, Weighed(LARGE_PACK // 4), Aims())
    assert isinstance(step, Merge)
    assert len(step.packs) == 8, "no more than twice a large pack together"


def test_packs_of_several_stretches_are_merged_over_their_rewinds() -> None:
    m = branch(*packs(60), *packs(60, first=62))
    assert plan(m, Weighed(), Aims()) is not None
    step = plan(m, Weighed(), Aims())
    assert isinstance(step, Merge)
    assert len(step.packs) == 60, "txid 61 is missing"
    m = replace(m, timeline=(*m.timeline, Stretch(TXID(61), "self", TXID(5), UnixMs(1))))
    step = plan(m, Weighed(), Aims())
    assert isinstance(step, Merge)
    assert len(step.packs) == 120


def test_a_base_is_due_when_packs_outweigh_the_last_one() -> None:
    m = branch("base/10-1.ltx", "ltx/1/1-50-1.ltx")
    heavy = {"base/10-1.ltx": 3 * MIB}
    assert plan(m, Weighed(3 * MIB // 40 - 1, heavy), Aims()) is None
    assert plan(m, Weighed(3 * MIB // 40 + 1, heavy), Aims()) == WriteBase(TXID(50), "volume")
    light = {"base/10-1.ltx": 1000}
    assert plan(m, Weighed(LEAST_BASE // 40 - 1, light), Aims()) is None
    assert plan(m, Weighed(LEAST_BASE // 40 + 1, light), Aims()) == WriteBase(TXID(50), "volume")


def test_a_fork_is_not_copied_for_a_few_commits() -> None:
    parent = branch("ltx/0/1-9-1.ltx")
    m = rules.fork(parent, "d", TXID(9), "c", "j", UnixMs(1), None)
    m = rules.append(m, 0, SegmentName.parse("ltx/0/10-11-1.ltx"))
    gib = 1 << 30
    assert plan(m, Weighed(MIB, inherited=gib), Aims(idle=True)) is None
    m = rules.append(m, 0, SegmentName.parse("ltx/0/12-12-1.ltx"))
    step = plan(m, Weighed(MIB, inherited=gib), Aims(idle=True))
    assert isinstance(step, Merge)
    assert plan(m, Weighed(gib, inherited=gib), Aims()) == WriteBase(TXID(12), "volume")


def test_an_idle_branch_is_not_copied_again_for_a_few_bytes_more() -> None:
    m = branch("base/1-1.ltx", "ltx/2/2-9-1.ltx", "ltx/0/10-10-1.ltx", "ltx/0/11-11-1.ltx")
    own = {
        "base/1-1.ltx": 4 << 30,
        "ltx/2/2-9-1.ltx": 100 * MIB,
        "ltx/0/10-10-1.ltx": MIB,
        "ltx/0/11-11-1.ltx": MIB,
    }
    step = plan(m, Weighed(own=own), Aims(idle=True))
    assert isinstance(step, Merge)
    assert [str(pack) for pack in step.packs] == ["ltx/0/10-10-1.ltx", "ltx/0/11-11-1.ltx"]
    own["ltx/0/11-11-1.ltx"] = 100 * MIB // FOLDED_AGAIN
    step = plan(m, Weighed(own=own), Aims(idle=True))
    assert isinstance(step, Merge)
    assert len(step.packs) == 3


def test_one_base_is_kept_for_each_slot_and_the_newest() -> None:
    hour = 3600
    at = [1 * hour, 2 * hour, 5 * hour, 7 * hour, 11 * hour, 13 * hour, 14 * hour, 15 * hour]
    m = branch("ltx/2/1-60000-1.ltx", *[f"base/{txid}-1.ltx" for txid in at])
    step = plan(m, Weighed(1, {f"base/{t}-1.ltx": 1 << 30 for t in at}), Aims())
    assert isinstance(step, Thin)
    assert [base.max_txid // hour for base in step.bases] == [2, 5, 11, 14]
    assert 6 * hour * 1000 == SLOT_MS
    assert plan(rules.drop_bases(m, step.bases), Weighed(1, {"base/54000-1.ltx": 1 << 30}), Aims()) is None
    snapshots = replace(m, exact_txid=TXID(at[-1]))
    assert plan(snapshots, Weighed(1, {"base/54000-1.ltx": 1 << 30}), Aims()) is None, (
        "snapshots are not ours to drop"
    )


def test_a_deleted_branch_is_left_alone() -> None:
    assert plan(replace(branch(*packs(200)), deleted_at=UnixMs(1)), Weighed(), Aims(idle=True)) is None
