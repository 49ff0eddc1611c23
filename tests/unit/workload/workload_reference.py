"""Synthetic text as the border contract words it, written anew in plain Python: the check on the native `Vocabulary`."""

from __future__ import annotations

from collections.abc import Sequence

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix64(seed: int) -> int:
    """splitmix64. https://prng.di.unimi.it/splitmix64.c"""
    z = (seed + _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


class ReferenceVocabulary:
    def __init__(
        self, words: Sequence[bytes], counts: Sequence[int], stream: Sequence[int], heads: Sequence[int]
    ) -> None:
        self._words = [bytes(w) for w in words]
        self._counts = [int(c) for c in counts]
        self._stream = [int(i) for i in stream]
        self._heads = [self._words[int(h)] for h in heads]

    def text(self, seed: int, tokens: int, leading_space: bool = False) -> bytes:
        digits, words = mix64(seed), []
        for _ in range(min(tokens, 5)):
            digits, digit = divmod(digits, len(self._heads))
            words.append(self._heads[digit])
        left = tokens - len(words)
        place = mix64(seed ^ _GOLDEN)
        at = place % len(self._stream)
        while left and self._counts[self._stream[at]] <= left:
            left -= self._counts[self._stream[at]]
            words.append(self._words[self._stream[at]])
            at = (at + 1) % len(self._stream)
        words += [self._heads[((place + i) & _MASK) % len(self._heads)] for i in range(left)]
        return (b" " if leading_space and words else b"") + b" ".join(words)
