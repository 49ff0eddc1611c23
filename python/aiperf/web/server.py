"""One server, and the connection to it that is kept between questions. Time and size of every answer are bounded."""

from __future__ import annotations

import json
import os
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from aiperf.config.model import Config
from aiperf.config.proxy import NO_PROXIES, ProxyRule, proxy_rule
from aiperf.config.url import BaseUrl, UrlError, parse_url
from aiperf.web.failures import ProxyFailedError

if TYPE_CHECKING:
    from aiperf.web.http2 import Http2Transport
    from aiperf.web.transport import Transport

__all__ = ["Access", "HttpResponse", "Server", "access_of", "redirect_target"]

_MAX_BODY_BYTES = 64 << 20
"""A longer reply is no reply to a small question."""
_MAX_REDIRECTS = 5
_FORWARD_PROXIES = frozenset({"tinyproxy", "squid", "privoxy", "mitmproxy", "3proxy"})
"""`Server` of proxies, whose own answers these are: tinyproxy says 401 to wrong credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a server is reached. `headers` may hold secrets and are not in the repr.

    `proxies`: which of them go through a proxy (https by CONNECT). `is_http2`: the servers are asked over HTTP/2, as the load's; through
    a proxy over HTTP/1.1.
    """

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    insecure: bool = False
    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None
    proxies: ProxyRule = NO_PROXIES
    is_http2: bool = False

    def context(self) -> ssl.SSLContext:
        """OSError, ssl.SSLError if a file is missing or no certificate."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_cert_file is not None:
            context.load_cert_chain(self.client_cert_file, self.client_key_file)
        return context

    def of_user(self, base: BaseUrl) -> Access:
        """With the credentials in the URL as Basic, unless a header says who asks."""
        if base.user is None or any(name.lower() == "authorization" for name, _ in self.headers):
            return self
        pair = b64encode(f"{base.user}:{base.password or ''}".encode()).decode()
        return replace(self, headers=(*self.headers, ("Authorization", f"Basic {pair}")))

    def without(self, is_left_out: Callable[[str], bool]) -> Access:
        """Without the headers whose names are left out."""
        return replace(self, headers=tuple((name, value) for name, value in self.headers if not is_left_out(name)))


def access_of(config: Config) -> Access:
    """The headers of every request and the certificates, from the configuration."""
    endpoint = config.endpoint
    headers = list(endpoint.headers)
    if endpoint.api_key is not None and not any(name.lower() == "authorization" for name, _ in headers):
        headers.append(("Authorization", f"Bearer {endpoint.api_key.get_secret_value()}"))
    files = (endpoint.ca_file, endpoint.client_cert, endpoint.client_key)
    ca, cert, key = (None if f is None else str(f) for f in files)
    return Access(
        headers=tuple(headers),
        insecure=endpoint.insecure,
        ca_file=ca,
        client_cert_file=cert,
        client_key_file=key,
        proxies=proxy_rule(endpoint.proxy, os.environ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """`headers`: names in lower case. `origin`, `path`: where it came from, after redirects within the host."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    origin: str = ""
    path: str = ""

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> object:
        """None if the body is no JSON."""
        try:
            value: object = json.loads(self.body)
        except ValueError:
            return None
        return value


def redirect_target(method: str, base: BaseUrl, path: str, reply: HttpResponse) -> tuple[BaseUrl, str] | None:
    """Where a redirect that may be followed leads: the same host, with the method and body kept (307, 308; of a GET also 301, 302), and
    not from https to http, where a key could be read. None: it stands as the reply.
    """
    followed = {301, 302, 307, 308} if method == "GET" else {307, 308}
    location = reply.headers.get("location")
    if reply.status not in followed or not location or base.socket is not None:
        return None
    url = urljoin(f"{base.origin}{path}", location).partition("#")[0]
    where, _, query = url.partition("?")
    try:
        target = parse_url(where)
    except UrlError:
        return None
    if target.host != base.host or (base.scheme == "https" and target.scheme == "http"):
        return None
    slash = "/" if where.endswith("/") else ""
    full = f"{target.path}{slash}" or "/"
    return replace(target, path=""), f"{full}?{query}" if query else full


