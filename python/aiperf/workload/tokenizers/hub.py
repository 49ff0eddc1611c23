"""A tokenizer by its name on the Hugging Face hub: the local cache first, without network; then a download."""

from __future__ import annotations

from pathlib import Path

from aiperf.errors import ConfigError, Problem
from aiperf.web.hub import HUB_LIMIT_S, ask_for_file
from aiperf.workload.tokenizers.file import FileTokenizer, load_file_tokenizer

__all__ = ["load_hub_tokenizer"]

_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_HINT = "use `--tokenizer builtin` (offline), `--tokenizer server` (the server's own), or a folder with its `tokenizer.json`"


def load_hub_tokenizer(name: str, revision: str = "main", *, offline: bool = False) -> FileTokenizer:
    """ConfigError with the alternatives if the name is in neither cache nor hub, or the hub cannot be reached."""
    from huggingface_hub import constants, try_to_load_from_cache

    path = try_to_load_from_cache(name, _FILES[0], revision=revision)
    if not isinstance(path, str):
        if offline or constants.HF_HUB_OFFLINE:
            raise _missing(name, "is not in the local Hugging Face cache, and the hub is switched off (HF_HUB_OFFLINE)")
        path = _download(name, revision)
    return load_file_tokenizer(Path(path), name)


def _missing(name: str, why: str) -> ConfigError:
    return ConfigError((Problem(f"the tokenizer `{name}` {why}", "--tokenizer", _HINT),))


def _download(name: str, revision: str) -> str:
    """Path of the downloaded `tokenizer.json`; the chat template's files come along where the repository has them."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        ask_for_file(name, _FILES[0], revision, None, HUB_LIMIT_S)
        path = str(hf_hub_download(name, _FILES[0], revision=revision, etag_timeout=5))
    except GatedRepoError as error:
        raise _missing(name, "is gated: accept its licence on the hub and set `HF_TOKEN`") from error
    except RepositoryNotFoundError as error:
        raise _missing(name, "is not on the Hugging Face hub (or needs `HF_TOKEN`)") from error
    except RevisionNotFoundError as error:
        raise _missing(name, f"has no revision `{revision}`") from error
    except EntryNotFoundError as error:
        if type(error).__name__ == "LocalEntryNotFoundError":
            raise _missing(name, "is not in the local Hugging Face cache, and the hub cannot be reached") from error
        raise _missing(name, "has no `tokenizer.json` in its repository") from error
    except Exception as error:  # TimeoutError, and those of the HTTP library, by its version
        why = f"is not in the local Hugging Face cache, and the hub does not answer ({type(error).__name__})"
        raise _missing(name, why) from error
    for other in _FILES[1:]:
        try:
            hf_hub_download(name, other, revision=revision, etag_timeout=5)
        except Exception:  # noqa: BLE001, S112 - optional files; the tokenizer is complete without
            continue
    return path
