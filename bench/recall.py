"""How good recall is: each turn of a conversation is ingested as it was said, then every question is asked.

    python -m bench.recall [--embedder local] [--data conversations.json]

A turn is an event with its speaker as source, its session and its time; everything else is as it is by default.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.conversations import CATEGORIES, Conversation, read
from bench.measure import Figure, times_of, us
from memoturn import Memoturn
from memoturn.base.embedding import Embedder

DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "locomo-5.json"
PUBLISHED = 0.80
"""recall@10 over categories 1 to 4 of the best that was published, with late-interaction models."""
MUST = {"keyword": 0.73, "local": 0.78}
K = 10


class Answer(NamedTuple):
    """What came of one question: the share of its turns among the first ten, whether the first is one of them."""

    category: int
    recall: float
    hit: float
    ndcg: float
    nanoseconds: int


class Outcome(NamedTuple):
    """What came of all questions, and what ingesting took."""

    answers: list[Answer]
    turns: int
    seconds: float

    def mean(self, field: str, categories: Iterable[int] = (1, 2, 3, 4)) -> float:
        """The mean over the questions of some categories."""
        values = [getattr(answer, field) for answer in self.answers if answer.category in set(categories)]
        return sum(values) / len(values)


def run(conversations: Iterable[Conversation], embedder: Embedder | None = None) -> Outcome:
    """Ingest and ask, each conversation in a profile of its own."""
    answers: list[Answer] = []
    turns, seconds = 0, 0.0
    with Memoturn("memory:", embedder=embedder) as mt:
        for conversation in conversations:
            memory = mt.memory("bench", conversation.name.lower())
            said: dict[str, str] = {}
            begin = time.perf_counter()
            for start in range(0, len(conversation.turns), 500):
                some = conversation.turns[start : start + 500]
                done = memory.ingest(
                    [
                        {
                            "type": "event",
                            "summary": turn.text,
                            "source": turn.speaker,
                            "session_id": turn.session,
                            "valid_from": turn.time,
                            "content": {"turn": turn.id, "text": turn.text},
                        }
                        for turn in some
                    ]
                )
                if done.degraded is not None:
                    raise SystemExit(done.degraded)
                said |= {one.id: turn.id for one, turn in zip(done.memories, some, strict=True)}
            seconds += time.perf_counter() - begin
            turns += len(conversation.turns)
            for question in conversation.questions:
                begin_ns = time.perf_counter_ns()
                hits = memory.recall(question.text, k=K)
                took = time.perf_counter_ns() - begin_ns
                found = [said[hit.id] in question.turns for hit in hits]
                answers.append(_judged(question.category, found, len(question.turns), took))
    return Outcome(answers, turns, seconds)


def _judged(category: int, found: list[bool], wanted: int, nanoseconds: int) -> Answer:
    """Standard DCG: a turn at rank r counts 1 / log2(r + 1), against the best order there could be."""
    gained = sum(1 / math.log2(rank + 1) for rank, is_wanted in enumerate(found, 1) if is_wanted)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(wanted, K) + 1))
    return Answer(category, sum(found) / wanted, float(found[:1] == [True]), gained / best, nanoseconds)


def report(title: str, outcome: Outcome) -> Iterator[str]:
    """A table by category, and what it took."""
    yield f"{title}: {outcome.turns:,} turns, {len(outcome.answers):,} questions"
    yield ""
    yield "| category | questions | recall@10 | hit@1 | nDCG@10 |"
    yield "| --- | --- | --- | --- | --- |"
    count: defaultdict[int, int] = defaultdict(int)
    for answer in outcome.answers:
        count[answer.category] += 1
    groups = [(f"{number} {CATEGORIES[number]}", (number,)) for number in sorted(count)]
    for name, categories in [*groups, ("**1 to 4**", (1, 2, 3, 4))]:
        means = " | ".join(f"{outcome.mean(field, categories):.3f}" for field in ("recall", "hit", "ndcg"))
        yield f"| {name} | {sum(count[number] for number in categories)} | {means} |"
    yield ""
    times = times_of([answer.nanoseconds for answer in outcome.answers])
    slow = sorted(answer.nanoseconds for answer in outcome.answers)[len(outcome.answers) * 95 // 100] / 1000
    yield (
        f"recall p50 {us(times.p50)}, p95 {us(slow)}; ingest {outcome.turns / outcome.seconds:,.0f} turns a second; "
        f"{outcome.mean('recall') / PUBLISHED:.2f} of the published best ({PUBLISHED:.2f}, late interaction)"
    )


def figures() -> Iterator[Figure]:
    """The lines for the table of all figures; none where the data is not."""
    if not DATA.exists():
        return
    conversations = read(DATA)
    for name, must in MUST.items():
        outcome = run(conversations, embedder_of(name))
        mean = outcome.mean("recall")
        what = "keyword only" if name == "keyword" else "with a local embedder"
        yield Figure(
            f"turn-level recall@10 of LoCoMo, categories 1 to 4, {what}",
            f"≥ {must}",
            f"{mean:.3f} (hit@1 {outcome.mean('hit'):.3f}, nDCG@10 {outcome.mean('ndcg'):.3f})",
            f"{mean / PUBLISHED:.2f}× the published best, {PUBLISHED}",
            mean >= must,
        )


def embedder_of(name: str) -> Embedder | None:
    """No embedder, or the one on this machine."""
    if name == "keyword":
        return None
    from memoturn import LocalEmbedder

    return LocalEmbedder()


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m bench.recall")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--embedder", choices=list(MUST), action="append")
    asked = parser.parse_args()
    if not asked.data.exists():
        raise SystemExit(f"there is no file {asked.data}; --data names one in LoCoMo's form")
    conversations = read(asked.data)
    for name in asked.embedder or ["keyword"]:
        print("\n".join(report(name, run(conversations, embedder_of(name)))))
        print()


if __name__ == "__main__":
    main()
