"""`builtin` is OpenAI's o200k_base: the published vocabulary, split as published (by another regex engine), merged by definition."""

from __future__ import annotations

import base64
import hashlib
import itertools
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from aiperf._core import builtin_count, builtin_decode, builtin_encode, read_bytes

ROOT = Path(__file__).parents[3]
PACKED = ROOT / "crates/tokens/src/o200k.zst"
PUBLISHED_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
"""Of `o200k_base.tiktoken`, as tiktoken's `openai_public.py` checks it."""
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    + _ENDING
    + r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    + _ENDING
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""`pat_str` of o200k_base, same place."""
ALPHABET = "aZé ßЖ東한ิ👩‍🏳️3²\t\n\r /'\"\\.,;-_#(){}\u00a0\u2028\u3000\u0301sStTrREvemMlLdD"


@cache
def vocabulary() -> list[bytes]:
    """The tokens by id."""
    packed, tokens, at = read_bytes(PACKED), [], 0
    while at < len(packed):
        end = at + 1 + packed[at]
        tokens.append(packed[at + 1 : end])
        at = end
    return tokens


@cache
def ranks() -> dict[bytes, int]:
    return {token: rank for rank, token in enumerate(vocabulary())}


@cache
def splitter() -> Split:
    return Split(Regex(PATTERN), "isolated")


def merged(piece: bytes) -> list[int]:
    """The pair that was learnt first is merged, until none is left."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        pairs = [(ranks().get(a + b), i) for i, (a, b) in enumerate(itertools.pairwise(parts))]
        known = [(rank, i) for rank, i in pairs if rank is not None]
        if not known:
            return [ranks()[part] for part in parts]
        _, i = min(known)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def expected(text: str) -> list[int]:
    return [token for piece, _ in splitter().pre_tokenize_str(text) for token in merged(piece.encode())]


def test_vocabulary_is_the_published_one() -> None:
    lines = (b"%b %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(vocabulary()))
    assert hashlib.sha256(b"".join(lines)).hexdigest() == PUBLISHED_SHA256


@pytest.mark.parametrize(
    "text",
    [
        "They'LL say he'd, WE'VE 1234567 of them…\r\n\r\n  next\tline   ",
        "  two  spaces\n\n\tand tabs \r\n at the end   ",
        "camelCaseHTTPServer snake_case kebab-case //// 'tis O'Neill's",
        "Ünïcödé Ελληνικά русский 東京都 한국어 ไทย 👩‍👩‍👧‍👦🏳️‍🌈",
        "a\u00a0b\u2028c\u3000 d\u200d\u0301e",
    ],
)
def test_texts_are_split_and_merged_as_published(text: str) -> None:
    assert builtin_encode(text) == expected(text)


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet=st.sampled_from(ALPHABET), max_size=60))
def test_any_text_is_split_and_merged_as_published(text: str) -> None:
    """White space before words, apostrophes and ends of lines are where a rewritten pattern goes wrong."""
    tokens = expected(text)
    assert builtin_encode(text) == tokens
    assert builtin_count([text]).tolist() == [len(tokens)]
    assert builtin_decode(tokens) == text
