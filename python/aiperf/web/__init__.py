"""Small HTTP questions around a load: probe, waiting, metrics, tokenizer. Never the load itself, which is the engine's."""

from __future__ import annotations

from aiperf.web.addresses import Choice, choose_addresses
from aiperf.web.failures import NotHttpError, ProxyFailedError
from aiperf.web.server import Access, HttpResponse, Server, access_of

__all__ = [
    "Access",
    "Choice",
    "HttpResponse",
    "NotHttpError",
    "ProxyFailedError",
    "Server",
    "access_of",
    "choose_addresses",
]
