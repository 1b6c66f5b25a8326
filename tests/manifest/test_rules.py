"""No sequence of wishes breaks an invariant, and what each rule refuses."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from memoturn.base.errors import (
    AlreadyExistsError,
    BranchExpiredError,
    BranchNotFoundError,
    CheckpointNotFoundError,
    ConflictError,
    DatabaseNotFoundError,
    FencedError,
    InternalError,
    InvalidRequestError,
    MemoturnError,
    TxidNotRetainedError,
)
from memoturn.base.txids import TXID, UnixMs
from memoturn.manifest import rules
from memoturn.manifest.invariants import check_catalog, check_manifest
from memoturn.manifest.model import CatalogEntry, Manifest, Owner, Stretch
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import stretch_at

NOW = UnixMs(1_000_000)
REFUSALS = (
    AlreadyExistsError,
    BranchExpiredError,
    BranchNotFoundError,
    CheckpointNotFoundError,
    ConflictError,
    TxidNotRetainedError,
)


def root() -> Manifest:
    return rules.root("main", "b_0", NOW)


def grown(commits: int = 3) -> Manifest:
    """A branch that is owned under epoch 1 and has commits 1 to `commits` in one pack."""
    return rules.take(root(), Owner("n"), SegmentName.pack(0, TXID(1), TXID(commits), 1), NOW)


class Wishes(RuleBasedStateMachine):
    """Every change goes through the invariants, as in the register, and the clock may run backwards."""

    branches = Bundle("branches")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.held: dict[str, Manifest] = {}
        self.highest: dict[str, tuple[int, int]] = {}
        self.born = 0

    def write(self, name: str, new: Manifest) -> None:
        old = self.held.get(name)
        if new is old:
            return
        new = replace(new, seq=new.seq + 1)
        check_manifest(old, new)
        self.held[name] = new

    def wish(self, name: str, wish) -> None:  # type: ignore[no-untyped-def]
        """Apply it, or see it refused for a reason that a user is told."""
        try:
            new = wish(self.held[name])
        except REFUSALS:
            return
        self.write(name, new)

    def incarnation(self) -> str:
        self.born += 1
        return f"b_{self.born}"

    @initialize(target=branches)
    def start(self) -> str:
        self.write("main", root())
        return "main"

    @rule(seconds=st.integers(-30, 30))
    def time_passes(self, seconds: int) -> None:
        self.now = UnixMs(self.now + seconds * 1000)

    @rule(
        target=branches,
        parent=branches,
        name=st.sampled_from(["a", "b", "c"]),
        back=st.integers(0, 5),
        ttl=st.none() | st.integers(-5, 60),
    )
    def fork(self, parent: str, name: str, back: int, ttl: int | None) -> str:
        source = self.held[parent]
        expires = None if ttl is None else UnixMs(self.now + ttl * 1000)
        try:
            child = rules.fork(
                source, "d", TXID(source.head_txid - back), name, self.incarnation(), self.now, expires
            )
            if name in self.held:
                child = rules.reborn(self.held[name], child, self.now)
        except REFUSALS:
            return parent
        self.write(name, child)
        self.highest.pop(name, None)
        return name

    @rule(name=branches, recovered=st.integers(0, 3))
    def take(self, name: str, recovered: int) -> None:
        def wish(m: Manifest) -> Manifest:
            head = m.head_txid
            pack = SegmentName.pack(0, TXID(head + 1), TXID(head + recovered), m.epoch) if recovered else None
            return rules.take(m, Owner("n"), pack, self.now)

        self.wish(name, wish)

    @rule(name=branches, commits=st.integers(1, 4), skip=st.integers(-2, 2), late=st.integers(0, 2))
    def append(self, name: str, commits: int, skip: int, late: int) -> None:
        m = self.held[name]
        first = max(1, m.head_txid + 1 + skip)
        epoch = max(0, m.epoch - late)
        pack = SegmentName.pack(0, TXID(first), TXID(first + commits - 1), epoch)
        self.wish(name, lambda old: rules.append(old, epoch, pack))

    @rule(name=branches, label=st.sampled_from("xyz"), back=st.integers(-1, 6), move=st.booleans())
    def checkpoint(self, name: str, label: str, back: int, move: bool) -> None:
        self.wish(
            name, lambda m: rules.checkpoint(m, label, TXID(max(0, m.head_txid - back)), move, self.now)
        )

    @rule(name=branches, label=st.sampled_from("xyz"))
    def drop_checkpoint(self, name: str, label: str) -> None:
        self.wish(name, lambda m: rules.drop_checkpoint(m, label, self.now))

    @rule(name=branches, back=st.integers(-1, 9))
    def rewind(self, name: str, back: int) -> None:
        self.wish(name, lambda m: rules.rewind(m, TXID(m.head_txid - back), self.now))

    @rule(name=branches)
    def reset(self, name: str) -> None:
        parent = self.held[name].parent
        head = TXID(0) if parent is None else self.held[parent.branch_id].head_txid
        self.wish(name, lambda m: rules.reset(m, head, self.now))

    @rule(name=branches)
    def delete(self, name: str) -> None:
        self.wish(name, lambda m: rules.delete(m, self.now))

    @rule(name=branches, other=st.booleans())
    def undelete(self, name: str, other: bool) -> None:
        self.wish(name, lambda m: rules.undelete(m, "b_other" if other else m.incarnation))

    @rule(name=branches, ttl=st.none() | st.integers(-5, 60))
    def set_ttl(self, name: str, ttl: int | None) -> None:
        at = None if ttl is None else UnixMs(self.now + ttl * 1000)
        self.wish(name, lambda m: rules.set_ttl(m, at, self.now))

    @invariant()
    def the_head_and_the_epoch_only_rise(self) -> None:
        for name, m in self.held.items():
            head, epoch = self.highest.get(name, (0, 0))
            assert m.head_txid >= head
            assert m.epoch >= epoch
            self.highest[name] = (m.head_txid, m.epoch)

    @invariant()
    def every_position_lies_on_a_stretch_that_began_before_it(self) -> None:
        for m in self.held.values():
            for txid in range(m.head_txid + 1):
                assert stretch_at(m, TXID(txid)).from_txid <= txid or m.parent is None


TestWishes = Wishes.TestCase
TestWishes.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


# One by one.


def test_an_append_that_has_landed_already_changes_nothing() -> None:
    m = grown(3)
    assert rules.append(m, 1, SegmentName.pack(0, TXID(1), TXID(3), 1)) is m
    assert rules.append(m, 1, SegmentName.pack(0, TXID(2), TXID(3), 1)) is m


@pytest.mark.parametrize("first", [3, 5])
def test_an_append_continues_the_head_without_gap_or_overlap(first: int) -> None:
    with pytest.raises(ConflictError, match="does not continue"):
        rules.append(grown(3), 1, SegmentName.pack(0, TXID(first), TXID(9), 1))


def test_an_append_under_an_epoch_that_has_passed_is_fenced() -> None:
    m = rules.take(grown(3), Owner("other"), None, NOW)
    with pytest.raises(FencedError, match=r"other \(epoch 2, ours was 1\)"):
        rules.append(m, 1, SegmentName.pack(0, TXID(4), TXID(4), 1))


def test_nothing_is_appended_to_a_tombstone() -> None:
    with pytest.raises(BranchNotFoundError, match="deleted"):
        rules.append(rules.delete(grown(), NOW), 1, SegmentName.pack(0, TXID(4), TXID(4), 1))


def test_a_rewind_raises_the_head_and_names_where_it_went() -> None:
    m = rules.rewind(grown(3), TXID(1), NOW)
    assert m.head_txid == 4
    assert m.timeline[-1] == Stretch(TXID(4), "self", TXID(1), NOW)


def test_a_rewind_to_the_head_is_one_too() -> None:
    assert rules.rewind(grown(3), TXID(3), NOW).head_txid == 4


def test_stretches_begin_in_order_whatever_the_clock_does() -> None:
    m = rules.rewind(grown(3), TXID(1), UnixMs(NOW - 5000))
    assert m.timeline[-1].at == NOW


@pytest.mark.parametrize(("txid", "nearest"), [(4, 3), (99, 3)])
def test_a_position_ahead_of_the_head_names_the_head(txid: int, nearest: int) -> None:
    with pytest.raises(TxidNotRetainedError, match="ahead of") as refused:
        rules.rewind(grown(3), TXID(txid), NOW)
    assert refused.value.nearest == (nearest,)


def test_a_position_below_the_exact_window_names_its_start() -> None:
    cut = replace(grown(3), exact_txid=TXID(2))
    with pytest.raises(TxidNotRetainedError, match="no longer retained") as refused:
        rules.rewind(cut, TXID(1), NOW)
    assert refused.value.nearest == (2,)


def test_a_branch_without_a_parent_cannot_be_reset() -> None:
    with pytest.raises(ConflictError, match="no parent"):
        rules.reset(grown(), TXID(1), NOW)


def test_a_checkpoint_stays_where_it_is_unless_it_is_moved() -> None:
    m = rules.checkpoint(grown(3), "c", TXID(2), False, NOW)
    assert rules.checkpoint(m, "c", TXID(2), False, NOW) is m
    with pytest.raises(ConflictError, match="stands at txid 2"):
        rules.checkpoint(m, "c", TXID(3), False, NOW)
    assert rules.checkpoint(m, "c", TXID(3), True, NOW).checkpoints == {"c": 3}
    assert rules.drop_checkpoint(m, "c", NOW).checkpoints == {}


def test_a_missing_checkpoint_is_told_with_those_that_are_there() -> None:
    m = rules.checkpoint(grown(3), "before", TXID(2), False, NOW)
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint 'befor'; it has: before"):
        rules.checkpoint_txid(m, "befor")


def test_a_branch_has_a_bounded_number_of_checkpoints() -> None:
    m = replace(grown(3), checkpoints={f"c{i}": TXID(1) for i in range(rules.MAX_CHECKPOINTS)})
    with pytest.raises(ConflictError, match="delete one first"):
        rules.checkpoint(m, "more", TXID(1), False, NOW)
    assert rules.checkpoint(m, "c0", TXID(2), True, NOW).checkpoints["c0"] == 2


def test_an_expired_branch_refuses_every_wish() -> None:
    m = rules.set_ttl(grown(), UnixMs(NOW + 1), NOW)
    later = UnixMs(NOW + 1)
    for wish in (
        lambda: rules.checkpoint(m, "c", TXID(1), False, later),
        lambda: rules.drop_checkpoint(m, "c", later),
        lambda: rules.rewind(m, TXID(1), later),
        lambda: rules.reset(m, TXID(1), later),
        lambda: rules.delete(m, later),
        lambda: rules.set_ttl(m, None, later),
        lambda: rules.take(m, Owner("n"), None, later),
        lambda: rules.fork(m, "d", TXID(1), "f", "b_f", later, None),
    ):
        with pytest.raises(BranchExpiredError):
            wish()
    assert rules.append(m, 1, SegmentName.pack(0, TXID(4), TXID(4), 1)).head_txid == 4, "what was committed"


def test_a_name_is_taken_again_only_over_a_tombstone_or_an_expired_branch() -> None:
    new = rules.root("main", "b_new", NOW)
    with pytest.raises(AlreadyExistsError):
        rules.reborn(grown(), new, NOW)
    with pytest.raises(AlreadyExistsError):
        rules.reborn(rules.set_ttl(grown(), UnixMs(NOW + 1), NOW), new, NOW)
    old = replace(rules.delete(grown(), NOW), seq=7, write_ids=("w",))
    born = rules.reborn(old, new, NOW)
    assert (born.incarnation, born.head_txid, born.seq, born.write_ids) == ("b_new", 0, 7, ("w",))
    check_manifest(old, born)


def test_a_tombstone_is_taken_back_only_for_the_incarnation_that_it_was() -> None:
    gone = rules.delete(grown(), NOW)
    assert rules.undelete(gone, "b_0").deleted_at is None
    with pytest.raises(ConflictError, match="created again"):
        rules.undelete(gone, "b_1")


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), True, "1h", 10 * 365 * 86400 + 1])
def test_an_impossible_ttl_is_refused(ttl: object) -> None:
    with pytest.raises(InvalidRequestError, match="ttl"):
        rules.ttl_at(ttl, NOW)  # type: ignore[arg-type]


def test_a_ttl_is_seconds_from_now() -> None:
    assert rules.ttl_at(1.5, NOW) == NOW + 1500
    assert rules.ttl_at(None, NOW) is None


# The catalog.


def entry(**fields: object) -> CatalogEntry:
    return replace(CatalogEntry(db_uuid="d_1", default_branch="main", created_at=NOW), **fields)


def test_a_living_database_keeps_its_name() -> None:
    new = entry(db_uuid="d_2")
    with pytest.raises(AlreadyExistsError):
        rules.reborn_database(entry(), new, "x", NOW)
    with pytest.raises(InternalError):
        check_catalog(entry(), new)
    gone = rules.delete_database(entry(seq=3), "x", NOW)
    assert rules.reborn_database(gone, new, "x", NOW).seq == 3
    assert rules.undelete_database(gone, "x", "d_1").deleted_at is None
    with pytest.raises(ConflictError):
        rules.undelete_database(gone, "x", "d_2")
    with pytest.raises(DatabaseNotFoundError):
        rules.promote(gone, "x", "b", NOW)
    with pytest.raises(DatabaseNotFoundError):
        rules.delete_database(entry(ttl_at=NOW), "x", NOW)


# The invariants themselves can fail.


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        ({"head_txid": 2}, "head never moves back"),
        ({"epoch": 0}, "epoch never falls"),
        ({"parent": rules.fork(grown(), "d", TXID(1), "f", "b_f", NOW, None).parent}, "parent never changes"),
        ({"head_txid": 5}, "contiguous"),
        ({"segments": ()}, "contiguous"),
        ({"segments": ("ltx/0/1-2-1.ltx",)}, "contiguous"),
        ({"segments": ("ltx/0/1-3-1.ltx", "ltx/0/3-4-1.ltx"), "head_txid": 4}, "overlap"),
        ({"segments": ("ltx/0/1-4-1.ltx",)}, "head is the last txid"),
        ({"checkpoints": {"c": 9}}, "a position that there is"),
        ({"incarnation": "b_other"}, "living branch is never replaced"),
        (
            {"timeline": (*grown().timeline, Stretch(TXID(4), "self", TXID(4), NOW)), "head_txid": 4},
            "rewind goes back",
        ),
        (
            {"timeline": (*grown().timeline, Stretch(TXID(3), "self", TXID(1), NOW))},
            "what was committed keeps its content",
        ),
        (
            {
                "timeline": (*grown().timeline, Stretch(TXID(4), "self", TXID(1), UnixMs(NOW - 1))),
                "head_txid": 4,
            },
            "stretches begin one after another",
        ),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_caught(broken: dict[str, object], rule: str) -> None:
    with pytest.raises(InternalError, match=rule):
        check_manifest(grown(3), replace(grown(3), **broken))


def test_the_floor_never_falls() -> None:
    cut = replace(grown(3), floor_txid=TXID(2))
    with pytest.raises(InternalError, match="floor"):
        check_manifest(cut, replace(cut, floor_txid=TXID(1)))


def test_every_refusal_is_an_error_that_a_user_can_act_on() -> None:
    assert all(issubclass(error, MemoturnError) and error.status < 500 for error in REFUSALS)
