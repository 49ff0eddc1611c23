"""The words synthetic prompts are made of, and the proof that their token counts add up for the tokenizer in use.

A prompt is a run of words with a space each. With a tokenizer that never merges over the space between two words, the tokens
of the run are the sum of the tokens of its words, so a prompt of exactly n tokens needs no tokenizer when it is sent. The
layout is the border contract's (`docs/dev/2026-11-24-border.md`, `Vocabulary`).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import ConfigError, Note, Problem
from aiperf.workload.disk_cache import cached_bytes
from aiperf.workload.tokenizers import Tokenizer

if TYPE_CHECKING:
    from aiperf._core import Vocabulary

__all__ = [
    "EncodedText",
    "TextSource",
    "VocabularyTables",
    "build_vocabulary",
    "find_mismatch",
    "load_corpus",
    "text_source",
]

_VERSION = 2
"""Part of the cache's file name: raise it when the corpus or the layout changes."""

_MAX_WORD_TOKENS = 16
_MIN_HEADS = 32
"""Below, prompts could hardly differ in their first five words: 32⁵ = 3 × 10⁷."""

_CHECK_TOKENS = (1, 2, 3, 4, 5, 6, 7, 16, 33, 100, 512, 1000, 2048, 4096)


class TextSource(Protocol):
    """Text of exactly `tokens` tokens: a function of the seed. The native `Vocabulary` is one."""

    def text(self, seed: int, tokens: int, leading_space: bool = False) -> bytes:
        """JSON-escaped UTF-8."""


@dataclass(frozen=True, slots=True)
class VocabularyTables:
    """See the border contract. Words are ASCII and need no escaping."""

    words: tuple[bytes, ...]
    counts: NDArray[np.uint8]
    """(words,) tokens of a space and the word."""
    stream: NDArray[np.uint32]
    """The corpus as word numbers."""
    heads: NDArray[np.uint32]
    """Words of exactly one token, both behind a space and at the beginning of a text; most frequent first."""

    def to_core(self) -> Vocabulary:
        from aiperf._core import Vocabulary

        return Vocabulary(list(self.words), self.counts, self.stream, self.heads)