class Server:
    """One base URL and the connections to it. For one thread at a time."""

    def __init__(self, url: str | BaseUrl, access: Access) -> None:
        self.base = parse_url(url) if isinstance(url, str) else url
        self._access = access.of_user(self.base)
        self._transports: dict[str, Transport | Http2Transport] = {}

    @property
    def url(self) -> str:
        """For messages: without credentials."""
        return self.base.shown

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        timeout_s: float,
        accept: str = "application/json",
        is_kept: bool = True,
        max_bytes: int = _MAX_BODY_BYTES,
    ) -> HttpResponse:
        """OSError if there is no reply: refused, ssl.SSLError, socket.gaierror, TimeoutError, NotHttpError.

        `path` is absolute; the base URL's own path is not put in front of it. `timeout_s` is for the whole question, with redirects
        within the host. A body is cut at `max_bytes`. `is_kept` False: the connection is closed after the reply.
        """
        deadline = time.monotonic() + timeout_s
        base = self.base
        for _ in range(_MAX_REDIRECTS):
            headers = self._headers(base, accept, has_body=body is not None, is_kept=is_kept)
            try:
                status, got, content = self._transport(base).exchange(method, path, headers, body, deadline, max_bytes)
            except OSError:
                self.close()
                raise
            reply = HttpResponse(status=status, headers=got, body=content, origin=base.origin, path=path)
            self._check_proxy(base, reply)
            target = redirect_target(method, base, path, reply)
            if target is None:
                break
            base, path = target
        return reply

    def _check_proxy(self, base: BaseUrl, reply: HttpResponse) -> None:
        """ProxyFailedError for a response that is the proxy's own, as far as that can be seen: 407, or an error page."""
        proxy = self._access.proxies.of(base) if base.scheme == "http" else None
        if proxy is None:
            return
        software = reply.headers.get("server", "").lower().partition("/")[0]
        if reply.status == 407 or (reply.status in {401, 403} and software in _FORWARD_PROXIES):
            what = f"answered {reply.status}: it requires {'other ' if proxy.authorization else ''}credentials, or forbids this server"
            raise ProxyFailedError(proxy.shown, what, proxy.source)
        if reply.status >= 500 and reply.json() is None:
            what = f"answered {reply.status} for `{base.origin}`: it cannot reach that server, or the server itself answers so"
            raise ProxyFailedError(proxy.shown, what, proxy.source)

    def close(self) -> None:
        while self._transports:
            self._transports.popitem()[1].close()

    def _headers(self, base: BaseUrl, accept: str, *, has_body: bool, is_kept: bool) -> list[tuple[str, str]]:
        ours = {"Host": base.authority, "User-Agent": f"aiperf/{version('aiperf')}", "Accept": accept}
        ours["Accept-Encoding"] = "identity"
        if has_body:
            ours["Content-Type"] = "application/json"
        if not is_kept:
            ours["Connection"] = "close"
        given = {name.lower() for name, _ in self._access.headers}
        return [(n, v) for n, v in ours.items() if n.lower() not in given] + list(self._access.headers)

    def _transport(self, base: BaseUrl) -> Transport | Http2Transport:
        transport = self._transports.get(base.origin)
        if transport is None:
            context = self._access.context() if base.scheme == "https" else None
            proxy = self._access.proxies.of(base)
            if self._access.is_http2 and proxy is None:
                from aiperf.web.http2 import Http2Transport

                transport = Http2Transport(base, context)
            else:
                from aiperf.web.transport import Transport

                transport = Transport(base, context, proxy)
            self._transports[base.origin] = transport
        return transport
