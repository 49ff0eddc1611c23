"""`builtin`: OpenAI's o200k_base, compiled into the native core. Works without network or files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiperf._core import builtin_count, builtin_decode, builtin_encode
from aiperf.workload.tokenizers import ChatMessage, count_words

__all__ = ["BuiltinTokenizer"]


class BuiltinTokenizer:
    """Counts run on all cores without the GIL."""

    name = "builtin"
    provenance = "local tokenizer"
    fingerprint = "builtin-o200k"

    def count(self, texts: Sequence[str]) -> NDArray[np.int64]:
        return np.asarray(builtin_count(list(texts)), dtype=np.int64)

    def encode(self, text: str) -> list[int]:
        return list(builtin_encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        return str(builtin_decode(list(ids)))

    def apply_chat_template(self, messages: Sequence[ChatMessage]) -> int | None:  # noqa: ARG002 - the protocol's signature
        return None

    def word_counts(self, words: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return count_words(self.count, words)
