"""What a tokenizer is; one file per kind. `aiperf.workload.choose_tokenizer` chooses one.

Counts are of the text alone: no BOS, no EOS, no chat template, as the server counts the content of one message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from aiperf.web import Access

__all__ = ["ChatMessage", "ServerAddress", "Tokenizer", "TokenizerOptions", "count_words"]

ChatMessage = Mapping[str, str]
"""`role` and `content`."""


@runtime_checkable
class Tokenizer(Protocol):
    """What the workload and the token counts need of a tokenizer. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """As shown to users: `builtin`, the path, the hub name, or `server`."""

    @property
    def provenance(self) -> str:
        """Where a count comes from: `local tokenizer` or `server tokenize`."""

    @property
    def fingerprint(self) -> str:
        """Equal for two tokenizers that count alike; names the cached vocabulary."""

    def count(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """`(len(texts),) int64` tokens of each text, without special tokens."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def apply_chat_template(self, messages: Sequence[ChatMessage]) -> int | None:
        """Tokens of the whole prompt with the chat template's own; None if there is no template."""

    def word_counts(self, words: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens of each word after a space inside a text, and at the beginning of a text; −1 where not known."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The measured server, for `/tokenize` below `url`; a `/v1` at its end is left out. `timeout_s`: of one call."""

    url: str
    model: str
    access: Access = field(default_factory=Access)
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerOptions:
    """`name` None: find one for `model` (see `load_tokenizer`). `offline`: never ask the hub."""

    name: str | None
    model: str
    revision: str = "main"
    trust_remote_code: bool = False
    offline: bool = False


def count_words(
    count: Callable[[Sequence[str]], NDArray[np.int64]], words: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`word_counts` for a tokenizer that counts locally: each word behind a common one, and alone.

    Behind a word, not behind a bare space: SentencePiece tokenizers put a dummy prefix in front of every text, so that a
    leading space would be counted twice.
    """
    inside = count([f"the {w}" for w in words]) - count(["the"])[0]
    return inside, count(list(words))
