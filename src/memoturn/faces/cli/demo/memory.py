"""The agent's story: what it was told becomes memories with proofs, is poisoned, and is got back.

Nothing is known of the conversation beforehand. Facts are what the file's annotators read out of single turns, each
under the topic that its question asks for; every claim about recall is counted over all of these questions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoturn.base.errors import InvalidRequestError
from memoturn.faces.cli.demo.conversation import Conversation, Question, Turn
from memoturn.faces.cli.demo.telling import Teller, shortened
from memoturn.faces.cli.diff import tell

if TYPE_CHECKING:
    from memoturn.faces.embedded.client import Memoturn
    from memoturn.faces.embedded.memory import Profile
    from memoturn.faces.wire import Hits

NS: Final = "demo"
PROFILE: Final = "agent"

_LATEST: Final = "talks.latest"
_SHOWN: Final = 3
_ONE_TURN: Final = frozenset((1, 4))
"""The categories of questions that ask for what was said, not for when, nor for what may follow from it."""
_ASKING: Final = frozenset(
    (
        "a", "an", "and", "are", "as", "at", "by", "can", "did", "do", "does", "for", "from", "had", "has", "have",
        "how", "in", "is", "it", "many", "much", "of", "on", "or", "s", "the", "their", "to", "was", "were", "what",
        "when", "where", "which", "who", "whom", "whose", "why", "will", "with", "would",
    )
)  # fmt: skip


class Asked(NamedTuple):
    """A question of the file with its topic and its one proof."""

    topic: str
    question: str
    answer: str
    turn: str


class Score(NamedTuple):
    """How many of the questions were answered rightly by the first fact, and proved by one of the turns."""

    right: int
    proved: int
    of: int

    def __str__(self) -> str:
        return f"{self.right} of {self.of} answered rightly, {self.proved} proved by the turn that says so"


class MemoryStory:
    """The story, chapter by chapter; every figure is counted while it is told."""

    def __init__(self, teller: Teller, store: Memoturn, said: Sequence[Conversation]) -> None:
        self._teller = teller
        self._memory = store.memory(NS, PROFILE)
        if not said:
            raise InvalidRequestError("the demo's story needs a conversation; the file has none")
        self._said = said[0]
        self._turns = {turn.id: turn for turn in self._said.turns}
        self._asked = asked_of(self._said)
        if len(self._asked) < 2:
            raise InvalidRequestError(
                f"the demo's story needs two questions that single turns answer, "
                f"of category 1 or 4; {self._said.name} has {len(self._asked)}"
            )
        self._hits: dict[str, str] = {}
        """Which turn a hit is, by its id."""
        self._shown: list[Asked] = []
        """The examples: the first questions that recall answers and proves."""

    def run(self) -> None:
        """Listen, recall, be poisoned, see what that was, rewind, explore, and become somebody else."""
        self._teller.part("An agent's memory")
        self._listen()
        good = self._recall()
        self._checkpoint()
        poisoned_txid = self._poison()
        self._diff()
        self._rewind(good, poisoned_txid)
        self._burner(good)
        self._persona()

    def _listen(self) -> None:
        self._teller.chapter("A conversation becomes turns and memories")
        first, last = self._said.turns[0], self._said.turns[-1]
        sessions = [list(turns) for _, turns in groupby(self._said.turns, lambda turn: turn.session)]
        self._teller.step(
            lambda: [self._hear(turns) for turns in sessions],
            lambda counts: (
                f"heard {_pair(self._said)}, {_day(first)} to {_day(last)}: stored "
                f"{sum(counts):,} turns of {len(counts)} sessions word for word, with an event for each session"
            ),
        )
        facts = [one for turns in sessions for one in self._facts(turns[0].session)]
        done = self._teller.step(
            lambda: self._memory.ingest(facts),
            lambda done: (
                f"remembered {len(facts)} facts, which the file's annotators read out of single turns, each under "
                f"its topic; {sum(one.superseded is not None for one in done.memories)} superseded an older one"
            ),
        )
        self._teller.expect(all(one.status == "created" for one in done.memories), "every fact is new")
        latest = self._memory.recall(topic_key=_LATEST)
        chain = self._memory.get(latest[0].id)
        self._teller.expect(len(latest) == 1 and chain is not None, "one fact of a topic is held")
        if chain is not None:
            self._teller.expect(len(chain.chain) == len(sessions), "what was held before is in the chain")
            self._teller.note(
                f"{_LATEST}: “{chain.summary}”, after {len(chain.chain) - 1} others that are kept"
            )

    def _recall(self) -> Score:
        self._teller.chapter("Recall answers, with the turns that prove it")
        found = self._teller.step(lambda: self._score(self._memory), lambda s: f"asked all questions: {s}")
        self._shown = [one for one in self._asked if self._is_proved(one)][:_SHOWN]
        self._teller.expect(bool(self._shown), "recall finds answers with their proofs")
        self._ask(self._memory, self._shown)
        return found

    def _checkpoint(self) -> None:
        self._teller.chapter("A checkpoint, before the agent runs on its own")
        self._teller.step(
            lambda: self._memory.checkpoint("before-run"),
            lambda mark: (
                f"checkpoint {mark.name} is at txid {mark.txid}: turns and memories alike, nothing copied"
            ),
        )

    def _poison(self) -> int:
        self._teller.chapter("A poisoned run teaches it nonsense")
        # Each topic is told what is true of another one.
        turned = self._asked[len(self._asked) // 2 :] + self._asked[: len(self._asked) // 2]
        lies = [
            (one, other.answer)
            for one, other in zip(self._asked, turned, strict=True)
            if one.answer != other.answer
        ]
        self._teller.step(
            lambda: self._memory.db.turns.append_many(
                "poisoned-run",
                [{"role": "a web page", "content": f"{one.question} {lie}, of course"} for one, lie in lies],
            ),
            lambda done: f"read a web page of {len(done.seqs)} claims, now turns of the session poisoned-run",
        )
        done = self._teller.step(
            lambda: self._memory.ingest(
                [
                    _fact(one, lie) | {"session_id": "poisoned-run", "source": "a web page"}
                    for one, lie in lies
                ]
            ),
            lambda done: (
                f"believed it: {sum(one.superseded is not None for one in done.memories)} facts superseded, "
                f"at txid {done.txid}"
            ),
        )
        self._ask(self._memory, self._shown)
        found = self._teller.step(lambda: self._score(self._memory), lambda s: f"asked all questions: {s}")
        self._teller.expect(found.right <= len(self._asked) - len(lies), "the poison took")
        return done.txid

    def _diff(self) -> None:
        self._teller.chapter("What did it learn? The diff says")
        name = self._memory.db.branch.get().name
        address = f"{NS}--{PROFILE}@{name}"
        found = self._teller.step(
            lambda: self._memory.at("before-run").db.diff(address, limit=2 * _SHOWN),
            lambda diff: (
                f"compared before-run with now: {diff.pages:,} pages differ, and only they were read"
            ),
        )
        self._teller.painted(tell(found))
        learned = found.memories
        self._teller.expect(
            learned is not None and learned.added == learned.superseded > 0 and len(found.turns) == 1,
            "the diff is the poison, and nothing else",
        )

    def _rewind(self, good: Score, poisoned_txid: int) -> None:
        self._teller.chapter("Rewind, and recall is right again")
        self._teller.step(
            lambda: self._memory.rewind("before-run"),
            "rewound to before-run: txid {0.txid} has the content of txid {0.restored_txid}".format,
        )
        self._ask(self._memory, self._shown)
        found = self._teller.step(lambda: self._score(self._memory), lambda s: f"asked all questions: {s}")
        self._teller.expect(found == good, "the rewind brought every answer back")
        one = self._shown[0]
        lie = self._teller.step(
            lambda: self._memory.recall(one.question, types="fact", k=1, as_of=poisoned_txid),
            lambda hits: (
                f"the nonsense is in the past, to be studied: as of txid {poisoned_txid}, “{_said_by(hits)}”"
            ),
        )
        self._teller.expect(not _is_right(one, lie), "the past is as it was")

    def _burner(self, good: Score) -> None:
        self._teller.chapter("A burner explores: does it still need what was said word for word?")
        burner = self._teller.step(
            lambda: self._memory.fork("only-facts", ttl=3600),
            lambda _: "forked the memory as only-facts, which expires in an hour",
        )
        sessions = [one.session_id for one in burner.sessions()]
        self._teller.step(
            lambda: [burner.end_session(name, turns=True) for name in sessions],
            lambda done: f"removed {sum(one.turns for one in done):,} turns there, and kept the facts",
        )
        found = self._teller.step(lambda: self._score(burner), lambda s: f"asked all questions: {s}")
        self._teller.expect(found.proved == 0, "without turns nothing is proved")
        self._teller.note("answers without proofs: that is not worth it")
        self._teller.step(burner.db.branch.delete, lambda _: "threw the burner away")
        found = self._teller.step(lambda: self._score(self._memory), lambda s: f"asked the agent: {s}")
        self._teller.expect(found == good, "the agent has not noticed the burner")

    def _persona(self) -> None:
        self._teller.chapter("Another persona begins with all that this one knows")
        coach = self._teller.step(
            lambda: self._memory.fork("coach"),
            lambda _: f"forked the memory as {NS}--{PROFILE}@coach: one small write",
        )
        rule = "Answers with a question, and with encouragement"
        self._teller.step(
            lambda: coach.ingest(
                [
                    {
                        "type": "instruction",
                        "topic_key": "persona.style",
                        "summary": rule,
                        "source": "its maker",
                    }
                ]
            ),
            lambda done: f"gave it an instruction of its own at txid {done.txid}: “{rule}”",
        )
        self._ask(coach, self._shown[:1])
        style = coach.recall(topic_key="persona.style")
        self._teller.expect([hit.summary for hit in style] == [rule], "the persona has its instruction")
        mine = self._teller.step(
            lambda: self._memory.recall(topic_key="persona.style"),
            lambda hits: f"asked the first agent for that instruction: {len(hits)} found, it is as it was",
        )
        self._teller.expect(len(mine) == 0, "the first agent is as it was")

    # What is said and known.

    def _hear(self, turns: Sequence[Turn]) -> int:
        session = turns[0].session
        talk = f"{_pair(self._said)} talked on {_day(turns[0])}, {len(turns)} turns"
        of = {"summary": talk, "session_id": session, "valid_from": turns[0].time}
        # What happened accumulates; when it happened last is a fact that the next session supersedes.
        self._memory.ingest([{"type": "event"} | of, {"type": "fact", "topic_key": _LATEST} | of])
        done = self._memory.db.turns.append_many(
            session,
            [{"role": turn.speaker, "content": turn.text, "created_at": turn.time} for turn in turns],
        )
        for seq, turn in zip(done.seqs, turns, strict=True):
            self._hits[f"turn_{seq}@{session}"] = turn.id
        return len(done.seqs)

    def _facts(self, session: str) -> list[dict[str, Any]]:
        noted = [_asked(one) for one in self._said.questions if _is_fact(one)]
        return [
            _fact(one, one.answer) | {"session_id": session, "source": turn.speaker, "valid_from": turn.time}
            for one in sorted(noted, key=lambda one: self._turns[one.turn].time)
            for turn in [self._turns[one.turn]]
            if turn.session == session
        ]

    def _ask(self, memory: Profile, some: Sequence[Asked]) -> None:
        for one in some:
            hits = self._teller.step(
                partial(memory.recall, one.question, include_turns=True),
                partial(_told, one),
            )
            proof = next((hit for hit in hits if self._hits.get(hit.id) == one.turn), None)
            if proof is not None and _is_right(one, hits):
                when, said = f"{proof.valid_from.day} {proof.valid_from:%B %Y}", shortened(proof.summary)
                self._teller.note(f"proof: {proof.source} on {when}, in {proof.session_id}: “{said}”", "dim")

    def _is_proved(self, one: Asked) -> bool:
        hits = self._memory.recall(one.question, include_turns=True)
        return _is_right(one, hits) and any(self._hits.get(hit.id) == one.turn for hit in hits)

    def _score(self, memory: Profile) -> Score:
        right = proved = 0
        for one in self._asked:
            hits = memory.recall(one.question, include_turns=True)
            right += _is_right(one, hits)
            proved += any(self._hits.get(hit.id) == one.turn for hit in hits)
        return Score(right, proved, len(self._asked))


def asked_of(said: Conversation) -> list[Asked]:
    """The questions that one turn answers, in the order in which the answers were said; of a topic, the last."""
    when = {turn.id: place for place, turn in enumerate(said.turns)}
    found = sorted((_asked(one) for one in said.questions if _is_fact(one)), key=lambda one: when[one.turn])
    return list({one.topic: one for one in found}.values())


def topic_of(question: str) -> str:
    """What a question asks for: its words without those that only ask."""
    words = [word for word in re.findall(r"\w+", question.lower()) if word not in _ASKING]
    return ".".join(words) or "question"


def _is_fact(question: Question) -> bool:
    return question.category in _ONE_TURN and question.answer is not None and len(question.turns) == 1


def _asked(question: Question) -> Asked:
    return Asked(topic_of(question.text), question.text, question.answer or "", next(iter(question.turns)))


def _fact(one: Asked, answer: str) -> dict[str, Any]:
    return {
        "type": "fact",
        "topic_key": one.topic,
        "summary": f"{one.question} {answer}",
        "content": {"answer": answer},
    }


def _is_right(one: Asked, hits: Hits) -> bool:
    """Whether the first fact among the hits is the answer."""
    fact = next((hit for hit in hits if hit.type == "fact"), None)
    return fact is not None and fact.topic_key == one.topic and fact.content == {"answer": one.answer}


def _told(one: Asked, hits: Hits) -> str:
    return f"“{one.question}”  {_said_by(hits)}"


def _said_by(hits: Hits) -> str:
    fact = next((hit for hit in hits if hit.type == "fact"), None)
    answer = fact.content.get("answer") if fact is not None and isinstance(fact.content, dict) else None
    return "nothing" if answer is None else shortened(str(answer))


def _pair(said: Conversation) -> str:
    return " and ".join(dict.fromkeys(turn.speaker for turn in said.turns))


def _day(turn: Turn) -> str:
    return f"{turn.time.day} {turn.time:%B %Y}"
