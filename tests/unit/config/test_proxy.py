"""Which proxy a URL is reached through."""

from __future__ import annotations

import pytest

from aiperf.config.proxy import NO_PROXIES, is_bypassed, parse_proxy, proxy_rule, unused_variables
from aiperf.config.url import UrlError, parse_url


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "expected"),
    [
        ("", "example.com", 80, False),
        ("*", "example.com", 80, True),
        (" * ", "10.0.0.1", 80, True),
        ("example.com", "example.com", 80, True),
        ("EXAMPLE.com", "Example.COM", 80, True),
        ("example.com.", "example.com", 80, True),
        ("example.com", "example.com.", 80, True),
        ("example.com", "api.example.com", 80, True),
        (".example.com", "api.example.com", 80, True),
        (".example.com", "example.com", 80, True),
        ("example.com", "notexample.com", 80, False),
        ("ample.com", "example.com", 80, False),
        ("a.com, b.com", "b.com", 80, True),
        ("a.com b.com", "b.com", 80, True),
        ("a.com,,b.com,", "c.com", 80, False),
        ("*.example.com", "api.example.com", 80, False),
        ("example.com:8000", "example.com", 8000, True),
        ("example.com:8000", "example.com", 8001, False),
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1:80", "127.0.0.1", 81, False),
        ("27.0.0.1", "127.0.0.1", 80, False),
        ("10.0.0.0/8", "10.200.3.4", 80, True),
        ("10.0.0.0/8", "11.0.0.1", 80, False),
        ("10.0.0.0/99", "10.0.0.1", 80, False),
        ("10.0.0.0/8", "ten.example", 80, False),
        ("::1", "::1", 80, True),
        ("[::1]", "::1", 80, True),
        ("[::1]:8000", "::1", 8000, True),
        ("[::1]:8000", "::1", 80, False),
        ("0:0:0:0:0:0:0:1", "::1", 80, True),
        ("fd00::/8", "fd12::1", 80, True),
        ("fd00::/8", "10.0.0.1", 80, False),
        ("localhost", "127.0.0.1", 80, False),
    ],
)
def test_no_proxy_excepts_hosts_as_curl_does(no_proxy: str, host: str, port: int, expected: bool) -> None:
    assert is_bypassed(no_proxy, host, port) is expected


@pytest.mark.parametrize(
    ("environ", "url", "expected"),
    [
        ({}, "http://a", None),
        ({"http_proxy": "p:1"}, "http://a", "p:1"),
        ({"HTTP_PROXY": "p:1"}, "http://a", "p:1"),
        ({"http_proxy": "low:1", "HTTP_PROXY": "up:1"}, "http://a", "low:1"),
        ({"http_proxy": "p:1"}, "https://a", None),
        ({"https_proxy": "p:1"}, "https://a", "p:1"),
        ({"all_proxy": "p:1"}, "https://a", "p:1"),
        ({"ALL_PROXY": "p:1", "https_proxy": "q:2"}, "https://a", "q:2"),
        ({"ALL_PROXY": "p:1", "http_proxy": ""}, "http://a", None),
        ({"http_proxy": "p:1", "no_proxy": "a"}, "http://a", None),
        ({"http_proxy": "p:1", "NO_PROXY": "a:80"}, "http://a", None),
        ({"http_proxy": "p:1", "no_proxy": "b", "NO_PROXY": "a"}, "http://a", "p:1"),
        ({"http_proxy": "http://u:s@p:3128/"}, "http://a", "p:3128"),
        ({"http_proxy": "p"}, "http://a", "p:1080"),
        ({"all_proxy": "p:1"}, "unix:/tmp/s", None),
    ],
)
def test_environment_names_the_proxy_as_curl_reads_it(environ: dict[str, str], url: str, expected: str | None) -> None:
    found = proxy_rule("env", environ).of(parse_url(url))
    assert (None if found is None else found.shown) == expected
    # Without the option nothing of it counts, and the note knows what would have.
    assert proxy_rule(None, environ) is NO_PROXIES
    assert bool(unused_variables([parse_url(url)], environ)) is (expected is not None)


def test_a_proxy_that_was_named_is_for_everything_but_unix_sockets() -> None:
    rule = proxy_rule("http://me:s%40cret@[::1]:3128", {"NO_PROXY": "*"})
    for url in ("http://a", "https://b:8443/v1", "10.0.0.1:8000"):
        found = rule.of(parse_url(url))
        assert found is not None
        assert found.shown == "[::1]:3128"
        assert found.authorization == "Basic bWU6c0BjcmV0"
    assert rule.of(parse_url("unix:/tmp/s")) is None
    assert "s@cret" not in repr(rule)


@pytest.mark.parametrize(
    "text", ["socks5://p:1080", "https://p:443", "http://", "http://p:0", "http://p/x", "unix:/p", "p:x"]
)
def test_what_is_no_http_proxy_is_refused(text: str) -> None:
    with pytest.raises(UrlError) as caught:
        parse_proxy(text)
    assert "HTTP proxies" in (caught.value.hint or "")


def test_a_variable_with_an_unsupported_proxy_is_named() -> None:
    with pytest.raises(UrlError, match="ALL_PROXY"):
        proxy_rule("env", {"ALL_PROXY": "socks5://p:1080"}).of(parse_url("https://a"))
