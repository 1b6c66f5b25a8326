"""Embeddings from any service that speaks OpenAI's protocol: `POST {url}/embeddings`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from memoturn.base.clock import Clock, SystemClock
from memoturn.base.errors import InvalidRequestError, UnavailableError, UnconfiguredError

_TRIES: Final = 3
_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 10.0
_AGAIN: Final = frozenset((408, 409, 429, 500, 502, 503, 504))


class _Vector(msgspec.Struct):
    index: int
    embedding: list[float]


class _Vectors(msgspec.Struct):
    data: list[_Vector]


class OpenAIEmbedder:
    """Embeds with `model` at a service; `url` is what its paths begin with, such as https://api.openai.com/v1.

    `dimensions` asks for shorter vectors, of models that can do it. A request has at most `batch` texts, may take
    `timeout` seconds, and is tried again where that can help. Threads may share it.
    """

    def __init__(
        self,
        model: str,
        url: str = "https://api.openai.com/v1",
        *,
        key: str | None = None,
        dimensions: int | None = None,
        batch: int = 128,
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidRequestError(f"{url!r} is no service; write https://host/v1")
        if batch < 1:
            raise InvalidRequestError(f"a batch of {batch} texts is not possible; give 1 or more")
        self.name = model if dimensions is None else f"{model}:{dimensions}"
        self._model = model
        self._url = f"{url.rstrip('/')}/embeddings"
        self._key = key
        self._dimensions = dimensions
        self._batch = batch
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._client: Any = None
        self._opening = threading.Lock()

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text. Raises `UnavailableError` and `UnconfiguredError`."""
        vectors: list[list[float]] = []
        for begin in range(0, len(texts), self._batch):
            vectors += self._asked(texts[begin : begin + self._batch])
        return vectors

    def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _asked(self, texts: Sequence[str]) -> list[list[float]]:
        body: dict[str, Any] = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        if self._dimensions is not None:
            body["dimensions"] = self._dimensions
        answer = self._post(msgspec.json.encode(body))
        try:
            found = msgspec.json.decode(answer, type=_Vectors).data
        except msgspec.MsgspecError as error:
            raise UnavailableError(f"{self._url} did not answer with embeddings: {error}") from error
        found.sort(key=lambda one: one.index)
        if [one.index for one in found] != list(range(len(texts))):
            raise UnavailableError(f"{self._url} gave {len(found)} embeddings for {len(texts)} texts")
        return [one.embedding for one in found]

    def _post(self, body: bytes) -> bytes:
        import httpx

        with self._opening:
            if self._client is None:
                self._client = httpx.Client(timeout=self._timeout)
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        pause = _PAUSE
        for tried in range(1, _TRIES + 1):
            try:
                response = self._client.post(self._url, content=body, headers=headers)
            except httpx.HTTPError as error:
                problem, wait = f"{type(error).__name__}: {error}", None
            else:
                if response.status_code == 200:
                    return bytes(response.content)
                problem, wait = (
                    f"{response.status_code} {response.text[:200]}",
                    _retry_after(response.headers),
                )
                if response.status_code in (401, 403):
                    raise UnconfiguredError(f"{self._url} refuses the key: {problem}")
                if response.status_code not in _AGAIN:
                    break
            if tried < _TRIES:
                self._clock.sleep(min(pause if wait is None else wait, _LONGEST_PAUSE))
                pause *= 2
        raise UnavailableError(f"{self._url} gives no embeddings: {problem}")

    def __repr__(self) -> str:
        return f"OpenAIEmbedder({self.name!r}, {self._url!r})"


def _retry_after(headers: Any) -> float | None:
    text = headers.get("retry-after", "")
    return float(text) if text.isdigit() else None
