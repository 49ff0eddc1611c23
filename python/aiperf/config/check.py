"""What is wrong with a configuration: impossible combinations, unknown names, paths, and the limits of this machine.

A rule looks at the whole configuration and yields `Problem`s; nothing is sent, nothing heavy is imported.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from aiperf.config import context_overflow, scenario
from aiperf.config.aws import aws_problems
from aiperf.config.conditions import Condition, Precision
from aiperf.config.defaults import AGENT_TRACES
from aiperf.config.distribution import distributed_problems, machines
from aiperf.config.lengths import parse_distribution, parse_seq_dist
from aiperf.config.load import Closed, load_of
from aiperf.config.machine_limits import RESERVED_FILES, Limits, machine_limits
from aiperf.config.model import Config, specs
from aiperf.config.parse import MAX_POINTS, parse_rate_series
from aiperf.config.proxy import proxy_rule
from aiperf.config.recipes import recipe_problems
from aiperf.config.rules import AllTags, Asked, conflicts_and_needs
from aiperf.config.search import search_problems
from aiperf.config.url import UrlError, parse_url
from aiperf.errors import Problem, did_you_mean, nearest
from aiperf.number_text import exact
from aiperf.registry import is_known, names, normalise
from aiperf.tags import TAGS

__all__ = ["AllTags", "check", "sweep_points"]

_STATS = re.compile(r"^(avg|min|max|std|sum|count|p\d+(\.\d+)?)$")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name (RFC 9110, 5.6.2)."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SPECIAL_TAGS = frozenset({"certificate"})


Rule = Callable[[Asked, Config], Iterator[Problem]]


def check(
    config: Config,
    *,
    limits: Limits | None = None,
    skip: frozenset[str] = frozenset(),
    all_tags: AllTags | None = None,
) -> tuple[list[Problem], tuple[str, ...]]:
    """Problems, and notes for the user. `limits` None: this machine's. `skip`: places (`--url`) not to complain about again.
    `all_tags` None: tags are not checked further than the sources tell.
    """
    asked = Asked(config, all_tags)
    problems = [p for rule in _RULES for p in rule(asked, config) if p.where not in skip]
    problems += [p for p in conflicts_and_needs(asked) if p.where not in skip]
    problems += [p for p in _limits(asked, config, limits or machine_limits()) if p.where not in skip]
    problems += [p for p in scenario.problems(config) if p.where not in skip]
    problems += context_overflow.problems()
    return problems, tuple(_notes(asked, config))


def _tag_problem(asked: Asked, tag: str, where: str) -> Iterator[Problem]:
    if tag in TAGS or tag in _SPECIAL_TAGS or asked.all_tags is None:
        return
    everything = asked.all_tags()
    if tag in everything:
        return
    hint = did_you_mean(tag, sorted(everything), "`aiperf explain` lists all metrics")
    yield Problem(f"no metric has the tag `{tag}`", where, hint)


def _target(asked: Asked, config: Config) -> Iterator[Problem]:
    endpoint = config.endpoint
    if not endpoint.model_names:
        yield Problem(
            "no model is named",
            asked.at("endpoint.model_names"),
            "give its name as the server lists it under `/v1/models`",
        )
    if not endpoint.urls:
        yield Problem("no URL is given", asked.at("endpoint.urls"))
    for url in endpoint.urls:
        yield from _url_problem(url, asked.at("endpoint.urls"))
    if not is_known("endpoints", endpoint.endpoint_type):
        hint = did_you_mean(normalise(endpoint.endpoint_type), names("endpoints"))
        yield Problem(f"no endpoint type is named `{endpoint.endpoint_type}`", asked.at("endpoint.endpoint_type"), hint)
    for name in ("reset_kv_cache_path", "server_profiler_start_path", "server_profiler_stop_path"):
        path = getattr(endpoint, name)
        if not path.startswith("/") or "://" in path:
            yield Problem(f"`{path}` is not a path of the server", asked.at(f"endpoint.{name}"), "it begins with `/`")
    for path in ("ca_file", "client_cert", "client_key"):
        yield from _readable(getattr(endpoint, path), asked.at(f"endpoint.{path}"))
    if (endpoint.client_cert is None) != (endpoint.client_key is None):
        yield Problem(
            "a client certificate and its key belong together", asked.at("endpoint.client_cert", "endpoint.client_key")
        )
    yield from _connection(asked, config)


def _requests(asked: Asked, config: Config) -> Iterator[Problem]:
    """What goes into every request."""
    endpoint = config.endpoint
    for name, _ in endpoint.headers:
        if not _TOKEN.fullmatch(name):
            yield Problem(f"{name!r} is not a header name", asked.at("endpoint.headers"))
    for name, value in endpoint.headers:
        if _CONTROL.search(value):  # a line end would make a header of its own; the value may be a secret
            yield Problem(
                f"the value of the header `{name}` has a line end or another control character",
                asked.at("endpoint.headers"),
            )
    for path, carriers in (
        ("session_header", (endpoint.session_header,)),
        ("affinity_headers", endpoint.affinity_headers),
    ):
        for name in carriers:
            if not _TOKEN.fullmatch(name):
                yield Problem(f"{name!r} is not a header name", asked.at(f"endpoint.{path}"))
    carried = {n.lower() for n in (endpoint.session_header, *endpoint.affinity_headers)}
    for name in [n for n, _ in endpoint.headers if n.lower() in carried]:
        asked.has_no_effect("endpoint.headers", f"`{name}` carries the session's id instead (`--affinity-header none`)")
    if endpoint.api_key is not None and _CONTROL.search(endpoint.api_key.get_secret_value()):
        yield Problem("the key has a line end or another control character", asked.at("endpoint.api_key"))
    if endpoint.custom_endpoint is not None and not re.fullmatch(r"[!-~]+", endpoint.custom_endpoint):
        yield Problem(
            "the path has a blank, a control character or a letter that must be written as `%XX`",
            asked.at("endpoint.custom_endpoint"),
        )
    try:
        json.dumps(endpoint.extra_inputs, allow_nan=False)
    except (TypeError, ValueError) as error:
        yield Problem(f"the fields are no JSON: {error}", asked.at("endpoint.extra_inputs"))


def _tokenizer(asked: Asked, config: Config) -> Iterator[Problem]:
    tokenizer = config.tokenizer.name
    if (
        tokenizer
        and (tokenizer.startswith((".", "/", "~")) or tokenizer.endswith(".json"))
        and not Path(tokenizer).expanduser().exists()
    ):
        yield Problem(
            f"there is no file or folder `{tokenizer}`",
            asked.at("tokenizer.name"),
            "`--tokenizer builtin` needs no file; `server` asks the server",
        )


def _telemetry(asked: Asked, config: Config) -> Iterator[Problem]:
    telemetry = config.telemetry
    for url in telemetry.server_metrics:
        yield from _page_problem(url, asked.at("telemetry.server_metrics"))
    for word in telemetry.gpu_telemetry:
        if re.search(r"[:/.]", word) and not word.lower().endswith(".csv"):
            yield from _page_problem(word, asked.at("telemetry.gpu_telemetry"))
    for kind in telemetry.server_metrics_formats:
        if kind.lower() not in {"json", "csv", "jsonl", "parquet"}:
            yield Problem(
                f"`{kind}` is not one of `json`, `csv`, `jsonl`, `parquet`",
                asked.at("telemetry.server_metrics_formats"),
            )


def _source_addresses(asked: Asked, config: Config) -> Iterator[Problem]:
    if not config.endpoint.source_addresses:
        return
    from ipaddress import ip_address

    for text in config.endpoint.source_addresses:
        try:
            ip_address(text)
        except ValueError:
            yield Problem(
                f"`{text}` is not an IP address",
                asked.at("endpoint.source_addresses"),
                "give an address of this machine (`ip address` lists them), without a port",
            )


def _url_problem(url: str, where: str) -> Iterator[Problem]:
    try:
        parse_url(url)
    except UrlError as error:
        yield Problem(error.message, where, error.hint)


def _page_problem(url: str, where: str) -> Iterator[Problem]:
    """A page, which may have a query; of a socket `unix:/socket:/path`."""
    place = url.partition("?")[0]
    yield from _url_problem(
        place.rpartition(":/")[0] if place.startswith("unix:") and ":/" in place[5:] else place, where
    )


def _connection(asked: Asked, config: Config) -> Iterator[Problem]:
    endpoint = config.endpoint
    if endpoint.http_version != "2" and asked.has("endpoint.http2_max_streams"):
        yield Problem("has no effect without `--http-version 2`", asked.at("endpoint.http2_max_streams"))
    try:
        rule = proxy_rule(endpoint.proxy, os.environ)
        for url in endpoint.urls:
            if not any(_url_problem(url, "")):
                rule.of(parse_url(url))
    except UrlError as error:
        yield Problem(error.message, asked.at("endpoint.proxy"), error.hint)


def _readable(path: Path | None, where: str) -> Iterator[Problem]:
    if path is None:
        return
    if not path.exists():
        folder = path.parent
        near = nearest(path.name, [p.name for p in folder.iterdir()]) if folder.is_dir() else None
        yield Problem(f"there is no file `{path}`", where, f"did you mean `{folder / near}`?" if near else None)
    elif not os.access(path, os.R_OK):
        yield Problem(f"`{path}` cannot be read: permission denied", where)


def _source(asked: Asked, config: Config) -> Iterator[Problem]:
    data_options = config.input
    yield from _readable(data_options.input_file, asked.at("input.input_file"))
    if data_options.custom_dataset_type is not None:
        known = tuple(sorted({*names("traces"), *names("datasets")}))
        wanted = normalise(data_options.custom_dataset_type)
        if known and wanted not in known and not wanted.startswith("speed_bench_"):
            hint = did_you_mean(normalise(data_options.custom_dataset_type), known)
            yield Problem(
                f"no dataset format is named `{data_options.custom_dataset_type}`",
                asked.at("input.custom_dataset_type"),
                hint,
            )
        if data_options.input_file is None and data_options.public_dataset is None:
            yield Problem("needs a file", asked.at("input.custom_dataset_type"), "give it with `--input-file`")
    if data_options.input_file is None and data_options.public_dataset is None:
        for name in (
            "fixed_schedule",
            "skip_invalid",
            "loop",
            "dataset_options",
            "dataset_filters",
            "mooncake_trace_to_hf_mapping",
            "open_loop_strict",
            "omit_kv_hints",
            "ignore_trace_delays",
            "isl_block_size",
        ):
            if asked.has(f"input.{name}"):
                yield Problem("needs a file", asked.at(f"input.{name}"), "give it with `--input-file`")
        for name in (n for n in type(data_options).model_fields if n.startswith(("synthesis_", "trace_"))):
            if asked.has(f"input.{name}"):
                yield Problem("needs a trace", asked.at(f"input.{name}"), "give it with `--input-file`")
    if data_options.hf_mooncake_dataset is not None and normalise(data_options.public_dataset or "") != "mooncake_hf":
        yield Problem(
            f"cannot be combined with `--public-dataset {data_options.public_dataset}`",
            asked.at("input.hf_mooncake_dataset"),
        )
    if normalise(data_options.public_dataset or "") == "mooncake_hf" and data_options.hf_mooncake_dataset is None:
        yield Problem("`mooncake_hf` needs `--hf-mooncake-dataset`", asked.at("input.public_dataset"))
    if config.endpoint.uuid_and_strip and (data_options.input_file is None or config.endpoint.endpoint_type != "chat"):
        yield Problem("needs an `--input-file` and `--endpoint-type chat`", asked.at("endpoint.uuid_and_strip"))
    if asked.has("input.fixed_schedule_auto_offset") and data_options.fixed_schedule_start_offset is not None:
        yield Problem(
            "cannot be combined with `--fixed-schedule-start-offset`: time 0 is one or the other",
            asked.at("input.fixed_schedule_auto_offset"),
        )
    start, end = data_options.fixed_schedule_start_offset, data_options.fixed_schedule_end_offset
    if start is not None and end is not None and start > end:
        yield Problem(
            f"`{exact(start)}` ms is after the end offset `{exact(end)}` ms",
            asked.at("input.fixed_schedule_start_offset"),
        )


def _prompt(asked: Asked, config: Config) -> Iterator[Problem]:
    prompt = config.prompt
    for name, parse in (
        ("seq_dist", parse_seq_dist),
        ("isl_dist", parse_distribution),
        ("osl_dist", parse_distribution),
    ):
        if (text := getattr(prompt, name)) is None:
            continue
        try:
            parse(text)
        except ValueError as error:
            yield Problem(str(error), asked.at(f"prompt.{name}"))
    yield from _readable(prompt.system_prompt_file, asked.at("prompt.system_prompt_file"))
    pool, length = bool(prompt.prefix_prompt_pool_size), bool(prompt.prefix_prompt_length)
    if pool != length:
        given, missing = ("pool_size", "--prefix-prompt-length") if pool else ("length", "--num-prefix-prompts")
        yield Problem(f"needs `{missing}` as well", asked.at(f"prompt.prefix_prompt_{given}"))


def _load(asked: Asked, config: Config) -> Iterator[Problem]:
    load = config.load
    if load.user_centric_rate is not None and load.num_users is None:
        yield Problem("needs `--num-users` as well", asked.at("load.user_centric_rate"))
    has_rate = load.request_rate is not None or load.request_rate_series is not None
    if load.arrival_pattern == "concurrency_burst" and has_rate:
        yield Problem("`concurrency_burst` is a closed loop and has no rate", asked.at("load.arrival_pattern"))
    elif asked.has("load.arrival_pattern") and not has_rate and load.arrival_pattern != "concurrency_burst":
        asked.has_no_effect("load.arrival_pattern", "has no effect without `--request-rate`")
    if load.arrival_smoothness is not None and load.arrival_pattern != "gamma":
        yield Problem(
            "needs the gaps to be `gamma`, at a rate",
            asked.at("load.arrival_smoothness"),
            "leave out `--arrival-pattern`: gamma follows",
        )
    if load.request_rate_series is not None:
        try:
            parse_rate_series(load.request_rate_series)
        except ValueError as error:
            yield Problem(str(error), asked.at("load.request_rate_series"))
        except OSError as error:
            yield Problem(
                f"cannot read `{load.request_rate_series}`: {error.strerror}", asked.at("load.request_rate_series")
            )
    if load.prefill_concurrency is not None:
        if not config.endpoint.streaming:
            yield Problem(
                "needs `--streaming`: without it there is no first token to wait for",
                asked.at("load.prefill_concurrency"),
            )
        elif load.concurrency is not None and load.prefill_concurrency > load.concurrency:
            yield Problem(
                f"`{load.prefill_concurrency}` is more than the concurrency `{load.concurrency}`",
                asked.at("load.prefill_concurrency"),
            )
    if load.request_cancellation_after_chunks is not None and not config.endpoint.streaming:
        yield Problem("needs `--streaming`", asked.at("load.request_cancellation_after_chunks"))
    bounds = ("warmup.request_count", "warmup.duration", "warmup.num_sessions")
    if not config.warmup.is_wanted and not any(config.is_set(path) for path in bounds):
        for name in type(config.warmup).model_fields:
            if asked.has(f"warmup.{name}"):
                asked.has_no_effect(
                    f"warmup.{name}", "has no effect without `--warmup-request-count` or `--warmup-duration`"
                )


def _is_absent(config: Config, tag: str) -> bool:
    return tag in TAGS and TAGS[tag].needs_streaming and not config.endpoint.streaming


def _conditions(asked: Asked, config: Config) -> Iterator[Problem]:
    tiers = config.slo.goodput
    seen: set[str | None] = set()
    for tier in tiers:
        if tier.name in seen:
            what = f"two tiers are named `{tier.name}`" if tier.name else "several tiers need names"
            yield Problem(what, asked.at("slo.goodput"), "write `--goodput 'strict=time_to_first_token:250'`")
        seen.add(tier.name)
    wanted: list[tuple[str, str]] = [(tag, "slo.goodput") for tier in tiers for tag, _ in tier.limits]
    for path in ("slo.asserts", "load.until", "sweep.slo"):
        value = config.value(path)
        items = value if isinstance(value, tuple) else ()
        wanted += [(item.tag, path) for item in items if isinstance(item, Condition | Precision)]
    figures = ((config.value(p), p) for p in ("sweep.search_metric", "sweep.convergence_metric"))
    wanted += [(normalise(tag), path) for tag, path in figures if isinstance(tag, str)]
    for tag, path in dict.fromkeys(wanted):
        if tag.startswith("server:"):
            # Names and statistics are checked with the conditions themselves (`aiperf.metrics.assertions`).
            if path != "slo.asserts":
                yield Problem(
                    f"`{tag}` is a metric of the server: it can only be asserted", asked.at(path), "use `--assert`"
                )
            continue
        yield from _tag_problem(asked, tag, asked.at(path))
        # AIPerf takes --convergence-metric without: the metric is absent, and all repeats are made (see `_notes`).
        if path != "sweep.convergence_metric" and _is_absent(config, tag):
            yield Problem(f"`{tag}` exists only with `--streaming`", asked.at(path))
    if config.output.mark is not None and not _STATS.match(config.output.mark):
        yield Problem(f"`{config.output.mark}` is not a column such as `p75` or `avg`", asked.at("output.mark"))
    for percentile in config.output.percentiles:
        if not 0 < percentile < 100:
            yield Problem(
                f"`{exact(percentile)}` is not a percentile between 0 and 100", asked.at("output.percentiles")
            )


def _files(asked: Asked, config: Config) -> Iterator[Problem]:
    output = config.output
    if output.artifact_dir is not None:
        yield from _writable(output.artifact_dir, asked.at("output.artifact_dir"))
    for name in ("junit", "markdown"):
        path = getattr(output, name)
        if path is not None and path.is_dir():
            yield Problem(f"`{path}` is a folder", asked.at(f"output.{name}"))
        elif path is not None:
            yield from _writable(path.parent, asked.at(f"output.{name}"))
    prefix = output.profile_export_prefix
    if prefix is not None and not Path(prefix).is_absolute() and ("/" in prefix or "\\" in prefix):
        yield Problem(
            "must be a file-name prefix, not a path",
            asked.at("output.profile_export_prefix"),
            "`--artifact-dir` sets the folder",
        )


def _writable(folder: Path, where: str) -> Iterator[Problem]:
    """The folder, or the nearest one above it that exists, must take new files."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        yield Problem(f"cannot write to `{folder}`: `{place}` is a file", where)
    elif not os.access(place, os.W_OK | os.X_OK):
        yield Problem(f"cannot write to `{folder}`: no permission in `{place}`", where)


