"""The engine's settings for a run, from the configuration and the workload: phases, load, connections, pointers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from aiperf.config.context_overflow import overflow_phrases
from aiperf.config.engine_settings import (
    CancelSettings,
    ClosedLoad,
    EngineSettings,
    JobSettings,
    Load,
    PartSettings,
    PhaseSettings,
    ProxySettings,
    Ramp,
    RateLoad,
    ScheduleLoad,
    SeriesLoad,
    SignSettings,
    TlsSettings,
    UsersLoad,
)
from aiperf.config.live_slos import live_tiers
from aiperf.config.load import Closed, Rate, Schedule, Series, Users, load_of, warmup_load_of
from aiperf.config.load import Load as Asked
from aiperf.config.model import Config
from aiperf.config.parse import parse_rate_series
from aiperf.config.proxy import proxy_rule
from aiperf.config.url import parse_url, target_of
from aiperf.endpoints import Endpoint, headers_of, path_of, session_headers, targets_of
from aiperf.errors import ConfigError, Problem
from aiperf.web import Choice
from aiperf.workload import Workload
from aiperf.workload.agent_phases import agent_phases

__all__ = ["AS_FAST_AS_POSSIBLE", "build_settings", "is_schedule", "resolve_workers"]

AS_FAST_AS_POSSIBLE = 512
"""Sessions in flight when a trace is replayed without its timing and without a load of its own."""

_INTERRUPT_GRACE_S = 30.0
_RATE_RAMP_STEP_S = 0.1
"""AIPerf starts a rate ramp at target × 0.1 s / duration."""

_REUSE: dict[str, Literal["pooled", "never", "sticky"]] = {
    "pooled": "pooled",
    "never": "never",
    "sticky-user-sessions": "sticky",
}


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _ns_or_none(seconds: float | None) -> int | None:
    return None if seconds is None else _ns(seconds)


def is_schedule(config: Config, workload: Workload) -> bool:
    """Is the workload sent at its own times? Only with --fixed-schedule (aiperf-compatibility.md: never by itself)."""
    return bool(config.input.fixed_schedule) and workload.is_timestamped


def resolve_workers(config: Config) -> int:
    """Worker threads: one drives tens of thousands of requests per second, so more only where cores are idle anyway."""
    if config.service.workers is not None:
        return config.service.workers
    if config.service.cpus:
        return len(config.service.cpus)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    slots = config.load.concurrency or AS_FAST_AS_POSSIBLE
    return max(1, min(cores // 4, slots // 64, 8))


def build_settings(
    config: Config,
    workload: Workload,
    endpoint: Endpoint,
    run_dir: Path,
    *,
    urls: Sequence[str] | None = None,
    think_tags: bool = False,
    addresses: Mapping[str, Choice] | None = None,
    moved: Mapping[str, str] | None = None,
    part: PartSettings | None = None,
    sign: SignSettings | None = None,
) -> EngineSettings:
    """`run_dir` must exist. `urls`: instead of the configuration's. `addresses`: by URL, those that accept connections. `moved`: by URL
    as shown, where its requests are redirected to. `part`: what of the run this process sends. `sign`: AWS's signature.
    """
    target = config.endpoint
    engine_urls, path = _engine_urls(config, urls, moved or {})
    chosen = [(addresses or {}).get(url, Choice()) for url in (target.urls if urls is None else urls)]
    streaming = target.streaming and endpoint.features.streaming
    phases = _held(config, _phases(config, workload))
    slots = max((p.concurrency or 0 for p in phases), default=0)
    if part is not None:
        slots = slots // part.of + (part.index < slots % part.of)
    text = endpoint.features.tokens_out
    return EngineSettings(
        urls=engine_urls,
        # Where all accept, the engine resolves the name itself, and says how long that took.
        addresses=() if moved else tuple(c.used if c.left_out else () for c in chosen),
        url_strategy=target.url_strategy,
        paths=(path,),
        models=workload.plan.models,
        headers=headers_of(config),
        session_headers=session_headers(config),
        request_headers=("X-Amzn-SageMaker-Inference-Id",) if config.aws.sagemaker_endpoint_name else (),
        sign=sign,
        trace_share=_trace_share(config),
        framing=endpoint.features.framing if streaming else "plain",
        pointers=endpoint.pointers,
        plain_pointers=endpoint.plain_pointers,
        job=_job(config, endpoint),
        tls=TlsSettings(
            insecure=target.insecure,
            ca_file=_text(target.ca_file),
            client_cert_file=_text(target.client_cert),
            client_key_file=_text(target.client_key),
        ),
        proxies=_proxies(config, urls if urls is not None else target.urls),
        http_version=target.http_version,
        http2_max_streams=target.http2_max_streams,
        connection=_REUSE[target.connection_reuse_strategy],
        preconnect=_preconnect(config, slots),
        timeout_ns=_ns(target.request_timeout_seconds),
        connect_timeout_ns=_ns(min(target.connect_timeout_seconds, target.request_timeout_seconds)),
        source_addresses=target.source_addresses,
        dns=target.dns,
        max_response_bytes=target.max_response_bytes,
        # Lanes share their idle time and the order of their plays: one worker has all of them.
        workers=1 if workload.agents is not None else resolve_workers(config),
        cpus=config.service.cpus,
        kernel_stamps=config.service.kernel_stamps,
        keep_text=text
        and (not target.use_server_token_count or config.output.export_outputs_json or _keeps_raw(config)),
        keep_events=_keeps_raw(config),
        http_trace=config.output.export_http_trace,
        expect_text=text and not endpoint.features.text_optional,
        max_event_bytes=target.max_event_bytes,
        context_overflow_phrases=overflow_phrases(),
        slos=tuple(tier.slos for tier in live_tiers(config.slo.goodput)),
        think_tags=think_tags,
        seed=workload.seed,
        part=part,
        phases=tuple(phases),
        run_dir=str(run_dir),
    )


def _trace_share(config: Config) -> float:
    """All requests where spans are expected, unless the user says otherwise."""
    t = config.telemetry
    return t.trace_sampling if t.trace_sampling is not None else 1.0 if t.engine_traces is not None else 0.0


def _engine_urls(config: Config, urls: Sequence[str] | None, moved: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """What the engine joins: its URLs, and the path. Redirects are learned before the clock starts where one path fits all URLs; others the
    engine follows by itself, each time.
    """
    targets, path = targets_of(config, urls), path_of(config)
    there = [moved.get(t.base.shown) for t in targets]
    full = [t.base.at(t.request_path) if m is None else m for t, m in zip(targets, there, strict=True)]
    ends = {url.endswith("/") for url in full}
    if not any(there) or len(ends) > 1:
        return tuple(t.engine_url for t in targets), path
    path = path.rstrip("/") + "/" if ends == {True} else path.rstrip("/")
    new = [target_of(url, path) for url in full]
    if any(
        not n.request_path.endswith(path) or n.base.at(n.request_path) != url for n, url in zip(new, full, strict=True)
    ):
        return tuple(t.engine_url for t in targets), path_of(config)
    kept = [
        replace(n, base=replace(n.base, user=t.base.user, password=t.base.password))
        for n, t in zip(new, targets, strict=True)
    ]
    return tuple(t.engine_url for t in kept), path


def _proxies(config: Config, urls: Sequence[str]) -> tuple[ProxySettings | None, ...]:
    rule = proxy_rule(config.endpoint.proxy, os.environ)
    found = [rule.of(parse_url(url)) for url in urls]
    if not any(found):
        return ()
    return tuple(None if p is None else ProxySettings(address=p.shown, authorization=p.authorization) for p in found)


def _preconnect(config: Config, slots: int) -> int:
    """Connections opened before the clock starts: one per request in flight, or per so many of them as share one."""
    e = config.endpoint
    if e.connection_reuse_strategy == "never":
        return 0
    shared = e.http2_max_streams if e.http_version == "2" and e.connection_reuse_strategy == "pooled" else 1
    return min(-(-slots // shared), 20_000)


def _job(config: Config, endpoint: Endpoint) -> JobSettings | None:
    """How jobs are waited for; their results are fetched if the user wants them."""
    job = endpoint.job
    if job is not None and config.endpoint.http_version == "2":
        text = "jobs are polled over HTTP/1.1 alone: over HTTP/2 a job would count as done when it was accepted"
        raise ConfigError((Problem(text, "--http-version", f"leave it out for `{config.endpoint.endpoint_type}`"),))
    return job if job is None or config.media.download_video_content else job.model_copy(update={"content": None})


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _keeps_raw(config: Config) -> bool:
    return config.output.export_level == "raw"


def _phases(config: Config, workload: Workload) -> list[PhaseSettings]:
    if not config.load.phases:
        measured = _measured(config, workload)
        if workload.agents is not None:
            return agent_phases(
                config,
                workload.agents,
                measured,
                sampling=workload.sampling,
                seed=workload.seed,
                benchmark_id=workload.benchmark_id,
            )
        return [*_warmup(config, workload, measured), measured]
    if workload.agents is not None:
        reason = "recorded agent sessions have phases of their own: primers and warm-up of each lane, then the replay"
        raise ConfigError(
            (Problem(reason, "phases", "give one measured phase; `--warmup-requests-per-lane` warms up"),)
        )
    out = []
    for phase in config.load.phases:
        settings = _measured(config.of_phase(phase), workload)
        is_warmup = phase.kind == "warmup"
        changes: dict[str, object] = {"cancel": None, "max_error_rate": None} if is_warmup else {}
        out.append(settings.model_copy(update={"name": phase.name, "kind": phase.kind, **changes}))
    return out


def _held(config: Config, phases: list[PhaseSettings]) -> list[PhaseSettings]:
    """The first measured phase waits where something is to be done before it."""
    first = next((i for i, p in enumerate(phases) if p.kind == "profiling"), None)
    if not config.endpoint.server_profiler or first is None:
        return phases
    return [p.model_copy(update={"hold": True}) if i == first else p for i, p in enumerate(phases)]


def _measured(config: Config, workload: Workload) -> PhaseSettings:
    load, asked = config.load, load_of(config)
    schedule = is_schedule(config, workload)
    from_file = workload.kind != "synthetic"
    if isinstance(asked, Schedule) and not schedule:  # a file without timestamps
        asked = Closed(load.concurrency)
    concurrency = load.concurrency
    if isinstance(asked, Closed) and concurrency is None:
        concurrency = AS_FAST_AS_POSSIBLE if from_file and workload.is_timestamped else 1
    sessions = config.conversation.num_sessions
    bounded = load.request_count is not None or load.benchmark_duration is not None or sessions is not None
    once = schedule or (from_file and not config.input.loop and (workload.is_timestamped or not bounded))
    return PhaseSettings(
        name="profiling",
        kind="profiling",
        load=_engine_load(config, asked, load.request_rate_ramp_duration, workload),
        concurrency=concurrency,
        prefill_concurrency=load.prefill_concurrency,
        concurrency_ramp=_ramp(config, load.concurrency_ramp_duration, 1.0) if concurrency else None,
        prefill_ramp=_ramp(config, load.prefill_concurrency_ramp_duration, 1.0) if load.prefill_concurrency else None,
        sampling=workload.sampling if not schedule else "sequential",
        requests=load.request_count,
        sessions=sessions,
        duration_ns=_ns_or_none(load.benchmark_duration),
        repeat=not once,
        grace_ns=_ns_or_none(load.benchmark_grace_period),
        max_error_rate=load.failed_request_threshold,
        cancel=_cancel(config),
    )


def _cancel(config: Config) -> CancelSettings | None:
    load = config.load
    if not load.request_cancellation_rate:
        return None
    return CancelSettings(
        rate=load.request_cancellation_rate / 100,
        delay_ns=_ns(load.request_cancellation_delay),
        after_chunks=load.request_cancellation_after_chunks,
    )


def _warmup(config: Config, workload: Workload, measured: PhaseSettings) -> list[PhaseSettings]:
    warmup, load = config.warmup, config.load
    if not warmup.is_wanted:
        return []
    asked = warmup_load_of(config)
    concurrency = warmup.concurrency if warmup.concurrency is not None else measured.concurrency
    if isinstance(asked, Closed) and concurrency is None:
        concurrency = 1
    prefill = warmup.prefill_concurrency if warmup.prefill_concurrency is not None else load.prefill_concurrency
    return [
        PhaseSettings(
            name="warmup",
            kind="warmup",
            load=_engine_load(config, asked, warmup.request_rate_ramp_duration, workload),
            concurrency=concurrency,
            prefill_concurrency=prefill,
            concurrency_ramp=_ramp(config, warmup.concurrency_ramp_duration, 1.0) if concurrency else None,
            prefill_ramp=_ramp(config, warmup.prefill_concurrency_ramp_duration, 1.0) if prefill else None,
            sampling=workload.sampling,
            requests=warmup.request_count,
            sessions=warmup.num_sessions,
            duration_ns=_ns_or_none(warmup.duration),
            grace_ns=_ns_or_none(warmup.grace_period),
        )
    ]


def _engine_load(config: Config, asked: Asked, ramp_s: float | None, workload: Workload) -> Load:
    match asked:
        case Schedule():
            return ScheduleLoad(loop_ns=_loop_ns(workload) if config.input.loop else None)
        case Users(users, per_s):
            return UsersLoad(users=users, rate=per_s)
        case Series(source, arrival, smoothness):
            points = tuple((_ns(t), rate) for t, rate in parse_rate_series(source))
            return SeriesLoad(points=points, arrival=arrival, smoothness=smoothness)
        case Rate(per_s, arrival, smoothness):
            ramp = None if ramp_s is None else _ramp(config, ramp_s, per_s * _RATE_RAMP_STEP_S / ramp_s)
            return RateLoad(rate=per_s, arrival=arrival, smoothness=smoothness, ramp=ramp)
        case Closed():
            return ClosedLoad()


def _ramp(config: Config, seconds: float | None, start: float) -> Ramp | None:
    return None if seconds is None else Ramp(duration_ns=_ns(seconds), start=start, shape=config.load.ramp_shape)


def _loop_ns(workload: Workload) -> int:
    """The period of a repeated schedule: its span and one mean gap, so that the last and the first are not at once."""
    at = workload.plan.columns["at_ns"]
    last = int(at.max())
    return max(1, last + last // max(1, workload.plan.num_sessions - 1))
