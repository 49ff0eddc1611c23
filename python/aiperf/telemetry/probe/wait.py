"""Waiting until the server is ready (`--wait-for-model-*`), and emptying its prefix cache (`--reset-kv-cache`)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

from aiperf.config.model import Config
from aiperf.config.url import Target
from aiperf.endpoints import BodyOptions, access_to, endpoint_of, targets_of
from aiperf.errors import EndpointError
from aiperf.number_text import exact
from aiperf.session import Message, Turn
from aiperf.telemetry.probe.checks import error_text, explain, listed_models
from aiperf.web import Server

__all__ = ["reset_kv_cache", "wait_for_model"]

_TRY_S = 60.0
"""Longest one try may take: a server that accepts and is then replaced must not hold the wait."""
_LEAST_S = 1.0
"""Time of the last try, at least: it should say what the server says, not that a millisecond was too short."""


def wait_for_model(
    config: Config,
    progress: Callable[[str], object] | None = None,
    *,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Returns when each URL is ready for each model; nothing to do if the timeout is 0.

    As AIPerf 0.13: `inference` posts a request for one token, and any status below 500 is an answer; `models` wants the name
    in `/v1/models`, or an answer of the URL itself where there is no such list; `both` does one after the other. The timeout
    holds for each URL and model. EndpointError when it is over. `progress` is told why a try failed.
    """
    endpoint = config.endpoint
    if endpoint.wait_for_model_timeout <= 0:
        return
    for target in dict.fromkeys(targets_of(config)):
        server = Server(target.base, access_to(config))
        try:
            for model in dict.fromkeys(endpoint.model_names):
                _wait(config, server, target, model, progress, sleep)
        finally:
            server.close()


def _wait(
    config: Config,
    server: Server,
    target: Target,
    model: str,
    progress: Callable[[str], object] | None,
    sleep: Callable[[float], object],
) -> None:
    endpoint = config.endpoint
    deadline = time.monotonic() + endpoint.wait_for_model_timeout
    steps = {"models": [_has_model], "inference": [_answers], "both": [_has_model, _answers]}[
        endpoint.wait_for_model_mode
    ]
    for step in steps:
        while True:
            left = deadline - time.monotonic()
            reason = step(config, server, target, model, min(max(left, _LEAST_S), _TRY_S))
            if reason is None:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                raise EndpointError(
                    f"`{server.url}` was not ready for `{model}` within {exact(endpoint.wait_for_model_timeout)} s: {reason}",
                    "raise `--wait-for-model-timeout`, or look at the server's log",
                )
            if progress is not None:
                progress(f"waiting for `{model}` at `{server.url}`: {reason}")
            sleep(min(endpoint.wait_for_model_interval, left))


def _has_model(config: Config, server: Server, target: Target, model: str, timeout_s: float) -> str | None:  # noqa: ARG001 - a step
    """None if the model is listed; else why not."""
    try:
        reply = server.ask("GET", target.models_path, timeout_s=timeout_s)
        if reply.status == 404:
            reply = server.ask("GET", target.base.path or "/", timeout_s=timeout_s)
            return None if reply.status < 500 else error_text(reply)
    except OSError as error:
        return explain(error, server.url).message
    if not reply.is_ok:
        return error_text(reply)
    return None if model in listed_models(reply) else f"`{model}` is not listed yet"


def _answers(config: Config, server: Server, target: Target, model: str, timeout_s: float) -> str | None:
    """None if a request for one token is answered; else why not."""
    endpoint = endpoint_of(config)
    path = target.request_path
    if config.endpoint.custom_endpoint is None and endpoint.streaming_path is not None:
        path = path.removesuffix(endpoint.streaming_path).removesuffix(endpoint.path) + endpoint.path
    turn = Turn(messages=(Message(role="user", parts=("Hello",)),), osl=1)
    legacy = config.endpoint.use_legacy_max_tokens
    body = endpoint.body(turn, (), BodyOptions(model=model, streaming=False, legacy_max_tokens=legacy))
    body = {**body, "model": model, **config.endpoint.extra_inputs}
    try:
        reply = server.ask("POST", path, _rendered(body), timeout_s=timeout_s)
    except OSError as error:
        return explain(error, server.url).message
    return None if reply.status < 500 else error_text(reply)


def _rendered(body: Mapping[str, object]) -> bytes:
    """JSON of an endpoint's body, whose strings may be tuples of literal parts."""

    def plain(value: object) -> object:
        if isinstance(value, tuple) and all(isinstance(v, str) for v in value):
            return "".join(value)
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list | tuple) else value

    return json.dumps(plain(body), ensure_ascii=False).encode()


def reset_kv_cache(config: Config) -> None:
    """Posts to `--reset-kv-cache-path` of each URL. EndpointError if one does not do it."""
    endpoint = config.endpoint
    for target in dict.fromkeys(targets_of(config)):
        server = Server(target.base, access_to(config))
        url, path = server.url, target.at_root(endpoint.reset_kv_cache_path)
        hint = "`--reset-kv-cache-path` sets another path; vLLM has it only with VLLM_SERVER_DEV_MODE=1"
        try:
            reply = server.ask("POST", path, b"", timeout_s=endpoint.reset_kv_cache_timeout_seconds)
        except OSError as error:
            raise EndpointError(
                f"failed to reset the prefix cache of `{url}`: {explain(error, url).message}", hint
            ) from error
        finally:
            server.close()
        if not reply.is_ok:
            raise EndpointError(
                f"failed to reset the prefix cache of `{url}`: `{path}` returned {error_text(reply)}", hint
            )