def sweep_points(config: Config) -> int:
    """How many points the sweep has."""
    if config.sweep.scenarios:
        return len(config.sweep.scenarios)
    sizes = [len(a.values) for a in config.sweep.axes]
    return (max(sizes, default=1) if config.sweep.sweep_type == "zip" else math.prod(sizes)) if sizes else 1


def _study(asked: Asked, config: Config) -> Iterator[Problem]:
    sweep = config.sweep
    sizes = {len(a.values) for a in sweep.axes}
    if sweep.sweep_type == "zip" and len(sizes) > 1:
        listed = ", ".join(f"`{a.flag}` has {len(a.values)}" for a in sweep.axes)
        yield Problem(f"lists that go together must be equally long: {listed}", asked.at("sweep.sweep_type"))
    elif sweep_points(config) > MAX_POINTS:
        yield Problem(
            f"the lists make {sweep_points(config):,} points; at most {MAX_POINTS:,} are run", sweep.axes[0].flag
        )


def _recipe(asked: Asked, config: Config) -> Iterator[Problem]:
    yield from recipe_problems(asked, config)


def _comparison(asked: Asked, config: Config) -> Iterator[Problem]:
    sweep = config.sweep
    for url in sweep.ab:
        yield from _url_problem(url, asked.at("sweep.ab"))
    if sweep.ab:
        if len(sweep.ab) != 2:
            yield Problem(f"needs two URLs, {len(sweep.ab)} given", asked.at("sweep.ab"), "`--ab URL1 URL2`")
        if sweep.axes or sweep.search is not None:
            yield Problem("cannot be combined with a sweep or `--search`", asked.at("sweep.ab"), "compare at one load")


