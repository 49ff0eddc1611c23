"""The configuration in AIPerf 0.13's own shape: `input_config` of the files its readers open.

Only what the user gave appears, with the few defaults that AIPerf writes always. Two keys of 0.3 stand beside it for older
readers: `endpoint.model_names` and `loadgen.concurrency`. Our own shape, with the origin of each value, is in `run.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final, cast

from aiperf.config.lengths import parse_seq_dist
from aiperf.config.load import Closed, Rate, Schedule, Series, Users, load_of
from aiperf.config.model import Config, specs
from aiperf.config.payload_template import TEMPLATE_SETTINGS, template_text
from aiperf.config.secrets import is_secret_name, mask_mapping, mask_url
from aiperf.errors import ConfigError
from aiperf.version import __version__

__all__ = [
    "REDACTED",
    "aiperf_input_config",
    "aiperf_names",
    "aiperf_values",
    "aiperf_version",
    "variation_folder",
]

REDACTED = "<redacted>"
"""What AIPerf writes in place of a secret."""

Tree = dict[str, object]

_RECIPE_PATHS: Final = {
    "load.concurrency": "phases.profiling.concurrency",
    "prompt.isl_mean": "datasets.main.prompts.isl",
    "prompt.osl_mean": "datasets.main.prompts.osl",
}
_PATHS: Final = {
    "load.concurrency": "phases.profiling.concurrency",
    "load.prefill_concurrency": "phases.profiling.prefill_concurrency",
    "load.request_rate": "phases.profiling.rate",
    "load.user_centric_rate": "phases.profiling.rate",
    "load.num_users": "phases.profiling.users",
    "load.request_count": "phases.profiling.requests",
    "load.benchmark_duration": "phases.profiling.duration",
    "conversation.num_sessions": "phases.profiling.sessions",
    "conversation.turn_mean": "datasets.main.turns.mean",
    "prompt.isl_mean": "datasets.main.prompts.isl.mean",
    "prompt.isl_stddev": "datasets.main.prompts.isl.stddev",
    "prompt.osl_mean": "datasets.main.prompts.osl.mean",
    "prompt.osl_stddev": "datasets.main.prompts.osl.stddev",
}
"""Our options that AIPerf sweeps, by its own paths."""
_WHOLE: Final = frozenset({"prompt.isl_mean", "prompt.osl_mean", "conversation.turn_mean"})
"""Floats that AIPerf writes as they were given, which is without a point."""


def aiperf_version(config: Config) -> str:
    """What files in AIPerf's shape say who wrote them (`--aiperf-compat`); ours stands beside it."""
    compat = config.output.aiperf_compat
    return {"0.13": "0.13.0", "off": __version__}.get(compat, compat)


def aiperf_values(values: Mapping[str, float], recipe: str | None = None) -> dict[str, int | float]:
    """The values of a sweep's point under AIPerf's paths: `phases.profiling.rate` is 50.0, `phases.profiling.concurrency` 8.

    `recipe`: of --search-recipe; a recipe's lengths are `datasets.main.prompts.isl`, without `mean`.
    """
    return {_path(p, recipe): _typed(p, v) for p, v in sorted(values.items(), key=lambda item: _path(item[0], recipe))}


def aiperf_names(paths: Iterable[str], recipe: str | None = None) -> dict[str, str]:
    """Our option's path → what AIPerf calls the parameter: the end of its own path, or all of it where two have the same end."""
    wanted = sorted(paths, key=lambda path: _path(path, recipe))
    ends = [_end(path, recipe) for path in wanted]
    return {p: end if ends.count(end) == 1 else _path(p, recipe) for p, end in zip(wanted, ends, strict=True)}


def variation_folder(values: Mapping[str, float], recipe: str | None = None) -> str:
    """`concurrency_10`, `mean_512__rate_50.0`: where AIPerf puts the runs of a point. In the order of its paths."""
    paths = sorted(values, key=lambda path: _path(path, recipe))
    return "__".join(f"{_end(path, recipe)}_{_typed(path, values[path])}" for path in paths)


def _path(path: str, recipe: str | None) -> str:
    """AIPerf's of our option."""
    if recipe is not None and path in _RECIPE_PATHS:
        own = _RECIPE_PATHS[path]
        return own.rpartition(".")[2] if recipe == "pareto-sweep" else own
    return _PATHS.get(path, path)


