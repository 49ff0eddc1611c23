"""What goes wrong below HTTP."""

from __future__ import annotations

__all__ = ["NotHttpError"]


class NotHttpError(OSError):
    """The peer is reached, but what it sends is no HTTP reply, or it closes before one."""
