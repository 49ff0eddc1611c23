"""The addresses of a name: alternatives for one connection first, a way to spread load second. One rule for helpers and load.

Before the load each address of a name that has several is tried once, and those that do not accept a connection are left out
(`choose_addresses`); the engine gets the list. A helper tries them in the same order until one accepts (`connect`).
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from aiperf.config.url import BaseUrl
from aiperf.number_text import exact
from aiperf.web.time_limit import bounded

__all__ = ["Address", "Choice", "choose_addresses", "connect", "resolve"]

_Opened = TypeVar("_Opened")

_TRY_S = 2.0
"""Longest time in which an address has to accept, when it is not the only one."""


@dataclass(frozen=True, slots=True)
class Address:
    """What `socket.connect` takes. `text`: `127.0.0.1:80`, `[::1]:80`."""

    family: socket.AddressFamily
    place: tuple[str, int] | tuple[str, int, int, int]

    @property
    def text(self) -> str:
        host, port, *_ = self.place
        scope = f"%{self.place[3]}" if len(self.place) == 4 and self.place[3] else ""
        return f"[{host.partition('%')[0]}{scope}]:{port}" if self.family == socket.AF_INET6 else f"{host}:{port}"


def resolve(host: str, port: int, timeout_s: float) -> tuple[Address, ...]:
    """In the system's order of preference, each once. socket.gaierror; TimeoutError, as a resolver has no limit of its own."""
    try:
        rows = bounded(
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), timeout_s, f"the address of `{host}`"
        )
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "it is not a host name") from error
    known = {socket.AF_INET, socket.AF_INET6}
    found = tuple(dict.fromkeys(Address(r[0], r[4]) for r in rows if r[0] in known))  # type: ignore[arg-type]
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "it has no address")
    return found


def connect(host: str, port: int, deadline: float, open_one: Callable[[str, int, float], _Opened]) -> _Opened:
    """What `open_one(ip, port, timeout in s)` makes of the first address that accepts, until `deadline` (time.monotonic). The first
    address's error if none does. One that stays silent gets an equal share of the time left, so that the next ones have theirs.
    """
    addresses = resolve(host, port, max(0.0, deadline - time.monotonic()))
    first: Exception | None = None
    for number, address in enumerate(addresses):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            return open_one(address.place[0], port, left / (len(addresses) - number))
        except OSError as error:
            first = first or error
    raise first or TimeoutError(f"`{host}` was not reached in time")


@dataclass(frozen=True, slots=True)
class Choice:
    """The addresses of a URL. `used`: `ip:port`, in order; empty: of a unix socket, or where the engine is to resolve the name itself.
    `left_out`: (`ip:port`, why).
    """

    used: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


def choose_addresses(url: BaseUrl, *, timeout_s: float = _TRY_S) -> Choice:
    """Each address of a name that has several is connected to once, all at the same time; those that accept are used. If none does,
    all are: what is wrong is then said by whoever asks. socket.gaierror, TimeoutError as `resolve`.
    """
    if url.socket is not None:
        return Choice()
    addresses = resolve(url.host, url.port, timeout_s)
    if len(addresses) == 1:
        return Choice((addresses[0].text,))
    reasons = _try_all(addresses, timeout_s)
    good = tuple(a.text for a, why in zip(addresses, reasons, strict=True) if why is None)
    if not good:
        return Choice(tuple(a.text for a in addresses))
    bad = tuple((a.text, why) for a, why in zip(addresses, reasons, strict=True) if why is not None)
    return Choice(good, bad)


def _try_all(addresses: Sequence[Address], timeout_s: float) -> list[str | None]:
    """Why each does not accept; None if it does."""
    reasons: list[str | None] = [f"it did not accept a connection within {exact(timeout_s)} s"] * len(addresses)
    with selectors.DefaultSelector() as selector:
        for place, address in enumerate(addresses):
            try:
                sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                selector.register(sock, selectors.EVENT_WRITE, place)
                sock.connect_ex(address.place)
            except OSError as error:
                reasons[place] = _reason(error)
        deadline = time.monotonic() + timeout_s
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                sock = key.fileobj  # type: ignore[assignment]
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                reasons[key.data] = _reason(OSError(code, "")) if code else None
                selector.unregister(sock)
                sock.close()
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    return reasons


def _reason(error: OSError) -> str:
    import errno
    import os

    if error.errno == errno.ECONNREFUSED:
        return "it refused the connection"
    return f"it cannot be reached: {os.strerror(error.errno) if error.errno else error}"
