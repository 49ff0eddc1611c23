"""Tokenizers: how many tokens a text has, by the model's own rules. One file per kind; this one chooses.

* `builtin`: OpenAI's o200k, in the wheel, needs nothing (`tokenizers/builtin.py`).
* a path: a `tokenizer.json`, a `*.tiktoken` vocabulary or a folder with one of them (`tokenizers/file.py`).
* a hub name: from the local Hugging Face cache, else downloaded (`tokenizers/hub.py`).
* `server`: the measured server's own `/tokenize` (`tokenizers/server.py`).

Counts are of the text alone: no BOS, no EOS, no chat template, as the server counts the content of one message.
"""

from __future__ import annotations

from pathlib import Path

from aiperf.errors import AIPerfError, ConfigError, EndpointError, Note, Problem
from aiperf.workload.tokenizers import ServerAddress, Tokenizer, TokenizerOptions

__all__ = ["load_tokenizer"]


def load_tokenizer(options: TokenizerOptions, server: ServerAddress | None = None) -> tuple[Tokenizer, list[Note]]:
    """The tokenizer asked for, and what is worth telling about it.

    A name that was given never falls back: ConfigError names the alternatives. Without a name: the model's in the local
    cache or hub, else the server's `/tokenize`, else `builtin` with a warning (aiperf-compatibility.md).
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
            by_server = ServerTokenizer(server)
            by_server.encode("the")
        except EndpointError as error:
            reasons.append(error.message)
        else:
            return by_server, [Note("tokenizer_server", "tokens are counted by the server's own `/tokenize`")]
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
