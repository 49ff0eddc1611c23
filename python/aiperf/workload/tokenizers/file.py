"""Tokenizers from files: Hugging Face's `tokenizer.json`, tiktoken vocabularies, or a folder with one of them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import ConfigError, Problem
from aiperf.workload.disk_cache import cached_bytes
from aiperf.workload.tokenizers import ChatMessage, count_words

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HFTokenizer

__all__ = ["FileTokenizer", "load_file_tokenizer"]

_CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN = _CL100K.replace(r"\p{N}{1,3}", r"\p{N}")
_O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class FileTokenizer:
    """A `tokenizers.Tokenizer` and, if the folder has one, its chat template (jinja, run in a sandbox)."""

    provenance = "local tokenizer"

    def __init__(self, name: str, inner: HFTokenizer, fingerprint: str, chat_template: str | None = None) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._inner = inner
        self._chat_template = chat_template

    def count(self, texts: Sequence[str]) -> NDArray[np.int64]:
        encoded = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return np.fromiter((len(e) for e in encoded), np.int64, len(encoded))

    def encode(self, text: str) -> list[int]:
        return list(self._inner.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._inner.decode(list(ids), skip_special_tokens=False))

    def apply_chat_template(self, messages: Sequence[ChatMessage]) -> int | None:
        if self._chat_template is None:
            return None
        return len(self.encode(_render_chat(self._chat_template, messages)))

    def word_counts(self, words: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return count_words(self.count, words)


def load_file_tokenizer(path: Path, name: str | None = None) -> FileTokenizer:
    """From a file or folder. `name`: as shown to users (default: the path). ConfigError if there is none we can read."""
    shown = name or str(path)
    file = _find(path, shown)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _problem(f"cannot read the tokenizer `{file}`: {error.strerror}") from error
    digest = hashlib.sha256(data).hexdigest()[:32]
    if file.suffix == ".json":
        inner = _from_json(data, shown)
    else:
        inner = _from_json(cached_bytes(f"tiktoken-{digest}.json", lambda: _convert_tiktoken(data, file, shown)), shown)
    inner.no_padding()
    inner.no_truncation()
    return FileTokenizer(shown, inner, digest, _chat_template(file.parent))


def _find(path: Path, shown: str) -> Path:
    if path.is_file():
        return path
    for pattern in ("tokenizer.json", "*.tiktoken", "tokenizer.model"):
        found = sorted(path.glob(pattern))
        if found:
            return found[0]
    inside = ", ".join(f"`{p.name}`" for p in sorted(path.iterdir())[:8]) or "nothing"
    raise _problem(
        f"no `tokenizer.json` in `{shown}`", f"found there: {inside}; use `builtin`, `server` or another folder"
    )


def _problem(message: str, hint: str | None = None) -> ConfigError:
    return ConfigError((Problem(message, "--tokenizer", hint),))


def _from_json(data: bytes, shown: str) -> HFTokenizer:
    from tokenizers import Tokenizer as HFTokenizer

    try:
        return HFTokenizer.from_buffer(data)
    except Exception as error:  # the library raises bare Exception
        hint = "the file must be a Hugging Face `tokenizer.json`"
        raise _problem(f"`{shown}` is not a tokenizer: {error}", hint) from error


def _convert_tiktoken(data: bytes, file: Path, shown: str) -> bytes:
    """A `tokenizer.json` with the same vocabulary and the same results.

    tiktoken merges the pair whose *result* has the lowest rank. The same order is had from merge rules by listing, for each
    token by rank, every way to split it in two known tokens. The splitting pattern is not in the file: it is inferred from the
    file's name or the number of tokens.
    """
    try:
        pairs = [line.split() for line in data.splitlines() if line]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    except (ValueError, binascii.Error) as error:
        if b"\x00" in data[:4096] or file.suffix == ".model":
            hint = (
                "convert it once to a `tokenizer.json` (transformers: `AutoTokenizer.from_pretrained(…).save_pretrained(…)`), "
                "or use `server` or `builtin`"
            )
            raise _problem(f"`{shown}` holds only a SentencePiece model, which is not supported", hint) from error
        raise _problem(f"`{shown}` is neither a `tokenizer.json` nor a tiktoken vocabulary") from error
    letters = _byte_letters()

    def spelled(token: bytes) -> str:
        return "".join([letters[b] for b in token])

    names = {token: spelled(token) for token in ranks}
    merges = [
        f"{names[token[:i]]} {names[token[i:]]}"
        for token, _ in sorted(ranks.items(), key=lambda item: item[1])
        if len(token) > 1
        for i in range(1, len(token))
        if token[:i] in ranks and token[i:] in ranks
    ]
    pattern = _tiktoken_pattern(file.name, len(ranks))
    document = {
        "version": "1.0",
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": {
            "type": "BPE",
            "vocab": {names[token]: rank for token, rank in ranks.items()},
            "merges": merges,
            "ignore_merges": True,
        },
    }
    return json.dumps(document, ensure_ascii=False).encode()


def _tiktoken_pattern(name: str, tokens: int) -> str:
    if "qwen" in name.lower() or 151_000 <= tokens <= 152_000:
        return _QWEN
    return _O200K if "o200k" in name.lower() or tokens > 190_000 else _CL100K


def _byte_letters() -> list[str]:
    """GPT-2's table: each byte as a printable character. https://github.com/openai/gpt-2/blob/master/src/encoder.py"""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(rest)) for b in range(256)]


def _chat_template(folder: Path) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    template = settings.get("chat_template") if isinstance(settings, dict) else None
    if isinstance(template, list):  # several named ones
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    if not isinstance(template, str):
        return None
    constants = {k: _token_text(settings.get(k)) for k in ("bos_token", "eos_token", "unk_token", "pad_token")}
    head = "".join("{%- set " + k + " = " + json.dumps(v) + " -%}" for k, v in constants.items() if v is not None)
    return head + template


def _token_text(value: object) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _render_chat(template: str, messages: Sequence[ChatMessage]) -> str:
    """As transformers' `apply_chat_template(add_generation_prompt=True)` does it."""
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"], autoescape=False
    )
    environment.globals["raise_exception"] = raise_exception
    try:
        return environment.from_string(template).render(messages=list(messages), add_generation_prompt=True)
    except TemplateError as error:
        raise _problem(f"the chat template cannot be applied: {error}", "leave out `--apply-chat-template`") from error
