"""Asking the server before the load: is it there, has it the path and the models, does it take the key; and which one is it?

Nothing is generated: `GET` on `/v1/models` and on the endpoint's path (405 says that it exists), `POST {}` only where that was a 404
(llama.cpp has no routes for other methods). `wait_for_model` is AIPerf's `--wait-for-model-*` and does send requests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiperf.config.model import Config
from aiperf.config.url import Target
from aiperf.endpoints import access_to, targets_of
from aiperf.errors import EndpointError, Note, Problem
from aiperf.number_text import exact
from aiperf.telemetry import UNKNOWN, Family
from aiperf.telemetry.probe.checks import ProbedUrl, check
from aiperf.telemetry.probe.wait import reset_kv_cache, wait_for_model
from aiperf.web import Server

__all__ = ["ProbeResult", "UrlFinding", "probe", "reset_kv_cache", "wait_for_model"]

UrlFinding = ProbedUrl
_LIMIT_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """`family`: of all URLs, `unknown` if they differ or say nothing. `models`: as the first URL lists them.

    `metrics_urls`: Prometheus pages found, one per URL that has one. `tokenize_url`: the first URL's, None if it has none.
    `urls`: what each URL said, in the order of the configuration.
    """

    family: str
    models: tuple[str, ...]
    metrics_urls: tuple[str, ...]
    supports_ignore_eos: bool
    tokenize_url: str | None
    notes: tuple[Note, ...] = ()
    urls: tuple[UrlFinding, ...] = field(default=())

    @property
    def moved(self) -> dict[str, str]:
        """URL as shown → the whole URL its requests are redirected to."""
        return {f.url: f.moved for f in self.urls if f.moved is not None}

    @property
    def metrics_url(self) -> str | None:
        return self.metrics_urls[0] if self.metrics_urls else None


def probe(config: Config, *, limit_s: float = _LIMIT_S) -> ProbeResult:
    """All URLs at once, `limit_s` in all. EndpointError with every problem of every URL."""
    probed = _ask_all(config, limit_s)
    problems = [p for f in probed for p in f.problems]
    if problems:
        raise EndpointError(list(dict.fromkeys(problems)))
    family = _common([f.family for f in probed])
    return ProbeResult(
        family=family.name,
        models=probed[0].models,
        metrics_urls=tuple(f.metrics_url for f in probed if f.metrics_url is not None),
        supports_ignore_eos=family.accepts_ignore_eos,
        tokenize_url=probed[0].tokenize_url,
        notes=tuple({n.text: n for f in probed for n in f.notes}.values()),
        urls=probed,
    )


def _ask_all(config: Config, limit_s: float) -> tuple[ProbedUrl, ...]:
    """A thread per URL, left behind when the time is over: a resolver or a server that drips has no timeout of its own."""
    targets = list(dict.fromkeys(targets_of(config)))
    answered: dict[Target, ProbedUrl] = {}
    errors: list[Exception] = []
    deadline = time.monotonic() + limit_s
    access = access_to(config)

    def ask(target: Target) -> None:
        server = Server(target.base, access)
        has_key = _has_key(config) or target.base.user is not None
        try:
            answered[target] = check(
                server,
                target,
                config.endpoint.model_names,
                deadline,
                has_key=has_key,
                may_lack_http1=access.is_http2 and access.proxies.of(target.base) is not None,
            )
        except Exception as error:  # noqa: BLE001 - raised in the main thread below
            errors.append(error)
        finally:
            server.close()

    threads = [
        threading.Thread(target=ask, args=(target,), name=f"probe {target.base.origin}", daemon=True)
        for target in targets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline + 0.2 - time.monotonic()))
    if errors:
        raise errors[0]
    return tuple(answered.get(target) or _silent(target.base.shown, limit_s) for target in targets)


def _silent(url: str, limit_s: float) -> ProbedUrl:
    problem = Problem(
        f"`{url}` did not respond within {exact(limit_s)} s",
        hint="check host and port; `--wait-for-model-timeout 5m` waits for a server that starts, `--no-probe` asks nothing",
    )
    return ProbedUrl(url=url, problems=(problem,))


def _has_key(config: Config) -> bool:
    from aiperf.config.secrets import is_secret_name

    e = config.endpoint
    return e.api_key is not None or any(is_secret_name(name) for name, _ in e.headers)


def _common(found: Sequence[Family]) -> Family:
    return found[0] if len({f.name for f in found}) == 1 else UNKNOWN
