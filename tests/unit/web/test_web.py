"""The helpers' HTTP client against raw sockets: addresses, redirects, credentials, bounds of time and size, proxies."""

from __future__ import annotations

import base64
import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from aiperf.config.proxy import proxy_rule
from aiperf.config.url import parse_url
from aiperf.web import Access, NotHttpError, ProxyFailedError, Server, choose_addresses
from aiperf.web.hub import hub_through

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """Answers each request it reads with the next of `replies` (the last one again and again), and keeps what it read."""

    def __init__(self, listener: socket.socket, replies: tuple[bytes | Callable[[socket.socket], None], ...]) -> None:
        self.listener = listener
        self.replies = list(replies)
        self.heads: list[str] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        host, port = self.listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except ssl.SSLError:  # a client that does not trust us
                continue
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            while True:
                head = b""
                while b"\r\n\r\n" not in head:
                    try:
                        piece = client.recv(65536)
                    except OSError:
                        return
                    if not piece:
                        return
                    head += piece
                self.heads.append(head.decode("latin-1"))
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                try:
                    if callable(reply):
                        reply(client)
                        return
                    client.sendall(reply)
                except OSError:
                    return
                if b"close" in reply:
                    return


@contextmanager
def peer(*replies: bytes | Callable[[socket.socket], None], family: int = socket.AF_INET) -> Iterator[Peer]:
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with closing(socket.create_server((host, 0), family=family)) as listener:
        yield Peer(listener, replies or (OK,))


def ask(
    url: str, path: str = "/x", *, timeout_s: float = 5.0, access: Access | None = None, max_bytes: int = 1 << 26
) -> str:
    with closing(Server(url, access or Access())) as server:
        return server.ask("GET", path, timeout_s=timeout_s, max_bytes=max_bytes).text


def test_connection_is_kept_and_opened_anew() -> None:
    with peer(OK, OK, OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), OK) as p:
        with closing(Server(p.url, Access())) as server:
            assert [server.ask("GET", "/x", timeout_s=5).text for _ in range(4)] == ["ok"] * 4
        assert p.connections == 2


def test_ipv6_literal() -> None:
    with peer(family=socket.AF_INET6) as p:
        assert ask(p.url) == "ok"
        assert f"Host: {p.url.removeprefix('http://')}" in p.heads[0]


def test_path_is_sent_as_written() -> None:
    with peer() as p:
        ask(p.url, "/a//b/../c%2Fd?x=1&y")
        assert p.heads[0].startswith("GET /a//b/../c%2Fd?x=1&y HTTP/1.1\r\n")


def test_credentials_of_the_url_are_basic_unless_a_header_says_who_asks() -> None:
    with peer() as proxy:
        url = proxy.url.replace("http://", "http://us%3Aer:p%40ss@")
        assert ask(url) == "ok"
        ask(url, access=Access(headers=(("authorization", "Bearer k"),)))
    assert f"Authorization: Basic {base64.b64encode(b'us:er:p@ss').decode()}\r\n" in proxy.heads[0]
    assert "Basic" not in proxy.heads[1]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("where", ["/there", "{url}/there", "there"])