def _end(path: str, recipe: str | None = None) -> str:
    found = specs().get(path)
    own = path if found is None else found.shown.lstrip("-").replace("-", "_")
    return _path(path, recipe).rpartition(".")[2] if path in _PATHS else own


def _typed(path: str, value: float) -> int | float:
    found = specs().get(path)
    is_whole = float(value).is_integer() and (found is None or found.kind == "int" or path in _WHOLE)
    return int(value) if is_whole else float(value)


def aiperf_input_config(config: Config, *, num_requests: int | None = None, num_sessions: int | None = None) -> Tree:
    """`{models, endpoint, datasets, phases, artifacts, …}` in JSON types, secrets redacted.

    `num_requests`: of a schedule where the user gave no count, `num_sessions`: of a file of branching conversations (AIPerf writes
    what it found in the file).
    """
    tree: Tree = {
        "models": _models(config),
        "endpoint": _endpoint(config),
        "datasets": [_dataset(config)],
        "phases": _phases(config, num_requests, num_sessions),
        "artifacts": _artifacts(config),
    }
    slos = _slos(config)
    if slos:
        tree["slos"] = slos
    tokenizer = _given(
        config,
        {
            "name": "tokenizer.name",
            "revision": "tokenizer.revision",
            "trust_remote_code": "tokenizer.trust_remote_code",
            "apply_chat_template": "prompt.apply_chat_template",
        },
    )
    if tokenizer:
        tree["tokenizer"] = tokenizer
    telemetry = config.telemetry
    urls = [u for u in telemetry.server_metrics if "://" in u or ":" in u]
    tree |= {
        "gpu_telemetry": _gpu_telemetry(config),
        "server_metrics": {"enabled": False}
        if telemetry.no_server_metrics
        else {
            "enabled": True,
            "urls": [mask_url(u) for u in urls],
            "formats": list(telemetry.server_metrics_formats),
        },
        "network_latency": {
            "enabled": telemetry.network_latency_automatic or telemetry.network_latency_mean is not None,
            **_given(
                config,
                {"ping_interval": "telemetry.network_latency_ping_interval", "mean": "telemetry.network_latency_mean"},
            ),
        },
        "otel": {},
        "mlflow": {},
        "wandb": {},
        "runtime": _runtime(config),
        "loadgen": {} if config.load.concurrency is None else {"concurrency": config.load.concurrency},
    }
    return tree


def _gpu_telemetry(config: Config) -> Tree:
    telemetry = config.telemetry
    out: Tree = {"enabled": not telemetry.no_gpu_telemetry}
    words = [w for w in telemetry.gpu_telemetry if not w.endswith(".csv")]
    collector = next((w for w in words if w in {"pynvml", "amdsmi"}), "dcgm")
    urls = [mask_url(w) for w in words if "://" in w or ":" in w]
    if words and not telemetry.no_gpu_telemetry:
        out |= {"urls": urls, "collector": collector, "mode": "summary"}
    return out


def _given(config: Config, paths: Mapping[str, str]) -> Tree:
    """AIPerf's key → our option, of those that the user gave."""
    return {key: _plain(config.value(path)) for key, path in paths.items() if config.is_set(path)}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _models(config: Config) -> Tree:
    e = config.endpoint
    models: Tree = {"items": [{"name": name} for name in e.model_names]}
    if config.is_set("endpoint.model_selection_strategy"):
        models["strategy"] = e.model_selection_strategy
    return models


def _endpoint(config: Config) -> Tree:
    endpoint = config.endpoint
    out: Tree = {"urls": [mask_url(u if "://" in u or u.startswith("unix:") else f"http://{u}") for u in endpoint.urls]}
    out |= _given(
        config,
        {"url_strategy": "endpoint.url_strategy", "type": "endpoint.endpoint_type", "path": "endpoint.custom_endpoint"},
    )
    if endpoint.api_key is not None:
        out["api_key"] = REDACTED
    out |= _given(
        config,
        {
            "timeout": "endpoint.request_timeout_seconds",
            "streaming": "endpoint.streaming",
            "connection_reuse": "endpoint.connection_reuse_strategy",
            "use_legacy_max_tokens": "endpoint.use_legacy_max_tokens",
            "use_server_token_count": "endpoint.use_server_token_count",
            "per_chunk_usage": "endpoint.per_chunk_usage",
            "wait_for_model_timeout": "endpoint.wait_for_model_timeout",
            "wait_for_model_interval": "endpoint.wait_for_model_interval",
            "wait_for_model_mode": "endpoint.wait_for_model_mode",
        },
    )
    if config.is_set("endpoint.headers"):
        out["headers"] = {name: REDACTED if is_secret_name(name) else value for name, value in endpoint.headers}
    if config.is_set("endpoint.extra_inputs"):
        out |= _extra(mask_mapping(endpoint.extra_inputs))
    out["model_names"] = list(endpoint.model_names)
    return out


