"""HTTP/2 by the engine's own code, over the connections of `transport`. For servers of a load with `--http-version 2`."""

from __future__ import annotations

import ssl
import time

import httpcore2

from aiperf._core import Http2Questions
from aiperf.config.url import BaseUrl
from aiperf.web.failures import NotHttpError
from aiperf.web.transport import Backend, decoded, plain_error

__all__ = ["Http2Transport"]

_READ_BYTES = 65_536


class Http2Transport:
    """A connection to one place, one question at a time: agreed on by ALPN for https, else by prior knowledge (h2c)."""

    def __init__(self, base: BaseUrl, context: ssl.SSLContext | None) -> None:
        self._base = base
        self._deadline = 0.0
        self._backend = Backend(self._left)
        self._context = context
        if context is not None:
            context.set_alpn_protocols(["h2"])
        self._open: tuple[httpcore2.NetworkStream, Http2Questions] | None = None

    def exchange(
        self,
        method: str,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes | None,
        deadline: float,
        max_bytes: int,
    ) -> tuple[int, dict[str, str], bytes]:
        """As `Transport.exchange`."""
        self._deadline = deadline
        was_kept = self._open is not None
        while True:
            try:
                return self._ask(method, path, headers, body or b"", max_bytes)
            except httpcore2.TimeoutException as error:
                self.close()
                raise TimeoutError("no complete response arrived in time") from error
            except (httpcore2.NetworkError, ValueError, OSError) as error:
                self.close()
                if not was_kept:
                    raise NotHttpError(str(error)) if isinstance(error, ValueError) else plain_error(error) from error
                was_kept = False

    def _ask(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes, max_bytes: int
    ) -> tuple[int, dict[str, str], bytes]:
        stream, questions = self._connection()
        authority = next((v for n, v in headers if n.lower() == "host"), self._base.authority)
        url = f"{'https' if self._base.scheme == 'https' else 'http'}://{authority}{path}"
        questions.ask(method, url, headers, body, max_bytes)
        answer = None
        while answer is None:
            out = questions.output()
            if out:
                stream.write(out)
            answer = questions.receive(stream.read(_READ_BYTES))
        out = questions.output()
        if out:
            stream.write(out)
        status, found, content = answer
        got = {name: value.decode("latin-1") for name, value in found}
        if not questions.is_open or any(n.lower() == "connection" and v.lower() == "close" for n, v in headers):
            self.close()
        return status, got, decoded([content], got.get("content-encoding", ""), max_bytes)

    def _connection(self) -> tuple[httpcore2.NetworkStream, Http2Questions]:
        if self._open is None:
            base = self._base
            if base.socket is not None:
                stream = self._backend.connect_unix_socket(base.socket)
            else:
                host = base.host if base.host.isascii() else base.host.encode("idna").decode("ascii")
                stream = self._backend.connect_tcp(host, base.port)
            if self._context is not None:
                stream = stream.start_tls(self._context, base.host)
                if stream.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
                    stream.close()
                    raise NotHttpError("the server does not offer HTTP/2 over TLS (ALPN)")
            self._open = (stream, Http2Questions())
        return self._open

    def close(self) -> None:
        if self._open is not None:
            self._open[0].close()
            self._open = None

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("no complete response arrived in time")
        return left
