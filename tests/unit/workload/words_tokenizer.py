"""Tokenizers for tests that need none of the real ones: their rules fit in a line, so every count can be checked by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiperf.workload.tokenizers import ChatMessage, count_words

_PIECE = re.compile(r" ?[A-Za-z]{1,6}|\s|.", re.DOTALL)


class WordsTokenizer:
    """A token is up to six letters with the space in front, or one other character. Additive over words."""

    name = "words"
    provenance = "local tokenizer"
    fingerprint = "words"

    def pieces(self, text: str) -> list[str]:
        return _PIECE.findall(text)

    def count(self, texts: Sequence[str]) -> NDArray[np.int64]:
        return np.array([len(self.pieces(t)) for t in texts], dtype=np.int64)

    def encode(self, text: str) -> list[int]:
        return [hash(p) & 0xFFFF for p in self.pieces(text)]

    def decode(self, ids: Sequence[int]) -> str:
        raise NotImplementedError

    def apply_chat_template(self, messages: Sequence[ChatMessage]) -> int | None:
        return 4 + int(self.count([m["content"] for m in messages]).sum())

    def word_counts(self, words: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return count_words(self.count, words)


class GluingTokenizer(WordsTokenizer):
    """Merges ` of the` into one token: counts of words do not add up."""

    name = "gluing"
    fingerprint = "gluing"

    def pieces(self, text: str) -> list[str]:
        return re.findall(r" of the\b| ?[A-Za-z]{1,6}|\s|.", text, re.DOTALL)
