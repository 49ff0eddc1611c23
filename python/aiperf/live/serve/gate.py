"""Who may read: on loopback whoever asks by a loopback name (a page elsewhere cannot, DNS rebinding), else whoever has the token."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

__all__ = ["Gate", "host_of", "is_loopback"]


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """The name in a Host header, without the port."""
    return (urlsplit(f"//{header}").hostname or "") if header else ""


@dataclass(frozen=True, slots=True)
class Gate:
    """`host`: what is listened on. `open_numbers`: numbers need no token, as with AIPerf's `--api-host`."""

    host: str
    open_numbers: bool = False
    token: str = field(default_factory=lambda: secrets.token_urlsafe(18))

    @property
    def is_local(self) -> bool:
        return is_loopback(self.host)

    def refusal(
        self, *, host: str, origin: str | None, target: str, authorization: str | None, numbers: bool
    ) -> str | None:
        """Why a request is refused; None if it is not. `target`: the request's, with its query; `numbers`: no page, no report."""
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "pages of other origins may not read this"
        if self.is_local:
            return None if is_loopback(host_of(host)) else "only by 127.0.0.1, localhost or [::1]"
        if numbers and self.open_numbers:
            return None
        given = parse_qs(urlsplit(target).query).get("token", [""])[0]
        if authorization is not None and authorization.startswith("Bearer "):
            given = authorization.removeprefix("Bearer ")
        if hmac.compare_digest(given.encode(), self.token.encode()):
            return None
        return "the token is missing or wrong: it is in the URL that aiperf printed (`?token=…`, or `Authorization: Bearer …`)"
