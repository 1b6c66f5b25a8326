"""What is to be remembered, checked and in one form; and the id that its content alone decides.

The id is `mem_` and the first 128 bits of the SHA-256 of a JSON array in UTF-8: type, topic key and content, without
blanks, the names of fields in the order of their code points, and a number that is whole written as such. It does not
depend on the order in which fields were given, nor on the release, as `tests/models/test_memory_ids.py` holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

from memoturn.base import json_text
from memoturn.base.clock import ms_of, parse_time, time_of
from memoturn.base.errors import InvalidRequestError, PayloadTooLargeError
from memoturn.base.settings import MIB
from memoturn.models.embedding import encode

TYPES: Final = ("fact", "instruction", "event", "task")
SUPERSEDED: Final = frozenset(("fact", "instruction"))
"""Of these, one of a topic is valid at a time."""

FIELDS: Final = (
    "type", "topic_key", "summary", "keywords", "content", "embedding", "model", "session_id", "source",
    "valid_from", "ttl",
)  # fmt: skip
TASK_TTL: Final = 24 * 3600.0
MAX_BATCH: Final = 1000
MAX_TEXT: Final = 256 * 1024
MAX_CONTENT: Final = MIB
MAX_NAME: Final = 512
MAX_KEYWORDS: Final = 256

_WHOLE: Final = 2.0**53
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip

_encode: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
).encode


class Draft(NamedTuple):
    """A memory as it will be kept. Times are unix milliseconds; `ttl_ms` is None for what does not expire."""

    id: bytes
    type: str
    topic_key: str | None
    summary: str
    keywords: str | None
    content: str
    session_id: str | None
    source: str | None
    valid_from: int | None
    ttl_ms: int | None
    vector: bytes | None
    model: str | None


def draft_of(given: Mapping[str, Any]) -> Draft:
    """What a caller has given, checked. Raises `InvalidRequestError` and `PayloadTooLargeError`."""
    if not isinstance(given, Mapping):
        raise InvalidRequestError(f"a memory is an object with fields (a dict), not {type(given).__name__}")
    if not given.keys() <= _KNOWN:
        unknown = ", ".join(repr(name) for name in given if name not in _KNOWN)
        raise InvalidRequestError(f"a memory has no field {unknown}; its fields are {', '.join(FIELDS)}")
    get = given.get
    kind = get("type")
    if kind not in TYPES:
        raise InvalidRequestError(f"type {kind!r} is unknown; there are {', '.join(TYPES)}")
    topic_key = name_of("topic_key", get("topic_key"))
    summary, content = _said(get("summary"), get("content"))
    return Draft(
        memory_id(kind, topic_key, content),
        kind,
        topic_key,
        summary,
        _keywords(get("keywords")),
        content,
        name_of("session_id", get("session_id")),
        name_of("source", get("source")),
        moment_of("valid_from", get("valid_from")),
        _ttl_ms(kind, get("ttl")),
        None if (embedding := get("embedding")) is None else encode(embedding),
        _model(get("model"), embedding),
    )


_KNOWN: Final = frozenset(FIELDS)


def memory_id(kind: str, topic_key: str | None, content: str) -> bytes:
    """The id of a memory with this content, which is canonical JSON."""
    topic = "null" if topic_key is None else _encode(topic_key)
    return sha256(f'["{kind}",{topic},{content}]'.encode()).digest()[:16]


def id_text(digest: bytes) -> str:
    """An id as callers see it."""
    return f"mem_{digest.hex()}"


def id_bytes(text: str) -> bytes | None:
    """An id as it is kept; None if no memory can have it. Raises `InvalidRequestError` for what is no text."""
    if not isinstance(text, str):
        raise InvalidRequestError(f"an id is a text such as mem_…, not {type(text).__name__}")
    if len(text) != 36 or not text.startswith("mem_"):
        return None
    try:
        digest = bytes.fromhex(text[4:])
    except ValueError:
        return None
    return digest if len(digest) == 16 else None


def canonical(value: Any) -> str:
    """JSON text that is the same for the same content."""
    return _encode(value if type(value) is str else _plain(value))


def _plain(value: Any) -> Any:
    """The value with whole numbers as integers, as JSON does not tell 1.0 from 1."""
    kind = type(value)
    if kind is float:
        return int(value) if value.is_integer() and -_WHOLE <= value <= _WHOLE else value
    if kind is dict:
        return {name: _plain(item) for name, item in value.items()}
    if kind is list or kind is tuple:
        return [_plain(item) for item in value]
    return value


def _said(summary: Any, content: Any) -> tuple[str, str]:
    """The summary as text and the content as canonical JSON; what is not given is made from the other."""
    if content is not None:
        json_text.encode("the content", content)
        text = canonical(content)
        if len(text) > MAX_CONTENT:
            raise PayloadTooLargeError(f"content of {len(text):,} characters; {MAX_CONTENT:,} is the most")
        if summary is None:
            summary = (content if isinstance(content, str) else " ".join(_texts_in(content)))[:MAX_TEXT]
        return text_of("summary", summary), text
    if summary is None:
        raise InvalidRequestError("a memory has a summary, a content, or both")
    summary = text_of("summary", summary)
    if not summary.strip():
        raise InvalidRequestError("the summary of a memory without content says something")
    return summary, canonical(summary)


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for name, item in value.items() for text in (name, *_texts_in(item))]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _texts_in(item)]
    return [] if value is None else [canonical(value)]


def text_of(what: str, value: Any, most: int = MAX_TEXT) -> str:
    """`value` itself, if it is text of no more than so many characters."""
    if type(value) is not str:
        raise InvalidRequestError(f"{what} is text, not {type(value).__name__}")
    if len(value) > most:
        raise PayloadTooLargeError(f"{what} of {len(value):,} characters is too long; {most:,} is the most")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"{what} has to be Unicode text: {error}") from None
    return value


def name_of(what: str, value: Any) -> str | None:
    """A name that may be missing, but not empty."""
    if value is None:
        return None
    if not text_of(what, value, MAX_NAME):
        raise InvalidRequestError(f"{what} is empty; leave it out instead")
    return str(value)


def _keywords(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidRequestError(f"keywords are a list of texts, not {value!r}")
    if len(value) > MAX_KEYWORDS:
        raise PayloadTooLargeError(f"{len(value):,} keywords are too many; {MAX_KEYWORDS} is the most")
    return canonical([text_of("a keyword", word, MAX_NAME) for word in value]) if value else None


def moment_of(what: str, value: Any) -> int | None:
    """A time, as a datetime or RFC 3339, in unix milliseconds."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return ms_of(value)
    if isinstance(value, str):
        return parse_time(value)
    raise InvalidRequestError(f"{what} {value!r} is not a time; give a datetime, or RFC 3339 as text")