def test_redirect_within_the_host_is_followed(status: int, where: str) -> None:
    with peer(OK) as p:
        location = where.format(url=p.url).encode()
        p.replies = [b"HTTP/1.1 %d X\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, location), OK]
        assert ask(p.url) == "ok"
        assert p.heads[1].startswith("GET /there ")


def test_post_keeps_its_body_or_is_not_redirected() -> None:
    with peer(OK) as p, closing(Server(p.url, Access())) as server:
        p.replies = [b"HTTP/1.1 307 X\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n", OK]
        assert server.ask("POST", "/x", b"{}", timeout_s=5).path == "/there"
        p.replies = [b"HTTP/1.1 302 X\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n", OK]
        assert server.ask("POST", "/x", b"{}", timeout_s=5).status == 302


@pytest.mark.parametrize("where", ["http://localhost:1/x", "ftp://127.0.0.1/", "http://[::1]:1/", ""])
def test_redirect_to_another_host_is_the_reply(where: str) -> None:
    """A key must not go there."""
    with peer(f"HTTP/1.1 307 X\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode()) as p:
        with closing(Server(p.url, Access(headers=(("Authorization", "k"),)))) as server:
            assert server.ask("GET", "/x", timeout_s=5).status == 307
        assert len(p.heads) == 1


def test_redirects_in_a_circle_end() -> None:
    with peer(b"HTTP/1.1 308 X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n") as p:
        with closing(Server(p.url, Access())) as server:
            assert server.ask("GET", "/x", timeout_s=5).status == 308
        assert len(p.heads) == 5


def drip(client: socket.socket) -> None:
    try:
        for byte in OK * 100:
            client.sendall(bytes([byte]))
            time.sleep(0.02)
    except OSError:
        return


def silent(client: socket.socket) -> None:
    client.recv(1)


@pytest.mark.parametrize("reply", [drip, silent], ids=["drip", "silent"])
def test_time_is_bounded_however_slowly_bytes_come(reply: Callable[[socket.socket], None]) -> None:
    with peer(reply) as p:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            ask(p.url, timeout_s=0.2)
        assert time.monotonic() - began < 1.0


def test_size_is_bounded() -> None:
    with peer(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 100_000) as p:
        assert len(ask(p.url, max_bytes=1000)) == 1000


def test_compressed_reply_is_decoded_within_the_bound() -> None:
    body = gzip.compress(b"y" * 1_000_000)
    with peer(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as p:
        assert ask(p.url) == "y" * 1_000_000
        assert ask(p.url, max_bytes=5000) == "y" * 5000
        assert "Accept-Encoding: identity" in p.heads[0]


@pytest.mark.parametrize("reply", [b"SSH-2.0-x\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nclose"])
def test_what_is_no_reply_is_said_to_be_none(reply: bytes) -> None:
    def send(client: socket.socket) -> None:
        client.sendall(reply)

    with peer(send) as p, pytest.raises(NotHttpError):
        ask(p.url)


def test_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            ask(f"http://127.0.0.1:{closed.getsockname()[1]}")


def test_unix_socket(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        Peer(listener, (OK,))
        assert ask(f"unix:{tmp_path / 's'}") == "ok"
    with pytest.raises(FileNotFoundError):
        ask(f"unix:{tmp_path / 'none'}")


def test_certificate_of_an_unknown_authority(certificate: tuple[Path, Path, Path]) -> None:
    authority, cert, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with closing(context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)) as listener:
        p = Peer(listener, (OK,))
        url = p.url.replace("http", "https")
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(url)
        assert ask(url, access=Access(ca_file=str(authority))) == "ok"
        assert ask(url, access=Access(insecure=True)) == "ok"


def two_addresses(monkeypatch: pytest.MonkeyPatch, *places: tuple[str, int]) -> None:
    rows = [
        (
            socket.AF_INET6 if ":" in host else socket.AF_INET,
            socket.SOCK_STREAM,
            6,
            "",
            (host, port, 0, 0) if ":" in host else (host, port),
        )
        for host, port in places
    ]
    asked = socket.getaddrinfo

    def answer(host: str, *args: object, **more: object) -> object:
        return rows if host == "name.test" else asked(host, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


@pytest.mark.parametrize("is_first_dead", [True, False])
def test_addresses_of_a_name_are_alternatives(monkeypatch: pytest.MonkeyPatch, *, is_first_dead: bool) -> None:
    """The same rule for helpers and load: the ones that refuse are left out, both ways round."""
    with peer() as p:
        port = p.listener.getsockname()[1]
        order = [("::1", port), ("127.0.0.1", port)]
        two_addresses(monkeypatch, *(order if is_first_dead else order[::-1]))
        url = f"http://name.test:{port}"
        assert ask(url) == "ok"
        chosen = choose_addresses(parse_url(url))
    assert chosen.used == (f"127.0.0.1:{port}",)
    assert chosen.left_out == ((f"[::1]:{port}", "it refused the connection"),)


def test_addresses_stay_when_none_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong is said by the probe, or by each request."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        two_addresses(monkeypatch, ("::1", port), ("127.0.0.1", port))
        chosen = choose_addresses(parse_url(f"http://name.test:{port}"))
    assert chosen.used == (f"[::1]:{port}", f"127.0.0.1:{port}")
    assert chosen.left_out == ()


def test_address_that_swallows_connections_is_left_out_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with peer() as p, closing(socket.socket()) as full:
        port = p.listener.getsockname()[1]
        full.bind(("127.0.0.2", port))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.2", port))
            two_addresses(monkeypatch, ("127.0.0.2", port), ("127.0.0.1", port))
            chosen = choose_addresses(parse_url(f"http://name.test:{port}"), timeout_s=0.3)
            assert ask(f"http://name.test:{port}", timeout_s=0.6) == "ok"
        finally:
            for filler in fillers:
                filler.close()
    assert chosen.used == (f"127.0.0.1:{port}",)
    assert "did not accept a connection within 0.3 s" in chosen.left_out[0][1]


def test_proxy_is_asked_with_the_whole_url_and_its_own_credentials() -> None:
    with peer() as p:
        access = Access(proxies=proxy_rule(p.url.replace("http://", "http://me:pw@"), {}))
        assert ask("http://name.invalid:81", "/x", access=access) == "ok"
    assert p.heads[0].startswith("GET http://name.invalid:81/x HTTP/1.1\r\n")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'me:pw').decode()}" in p.heads[0]


def test_https_goes_through_a_proxy_by_connect() -> None:
    with peer(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n") as p, pytest.raises(OSError, match="407"):
        ask("https://name.invalid", access=Access(proxies=proxy_rule(p.url, {})))
    assert p.heads[0].startswith("CONNECT name.invalid:443 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "407"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nsorry", "502"),
        (b"HTTP/1.1 500 Unable to connect\r\nContent-Length: 0\r\n\r\n", "cannot reach"),
    ],
)
def test_a_proxys_own_error_names_the_proxy(answer: bytes, part: str) -> None:
    with peer(answer) as p:
        with pytest.raises(ProxyFailedError, match=part) as caught:
            ask("http://name.invalid", access=Access(proxies=proxy_rule(p.url, {})))
        assert p.url.removeprefix("http://") in str(caught.value)


def test_a_servers_own_error_through_a_proxy_is_a_response() -> None:
    with peer(b'HTTP/1.1 503 Busy\r\nContent-Length: 17\r\n\r\n{"error": "busy"}') as p:
        assert "busy" in ask("http://name.invalid", access=Access(proxies=proxy_rule(p.url, {})))


def test_a_proxy_that_is_not_there_is_named() -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        for url in ("http://name.invalid", "https://name.invalid"):
            with pytest.raises(ProxyFailedError, match=f"`{place}` cannot be reached"):
                ask(url, access=Access(proxies=proxy_rule(place, {})))


def test_the_hub_is_reached_through_the_named_proxy_and_directly_afterwards() -> None:
    from huggingface_hub import get_session

    with peer() as proxy:
        with hub_through(proxy_rule(proxy.url.replace("http://", "http://me:p%40w@"), {})):
            assert get_session().get("http://hub.invalid/x").text == "ok"
        assert proxy.heads[0].startswith("GET http://hub.invalid/x HTTP/1.1\r\n")
        assert f"Proxy-Authorization: Basic {base64.b64encode(b'me:p@w').decode()}".lower() in proxy.heads[0].lower()
        with hub_through(proxy_rule(None, {})):
            assert get_session().get(f"{proxy.url}/y").text == "ok"
        assert proxy.heads[1].startswith("GET /y ")
