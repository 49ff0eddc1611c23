"""The Hugging Face hub, asked once and with a bound before its library, which retries for half a minute, is let loose."""

from __future__ import annotations

from aiperf.web.bounded import bounded

__all__ = ["HUB_LIMIT_S", "ask_for_dataset", "ask_for_file"]

HUB_LIMIT_S = 2.0
"""With it a run without network sends its first request within three seconds."""


def ask_for_file(repository: str, file: str, revision: str | None, kind: str | None, limit_s: float) -> None:
    """Returns if the hub has the file. TimeoutError, or an error of `huggingface_hub.errors` or of its HTTP library. `kind`: `dataset`
    or None, a model.
    """
    from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url

    url = hf_hub_url(repository, file, revision=revision, repo_type=kind)
    bounded(
        lambda: get_hf_file_metadata(url, token=get_token(), timeout=limit_s, retry_on_errors=False),
        limit_s,
        "the Hugging Face hub",
    )


def ask_for_dataset(repository: str, revision: str, limit_s: float) -> None:
    """Returns if the hub has the dataset; errors as `ask_for_file`."""
    from huggingface_hub import HfApi

    bounded(
        lambda: HfApi().repo_info(repository, repo_type="dataset", revision=revision, timeout=limit_s),
        limit_s,
        "the Hugging Face hub",
    )
