"""`server`: the measured server's own `/tokenize`, in the forms of vLLM and SGLang, of llama.cpp, and of TGI.

vLLM, SGLang: `{"model", "prompt", "add_special_tokens"}` → `{"tokens", "count", "token_strs"}`
(https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html). llama.cpp: `{"content", "add_special", "with_pieces"}` →
`{"tokens": [{"id", "piece"}]}` (https://github.com/ggml-org/llama.cpp/tree/master/tools/server). TGI: `{"inputs"}` →
`[{"id", "text", "start", "stop"}]`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiperf.config.url import target_of
from aiperf.errors import EndpointError
from aiperf.web import Server
from aiperf.workload.tokenizers import ChatMessage, ServerAddress

__all__ = ["ServerTokenizer"]

_THREADS = 8
_RUN_BYTES = 12_000
"""Longest text in one call for the vocabulary, bytes: some servers refuse more tokens than their context has."""
_MAX_HEADS_ASKED = 1024
_HINT = "use `--tokenizer builtin`, a hub name or a folder"


@dataclass(frozen=True, slots=True)
class _Tokens:
    """`pieces` None where the server gives only ids. A piece is text as in the prompt; bytes that are no UTF-8 become U+FFFD."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...] | None


class ServerTokenizer:
    """One call per text, by 8 threads. EndpointError if the server has no `/tokenize` or stops answering it."""

    name = "server"
    provenance = "server tokenize"

    def __init__(self, address: ServerAddress) -> None:
        self._address = address
        self._target = target_of(address.url, "/")
        self._idle: deque[Server] = deque()
        """Connections kept while a batch is asked for (`append` and `pop` are atomic)."""
        self._keeps = False
        self._form: str | None = None
        self._form_lock = threading.Lock()
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """From the ids of a fixed text: two servers with the same tokenizer share a vocabulary."""
        if self._fingerprint is None:
            probe = "In the beginning God created 1234567 émigré naïveté 你好 🙂 tokenization; antidisestablishmentarianism (x)\n\n  y"
            text = f"{self._address.model} {self._ask(probe).ids}"
            self._fingerprint = "server-" + hashlib.sha256(text.encode()).hexdigest()[:32]
        return self._fingerprint

    def count(self, texts: Sequence[str]) -> NDArray[np.int64]:
        return np.array([len(t.ids) for t in self._ask_all(texts)], dtype=np.int64)

    def encode(self, text: str) -> list[int]:
        return list(self._ask(text).ids)

    def decode(self, ids: Sequence[int]) -> str:
        self._ask("the") if self._form is None else None
        if self._form == "llama.cpp":
            reply = self._post("/detokenize", {"tokens": list(ids)})
            text = reply.get("content") if isinstance(reply, dict) else None
        else:
            reply = self._post("/detokenize", {"model": self._address.model, "tokens": list(ids)})
            text = reply.get("prompt", reply.get("text")) if isinstance(reply, dict) else None
        if not isinstance(text, str):
            raise EndpointError("unexpected response from `/detokenize`", _HINT)
        return text

    def apply_chat_template(self, messages: Sequence[ChatMessage]) -> int | None:
        self._ask("the") if self._form is None else None
        listed = [dict(m) for m in messages]
        try:
            if self._form == "llama.cpp":
                reply = self._post("/apply-template", {"messages": listed})
                prompt = reply.get("prompt") if isinstance(reply, dict) else None
                if not isinstance(prompt, str):
                    return None
                return len(_parse(self._post("/tokenize", {"content": prompt, "add_special": True})).ids)
            if self._form == "vllm":
                body = {"model": self._address.model, "messages": listed, "add_generation_prompt": True}
                return len(_parse(self._post("/tokenize", body)).ids)
        except EndpointError:
            return None
        return None

    def word_counts(self, words: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A few calls with long runs of words whose pieces are aligned with the words; where the server gives no pieces, one
        call for each of the 1,024 most frequent words (the others stay unknown).
        """
        inside = np.full(len(words), -1, dtype=np.int64)
        runs: list[tuple[int, int]] = []
        start = size = 0
        for i, word in enumerate(words):
            size += len(word) + 1
            if size > _RUN_BYTES:
                runs.append((start, i))
                start, size = i, len(word) + 1
        runs.append((start, len(words)))
        first = "the "
        replies = self._ask_all([first + " ".join(words[a:b]) for a, b in runs])
        for (a, b), tokens in zip(runs, replies, strict=True):
            if tokens.pieces is not None:
                inside[a:b] = _align(tokens.pieces, [first.strip(), *words[a:b]])[1:]
        few = np.arange(min(_MAX_HEADS_ASKED, len(words)))
        if (inside < 0).all():
            base = self.count(["the"])[0]
            inside[few] = self.count([f"the {words[int(i)]}" for i in few]) - base
        alone = np.full(len(words), -1, dtype=np.int64)
        asked = np.flatnonzero(inside == 1)[:_MAX_HEADS_ASKED]
        alone[asked] = self.count([words[int(i)] for i in asked])
        return inside, alone

    def _ask(self, text: str) -> _Tokens:
        if self._form is None:
            with self._form_lock:
                if self._form is None:
                    return self._find_form(text)
        return self._ask_as(self._form, text)

    def _ask_as(self, form: str, text: str) -> _Tokens:
        body: dict[str, object]
        if form == "vllm":
            body = {
                "model": self._address.model,
                "prompt": text,
                "add_special_tokens": False,
                "return_token_strs": True,
            }
        elif form == "llama.cpp":
            body = {"content": text, "add_special": False, "parse_special": False, "with_pieces": True}
        else:
            body = {"inputs": text, "add_special_tokens": False}
        return _parse(self._post("/tokenize", body))

    def _find_form(self, text: str) -> _Tokens:
        """A server takes the field it knows and refuses a body without it; llama.cpp answers an empty list instead."""
        problems: list[str] = []
        for form in ("vllm", "llama.cpp", "tgi"):
            try:
                tokens = self._ask_as(form, text)
            except EndpointError as error:
                if error.hint != _HINT:  # not reached at all: no other form will do
                    raise
                problems.append(error.message)
                continue
            if tokens.ids or not text:
                self._form = form
                return tokens
        raise EndpointError(problems[0] if problems else "`/tokenize` of the server gives no tokens", _HINT)

    def _ask_all(self, texts: Sequence[str]) -> list[_Tokens]:
        if len(texts) <= 1:
            return [self._ask(t) for t in texts]
        head = self._ask(texts[0])
        self._keeps = self._form != "llama.cpp"  # its few server threads each wait for a kept connection: others starve
        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                return [head, *pool.map(self._ask, texts[1:])]
        finally:
            self._keeps = False
            while self._idle:
                self._idle.pop().close()

    def _post(self, path: str, body: dict[str, object]) -> object:
        data = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        try:
            server = self._idle.pop()
        except IndexError:
            server = Server(self._target.base, self._address.access)
        full = self._target.at_root(path)
        try:
            reply = server.ask("POST", full, data, timeout_s=self._address.timeout_s, is_kept=self._keeps)
        except OSError as error:
            hint = "check `--url`, or choose another tokenizer: `builtin`, a hub name or a folder"
            reason = str(error) or type(error).__name__
            raise EndpointError(f"cannot ask `{self._target.base.at(full)}`: {reason}", hint) from error
        self._idle.append(server) if self._keeps else server.close()
        if reply.status != 200:
            raise EndpointError(f"`{path}` of the server answers HTTP {reply.status}: {reply.text[:200]}", _HINT)
        parsed = reply.json()
        if parsed is None:
            raise EndpointError(f"`{path}` of the server does not answer JSON", _HINT)
        return parsed


def _parse(reply: object) -> _Tokens:
    tokens: object = reply
    strings: object = None
    if isinstance(reply, dict):
        tokens, strings = reply.get("tokens"), reply.get("token_strs")
    if not isinstance(tokens, list):
        raise EndpointError("unexpected response from `/tokenize`", _HINT)
    if tokens and all(isinstance(t, dict) for t in tokens):
        ids = tuple(int(t["id"]) for t in tokens)
        pieces = tuple(_piece(t.get("piece", t.get("text"))) for t in tokens)
        return _Tokens(ids, pieces)
    if not all(isinstance(t, int) for t in tokens):
        raise EndpointError("unexpected response from `/tokenize`", _HINT)
    if isinstance(strings, list) and len(strings) == len(tokens):
        return _Tokens(tuple(tokens), tuple(_piece(s) for s in strings))
    return _Tokens(tuple(tokens), None)


def _piece(value: object) -> str:
    """Text of a token. `Ġ` and `▁` are how byte-level BPE and SentencePiece write a space; llama.cpp gives bytes that are no
    UTF-8 as a list.
    """
    if isinstance(value, list):
        return bytes(value).decode("utf-8", "replace")
    return str(value).replace("Ġ", " ").replace("▁", " ").replace("Ċ", "\n")


def _align(pieces: Sequence[str], words: Sequence[str]) -> NDArray[np.int64]:
    """`(len(words),) int64` tokens of each of `words` in the text they make joined by spaces; −1 where a token lies over a
    border of words, or from the place on where the pieces are not the text.
    """
    counts = np.full(len(words), -1, dtype=np.int64)
    text = " ".join(words)
    ends = np.cumsum([len(w) + 1 for w in words]) - 1  # a word's share of the text: its leading space and itself
    joined = "".join(pieces)
    extra = len(joined) - len(text)
    skip = extra if extra > 0 and joined[:extra].isspace() and joined[extra:] == text else 0  # a dummy prefix
    same = len(text) if joined[skip:] == text else _common_prefix(joined, text)
    borders = np.cumsum([len(p) for p in pieces]) - skip
    place = np.searchsorted(borders, ends)
    hit = (place < len(borders)) & (ends <= same)
    hit[hit] = borders[place[hit]] == ends[hit]
    at = np.where(hit, place + 1, -1)
    before = np.concatenate([[0], at[:-1]])
    good = hit & (before >= 0)
    counts[good] = (at - before)[good]
    return counts


def _common_prefix(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
