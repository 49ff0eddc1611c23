"""The Hugging Face hub, asked once and with a bound before its library, which retries for half a minute, is let loose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from aiperf.config.proxy import ProxyRule
from aiperf.web.time_limit import bounded

__all__ = ["HUB_LIMIT_S", "ask_for_dataset", "ask_for_file", "hub_through"]

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


@contextmanager
def hub_through(rule: ProxyRule) -> Iterator[None]:
    """Within it the hub is reached through the proxy that was named for everything. With none, or `env`, its library follows the
    environment, as it always does.
    """
    if rule.fixed is None:
        yield
        return
    import httpx2
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory, hf_request_event_hook

    base = rule.fixed.base
    secret = "" if base.user is None else f"{quote(base.user, safe='')}:{quote(base.password or '', safe='')}@"
    proxy = f"http://{secret}{rule.fixed.shown}"

    def make() -> httpx2.Client:
        hooks = {"request": [hf_request_event_hook]}
        return httpx2.Client(event_hooks=hooks, follow_redirects=True, timeout=None, proxy=proxy, trust_env=False)

    set_client_factory(make)
    try:
        yield
    finally:
        set_client_factory(default_client_factory)
