"""HTTP/1.1 by httpcore, with our rules for addresses and time. Imported when the first question is asked: it takes 50 ms."""

from __future__ import annotations

import ssl
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# httpcore imports what its asynchronous half needs if it is installed, which takes as long as all the rest: not seen, not imported.
_UNSEEN = tuple(name for name in ("anyio", "trio") if name not in sys.modules)
sys.modules |= dict.fromkeys(_UNSEEN)  # type: ignore[arg-type]
import httpcore2  # noqa: E402

for _name in _UNSEEN:
    del sys.modules[_name]

from aiperf.config.proxy import Proxy  # noqa: E402
from aiperf.config.url import BaseUrl  # noqa: E402
from aiperf.web.addresses import connect  # noqa: E402
from aiperf.web.failures import NotHttpError, ProxyFailedError  # noqa: E402

__all__ = ["Backend", "Transport", "decoded", "plain_error"]

_Headers = list[tuple[str, str]]


class Transport:
    """Connections to one place, one at a time. `proxy`: everything goes through it, by CONNECT for https."""

    def __init__(self, base: BaseUrl, context: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        self._proxy = proxy
        self._deadline = 0.0
        host = base.host if base.host.isascii() else base.host.encode("idna").decode("ascii")
        self._url = (b"https" if base.scheme == "https" else b"http", host.encode(), base.port)
        self._pool = httpcore2.ConnectionPool(
            # Without one httpcore makes its own, which reads all certificates: 20 ms even for plain HTTP.
            ssl_context=context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            proxy=None if proxy is None else _proxy(proxy.base),
            uds=base.socket,
            network_backend=Backend(self._left),
            max_connections=1,
        )

    def exchange(
        self, method: str, path: str, headers: _Headers, body: bytes | None, deadline: float, max_bytes: int
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case), body of at most `max_bytes`. OSError, NotHttpError, TimeoutError.

        `deadline` (time.monotonic) holds for everything. A kept connection that turns out to be closed is opened anew, once.
        """
        self._deadline = deadline
        scheme, host, port = self._url
        url = httpcore2.URL(scheme=scheme, host=host, port=port, target=path.encode())
        sent = [(n.encode(), v.encode()) for n, v in headers]
        was_kept = bool(self._pool.connections)
        while True:
            try:
                with self._pool.stream(method, url, headers=sent, content=body) as response:
                    got = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in response.headers}
                    content = decoded(response.iter_stream(), got.get("content-encoding", ""), max_bytes)
                    return response.status, got, content
            except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.ProxyError) as error:
                is_stale = isinstance(error, httpcore2.ReadError | httpcore2.WriteError | httpcore2.RemoteProtocolError)
                if not (was_kept and is_stale):
                    raise self._explained(error) from error
                was_kept = False
            except OSError as error:  # of `connect`, or of a body
                raise self._explained(error) from error
            except httpcore2.TimeoutException as error:
                raise TimeoutError("no complete response arrived in time") from error

    def _explained(self, error: Exception) -> OSError:
        """A tunnel that is refused, and a connection that fails, are the proxy's: nobody else is connected to."""
        plain = plain_error(error)
        is_proxys = isinstance(error, httpcore2.ProxyError | httpcore2.ConnectError | OSError)
        if self._proxy is None or not is_proxys or isinstance(plain, ssl.SSLError | NotHttpError):
            return plain
        if isinstance(error, httpcore2.ProxyError):
            return ProxyFailedError(self._proxy.shown, f"refuses a tunnel to the server: {error}", self._proxy.source)
        return ProxyFailedError(self._proxy.shown, f"cannot be reached: {plain.strerror or plain}", self._proxy.source)

    def close(self) -> None:
        self._pool.close()

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("no complete response arrived in time")
        return left


def _proxy(proxy: BaseUrl) -> httpcore2.Proxy:
    """For httpcore."""
    place = httpcore2.URL(scheme=proxy.scheme.encode(), host=proxy.host.encode(), port=proxy.port, target=b"/")
    auth = None if proxy.user is None else (proxy.user.encode(), (proxy.password or "").encode())
    return httpcore2.Proxy(place, auth=auth)


def plain_error(error: Exception) -> OSError:
    """The error of the system or of TLS behind httpcore's, or NotHttpError."""
    if isinstance(error, httpcore2.ProxyError):
        return OSError(f"the proxy refuses: {error}")
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return NotHttpError(str(error) or type(error).__name__)


def decoded(pieces: Iterable[bytes], encoding: str, max_bytes: int) -> bytes:
    """The body, decoded where a server compresses although `identity` was asked for, cut at `max_bytes`."""
    inflate = None
    if encoding.lower() in {"gzip", "x-gzip", "deflate"}:
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    out = bytearray()
    for piece in pieces:
        try:
            out += piece if inflate is None else inflate.decompress(piece, max_bytes - len(out) + 1)
        except zlib.error as error:
            raise NotHttpError(f"the body is declared as {encoding} and is not: {error}") from error
        if len(out) > max_bytes:
            break
    return bytes(out[:max_bytes])


class _Stream(httpcore2.NetworkStream):
    """A connection whose reads and writes end with the question."""

    def __init__(self, inner: httpcore2.NetworkStream, left: Callable[[], float]) -> None:
        self._inner = inner
        self._left = left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline counts
        return self._inner.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._inner.write(buffer, self._left())

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, self._left()), self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


_Options = Iterable[httpcore2.SOCKET_OPTION] | None


class Backend(httpcore2.NetworkBackend):
    """Connects by our rule for addresses, within the time `left` gives."""

    def __init__(self, left: Callable[[], float]) -> None:
        self._left = left
        self._sync = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,  # noqa: ARG002
        socket_options: _Options = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        def open_one(ip: str, port: int, timeout_s: float) -> httpcore2.NetworkStream:
            try:
                return self._sync.connect_tcp(ip, port, timeout_s)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                cause = error.__cause__ or error.__context__
                raise (cause if isinstance(cause, OSError) else OSError(str(error))) from error

        return _Stream(connect(host, port, time.monotonic() + self._left(), open_one), self._left)

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002
        socket_options: _Options = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        Path(path).stat()  # FileNotFoundError; the library leaves a socket open that cannot connect
        return _Stream(self._sync.connect_unix_socket(path, self._left()), self._left)
