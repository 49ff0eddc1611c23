"""Small HTTP questions to a server, with the headers, key and certificates of the run."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aiperf.config.model import Config

__all__ = ["Access", "Reply", "Server", "access_of"]

_MAX_BODY_BYTES = 64 << 20
"""A longer reply is no reply to a small question."""


@dataclass(frozen=True, slots=True)
class Access:
    """How a server is spoken to. `headers` may hold secrets and are not in the repr."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    insecure: bool = False
    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """OSError, ssl.SSLError if a file is missing or no certificate."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_cert_file is not None:
            context.load_cert_chain(self.client_cert_file, self.client_key_file)
        return context


def access_of(config: Config) -> Access:
    """The headers of every request and the certificates, from the configuration."""
    e = config.endpoint
    headers = list(e.headers)
    if e.api_key is not None and not any(name.lower() == "authorization" for name, _ in headers):
        headers.append(("Authorization", f"Bearer {e.api_key.get_secret_value()}"))
    files = (e.ca_file, e.client_cert, e.client_key)
    ca, cert, key = (None if f is None else str(f) for f in files)
    return Access(tuple(headers), e.insecure, ca, cert, key)


@dataclass(frozen=True, slots=True)
class Reply:
    """`headers`: names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

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


class Server:
    """One base URL (`http://` is assumed, `unix:/path` is a socket) and one connection to it, kept between questions.

    `prefix`: the URL's own path, without a `/` at the end.
    """

    def __init__(self, url: str, access: Access) -> None:
        self.url = url
        self._access = access
        self._is_unix = url.startswith("unix:")
        parts = urlsplit(url if "://" in url else f"http://{url}")
        self._parts = parts
        self.prefix = "" if self._is_unix else parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection | None = None

    @property
    def host(self) -> str:
        """`host:port` as written, without user information."""
        return self.url if self._is_unix else self._parts.netloc.rpartition("@")[2]

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, timeout_s: float, accept: str = "application/json"
    ) -> Reply:
        """OSError (refused, timeout, TLS, DNS) or http.client.HTTPException where there is no reply.

        `path` is absolute. `timeout_s` is that of each wait for the socket. A kept connection the server has closed is opened anew.
        """
        given = {name.lower() for name, _ in self._access.headers}
        ours = {"Accept": accept} | ({"Content-Type": "application/json"} if body is not None else {})
        headers = {name: value for name, value in ours.items() if name.lower() not in given} | dict(
            self._access.headers
        )
        for is_last in (False, True):
            is_new = self._connection is None
            connection = self._connection if self._connection is not None else self._open(timeout_s)
            self._connection = connection
            try:
                if connection.sock is not None:
                    connection.sock.settimeout(timeout_s)
                connection.timeout = timeout_s
                connection.request(method, path, body, headers)
                reply = connection.getresponse()
                content = reply.read(_MAX_BODY_BYTES)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                is_stale = isinstance(error, ConnectionError | http.client.BadStatusLine)
                if is_new or is_last or not is_stale:
                    raise
                continue
            if reply.will_close or not reply.isclosed():
                self.close()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, content)
        raise AssertionError  # the loop returns or raises

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, timeout_s: float) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        if self._is_unix:
            return _UnixConnection(self.url.removeprefix("unix:").removeprefix("//"), timeout_s)
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(
                host, self._parts.port, timeout=timeout_s, context=self._access.context()
            )
        return http.client.HTTPConnection(host, self._parts.port, timeout=timeout_s)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
