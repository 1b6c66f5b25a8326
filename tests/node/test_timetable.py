"""What is due when: a pure table, lived through at the speed of a loop."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from memoturn.node.timetable import BURY, DRILL, Job, Outcome, Pace, Timetable

COMPACT = Job("compact", "d", "main")
FOLD = Job("fold", "d", "main")
SWEEP = Job("sweep", "d", "main")
COLLECT = Job("collect", "d")


def live(table: Timetable, since: float, until: float, outcome: Outcome = "idle") -> list[tuple[float, Job]]:
    """Do all that is due, at once, and with the same outcome each time; returns when what was done."""
    done = []
    now = since
    while (at := table.next_at()) is not None and max(at, now) <= until:
        now = max(at, now)
        job = table.take(now)
        assert job is not None
        done.append((now, job))
        table.done(job, now, 0.0, outcome)
    return done


def test_nothing_is_due_before_anything_was_heard() -> None:
    table = Timetable(Pace())
    assert table.next_at() is None
    assert table.take(1e9) is None


def test_a_branch_that_ships_all_the_time_is_compacted_every_few_seconds() -> None:
    table = Timetable(Pace())
    looks = []
    for tick in range(600):
        now = tick / 5
        table.shipped("d", "main", now)
        while (job := table.take(now)) is not None:
            if job == COMPACT:
                looks.append(now)
            table.done(job, now, 0.1, "useful")
    assert looks[0] == pytest.approx(1, abs=0.2)
    assert [b - a for a, b in pairwise(looks)] == pytest.approx([5] * (len(looks) - 1), abs=0.3)
    assert len(looks) == 24
    assert not any(job == FOLD for job, at in table.due().items() if at <= 120), "it has not been idle"


def test_a_branch_is_folded_when_it_has_been_quiet_for_a_while_and_once() -> None:
    table = Timetable(Pace(idle=60))
    for now in (0, 20, 40):
        table.shipped("d", "main", now)
    folds = [at for at, job in live(table, 40, 4000) if job == FOLD]
    assert folds == [100]


def test_a_branch_that_was_only_opened_is_folded_too() -> None:
    table = Timetable(Pace(idle=60))
    table.used("d", "main", 10)
    assert [at for at, job in live(table, 10, 500) if job == FOLD] == [70]


def test_passes_that_find_nothing_come_less_and_less_often_until_something_happens() -> None:
    table = Timetable(Pace(collect=150, rest=3600))
    table.used("d", "main", 0)
    passes = [at for at, job in live(table, 0, 20_000) if job == COLLECT]
    assert passes[:6] == [150, 300, 600, 1200, 2400, 4800]
    assert passes[6] - passes[5] == 3600
    table.shipped("d", "main", 20_000)
    assert table.due()[COLLECT] == 20_150
    table.touched("d", 20_100)
    assert table.due()[COLLECT] == 20_150


def test_passes_that_find_something_go_on_and_a_slow_one_is_left_alone_for_longer() -> None:
    table = Timetable(Pace(collect=150, restraint=20))
    table.touched("d", 0)
    assert [at for at, job in live(table, 0, 700, "useful") if job == COLLECT] == [150, 300, 450, 600]
    job = table.take(750)
    while job != COLLECT:
        assert job is not None
        job = table.take(750)
    table.done(COLLECT, 800, 50, "useful")
    assert table.due()[COLLECT] == 1800


def test_what_has_more_to_do_goes_on_after_others_had_their_turn() -> None:
    table = Timetable(Pace(sweep=60))
    table.shipped("d", "main", 0)
    table.shipped("e", "main", 0)
    order = []
    now = 60.0
    for _ in range(4):
        job = table.take(now)
        while job is not None and job.kind != "sweep":
            table.done(job, now, 0, "over" if job.db_uuid == "" else "idle")
            job = table.take(now)
        assert job is not None
        order.append(job.db_uuid)
        now += 1
        table.done(job, now, 0, "more")
    assert order == ["d", "e", "d", "e"]


def test_what_fails_is_tried_again_after_pauses_that_double_whatever_is_heard() -> None:
    table = Timetable(Pace())
    table.shipped("d", "main", 0)
    now, pauses = 1.0, []
    for _ in range(12):
        job = table.take(now)
        while job != COMPACT:
            assert job is not None
            table.done(job, now, 0, "over" if not job.db_uuid else "idle")
            job = table.take(now)
        pauses.append(table.failed(COMPACT, now))
        table.shipped("d", "main", now)
        assert table.due()[COMPACT] == now + pauses[-1]
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]
    while table.take(now) not in (COMPACT, None):
        pass
    table.done(COMPACT, now, 0, "useful")
    assert table.failed(COMPACT, now) == 1, "success makes it forget"


def test_a_failing_job_keeps_no_other_from_its_turn() -> None:
    table = Timetable(Pace())
    table.shipped("bad", "main", 0)
    table.shipped("good", "main", 0)
    counts: Counter[str] = Counter()
    now = 0.0
    while now < 600:
        job = table.take(now)
        if job is None:
            now += 1
            table.shipped("good", "main", now)
            table.shipped("bad", "main", now)
        elif job.db_uuid == "bad":
            table.failed(job, now)
        else:
            counts[job.kind] += 1
            table.done(job, now, 0.0, "useful")
    assert counts["compact"] >= 100
    assert counts["sweep"] >= 8
    assert counts["drill"] >= 8


def test_what_is_gone_is_forgotten() -> None:
    table = Timetable(Pace())
    table.shipped("d", "main", 0)
    table.shipped("d", "other", 0)
    table.shipped("e", "main", 0)
    table.left("d", "other")
    assert {job.branch_id for job in table.due() if job.db_uuid == "d"} == {"main", ""}
    table.left("d")
    assert {job.db_uuid for job in table.due()} == {"", "e"}
    table.done(Job("collect", "e"), 1, 0, "over")
    assert set(table.due()) == {DRILL}


def test_drills_wait_as_long_as_they_have_read_and_the_dead_are_looked_for_now_and_then() -> None:
    table = Timetable(Pace(drill=60, collect=150, bury=4000))
    table.used("d", "main", 0)
    assert {table.take(60), table.take(60)} == {DRILL, FOLD}
    table.done(DRILL, 60, 1, "useful", wait=300)
    assert table.due()[DRILL] == 360
    assert [at for at, job in live(table, 60, 9000) if job == BURY] == [150, 4150, 8150]
