"""BERT's tokens: words in lower case without accents, cut into the longest pieces that the vocabulary knows."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Final

_LONGEST_WORD: Final = 100
_CJK: Final = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


class WordPiece:
    """Texts to the numbers of their tokens, by a vocabulary with one token a line."""

    def __init__(self, vocabulary: Path, most: int) -> None:
        self._ids = {token: number for number, token in enumerate(vocabulary.read_text("utf-8").split("\n"))}
        self._unknown = self._ids["[UNK]"]
        self._first, self._last = self._ids["[CLS]"], self._ids["[SEP]"]
        self._most = most - 2
        self._pieces = lru_cache(1 << 16)(self._cut)

    def __call__(self, text: str) -> list[int]:
        """The tokens of a text, between those that begin and end every text; at most as many as the model takes."""
        ids: list[int] = []
        for word in _words(text):
            ids += self._pieces(word)
            if len(ids) >= self._most:
                break
        return [self._first, *ids[: self._most], self._last]

    def _cut(self, word: str) -> tuple[int, ...]:
        if len(word) > _LONGEST_WORD:
            return (self._unknown,)
        pieces: list[int] = []
        begin = 0
        while begin < len(word):
            prefix = "##" if begin else ""
            for end in range(len(word), begin, -1):
                piece = self._ids.get(prefix + word[begin:end])
                if piece is not None:
                    pieces.append(piece)
                    begin = end
                    break
            else:
                return (self._unknown,)
        return tuple(pieces)


def _words(text: str) -> list[str]:
    """Runs of letters and digits; each punctuation mark and each Chinese character stands alone."""
    if text.isascii():
        plain = text.lower()
    else:
        decomposed = unicodedata.normalize("NFD", "".join(_spaced(character) for character in text).lower())
        plain = "".join(character for character in decomposed if unicodedata.category(character) != "Mn")
    return "".join(_parted(character) for character in plain).split()


@lru_cache(4096)
def _spaced(character: str) -> str:
    code = ord(character)
    return f" {character} " if any(low <= code <= high for low, high in _CJK) else character


@lru_cache(4096)
def _parted(character: str) -> str:
    if character in "\t\n\r" or unicodedata.category(character) == "Zs":
        return " "
    category = unicodedata.category(character)
    if category[0] == "C" or character == "\ufffd":
        return ""
    code = ord(character)
    is_mark = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return f" {character} " if is_mark or category[0] == "P" else character
