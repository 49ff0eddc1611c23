"""Which proxy a URL is reached through: one rule for load, probe, waiting, metrics, tokenizer and hub.

`--proxy URL`: everything goes through it. `--proxy env`: as the environment says, read as curl reads it: `http_proxy`,
`https_proxy`, `all_proxy`, `no_proxy`, the lower-case spelling first, a variable that is set and empty means no proxy.
By default nothing does: a proxy on the way is part of what is measured, so it must have been asked for. Unix sockets never do.

Differences from curl: `NO_PROXY` may name a port (`host:8000`), `HTTP_PROXY` in capitals counts (there is no CGI here), and the
proxy itself must be an HTTP proxy reached without TLS.
"""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiperf.config.url import BaseUrl, UrlError, parse_url

__all__ = [
    "ENVIRONMENT",
    "NO_PROXIES",
    "Proxy",
    "ProxyRule",
    "is_bypassed",
    "parse_proxy",
    "proxy_rule",
    "unused_variables",
]

ENVIRONMENT = "env"
"""The value of `--proxy` that means the environment's variables."""

_KNOWN = "supported: HTTP proxies, `http://[user:password@]host:port`"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. `source`: what named it: `--proxy`, or a variable."""

    base: BaseUrl
    source: str = "--proxy"

    @property
    def shown(self) -> str:
        """For messages and files: `host:port`, without credentials."""
        host = f"[{self.base.host}]" if ":" in self.base.host else self.base.host
        return f"{host}:{self.base.port}"

    @property
    def authorization(self) -> str | None:
        """The value of `Proxy-Authorization`; None without credentials."""
        if self.base.user is None:
            return None
        pair = f"{self.base.user}:{self.base.password or ''}"
        return f"Basic {b64encode(pair.encode()).decode('ascii')}"


def parse_proxy(text: str, source: str = "--proxy") -> Proxy:
    """`http://` is assumed, and port 1080 as curl does. UrlError for another kind of proxy."""
    scheme = text.strip().partition("://")[0].lower() if "://" in text else "http"
    if scheme != "http":
        raise UrlError(f"a proxy with the scheme `{scheme}` is not supported", _KNOWN)
    try:
        base = parse_url(text)
    except UrlError as error:
        raise UrlError(f"not the URL of a proxy: {error.message}", _KNOWN) from error
    if base.socket is not None:
        raise UrlError("a proxy behind a unix socket is not supported", _KNOWN)
    if base.path:
        raise UrlError(f"a proxy's URL has no path, and this one has `{base.path}`", _KNOWN)
    authority = text.strip().partition("://")[2] or text.strip()
    has_port = authority.rstrip("/").rpartition("@")[2].rpartition("]")[2].count(":") > 0
    port = base.port if has_port else 1080
    return Proxy(
        BaseUrl(scheme="http", host=base.host, port=port, path="", user=base.user, password=base.password), source
    )


@dataclass(frozen=True, slots=True)
class ProxyRule:
    """`fixed`: for everything. `environment`: ask these variables. Both None: no proxy."""

    fixed: Proxy | None = None
    environment: Mapping[str, str] | None = field(default=None, repr=False)

    def of(self, url: BaseUrl) -> Proxy | None:
        """The proxy of a URL. UrlError if a variable that applies names one that is not supported."""
        if url.socket is not None:
            return None
        if self.environment is None:
            return self.fixed
        name = _variable(url, self.environment)
        if name is None:
            return None
        try:
            return parse_proxy(self.environment[name], name)
        except UrlError as error:
            raise UrlError(f"{name}: {error.message}", error.hint) from error


NO_PROXIES = ProxyRule()


def proxy_rule(option: str | None, environ: Mapping[str, str]) -> ProxyRule:
    """`option`: the value of `--proxy`; `environ`: the process's variables. UrlError if it names no usable proxy."""
    if option is None:
        return NO_PROXIES
    if option == ENVIRONMENT:
        return ProxyRule(environment=dict(environ))
    return ProxyRule(fixed=parse_proxy(option))


def unused_variables(urls: Sequence[BaseUrl], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Variables that would name a proxy for one of the URLs, if they were asked."""
    found = (_variable(url, environ) for url in urls if url.socket is None)
    return tuple(dict.fromkeys(name for name in found if name is not None))


def _variable(url: BaseUrl, environ: Mapping[str, str]) -> str | None:
    """The name of the variable that holds the URL's proxy; None: no proxy."""
    names = (f"{url.scheme}_proxy", f"{url.scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
    name = next((n for n in names if n in environ), None)
    if name is None or not environ[name].strip():
        return None
    excepted = environ.get("no_proxy", environ.get("NO_PROXY", ""))
    return None if is_bypassed(excepted, url.host, url.port) else name


def is_bypassed(no_proxy: str, host: str, port: int) -> bool:
    """Does `NO_PROXY` except this host? Entries are separated by commas or blanks; `*` alone excepts everything.

    `example.com` and `.example.com` are that name and all below it; an address is itself; `10.0.0.0/8` all in it; with a port
    (`host:8000`, `[::1]:8000`) only that port.
    """
    if no_proxy.strip() == "*":
        return True
    name = host.strip("[]").rstrip(".").lower()
    return any(_matches(entry.lower(), name, port) for entry in no_proxy.replace(",", " ").split())


def _matches(entry: str, name: str, port: int) -> bool:
    pattern, wanted = _split_port(entry)
    if wanted is not None and wanted != str(port):
        return False
    address = _address(name)
    if address is None:
        pattern = pattern.lstrip(".").rstrip(".")
        return bool(pattern) and (name == pattern or name.endswith(f".{pattern}"))
    if "/" not in pattern:
        return _address(pattern) == address
    try:
        return address in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, str | None]:
    if entry.startswith("["):
        inside, _, rest = entry[1:].partition("]")
        return inside, rest[1:] if rest.startswith(":") else None
    head, colon, port = entry.rpartition(":")
    # More colons are those of an IPv6 address.
    return (head, port) if colon and ":" not in head and port.isdigit() else (entry, None)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