def load_corpus(style: Literal["prose", "words"] = "prose") -> tuple[list[str], NDArray[np.uint32]]:
    """Distinct words, most frequent first, and the text as word numbers.

    `words`: the same words without punctuation, each as often as any other, in an order fixed for good.
    """
    from aiperf._core import read_bytes

    packed = read_bytes(Path(__file__).parent / "data" / "corpus.npz.zst")
    with np.load(io.BytesIO(packed)) as file:
        words = file["words"].tobytes().decode("ascii").split("\n")
        stream = file["stream"].astype(np.uint32)
    if style == "prose":
        return words, stream
    plain = [w for w in words if w.isalpha()]
    rounds = -(-200_000 // len(plain))
    rng = np.random.default_rng(0x5EED)
    return plain, np.concatenate([rng.permutation(len(plain)) for _ in range(rounds)]).astype(np.uint32)


def build_vocabulary(tokenizer: Tokenizer, style: Literal["prose", "words"] = "prose") -> VocabularyTables:
    """The tables for a tokenizer, from the user's cache if it was built before. ConfigError if it leaves no words to use."""
    words, stream = load_corpus(style)
    made = cached_bytes(f"words-{_cache_key(tokenizer, style)}.npz", lambda: _measure(tokenizer, words))
    try:
        with np.load(io.BytesIO(made)) as file:
            inside, alone = file["inside"], file["alone"]
    except (ValueError, OSError, KeyError):  # not ours, or half of one
        with np.load(io.BytesIO(_measure(tokenizer, words))) as file:
            inside, alone = file["inside"], file["alone"]
    usable = (inside > 0) & (inside <= _MAX_WORD_TOKENS)
    number = np.where(usable, np.cumsum(usable) - 1, -1)
    kept = np.flatnonzero(usable)
    moved = number[stream]
    single = (inside == 1) & (alone == 1)
    plain = np.fromiter(map(str.isalpha, words), np.bool_, len(words))
    heads = number[np.flatnonzero(single & plain)]
    if len(heads) < _MIN_HEADS:
        hint = "use another tokenizer for the prompts: `--tokenizer builtin`"
        raise ConfigError(
            (Problem(f"`{tokenizer.name}` has only {len(heads)} of our words as one token", "--tokenizer", hint),)
        )
    encoded = "\n".join(words).encode("ascii").split(b"\n")  # one call instead of 16,000
    return VocabularyTables(
        words=tuple(encoded[i] for i in kept.tolist()),
        counts=inside[kept].astype(np.uint8),
        stream=moved[moved >= 0].astype(np.uint32),
        heads=heads.astype(np.uint32),
    )


def _cache_key(tokenizer: Tokenizer, style: str) -> str:
    return f"{_VERSION}-{style}-{hashlib.sha256(tokenizer.fingerprint.encode()).hexdigest()[:24]}"


def _measure(tokenizer: Tokenizer, words: Sequence[str]) -> bytes:
    inside, alone = tokenizer.word_counts(words)
    out = io.BytesIO()
    np.savez(out, inside=inside.clip(-1, 127).astype(np.int8), alone=alone.clip(-1, 127).astype(np.int8))
    return out.getvalue()


def find_mismatch(tokenizer: Tokenizer, source: TextSource, seed: int = 0) -> str | None:
    """None if texts of 1 to 4,096 tokens have the tokens they were made for, alone and at the seams; else what differed.

    Seams: behind a literal (`Answer: `), two texts joined, and behind a line break, as chat templates put the content.
    """
    texts: list[str] = []
    wanted: list[int] = []

    def text(n: int, number: int, *, leading_space: bool = False) -> str:
        return source.text(seed + number, n, leading_space).decode()

    for seed_offset, count in enumerate(_CHECK_TOKENS):
        texts.append(text(count, seed_offset))
        wanted.append(count)
    borders = ("Answer:", "Answer:\n", "<|user|>\n")
    bases = tokenizer.count(borders)
    for seed_offset, (count, m) in enumerate([(1, 1), (5, 2), (16, 512), (512, 33)]):
        texts.append(text(count, 100 + seed_offset) + text(m, 200 + seed_offset, leading_space=True))
        wanted.append(count + m)
        texts.append(borders[0] + text(count, 300 + seed_offset, leading_space=True))
        wanted.append(int(bases[0]) + count)
    counted = tokenizer.count(texts)
    for count, got in zip(wanted, counted, strict=True):
        if count != got:
            return f"a text made for {count} tokens has {got}"
    return None


class EncodedText:
    """The slow way, for tokenizers whose counts do not add up: a window of the corpus is encoded and trimmed until it fits.

    Shorter than asked for by what no short word can fill, in the rare case.
    """

    def __init__(self, tokenizer: Tokenizer, style: Literal["prose", "words"] = "prose") -> None:
        self._tokenizer = tokenizer
        self._words, self._stream = load_corpus(style)
        self._made: dict[tuple[int, int], bytes] = {}

    def text(self, seed: int, tokens: int, leading_space: bool = False) -> bytes:
        key = (seed, tokens)
        if key not in self._made:
            self._made[key] = self._make(seed, tokens)
        return b" " + self._made[key] if leading_space else self._made[key]

    def _make(self, seed: int, tokens: int) -> bytes:
        """The longest window that is not too long, found by interpolation, and short words to fill up."""
        rng = np.random.default_rng(seed)
        start = int(rng.integers(len(self._stream)))

        def window(size: int) -> str:
            return " ".join(
                [self._words[int(i)] for i in self._stream[np.arange(start, start + size) % len(self._stream)]]
            )

        best, got = "", 0
        low, high, size = 0, 2 * tokens + 8, max(1, int(tokens * 0.8))
        while low < high:
            text = window(size)
            count = int(self._tokenizer.count([text])[0])
            if count > tokens:
                high = size - 1
            else:
                best, got, low = text, count, size
            if count == tokens:
                break
            step = size + int((tokens - count) * 0.8)
            size = min(max(step, low + 1), high)
        fillers = [_FILLERS[int(i)] for i in rng.permutation(len(_FILLERS))]
        while got < tokens:
            tries = [f"{best} {word}" if best else word for word in fillers]
            counts = self._tokenizer.count(tries)
            fits = np.flatnonzero(counts == got + 1)
            if not fits.size:
                break
            best, got = tries[int(fits[0])], got + 1
            fillers = [*fillers[int(fits[0]) + 1 :], *fillers[: int(fits[0]) + 1]]
        return (best or fillers[0]).encode()


_FILLERS = (
    "and",
    "he",
    "it",
    "we",
    "all",
    "now",
    "so",
    "they",
    "day",
    "man",
    "one",
    "then",
    "also",
    "king",
    "people",
    "house",
)


def text_source(
    tokenizer: Tokenizer, style: Literal["prose", "words"] = "prose"
) -> tuple[Vocabulary | EncodedText, tuple[Note, ...]]:
    """The native vocabulary if the tokenizer keeps the promise on a sample; else `EncodedText` and a note that says so.

    The sample is taken once per tokenizer; its outcome is kept beside the counts.
    """
    vocabulary = build_vocabulary(tokenizer, style).to_core()

    def check() -> bytes:
        return (find_mismatch(tokenizer, vocabulary) or "").encode()

    mismatch = cached_bytes(f"checked-{_cache_key(tokenizer, style)}.txt", check).decode("utf-8", "replace")
    if not mismatch:
        return vocabulary, ()
    text = f"token counts of `{tokenizer.name}` do not add up ({mismatch}): prompts are encoded and trimmed before the start"
    return EncodedText(tokenizer, style), (
        Note("prompts_encoded", text, {"tokenizer": tokenizer.name, "found": mismatch}),
    )
