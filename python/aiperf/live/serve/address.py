"""`[HOST:]PORT` of `--serve`."""

from __future__ import annotations

from aiperf.errors import ConfigError, Problem

__all__ = ["parse_address"]


def parse_address(text: str, option: str) -> tuple[str, int]:
    """(host, port); the host is 127.0.0.1 unless one is given. ConfigError if it is neither."""
    host, colon, port = text.strip().rpartition(":")
    if colon and ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ConfigError(
            [Problem(f"`{text}` is not [HOST:]PORT", option, f"write an IPv6 address as `[{text}]:8080`")]
        )
    if not port.isdigit() or int(port) > 65535:
        raise ConfigError(
            [Problem(f"`{text}` is not [HOST:]PORT", option, "`8080`, `0.0.0.0:8080`, or `0` for a free port")]
        )
    return host.strip("[]") or "127.0.0.1", int(port)
