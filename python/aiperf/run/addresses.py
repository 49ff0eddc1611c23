"""Which addresses of the URLs' names are used: tried before the clock starts, the same for the probe and the load."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from aiperf.config.model import Config
from aiperf.config.proxy import proxy_rule
from aiperf.config.url import BaseUrl, parse_url
from aiperf.errors import EndpointError, Note
from aiperf.web import Choice, ProxyFailedError, choose_addresses

__all__ = ["Addresses", "address_facts", "address_notes", "choose"]

Addresses = Mapping[str, Choice]
"""By URL as configured."""
_MOST_AT_ONCE = 16


def choose(config: Config) -> Addresses:
    """All URLs at once; of one behind a proxy it is the proxy that is connected to. EndpointError for a name that has no address."""
    urls = list(dict.fromkeys(config.endpoint.urls))
    rule = proxy_rule(config.endpoint.proxy, os.environ)

    def one(url: str) -> Choice | EndpointError:
        base = parse_url(url)
        proxy = rule.of(base)
        try:
            return choose_addresses(base if proxy is None else proxy.base)
        except OSError as failed:
            error = (
                failed if proxy is None else ProxyFailedError(proxy.shown, f"has no address: {failed}", proxy.source)
            )
            from aiperf.telemetry.probe.checks import explain

            return EndpointError((explain(error, base.shown),))

    with ThreadPoolExecutor(min(len(urls), _MOST_AT_ONCE)) as pool:
        found = dict(zip(urls, pool.map(one, urls), strict=True))
    errors = [p for c in found.values() if isinstance(c, EndpointError) for p in c.problems]
    if errors:
        raise EndpointError(tuple(dict.fromkeys(errors)))
    return {url: c for url, c in found.items() if isinstance(c, Choice)}


def address_notes(chosen: Addresses) -> list[Note]:
    """One per URL that has an address which does not accept."""
    return [_note(parse_url(url), choice) for url, choice in chosen.items() if choice.left_out]


def _note(base: BaseUrl, choice: Choice) -> Note:
    left = ", ".join(f"`{address}` ({why})" for address, why in choice.left_out)
    used = ", ".join(f"`{address}`" for address in choice.used)
    text = f"not all addresses of `{base.host}` are used: {left}; requests go to {used}"
    return Note("address_left_out", text, {"url": base.shown, "used": choice.used, "left_out": choice.left_out})


def address_facts(chosen: Addresses) -> list[dict[str, object]]:
    """For `run.json`: per URL the addresses used and those left out, with the reason."""
    return [
        {
            "url": parse_url(url).shown,
            "addresses": list(choice.used),
            "left_out": [{"address": address, "reason": why} for address, why in choice.left_out],
        }
        for url, choice in chosen.items()
    ]
