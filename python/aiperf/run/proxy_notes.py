"""What a run says of proxies: which are used, and which the environment names and are not."""

from __future__ import annotations

import os

from aiperf.config.model import Config
from aiperf.config.proxy import Proxy, proxy_rule, unused_variables
from aiperf.endpoints import targets_of
from aiperf.errors import Note

__all__ = ["proxies_used", "proxy_facts", "proxy_notes"]


def proxies_used(config: Config) -> dict[str, Proxy]:
    """By URL, without credentials, those that are reached through one."""
    rule = proxy_rule(config.endpoint.proxy, os.environ)
    found = {t.base.shown: rule.of(t.base) for t in targets_of(config)}
    return {url: proxy for url, proxy in found.items() if proxy is not None}


def proxy_facts(config: Config) -> dict[str, dict[str, str]]:
    """For `run.json`."""
    return {url: {"proxy": p.shown, "source": p.source} for url, p in proxies_used(config).items()}


def proxy_notes(config: Config) -> tuple[Note, ...]:
    used = proxies_used(config)
    if used:
        names = ", ".join(dict.fromkeys(f"`{p.shown}` ({p.source})" for p in used.values()))
        text = f"requests go through the proxy {names}: its time is part of every latency"
        return (Note("proxy_used", text, {"proxies": proxy_facts(config)}),)
    if config.endpoint.proxy is not None:
        return ()
    unused = unused_variables([t.base for t in targets_of(config)], os.environ)
    if not unused:
        return ()
    names = ", ".join(f"`{name}`" for name in unused)
    text = f"the proxy in {names} is not used, so that the server is measured and not the proxy (`--proxy env` uses it)"
    return (Note("proxy_not_used", text, {"variables": list(unused)}),)
