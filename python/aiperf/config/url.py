"""URLs as users write them, and every path that is asked of a server: one rule for load, probe, metrics, tokenizer and waiting.

The join is that of AIPerf 0.13: a base URL that ends in `/v1` and a path that begins with `v1/` share that part, and a base
URL that already ends with the endpoint's path is taken as it is. What belongs to the server and not to the API (`/metrics`,
`/tokenize`, `/health`) is asked below the base URL without the endpoint's path and without `/v1`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

__all__ = ["BaseUrl", "Target", "UrlError", "join", "parse_url", "target_of"]

_DEFAULT_PORTS = {"http": 80, "https": 443, "unix": 80}


class UrlError(ValueError):
    """`hint`: what to write instead; None if there is nothing better to say than what is wrong."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseUrl:
    """A URL, taken apart. `host`: without brackets, `localhost` of a unix socket. `path`: without a `/` at its end, maybe empty.

    `user`, `password`: decoded, None if there are none; never in a repr. `socket`: path of a unix socket.
    """

    scheme: Literal["http", "https", "unix"]
    host: str
    port: int
    path: str = ""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    socket: str | None = None

    @property
    def authority(self) -> str:
        """As in a `Host` header: brackets around IPv6, no port if it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """`http://host:port`, or `unix:/path`; without credentials, so that it may be shown."""
        return f"unix:{self.socket}" if self.socket is not None else f"{self.scheme}://{self.authority}"

    @property
    def shown(self) -> str:
        """For messages: without credentials."""
        return self.origin + self.path

    def at(self, path: str) -> str:
        """The whole URL of an absolute path at this server; of a unix socket `unix:/socket:/path`."""
        return f"{self.origin}:{path}" if self.socket is not None else f"{self.origin}{path}"


def parse_url(url: str) -> BaseUrl:
    """`http://` is assumed; `unix:/path` is a socket. UrlError for anything that is no base URL of a server."""
    text = url.strip()
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not PurePosixPath(path).is_absolute():
            raise UrlError(f"the socket of `{url}` must be an absolute path", "write `unix:/path/to/socket`")
        return BaseUrl(scheme="unix", host="localhost", port=80, socket=path)
    full = text if "://" in text else f"http://{text}"
    scheme, _, rest = full.partition("://")
    scheme = scheme.lower()
    if scheme not in {"http", "https"}:
        raise UrlError(f"`{_hidden(url)}` has the scheme `{scheme}`", "supported: `http`, `https`, `unix:/path`")
    _refuse_bare_ipv6(url, scheme, re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2])
    try:
        parts = urlsplit(full)
        port = parts.port
    except ValueError as error:
        raise UrlError(f"`{_hidden(url)}` is not a URL: {error}") from error
    if not parts.hostname or port == 0 or re.search(r"[\s\x00-\x20\x7f]", text):
        raise UrlError(f"`{_hidden(url)}` is not a base URL such as `http://host:8000`")
    if parts.query or parts.fragment:
        raise UrlError(f"`{_hidden(url)}` must not have a query or fragment", "`--custom-endpoint` sets the path")
    return BaseUrl(
        scheme="https" if scheme == "https" else "http",
        host=unquote(parts.hostname),
        port=_DEFAULT_PORTS[scheme] if port is None else port,
        path=parts.path.rstrip("/"),
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )


def _hidden(url: str) -> str:
    """The text without what stands before an `@`: it may be a password."""
    scheme, sign, rest = url.rpartition("://")
    return f"{scheme}{sign}{rest.rpartition('@')[2]}"


def _refuse_bare_ipv6(url: str, scheme: str, authority: str) -> None:
    """`::1:8000`: an address, or one with a port? Only brackets tell."""
    if authority.startswith("[") or authority.count(":") < 2:
        return
    host, _, port = authority.rpartition(":")
    if port.isdigit() and _is_ipv6(host):
        raise UrlError(f"`{_hidden(url)}` has an IPv6 address without brackets", f"write `{scheme}://[{host}]:{port}`")
    if _is_ipv6(authority):
        raise UrlError(f"`{_hidden(url)}` has an IPv6 address without brackets", f"write `{scheme}://[{authority}]`")


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def join(base_path: str, path: str) -> str:
    """The path of a request: `path`, as written, below `base_path`. What both have in common stands there once."""
    return _prefix(base_path.rstrip("/"), path) + _absolute(path)


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _prefix(base_path: str, path: str) -> str:
    """What stands in front of `path`."""
    own = _absolute(path).partition("?")[0].rstrip("/")
    if own and base_path.endswith(own):
        return base_path.removesuffix(own)
    return base_path.removesuffix("/v1") if own.startswith("/v1/") else base_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A measured URL with the endpoint's path. Paths are absolute.

    `prefix`: in front of the endpoint's path in a request; `root`: in front of what belongs to the server, as `/metrics`;
    `request_path`: where requests go; `models_path`: where models are listed, next to the endpoint.
    """

    base: BaseUrl
    prefix: str
    root: str
    request_path: str
    models_path: str

    def at_root(self, path: str) -> str:
        """The path of the server's own `path`, as `/metrics`."""
        return self.root + _absolute(path)

    @property
    def engine_url(self) -> str:
        """For the engine, which puts the endpoint's path behind it. Holds the URL's credentials: never shown."""
        origin = self.base.origin
        if self.base.user is not None:
            from urllib.parse import quote

            secret = "" if self.base.password is None else f":{quote(self.base.password, safe='')}"
            origin = f"{self.base.scheme}://{quote(self.base.user, safe='')}{secret}@{self.base.authority}"
        return origin if self.base.socket is not None else origin + self.prefix


def target_of(url: str, path: str) -> Target:
    """`path`: the endpoint's own, or the user's. UrlError as `parse_url`."""
    base = parse_url(url)
    own = _absolute(path).partition("?")[0].rstrip("/")
    root = (base.path.removesuffix(own) if own else base.path).removesuffix("/v1")
    request_path = join(base.path, path)
    head, sign, _ = request_path.partition("?")[0].rpartition("/v1/")
    return Target(
        base=base,
        prefix=_prefix(base.path, path),
        root=root,
        request_path=request_path,
        models_path=f"{head if sign else root}/v1/models",
    )