def _extra(given: Tree) -> Tree:
    """`extra`; a template and the place of its response's text stand apart, the template as it was rendered."""
    source = given.get("payload_template")
    if not isinstance(source, str):
        return {"extra": given}
    try:
        body = template_text(source)
    except ConfigError:  # the file is gone since the run: its name is what is left
        body = source
    template: Tree = {"body": body, "response_field": given.get("response_field", "text")}
    return {"template": template, "extra": {k: v for k, v in given.items() if k not in TEMPLATE_SETTINGS}}


def _entries(config: Config) -> int | None:
    """How many prompts AIPerf would make: what was asked for, else one per request or session; a time alone: its default."""
    if config.input.num_dataset_entries is not None:
        return config.input.num_dataset_entries
    if config.conversation.num_sessions is not None:
        return config.conversation.num_sessions
    return config.load.request_count


def _dataset(config: Config) -> Tree:
    data_options, prompt = config.input, config.prompt
    out: Tree = {"name": "main"}
    if data_options.public_dataset is not None:
        out |= {"type": "public", "dataset": data_options.public_dataset}
    elif data_options.input_file is not None:
        out |= {"type": "file", "path": str(data_options.input_file)}
        if data_options.custom_dataset_type is not None:
            out["format"] = data_options.custom_dataset_type.replace("-", "_")
    else:
        out["type"] = "synthetic"
    entries = _entries(config)
    if entries is not None and data_options.public_dataset is None:
        out["entries"] = entries
    out |= _given(
        config,
        {
            "entries": "input.num_dataset_entries",
            "block_size": "input.isl_block_size",
            "random_seed": "input.random_seed",
            "sampling": "input.dataset_sampling_strategy",
            "max_context_length": "input.max_context_length",
            "ignore_trace_delays": "input.ignore_trace_delays",
            "force_min_tokens": "endpoint.force_min_tokens",
        },
    )
    synthesis = _given(
        config,
        {
            key: f"input.synthesis_{key}"
            for key in (
                "speedup_ratio",
                "prefix_len_multiplier",
                "prefix_root_multiplier",
                "prompt_len_multiplier",
                "output_len_multiplier",
                "max_isl",
                "max_osl",
            )
        },
    )
    if synthesis:
        out["synthesis"] = synthesis
    prompts = _prompts(config)
    if prompts and (out["type"] == "synthetic" or config.is_set("prompt.osl_mean") or config.is_set("prompt.isl_mean")):
        out["prompts"] = prompts
    out |= _conversation(config) | _media(config)
    out |= _given(config, {"turn_delay_ratio": "conversation.turn_delay_ratio"})
    if prompt.cache_bust != "none":
        out.setdefault("prompts", {})
        cast("Tree", out["prompts"])["cache_bust"] = {"target": prompt.cache_bust}
    return out


def _distribution(config: Config, path: str) -> Tree:
    """`{mean, stddev}` of those that were given."""
    return _given(config, {"mean": f"{path}_mean", "stddev": f"{path}_stddev"})


