"""What goes wrong below HTTP."""

from __future__ import annotations

__all__ = ["NotHttpError", "ProxyFailedError"]


class NotHttpError(OSError):
    """The peer is reached, but what it sends is no HTTP reply, or it closes before one."""


class ProxyFailedError(OSError):
    """The proxy on the way is not there, or does not do what it is asked for. `source`: what named it."""

    def __init__(self, proxy: str, what: str, source: str) -> None:
        super().__init__(f"the proxy `{proxy}` {what}")
        self.source = source
