"""Tokenizers: how many tokens a text has, by the model's own rules. One file per kind; this one chooses.

* `builtin`: OpenAI's o200k, in the wheel, needs nothing (`tokenizers/builtin.py`).
* a path: a `tokenizer.json`, a `*.tiktoken` vocabulary or a folder with one of them (`tokenizers/file.py`).
* a hub name: from the local Hugging Face cache, else downloaded (`tokenizers/hub.py`).
* `server`: the measured server's own `/tokenize` (`tokenizers/server.py`).

Counts are of the text alone: no BOS, no EOS, no chat template, as the server counts the content of one message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import AIPerfError, ConfigError, EndpointError, Note, Problem
from aiperf.web import Access

__all__ = ["ChatMessage", "ServerAddress", "Tokenizer", "TokenizerOptions", "count_words", "load_tokenizer"]

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


@dataclass(frozen=True, slots=True)
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


def load_tokenizer(options: TokenizerOptions, server: ServerAddress | None = None) -> tuple[Tokenizer, list[Note]]:
    """The tokenizer asked for, and what is worth telling about it.

    A name that was given never falls back: ConfigError names the alternatives. Without a name: the model's in the local
    cache or hub, else the server's `/tokenize`, else `builtin` with a warning (`compat.md`).
    """
    if options.name is not None:
        tokenizer = _load_named(options.name, options, server)
        notes = []
        if options.trust_remote_code and tokenizer.provenance == "local tokenizer":
            notes.append(
                Note(
                    "tokenizer_no_remote_code",
                    "`--tokenizer-trust-remote-code` has no effect: only data files are read",
                )
            )
        return tokenizer, notes
    reasons: list[str] = []
    from aiperf.workload.tokenizers.hub import load_hub_tokenizer

    model = Path(options.model)
    if model.exists():
        from aiperf.workload.tokenizers.file import load_file_tokenizer

        try:
            return load_file_tokenizer(model), []
        except AIPerfError as error:
            reasons.append(error.message)
    elif _is_hub_name(options.model):
        try:
            return load_hub_tokenizer(options.model, options.revision, offline=options.offline), []
        except AIPerfError as error:
            reasons.append(error.message)
    else:
        reasons.append(f"`{options.model}` is not the name of a repository on the Hugging Face hub")
    if server is not None:
        from aiperf.workload.tokenizers.server import ServerTokenizer

        try:
            found = ServerTokenizer(server)
            found.encode("the")
        except EndpointError as error:
            reasons.append(error.message)
        else:
            return found, [Note("tokenizer_server", "tokens are counted by the server's own `/tokenize`")]
    from aiperf.workload.tokenizers.builtin import BuiltinTokenizer

    text = f"no tokenizer found for `{options.model}`: tokens are counted with `builtin` (o200k), so lengths differ from the server's"
    return BuiltinTokenizer(), [Note("tokenizer_builtin", text, {"reasons": tuple(reasons)})]


def _is_hub_name(name: str) -> bool:
    """`org/name` or `name`, in the hub's alphabet."""
    import re

    return re.fullmatch(r"[\w][\w.\-]*(/[\w][\w.\-]*)?", name) is not None


def _load_named(name: str, options: TokenizerOptions, server: ServerAddress | None) -> Tokenizer:
    if name == "builtin":
        from aiperf.workload.tokenizers.builtin import BuiltinTokenizer

        return BuiltinTokenizer()
    if name == "server":
        if server is None:
            raise ConfigError(
                (Problem("`server` needs a server to ask", "--tokenizer", "give `--url`, or use `builtin`"),)
            )
        from aiperf.workload.tokenizers.server import ServerTokenizer

        tokenizer = ServerTokenizer(server)
        tokenizer.encode("the")
        return tokenizer
    path = Path(name).expanduser()
    if path.exists():
        from aiperf.workload.tokenizers.file import load_file_tokenizer

        return load_file_tokenizer(path)
    if name.startswith(("/", "./", "../", "~")) or name.endswith((".json", ".tiktoken", ".model")):
        raise ConfigError((Problem(f"no file or folder `{name}`", "--tokenizer", _ALTERNATIVES),))
    if not _is_hub_name(name):
        raise ConfigError((Problem(f"`{name}` is neither a path nor a hub name", "--tokenizer", _ALTERNATIVES),))
    from aiperf.workload.tokenizers.hub import load_hub_tokenizer

    return load_hub_tokenizer(name, options.revision, offline=options.offline)


_ALTERNATIVES = "use `builtin` (offline), `server` (the server's own), a folder or a `tokenizer.json`"