def _media(config: Config) -> Tree:
    """Synthetic images, audio, video; queries and passages."""
    blocks: Tree = {
        "images": {
            "width": _distribution(config, "media.image_width"),
            "height": _distribution(config, "media.image_height"),
            **_given(
                config,
                {
                    "format": "media.image_format",
                    "source": "media.image_source",
                    "source_sampling": "media.image_source_sampling",
                },
            ),
        },
        "audio": {
            "length": _distribution(config, "media.audio_length"),
            **_given(
                config,
                {
                    "format": "media.audio_format",
                    "sample_rates": "media.audio_sample_rates",
                    "depths": "media.audio_depths",
                    "channels": "media.audio_num_channels",
                },
            ),
        },
        "video": _given(
            config,
            {
                key: f"media.video_{key}"
                for key in ("width", "height", "duration", "fps", "format", "codec", "synth_type")
            },
        ),
        "rankings": {
            "passages": _distribution(config, "rankings.passages"),
            "passage_tokens": _distribution(config, "rankings.passages_prompt_token"),
            "query_tokens": _distribution(config, "rankings.query_prompt_token"),
        },
    }
    out: Tree = {}
    sizes = {"images": "media.image_batch_size", "audio": "media.audio_batch_size", "video": "media.video_batch_size"}
    for name, block in blocks.items():
        kept = {key: value for key, value in cast("Tree", block).items() if value not in ({}, None)}
        if kept:
            out[name] = {"batch_size": config.value(sizes[name]), **kept} if name in sizes else kept
    return out


def _conversation(config: Config) -> Tree:
    """What goes in front of the prompts, and between them."""
    out: Tree = {}
    prefixes = _given(
        config,
        {
            "pool_size": "prompt.prefix_prompt_pool_size",
            "length": "prompt.prefix_prompt_length",
            "shared_system_length": "prompt.shared_system_prompt_length",
            "user_context_length": "prompt.user_context_prompt_length",
        },
    )
    if prefixes:
        out["prefix_prompts"] = prefixes
    turns = _given(config, {"mean": "conversation.turn_mean", "stddev": "conversation.turn_stddev"})
    if turns:
        out["turns"] = turns
    delay = _given(config, {"mean": "conversation.turn_delay_mean", "stddev": "conversation.turn_delay_stddev"})
    if delay:
        out["turn_delay"] = {"mean": delay.get("mean", 0.0), "stddev": delay.get("stddev", 0.0)}
    return out


def _prompts(config: Config) -> Tree:
    prompt = config.prompt
    out: Tree = {}
    for name, mean, dist in (("isl", prompt.isl_mean, prompt.isl_dist), ("osl", prompt.osl_mean, prompt.osl_dist)):
        if dist is not None:
            out[name] = json.loads(dist)
        elif mean is not None:
            out[name] = {"mean": mean} | _given(config, {"stddev": f"prompt.{name}_stddev"})
            origin = config.origins.get(f"prompt.{name}_mean")
            if origin is not None and origin.kind == "file" and not config.is_set(f"prompt.{name}_stddev"):
                out[name] = {"mean": mean, "value": mean}  # a number alone in a configuration file
    if prompt.seq_dist is not None:
        out["sequence_distribution"] = [
            {
                "isl": {"mean": float(pair.isl), "stddev": float(pair.isl_stddev)},
                "osl": {"mean": float(pair.osl), "stddev": float(pair.osl_stddev)},
                "probability": round(pair.share * 100, 9),
            }
            for pair in parse_seq_dist(prompt.seq_dist)
        ]
    return out | _given(
        config, {"batch_size": "prompt.batch_size_text", "random_corpus_style": "prompt.random_corpus_style"}
    )


def _phases(config: Config, num_requests: int | None, num_sessions: int | None) -> list[Tree]:
    if config.load.phases:
        out = []
        for phase in config.load.phases:
            tree = _measured_phase(config.of_phase(phase), num_requests) | {"name": phase.name, "kind": phase.kind}
            out.append(tree | ({"exclude_from_results": True} if phase.kind == "warmup" else {}))
        return out
    measured = _measured_phase(config, num_requests)
    if num_sessions is not None and not measured.keys() & {"requests", "sessions", "duration"}:
        measured["sessions"] = num_sessions
    return [_warmup_phase(config), measured] if config.warmup.is_wanted else [measured]


