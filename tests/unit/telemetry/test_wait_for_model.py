"""`--wait-for-model-*` and `--reset-kv-cache`: what counts as ready, how often is asked, when it ends."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.unit.telemetry.fake_server import Say, error, fake_server, models

from aiperf.config.model import Config
from aiperf.errors import EndpointError
from aiperf.telemetry.probe import reset_kv_cache, wait_for_model

CHAT = "/v1/chat/completions"


def config(url: str, **endpoint: object) -> Config:
    return Config.model_validate({"endpoint": {"urls": (url,), "model_names": ("m",), **endpoint}})


def after(n: int, first: Say, then: Say) -> Callable[[int], Say]:
    return lambda number: first if number <= n else then


def test_inference_waits_for_an_answer_below_500() -> None:
    pauses: list[float] = []
    told: list[str] = []
    busy, bad = error(503, "Loading model"), error(400, "anything")
    with fake_server({("POST", CHAT): after(2, busy, bad)}) as fake:
        wait_for_model(config(fake.url, wait_for_model_timeout=60), told.append, sleep=pauses.append)
        assert fake.count("POST", CHAT) == 3
        body = json.loads(fake.seen[0][2])
    assert body["max_completion_tokens"] == 1
    assert body["model"] == "m"
    assert body["messages"] == [{"role": "user", "content": "Hello"}]
    assert pauses == [5.0, 5.0]
    assert all("Loading model" in t for t in told)


def test_models_waits_for_the_name() -> None:
    pauses: list[float] = []
    with fake_server({("GET", "/v1/models"): after(1, models("other"), models("m"))}) as fake:
        wait_for_model(
            config(fake.url, wait_for_model_timeout=60, wait_for_model_mode="models", wait_for_model_interval=2),
            sleep=pauses.append,
        )
        assert fake.count("POST", CHAT) == 0
    assert pauses == [2.0]


def test_models_takes_the_url_s_answer_where_there_is_no_list() -> None:
    with fake_server({("GET", "/"): Say()}) as fake:
        wait_for_model(config(fake.url, wait_for_model_timeout=60, wait_for_model_mode="models"))


def test_both_asks_for_the_list_first() -> None:
    with fake_server({("GET", "/v1/models"): models("m"), ("POST", CHAT): Say(body={})}) as fake:
        wait_for_model(config(fake.url, wait_for_model_timeout=60, wait_for_model_mode="both"))
        assert [(m, p) for m, p, _, _ in fake.seen] == [("GET", "/v1/models"), ("POST", CHAT)]


def test_timeout_says_why() -> None:
    with fake_server({}, other=error(503, "Loading model")) as fake, pytest.raises(EndpointError) as caught:
        wait_for_model(config(fake.url, wait_for_model_timeout=0.05, wait_for_model_interval=0.01))
    assert "within 0.05 s" in caught.value.message
    assert "Loading model" in caught.value.message


def test_zero_timeout_asks_nothing() -> None:
    with fake_server({}) as fake:
        wait_for_model(config(fake.url))
        assert fake.seen == []


def test_cache_is_emptied_on_each_url() -> None:
    with fake_server({("POST", "/reset_prefix_cache"): Say()}) as one, fake_server({}) as two:
        reset_kv_cache(config(one.url))
        assert one.count("POST", "/reset_prefix_cache") == 1
        with pytest.raises(EndpointError) as caught:
            reset_kv_cache(config(two.url))
        assert "HTTP 404" in caught.value.message