def _repeats(asked: Asked, config: Config) -> Iterator[Problem]:
    sweep = config.sweep
    for name in ("concurrency", "rate", "isl", "osl"):
        low, high = getattr(sweep, f"{name}_min"), getattr(sweep, f"{name}_max")
        if low is not None and high is not None and low > high:
            yield Problem(f"`{exact(low)}` is more than the largest, `{exact(high)}`", asked.at(f"sweep.{name}_min"))
        if (
            sweep.search_recipe is None
            and name != "rate"
            and getattr(sweep, f"{name}_steps") is not None
            and (low is None or high is None)
        ):
            yield Problem(f"needs `--{name}-min` and `--{name}-max`", asked.at(f"sweep.{name}_steps"))
    if sweep.convergence_metric is not None and sweep.num_profile_runs < 2:
        yield Problem("needs `--num-profile-runs` of 2 or more: the most repeats", asked.at("sweep.convergence_metric"))
    if asked.has("sweep.vary_seed_per_trial") and sweep.num_profile_runs < 2:
        yield Problem("needs `--num-profile-runs` of 2 or more", asked.at("sweep.vary_seed_per_trial"))
    for name in ("search_stat", "convergence_stat"):
        if not _STATS.match(getattr(sweep, name)):
            yield Problem(
                f"`{getattr(sweep, name)}` is not a statistic such as `p95` or `avg`", asked.at(f"sweep.{name}")
            )


