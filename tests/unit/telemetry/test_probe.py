"""The server is asked before the load: right diagnosis for each thing that can be wrong, and no request that generates."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from tests.unit.telemetry.fake_server import NOT_FOUND, POST_ONLY, Answer, Say, error, fake_server, models, prometheus

from aiperf._core import SimServer
from aiperf.config.model import Config
from aiperf.errors import EndpointError
from aiperf.telemetry.probe import ProbeResult, probe
from aiperf.workload.settings import _engine_urls

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def ask(*urls: str, model: str = "m", limit_s: float = 3.0, **endpoint: object) -> ProbeResult:
    config = Config.model_validate({"endpoint": {"urls": urls, "model_names": (model,), **endpoint}})
    return probe(config, limit_s=limit_s)


def problem(*urls: str, model: str = "m", limit_s: float = 3.0, **endpoint: object) -> tuple[str, str]:
    """Message and hint of the one problem there is."""
    with pytest.raises(EndpointError) as caught:
        ask(*urls, model=model, limit_s=limit_s, **endpoint)
    assert len(caught.value.problems) == 1
    found = caught.value.problems[0]
    return found.message, found.hint or ""


# --- the simulated server -------------------------------------------------------------------------------------------------


def test_simulated_server_is_known_and_nothing_is_generated() -> None:
    with SimServer(json.dumps({"models": ["m"]})) as sim:
        found = ask(sim.url)
        assert (found.family, found.models, found.supports_ignore_eos) == ("sim", ("m",), True)
        assert found.metrics_url == f"{sim.url}/metrics"
        assert found.tokenize_url == f"{sim.url}/tokenize"
        assert found.notes == ()
        assert json.loads(sim.stats())["requests"] == 0


def test_simulated_server_under_another_name_is_a_note() -> None:
    with SimServer("{}") as sim:
        found = ask(sim.url, model="qwen3-0.6b")
        assert [n.kind for n in found.notes] == ["model_not_listed"]
        assert "`sim`" in found.notes[0].text


def test_simulated_server_that_is_strict_about_names_denies_another() -> None:
    with SimServer(json.dumps({"models": ["m"], "strict_model": True})) as sim:
        message, hint = problem(sim.url, model="qwen3-0.6b")
    assert "no model `qwen3-0.6b`" in message
    assert hint == "it lists `m`"


@pytest.mark.parametrize(("key", "words"), [(None, "requires an API key"), ("wrong", "rejected the API key")])
def test_key_is_missing_or_wrong(key: str | None, words: str) -> None:
    with SimServer(json.dumps({"models": ["m"], "api_key": "right"})) as sim:
        message, hint = problem(sim.url, api_key=key)
        assert words in message
        assert "401" in message
        assert "--api-key" in hint
        assert "wrong" not in message


def test_key_goes_with_every_question() -> None:
    with SimServer(json.dumps({"models": ["m"], "api_key": "right"})) as sim:
        assert ask(sim.url, api_key="right").family == "sim"


def test_gateway_prefix_is_part_of_every_path() -> None:
    with SimServer(json.dumps({"models": ["m"], "path_prefix": "/gateway"})) as sim:
        found = ask(f"{sim.url}/gateway/")
        assert found.metrics_url == f"{sim.url}/gateway/metrics"


def test_unix_socket(tmp_path: Path) -> None:
    with SimServer(json.dumps({"models": ["m"], "unix": str(tmp_path / "s")})) as sim:
        assert ask(sim.url).metrics_url == f"unix:{tmp_path / 's'}:/metrics"


def test_certificate_is_checked(certificate: tuple[Path, Path, Path]) -> None:
    authority, cert, key = certificate
    with SimServer(json.dumps({"models": ["m"], "tls": {"cert": str(cert), "key": str(key)}})) as sim:
        message, hint = problem(sim.url)
        assert "certificate" in message
        assert "--ca-file" in hint
        assert "--insecure" in hint
        assert ask(sim.url, ca_file=authority).family == "sim"
        assert ask(sim.url, insecure=True).family == "sim"
        message, _ = problem(sim.url.replace("https", "http"))
        assert "does not speak HTTP" in message


def test_client_certificate_is_demanded(certificate: tuple[Path, Path, Path]) -> None:
    authority, cert, key = certificate
    tls = {"cert": str(cert), "key": str(key), "client_ca": str(authority)}
    with SimServer(json.dumps({"models": ["m"], "tls": tls})) as sim:
        _, hint = problem(sim.url, ca_file=authority)
        assert "--client-cert" in hint
        assert ask(sim.url, ca_file=authority, client_cert=cert, client_key=key).family == "sim"


def test_plain_server_asked_for_tls() -> None:
    with SimServer(json.dumps({"models": ["m"]})) as sim:
        _, hint = problem(sim.url.replace("http", "https"))
        assert "http://" in hint


# --- unreachable ------------------------------------------------------------------------------------------------------------


def test_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        message, hint = problem(url)
    assert f"connection refused by `{url}`" in message
    assert "--wait-for-model-timeout" in hint


def test_host_is_not_known() -> None:
    message, _ = problem("http://no-such-host.invalid:8000", limit_s=30)
    assert "cannot resolve the host name" in message


def test_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        message, hint = problem(f"127.0.0.1:{silent.getsockname()[1]}", limit_s=0.2)
    assert "did not respond" in message
    assert "--no-probe" in hint


def test_every_url_is_named() -> None:
    with SimServer(json.dumps({"models": ["m"]})) as sim, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        bad = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(EndpointError) as caught:
            ask(sim.url, bad, f"{sim.url}/nowhere")
    messages = [p.message for p in caught.value.problems]
    assert len(messages) == 2
    assert bad in messages[0]
    assert "has no path `/nowhere/v1/chat/completions`" in messages[1]


# --- paths ------------------------------------------------------------------------------------------------------------------


def test_wrong_path_is_named() -> None:
    with SimServer(json.dumps({"models": ["m"]})) as sim:
        message, hint = problem(sim.url, custom_endpoint="v2/chat")
    assert "no path `/v2/chat`" in message
    assert "--custom-endpoint" in hint
    assert "`/v1/chat/completions` (`--endpoint-type chat`) and `/v1/completions`" in hint


@pytest.mark.parametrize("end", ["/v1", "/v1/", "/v1/chat/completions", "/v1/chat/completions/"])
def test_base_url_with_the_api_s_own_path(end: str) -> None:
    """AIPerf's rule: what base URL and endpoint share stands in the path once; what is the server's own is asked without it."""
    with SimServer(json.dumps({"models": ["m"]})) as sim:
        found = ask(sim.url + end)
        assert (found.models, found.metrics_url, found.tokenize_url) == (
            ("m",),
            f"{sim.url}/metrics",
            f"{sim.url}/tokenize",
        )


@pytest.mark.parametrize(
    "place", ["/v1/chat/completions/", "/gate/v1/chat/completions", "{url}/v2/v1/chat/completions"]
)
def test_redirect_within_the_host_is_learned(place: str) -> None:
    """307 and 308 keep method and body: requests are sent there in the first place."""
    with fake_server({("GET", "/v1/models"): models("m")}) as fake:
        url = fake.url if "{url}" in place else ""
        target = place.format(url=fake.url)
        path = target.removeprefix(url)
        fake.answers |= {(m, CHAT): Say(307, b"", {"Location": target}) for m in ("GET", "POST")}
        fake.answers |= {("GET", path): POST_ONLY, ("POST", path): error(400, "no messages")}
        found = ask(fake.url)
        assert found.moved == {fake.url: fake.url + path}
        assert [n.kind for n in found.notes] == ["redirected"]
        config = Config.model_validate({"endpoint": {"urls": (fake.url,), "model_names": ("m",)}})
        urls, own = _engine_urls(config, None, found.moved)
        assert [u + own for u in urls] == [fake.url + path]


def test_redirect_to_another_host_is_not_followed() -> None:
    there = Say(308, b"", {"Location": "https://elsewhere/v1/chat/completions"})
    with fake_server({("GET", "/v1/models"): models("m"), ("GET", CHAT): there}) as fake:
        message, hint = problem(fake.url)
    assert "https://elsewhere" in message
    assert "--url" in hint


def test_web_page_for_everything_is_no_endpoint() -> None:
    page = Say(200, b"<html></html>", {"Content-Type": "text/html"})
    with fake_server({("POST", CHAT): Say(405, b"")}, other=page) as fake:
        message, _ = problem(fake.url)
    assert "no path" in message


@pytest.mark.parametrize("status", [502, 503, 504])
def test_server_that_is_not_ready(status: int) -> None:
    with fake_server({}, other=error(status, "Loading model")) as fake:
        message, hint = problem(fake.url)
    assert f"HTTP {status}" in message
    assert "Loading model" in message
    assert "--wait-for-model-timeout" in hint


# --- models -----------------------------------------------------------------------------------------------------------------

VLLM: dict[tuple[str, str], Answer] = {
    ("GET", "/v1/models"): models("Qwen/Qwen3-0.6B", owner="vllm"),
    ("GET", CHAT): POST_ONLY,
    ("GET", "/tokenize"): POST_ONLY,
    ("GET", "/metrics"): prometheus(
        '# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine="0"} 0.0\n'
    ),
}


def test_unknown_model_names_what_there_is() -> None:
    with fake_server(VLLM) as fake:
        message, hint = problem(fake.url, model="qwen3-0.6b")
    assert "no model `qwen3-0.6b`" in message
    assert hint == "did you mean `Qwen/Qwen3-0.6B`? it lists `Qwen/Qwen3-0.6B`"


def test_unknown_server_may_serve_what_it_does_not_list() -> None:
    """A gateway, a router, a deployment of a cloud: only its own 404 about the model is an error."""
    page = {("GET", "/v1/models"): models("Qwen/Qwen3-0.6B"), ("GET", CHAT): POST_ONLY}
    with fake_server(page) as fake:
        (note,) = ask(fake.url, model="qwen3-0.6b").notes
        assert note.kind == "model_not_listed"
        assert "did you mean `Qwen/Qwen3-0.6B`? requests are sent with it all the same" in note.text
    denied = {**page, ("GET", "/v1/models/qwen3-0.6b"): error(404, "The model `qwen3-0.6b` does not exist")}
    with fake_server(denied) as fake:
        message, _ = problem(fake.url, model="qwen3-0.6b")
    assert "no model `qwen3-0.6b`" in message


def test_server_s_own_word_on_a_model_counts() -> None:
    known = {**VLLM, ("GET", "/v1/models/alias"): Say(body={"id": "alias", "object": "model"})}
    with fake_server(known) as fake:
        assert ask(fake.url, model="alias").family == "vllm"


def test_no_list_of_models_is_no_problem() -> None:
    with fake_server({("GET", CHAT): POST_ONLY}) as fake:
        answer = ask(fake.url, model="anything")
    assert answer.models == ()
    assert answer.family == "unknown"
    assert not answer.supports_ignore_eos
    assert answer.metrics_url is None
    assert answer.tokenize_url is None


def test_404_about_a_model_is_not_about_the_path() -> None:
    """llama.cpp and Ollama have no routes for GET; a strict API refuses `{}` for its model."""
    gone = error(404, "The model `` does not exist.", code="model_not_found")
    with fake_server({("GET", "/v1/models"): models("m"), ("POST", CHAT): gone}) as fake:
        assert ask(fake.url).models == ("m",)


# --- families ---------------------------------------------------------------------------------------------------------------


def family_of(answers: dict[tuple[str, str], Answer]) -> ProbeResult:
    with fake_server(answers) as fake:
        found = ask(fake.url)
        assert not any(m == "POST" and body != b"{}" for m, _, body, _ in fake.seen), "the probe generates nothing"
        return found


def test_vllm() -> None:
    found = family_of({**VLLM, ("GET", "/v1/models"): models("m", owner="vllm")})
    assert (found.family, found.supports_ignore_eos) == ("vllm", True)
    assert found.tokenize_url is not None


def test_sglang() -> None:
    found = family_of({("GET", "/v1/models"): models("other", owner="sglang"), ("GET", CHAT): POST_ONLY})
    assert (found.family, found.supports_ignore_eos) == ("sglang", True)
    assert [n.kind for n in found.notes] == ["model_not_listed"]


def test_sglang_by_its_own_path() -> None:
    info = Say(body={"model_path": "/models/x", "is_generation": True})
    found = family_of({("GET", "/v1/models"): models("m"), ("GET", CHAT): POST_ONLY, ("GET", "/get_model_info"): info})
    assert found.family == "sglang"


def test_llama_cpp_answers_404_to_get() -> None:
    answers: dict[tuple[str, str], Answer] = {
        ("GET", "/v1/models"): Say(body={"data": [{"id": "/m.gguf", "owned_by": "llamacpp", "aliases": ["m"]}]}),
        ("POST", CHAT): error(500, "key 'messages' not found"),
    }
    with fake_server(answers, other=error(404, "File Not Found", type="not_found_error")) as fake:
        found = ask(fake.url)
        assert (found.family, found.supports_ignore_eos, found.notes) == ("llamacpp", True, ())
        assert found.tokenize_url == f"{fake.url}/tokenize"


def test_tgi() -> None:
    metrics = prometheus("# TYPE tgi_queue_size gauge\ntgi_queue_size 0\n")
    found = family_of(
        {("GET", "/v1/models"): models("other", owner="x/y"), ("GET", CHAT): POST_ONLY, ("GET", "/metrics"): metrics}
    )
    assert (found.family, found.supports_ignore_eos) == ("tgi", False)


def test_tensorrt_llm_has_its_metrics_elsewhere() -> None:
    answers: dict[tuple[str, str], Answer] = {
        ("GET", "/v1/models"): models("m", owner="tensorrt_llm"),
        ("GET", CHAT): POST_ONLY,
        ("GET", "/metrics"): Say(body=[{"gpuMemUsage": 1, "iter": 2}]),
        ("GET", "/prometheus/metrics"): prometheus(
            "# TYPE trtllm_num_requests_running gauge\ntrtllm_num_requests_running 1\n"
        ),
    }
    with fake_server(answers) as fake:
        found = ask(fake.url)
        assert (found.family, found.metrics_url) == ("trtllm", f"{fake.url}/prometheus/metrics")


def test_dynamo() -> None:
    metrics = prometheus('dynamo_frontend_inflight_requests{model="m"} 0\n')
    found = family_of(
        {("GET", "/v1/models"): models("m", owner="nvidia"), ("GET", CHAT): POST_ONLY, ("GET", "/metrics"): metrics}
    )
    assert (found.family, found.supports_ignore_eos) == ("dynamo", True)


def test_gateway_that_keeps_its_list_of_models_secret() -> None:
    """403 on the list alone: the key may be good for requests."""
    answers: dict[tuple[str, str], Answer] = {
        ("GET", "/v1/models"): error(403, "not for you"),
        ("POST", CHAT): error(400, "messages are missing"),
    }
    with fake_server(answers) as fake:
        found = ask(fake.url, api_key="k")
    assert [n.kind for n in found.notes] == ["models_refused"]


def test_user_s_headers_go_with_every_question() -> None:
    with fake_server({("GET", CHAT): POST_ONLY}) as fake:
        ask(fake.url, headers=(("X-Team", "blue"), ("accept", "*/*")))
        assert {h.get("X-Team") for _, _, _, h in fake.seen} == {"blue"}
        assert {h.get("accept") for _, _, _, h in fake.seen} == {"*/*"}


def test_two_families_are_none() -> None:
    sg = {("GET", "/v1/models"): models("m", owner="sglang"), ("GET", CHAT): POST_ONLY}
    other = {("GET", "/v1/models"): models("m"), ("GET", CHAT): POST_ONLY, ("GET", "/info"): NOT_FOUND}
    with fake_server(sg) as one, fake_server(other) as two:
        assert ask(one.url, two.url).family == "unknown"


def test_custom_path_has_its_models_beside_it() -> None:
    answers = {("GET", "/openai/v1/models"): models("m"), ("GET", "/openai/v1/chat/completions"): POST_ONLY}
    with fake_server(answers) as fake:
        assert ask(fake.url, custom_endpoint="/openai/v1/chat/completions").models == ("m",)


def test_completions_is_suggested_where_chat_is_missing() -> None:
    with fake_server({("GET", "/v1/models"): models("m"), ("GET", COMPLETIONS): POST_ONLY}) as fake:
        _, hint = problem(fake.url)
    assert "--endpoint-type completions" in hint