def _ttl_ms(kind: str, ttl: Any) -> int | None:
    if kind != "task":
        if ttl is not None:
            raise InvalidRequestError(f"only a task has a ttl; a {kind} stays until it is forgotten")
        return None
    seconds = TASK_TTL if ttl is None else ttl
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e10:
        raise InvalidRequestError(f"a ttl of {ttl!r} is not possible; give seconds, more than 0")
    return max(1, int(seconds * 1000))


def _model(model: Any, embedding: Any) -> str | None:
    if model is not None and embedding is None:
        raise InvalidRequestError("model names what made the embedding, and there is none")
    return name_of("model", model)


def indexed_text(
    summary: str, keywords: str | None, topic_key: str | None, source: str | None, valid_from: int
) -> str:
    """What is searched by keyword: what was said, of what, by whom and when.

    Forgetting takes the same words out of the index again: for what is kept already this may never change.
    """
    parts = [summary]
    if keywords is not None:
        parts += json.loads(keywords)
    if topic_key is not None:
        parts.append(topic_key)
    if source is not None:
        parts.append(source)
    when = time_of(valid_from)  # type: ignore[arg-type]
    return f"{' '.join(parts)} {when.day} {_MONTHS[when.month - 1]} {when.year}"


def embedded_text(kind: str, source: str | None, summary: str) -> str:
    """What an embedder is given. Of what happened, who said it is part."""
    return f"{source}: {summary}" if kind == "event" and source is not None else summary
