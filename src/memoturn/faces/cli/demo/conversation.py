"""Long conversations with questions whose answers are known to stand in certain turns: LoCoMo's JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from memoturn.base.errors import InvalidRequestError, NotFoundError


class Turn(NamedTuple):
    """What somebody said, in which session, and when."""

    id: str
    session: str
    speaker: str
    text: str
    time: datetime


class Question(NamedTuple):
    """A question, the turns that answer it, and the answer if there is one."""

    text: str
    category: int
    turns: frozenset[str]
    answer: str | None


class Conversation(NamedTuple):
    """Turns in the order in which they were said, and questions about them."""

    name: str
    turns: list[Turn]
    questions: list[Question]


def read(path: Path) -> list[Conversation]:
    """All conversations of a file. Raises `InvalidRequestError` for what is not in LoCoMo's form."""
    try:
        return parse(msgspec.json.decode(path.read_bytes()))
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}") from None
    except OSError as error:
        raise InvalidRequestError(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidRequestError(
            f"{path} has no conversations in LoCoMo's form, a list of objects with sample_id, conversation "
            f"and qa: {type(error).__name__}: {error}"
        ) from None


def parse(samples: Sequence[dict[str, Any]]) -> list[Conversation]:
    """Conversations from decoded JSON. A question without turns that are there is left out."""
    return [_conversation(one) for one in samples]


def _conversation(one: dict[str, Any]) -> Conversation:
    said = one["conversation"]
    turns = [
        Turn(turn["dia_id"], f"session_{number}", turn["speaker"], turn["text"], begin + timedelta(minutes=i))
        for number in range(1, len(said))
        if f"session_{number}" in said
        for begin in [_time(said[f"session_{number}_date_time"])]
        for i, turn in enumerate(said[f"session_{number}"])
    ]
    known = {turn.id for turn in turns}
    questions = [
        Question(
            question["question"],
            question["category"],
            frozenset(answered),
            str(question["answer"]) if "answer" in question else None,
        )
        for question in one["qa"]
        if (answered := _ids(question.get("evidence", [])) & known)
    ]
    return Conversation(one["sample_id"], turns, questions)


def _ids(evidence: list[str]) -> set[str]:
    """Some entries name several turns in one text."""
    return {turn for text in evidence for turn in re.findall(r"D\d+:\d+", text)}


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