def _own(asked: Asked, config: Config) -> Iterator[Problem]:
    if config.service.cpus and hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        missing = [n for n in config.service.cpus if n not in allowed]
        if missing:
            listed = ", ".join(f"`{n}`" for n in missing)
            have = ", ".join(map(str, sorted(allowed)))
            yield Problem(f"no such core: {listed}", asked.at("service.cpus"), f"this process may use {have}")


def _limits(asked: Asked, config: Config, limits: Limits) -> Iterator[Problem]:
    """Connections at once against open files and, per server address, local ports."""
    paths = ("load.concurrency", "warmup.concurrency", "load.num_users", "sweep.concurrency_max")
    counts = {p: v for p in paths if isinstance(v := config.value(p), int)}
    counts |= {a.field: max(int(v) for v in a.values) for a in config.sweep.axes if a.field in paths}
    if not counts:
        return
    path = max(counts, key=lambda p: counts[p])
    most = -(-counts[path] // machines(config))
    where = asked.at(path, "load.concurrency") if asked.has(path) else specs()[path].shown
    if limits.max_files is not None and most + RESERVED_FILES > limits.max_files:
        yield Problem(
            f"`{most:,}` connections need {most + RESERVED_FILES:,} open files, but the limit is {limits.max_files:,}",
            where,
            f"raise it (`ulimit -Hn {most + RESERVED_FILES}` as root, or `LimitNOFILE` of the service), or lower the concurrency",
        )
    addresses = {u for u in config.endpoint.urls if not u.startswith("unix:")}
    ways = len(addresses) * max(1, len(set(config.endpoint.source_addresses)))
    if limits.ports is not None and addresses and -(-most // ways) > limits.ports:
        yield Problem(
            f"`{most:,}` connections to {len(addresses)} address{'es' if len(addresses) > 1 else ''} need as many local ports each, "
            f"but the range has {limits.ports:,}",
            where,
            "widen `net.ipv4.ip_local_port_range`, give more URLs or `--source-address`, or run inside the cluster from several machines",
        )


def _notes(asked: Asked, config: Config) -> Iterator[str]:
    if (tag := config.sweep.convergence_metric) is not None and _is_absent(config, normalise(tag)):
        yield f"`{tag}` of `--convergence-metric` exists only with `--streaming`: all repeats are made"
    yield from asked.idle
    yield from scenario.notes(config)
    if config.input.input_file is not None:
        ignored = [p for p in ("prompt.isl_mean", "prompt.isl_stddev", "prompt.seq_dist") if asked.has(p)]
        for path in ignored:
            yield f"`{asked.at(path)}` has no effect: the lengths are those of `{config.input.input_file}`"
    yield from _never_full(config)
    if config.endpoint.insecure:
        yield "the server's certificate is not verified (`--insecure`): anyone on the path can read and change the traffic"
    if (
        config.endpoint.connection_reuse_strategy == "never"
        and (ports := machine_limits().ports) is not None
        and config.load.request_rate is not None
    ):
        most = ports * len(config.endpoint.urls) / 60
        if config.load.request_rate > most:
            yield (
                f"a connection per request at {exact(config.load.request_rate)}/s: closed ones hold their local port for 60 s, so about "
                f"{most:,.0f}/s is the most; reuse connections, widen `net.ipv4.ip_local_port_range`, or give more URLs"
            )


def _never_full(config: Config) -> Iterator[str]:
    """A closed loop with fewer requests or sessions than slots measures another load than its name says."""
    load = config.load
    if not isinstance(load_of(config), Closed) or config.input.custom_dataset_type in AGENT_TRACES:
        return
    swept = [value for axis in config.sweep.axes if axis.field == "load.concurrency" for value in axis.values]
    most = max((int(value) for value in swept), default=load.concurrency or 0)
    for flag, what, count in (
        ("--request-count", "requests", load.request_count),
        ("--num-sessions", "sessions", config.conversation.num_sessions),
    ):
        if count is not None and count < most and load.benchmark_duration is None:
            yield f"{count:,} {what} never fill a concurrency of {most:,}: at most {count:,} are in flight (`{flag} {2 * most}` fills it)"


_RULES: tuple[Rule, ...] = (
    _target,
    _requests,
    _tokenizer,
    _telemetry,
    _source_addresses,
    _source,
    _prompt,
    _load,
    _conditions,
    _files,
    _study,
    search_problems,
    _recipe,
    _comparison,
    _repeats,
    distributed_problems,
    aws_problems,
    _own,
)
