"""Every path that is asked of a server, from the URL as users write it: one table for load, probe, metrics and tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiperf.config.url import UrlError, join, parse_url, target_of

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("url", "path", "asked", "models", "metrics"),
    [
        ("http://h:1", CHAT, "http://h:1/v1/chat/completions", "/v1/models", "/metrics"),
        ("h:1/", CHAT, "http://h:1/v1/chat/completions", "/v1/models", "/metrics"),
        ("http://h:1/v1", CHAT, "http://h:1/v1/chat/completions", "/v1/models", "/metrics"),
        ("http://h:1/v1/", CHAT, "http://h:1/v1/chat/completions", "/v1/models", "/metrics"),
        ("http://h:1/v1/chat/completions", CHAT, "http://h:1/v1/chat/completions", "/v1/models", "/metrics"),
        ("http://h:1/v1/chat/completions/", CHAT, "http://h:1/v1/chat/completions", "/v1/models", "/metrics"),
        ("http://h/gate", CHAT, "http://h/gate/v1/chat/completions", "/gate/v1/models", "/gate/metrics"),
        ("http://h/gate/v1", CHAT, "http://h/gate/v1/chat/completions", "/gate/v1/models", "/gate/metrics"),
        (
            "http://h/openai/v1/chat/completions",
            CHAT,
            "http://h/openai/v1/chat/completions",
            "/openai/v1/models",
            "/openai/metrics",
        ),
        ("https://[::1]:8000/v1", CHAT, "https://[::1]:8000/v1/chat/completions", "/v1/models", "/metrics"),
        # --custom-endpoint: as written, below the base URL
        (
            "http://h",
            "/openai/v1/chat/completions",
            "http://h/openai/v1/chat/completions",
            "/openai/v1/models",
            "/metrics",
        ),
        ("http://h/v1", "my/chat", "http://h/v1/my/chat", "/v1/models", "/metrics"),
        ("http://h/v1", "v1/chat/completions/", "http://h/v1/chat/completions/", "/v1/models", "/metrics"),
        ("http://h/gate", "/chat", "http://h/gate/chat", "/gate/v1/models", "/gate/metrics"),
        ("http://h/gate/chat", "/chat", "http://h/gate/chat", "/gate/v1/models", "/gate/metrics"),
        ("http://h/v1", "/v1/chat?api=2", "http://h/v1/chat?api=2", "/v1/models", "/metrics"),
        ("http://h/v1x", CHAT, "http://h/v1x/v1/chat/completions", "/v1x/v1/models", "/v1x/metrics"),
        ("http://h/generate", "/", "http://h/generate/", "/generate/v1/models", "/generate/metrics"),
        ("unix:/run/s", CHAT, "unix:/run/s:/v1/chat/completions", "/v1/models", "/metrics"),
    ],
)
def test_where_things_are_asked(url: str, path: str, asked: str, models: str, metrics: str) -> None:
    target = target_of(url, path)
    assert target.base.at(target.request_path) == asked
    assert (target.models_path, target.at_root("/metrics")) == (models, metrics)


@given(st.lists(st.sampled_from(["v1", "chat", "completions", "gate"]), max_size=5), st.sampled_from(["", "/"]))
def test_engine_s_url_and_path_make_the_request_s_path(parts: list[str], end: str) -> None:
    """The engine puts the endpoint's path behind the URL it is given."""
    base = "".join(f"/{p}" for p in parts)
    for path in (CHAT, "v1/chat/completions", "/chat", "/v1/chat?x=1"):
        target = target_of(f"http://h:1{base}{end}", path)
        assert target.engine_url + "/" + path.lstrip("/") == f"http://h:1{target.request_path}"
        assert "/v1/v1/" not in target.request_path or "/v1/v1" in base
        assert join(base, path) == target.request_path


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("http://[::1]:8000", "::1", 8000, "[::1]:8000"),
        ("https://[2001:db8::7]", "2001:db8::7", 443, "[2001:db8::7]"),
        ("HTTP://Example.com:80/", "example.com", 80, "example.com"),
        ("http://[fe80::1%25eth0]:1", "fe80::1%eth0", 1, "[fe80::1%eth0]:1"),
        ("http://user:se%40cret@h:1", "h", 1, "h:1"),
    ],
)
def test_host_and_port(url: str, host: str, port: int, authority: str) -> None:
    found = parse_url(url)
    assert (found.host, found.port, found.authority) == (host, port, authority)


def test_credentials_are_decoded_and_never_shown() -> None:
    found = parse_url("http://us%3Aer:se%40cret@h:1/x")
    assert (found.user, found.password) == ("us:er", "se@cret")
    assert "cret" not in f"{found!r}{found.shown}{found.origin}{found.at('/x')}"
    assert target_of("http://us%3Aer:se%40cret@h:1/x", CHAT).engine_url == "http://us%3Aer:se%40cret@h:1/x"


@pytest.mark.parametrize(
    ("url", "words", "hint"),
    [
        ("::1:8000", "IPv6 address without brackets", "write `http://[::1]:8000`"),
        ("https://2001:db8::7:443", "IPv6 address without brackets", "write `https://[2001:db8::7]:443`"),
        ("fe80::abcd", "IPv6 address without brackets", "write `http://[fe80::abcd]`"),
        ("ftp://h", "has the scheme `ftp`", "supported: `http`, `https`, `unix:/path`"),
        ("http://h:0", "is not a base URL", None),
        ("http://h:99999", "is not a URL", None),
        ("http://h:x", "is not a URL", None),
        ("http://", "is not a base URL", None),
        ("http://h/a b", "is not a base URL", None),
        ("http://h/a\r\nX: y", "is not a base URL", None),
        ("http://h/?q", "must not have a query", "`--custom-endpoint` sets the path"),
        ("http://[::1", "is not a URL", None),
        ("unix:relative", "must be an absolute path", "write `unix:/path/to/socket`"),
        ("http://u:secret@h:x", "is not a URL", None),
    ],
)
def test_what_is_no_url(url: str, words: str, hint: str | None) -> None:
    with pytest.raises(UrlError) as caught:
        parse_url(url)
    assert words in caught.value.message
    assert caught.value.hint == hint
    assert "secret" not in caught.value.message