def _measured_phase(config: Config, num_requests: int | None) -> Tree:
    load = config.load
    fixed = bool(config.input.fixed_schedule)
    measured: Tree = {"name": "profiling", "kind": "profiling", "type": _load_type(config)}
    requests = load.request_count
    if fixed:
        requests = num_requests if requests is None else requests
    if requests is not None and not (
        config.conversation.num_sessions is not None and not config.is_set("load.request_count")
    ):
        measured["requests"] = requests
    if config.conversation.num_sessions is not None:
        measured["sessions"] = config.conversation.num_sessions
    if load.benchmark_duration is not None:
        measured["duration"] = load.benchmark_duration
    if load.concurrency is not None and (not fixed or config.is_set("load.concurrency")):
        measured["concurrency"] = load.concurrency
    measured |= _given(config, {"prefill_concurrency": "load.prefill_concurrency"})
    rate = load.user_centric_rate if load.user_centric_rate is not None else load.request_rate
    if rate is not None:
        measured["rate"] = rate
    measured |= _given(config, {"users": "load.num_users", "smoothness": "load.arrival_smoothness"})
    if load.benchmark_duration is not None and load.benchmark_grace_period is not None:
        measured["grace_period"] = load.benchmark_grace_period
    if config.is_set("input.fixed_schedule_auto_offset"):
        measured["auto_offset"] = bool(config.input.fixed_schedule_auto_offset)
    measured |= _given(
        config,
        {
            "start_offset": "input.fixed_schedule_start_offset",
            "end_offset": "input.fixed_schedule_end_offset",
        },
    )
    if load.request_cancellation_rate:
        measured["cancellation"] = {"rate": load.request_cancellation_rate, "delay": load.request_cancellation_delay}
    for key, seconds in (
        ("concurrency_ramp", load.concurrency_ramp_duration),
        ("prefill_ramp", load.prefill_concurrency_ramp_duration),
        ("rate_ramp", load.request_rate_ramp_duration),
    ):
        if seconds is not None:
            measured[key] = {"duration": seconds}
    return measured


def _warmup_phase(config: Config) -> Tree:
    load, warmup = config.load, config.warmup
    rate = warmup.request_rate if warmup.request_rate is not None else load.request_rate
    pattern = warmup.arrival_pattern or load.arrival_pattern or "poisson"
    out: Tree = {
        "name": "warmup",
        "kind": "warmup",
        "exclude_from_results": True,
        "type": "concurrency" if rate is None or pattern == "concurrency_burst" else pattern,
    }
    values: Tree = {
        "requests": warmup.request_count,
        "sessions": warmup.num_sessions,
        "duration": warmup.duration,
        "concurrency": warmup.concurrency if warmup.concurrency is not None else load.concurrency,
        "prefill_concurrency": warmup.prefill_concurrency,
        "rate": rate,
        "grace_period": warmup.grace_period,
    }
    return out | {key: value for key, value in values.items() if value is not None}


def _load_type(config: Config) -> str:
    """AIPerf has no word for a rate over time."""
    match load_of(config):
        case Schedule():
            return "fixed_schedule"
        case Users():
            return "user_centric"
        case Rate(_, arrival):
            return arrival
        case Closed() | Series():
            return "concurrency"


def _artifacts(config: Config) -> Tree:
    output = config.output
    out: Tree = {"dir": str(output.artifact_dir)} if output.artifact_dir is not None else {}
    if config.is_set("output.profile_export_prefix"):
        out["prefix"] = output.profile_export_prefix
    if config.is_set("output.export_level"):
        out |= {
            "records": ["jsonl"] if output.export_level in {"records", "raw"} else False,
            "raw": output.export_level == "raw",
        }
        if output.export_level == "summary":
            out["summary"] = ["json"]
    out |= _given(
        config,
        {
            "trace": "output.export_http_trace",
            "show_trace_timing": "output.show_trace_timing",
            "export_outputs_json": "output.export_outputs_json",
            "slice_duration": "output.slice_duration",
        },
    )
    return out | {"auto_plot": output.auto_plot, "plot_required": False}


def _slos(config: Config) -> Tree:
    """Of the first tier, in display units as given."""
    tiers = config.slo.goodput
    return dict(tiers[0].limits) if tiers else {}


def _runtime(config: Config) -> Tree:
    out: Tree = {"ui": config.service.ui_type if config.is_set("service.ui_type") else "none"}
    words = list(config.command)
    for key, flags in (
        ("workers", ("--workers-max", "--max-workers")),
        ("record_processors", ("--record-processors",)),
    ):
        for at, word in enumerate(words):
            name, _, value = word.partition("=")
            text = value or (words[at + 1] if at + 1 < len(words) else "")
            if name in flags and text.isdigit():
                out[key] = int(text)
    return out
