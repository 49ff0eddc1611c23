"""What is wrong with a configuration: impossible combinations, unknown names, paths, and the limits of this machine.

A rule looks at the whole configuration and yields `Problem`s; nothing is sent, nothing heavy is imported.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from aiperf.config import scenario
from aiperf.config.aws import aws_problems
from aiperf.config.conditions import Condition, Precision
from aiperf.config.distribution import distributed_problems, machines
from aiperf.config.lengths import parse_distribution, parse_seq_dist
from aiperf.config.machine_limits import RESERVED_FILES, Limits, machine_limits
from aiperf.config.model import Config, specs
from aiperf.config.parse import MAX_POINTS, parse_rate_series
from aiperf.config.proxy import proxy_rule
from aiperf.config.recipes import recipe_problems
from aiperf.config.rules import AllTags, Asked, conflicts_and_needs
from aiperf.config.url import UrlError, parse_url
from aiperf.errors import Problem, did_you_mean, nearest
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
    return problems, tuple(_notes(asked, config))


def _tag_problem(f: Asked, tag: str, where: str) -> Iterator[Problem]:
    if tag in TAGS or tag in _SPECIAL_TAGS or f.all_tags is None:
        return
    everything = f.all_tags()
    if tag in everything:
        return
    hint = did_you_mean(tag, sorted(everything), "`aiperf explain` lists all metrics")
    yield Problem(f"no metric has the tag `{tag}`", where, hint)


def _target(f: Asked, c: Config) -> Iterator[Problem]:
    e = c.endpoint
    if not e.model_names:
        yield Problem(
            "no model is named", f.at("endpoint.model_names"), "give its name as the server lists it under `/v1/models`"
        )
    if not e.urls:
        yield Problem("no URL is given", f.at("endpoint.urls"))
    for url in e.urls:
        yield from _url_problem(url, f.at("endpoint.urls"))
    if not is_known("endpoints", e.endpoint_type):
        hint = did_you_mean(normalise(e.endpoint_type), names("endpoints"))
        yield Problem(f"no endpoint type is named `{e.endpoint_type}`", f.at("endpoint.endpoint_type"), hint)
    for name in ("reset_kv_cache_path", "server_profiler_start_path", "server_profiler_stop_path"):
        path = getattr(e, name)
        if not path.startswith("/") or "://" in path:
            yield Problem(f"`{path}` is not a path of the server", f.at(f"endpoint.{name}"), "it begins with `/`")
    for path in ("ca_file", "client_cert", "client_key"):
        yield from _readable(getattr(e, path), f.at(f"endpoint.{path}"))
    if (e.client_cert is None) != (e.client_key is None):
        yield Problem(
            "a client certificate and its key belong together", f.at("endpoint.client_cert", "endpoint.client_key")
        )
    yield from _connection(f, c)


def _requests(f: Asked, c: Config) -> Iterator[Problem]:
    """What goes into every request."""
    e = c.endpoint
    for name, _ in e.headers:
        if not _TOKEN.fullmatch(name):
            yield Problem(f"{name!r} is not a header name", f.at("endpoint.headers"))
    for name, value in e.headers:
        if _CONTROL.search(value):  # a line end would make a header of its own; the value may be a secret
            yield Problem(
                f"the value of the header `{name}` has a line end or another control character",
                f.at("endpoint.headers"),
            )
    for path, carriers in (("session_header", (e.session_header,)), ("affinity_headers", e.affinity_headers)):
        for name in carriers:
            if not _TOKEN.fullmatch(name):
                yield Problem(f"{name!r} is not a header name", f.at(f"endpoint.{path}"))
    carried = {n.lower() for n in (e.session_header, *e.affinity_headers)}
    for name in [n for n, _ in e.headers if n.lower() in carried]:
        f.has_no_effect("endpoint.headers", f"`{name}` carries the session's id instead (`--affinity-header none`)")
    if e.api_key is not None and _CONTROL.search(e.api_key.get_secret_value()):
        yield Problem("the key has a line end or another control character", f.at("endpoint.api_key"))
    if e.custom_endpoint is not None and not re.fullmatch(r"[!-~]+", e.custom_endpoint):
        yield Problem(
            "the path has a blank, a control character or a letter that must be written as `%XX`",
            f.at("endpoint.custom_endpoint"),
        )
    try:
        json.dumps(e.extra_inputs, allow_nan=False)
    except (TypeError, ValueError) as error:
        yield Problem(f"the fields are no JSON: {error}", f.at("endpoint.extra_inputs"))


def _tokenizer(f: Asked, c: Config) -> Iterator[Problem]:
    tokenizer = c.tokenizer.name
    if (
        tokenizer
        and (tokenizer.startswith((".", "/", "~")) or tokenizer.endswith(".json"))
        and not Path(tokenizer).expanduser().exists()
    ):
        yield Problem(
            f"there is no file or folder `{tokenizer}`",
            f.at("tokenizer.name"),
            "`--tokenizer builtin` needs no file; `server` asks the server",
        )


def _telemetry(f: Asked, c: Config) -> Iterator[Problem]:
    t = c.telemetry
    for url in t.server_metrics:
        yield from _page_problem(url, f.at("telemetry.server_metrics"))
    for word in t.gpu_telemetry:
        if re.search(r"[:/.]", word) and not word.lower().endswith(".csv"):
            yield from _page_problem(word, f.at("telemetry.gpu_telemetry"))
    for kind in t.server_metrics_formats:
        if kind.lower() not in {"json", "csv", "jsonl", "parquet"}:
            yield Problem(
                f"`{kind}` is not one of `json`, `csv`, `jsonl`, `parquet`", f.at("telemetry.server_metrics_formats")
            )


def _source_addresses(f: Asked, c: Config) -> Iterator[Problem]:
    if not c.endpoint.source_addresses:
        return
    from ipaddress import ip_address

    for text in c.endpoint.source_addresses:
        try:
            ip_address(text)
        except ValueError:
            yield Problem(
                f"`{text}` is not an IP address",
                f.at("endpoint.source_addresses"),
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


def _connection(f: Asked, c: Config) -> Iterator[Problem]:
    e = c.endpoint
    if e.http_version != "2" and f.has("endpoint.http2_max_streams"):
        yield Problem("has no effect without `--http-version 2`", f.at("endpoint.http2_max_streams"))
    try:
        rule = proxy_rule(e.proxy, os.environ)
        for url in e.urls:
            if not any(_url_problem(url, "")):
                rule.of(parse_url(url))
    except UrlError as error:
        yield Problem(error.message, f.at("endpoint.proxy"), error.hint)


def _readable(path: Path | None, where: str) -> Iterator[Problem]:
    if path is None:
        return
    if not path.exists():
        folder = path.parent
        near = nearest(path.name, [p.name for p in folder.iterdir()]) if folder.is_dir() else None
        yield Problem(f"there is no file `{path}`", where, f"did you mean `{folder / near}`?" if near else None)
    elif not os.access(path, os.R_OK):
        yield Problem(f"`{path}` cannot be read: permission denied", where)


def _source(f: Asked, c: Config) -> Iterator[Problem]:
    i = c.input
    yield from _readable(i.input_file, f.at("input.input_file"))
    if i.custom_dataset_type is not None:
        known = tuple(sorted({*names("traces"), *names("datasets")}))
        asked = normalise(i.custom_dataset_type)
        if known and asked not in known and not asked.startswith("speed_bench_"):
            hint = did_you_mean(normalise(i.custom_dataset_type), known)
            yield Problem(
                f"no dataset format is named `{i.custom_dataset_type}`", f.at("input.custom_dataset_type"), hint
            )
        if i.input_file is None and i.public_dataset is None:
            yield Problem("needs a file", f.at("input.custom_dataset_type"), "give it with `--input-file`")
    if i.input_file is None and i.public_dataset is None:
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
            if f.has(f"input.{name}"):
                yield Problem("needs a file", f.at(f"input.{name}"), "give it with `--input-file`")
        for name in (n for n in type(i).model_fields if n.startswith(("synthesis_", "trace_"))):
            if f.has(f"input.{name}"):
                yield Problem("needs a trace", f.at(f"input.{name}"), "give it with `--input-file`")
    if i.hf_mooncake_dataset is not None and normalise(i.public_dataset or "") != "mooncake_hf":
        yield Problem(
            f"cannot be combined with `--public-dataset {i.public_dataset}`", f.at("input.hf_mooncake_dataset")
        )
    if normalise(i.public_dataset or "") == "mooncake_hf" and i.hf_mooncake_dataset is None:
        yield Problem("`mooncake_hf` needs `--hf-mooncake-dataset`", f.at("input.public_dataset"))
    if c.endpoint.uuid_and_strip and (i.input_file is None or c.endpoint.endpoint_type != "chat"):
        yield Problem("needs an `--input-file` and `--endpoint-type chat`", f.at("endpoint.uuid_and_strip"))
    if f.has("input.fixed_schedule_auto_offset") and i.fixed_schedule_start_offset is not None:
        yield Problem(
            "cannot be combined with `--fixed-schedule-start-offset`: time 0 is one or the other",
            f.at("input.fixed_schedule_auto_offset"),
        )
    start, end = i.fixed_schedule_start_offset, i.fixed_schedule_end_offset
    if start is not None and end is not None and start > end:
        yield Problem(f"`{start:g}` ms is after the end offset `{end:g}` ms", f.at("input.fixed_schedule_start_offset"))


def _prompt(f: Asked, c: Config) -> Iterator[Problem]:
    p = c.prompt
    for name, parse in (
        ("seq_dist", parse_seq_dist),
        ("isl_dist", parse_distribution),
        ("osl_dist", parse_distribution),
    ):
        if (text := getattr(p, name)) is None:
            continue
        try:
            parse(text)
        except ValueError as error:
            yield Problem(str(error), f.at(f"prompt.{name}"))
    yield from _readable(p.system_prompt_file, f.at("prompt.system_prompt_file"))
    pool, length = bool(p.prefix_prompt_pool_size), bool(p.prefix_prompt_length)
    if pool != length:
        given, missing = ("pool_size", "--prefix-prompt-length") if pool else ("length", "--num-prefix-prompts")
        yield Problem(f"needs `{missing}` as well", f.at(f"prompt.prefix_prompt_{given}"))


def _load(f: Asked, c: Config) -> Iterator[Problem]:
    load = c.load
    if load.user_centric_rate is not None and load.num_users is None:
        yield Problem("needs `--num-users` as well", f.at("load.user_centric_rate"))
    has_rate = load.request_rate is not None or load.request_rate_series is not None
    if load.arrival_pattern == "concurrency_burst" and has_rate:
        yield Problem("`concurrency_burst` is a closed loop and has no rate", f.at("load.arrival_pattern"))
    elif f.has("load.arrival_pattern") and not has_rate and load.arrival_pattern != "concurrency_burst":
        f.has_no_effect("load.arrival_pattern", "has no effect without `--request-rate`")
    if load.arrival_smoothness is not None and load.arrival_pattern != "gamma":
        yield Problem(
            "needs the gaps to be `gamma`, at a rate",
            f.at("load.arrival_smoothness"),
            "leave out `--arrival-pattern`: gamma follows",
        )
    if load.request_rate_series is not None:
        try:
            parse_rate_series(load.request_rate_series)
        except ValueError as error:
            yield Problem(str(error), f.at("load.request_rate_series"))
        except OSError as error:
            yield Problem(
                f"cannot read `{load.request_rate_series}`: {error.strerror}", f.at("load.request_rate_series")
            )
    if load.prefill_concurrency is not None:
        if not c.endpoint.streaming:
            yield Problem(
                "needs `--streaming`: without it there is no first token to wait for", f.at("load.prefill_concurrency")
            )
        elif load.concurrency is not None and load.prefill_concurrency > load.concurrency:
            yield Problem(
                f"`{load.prefill_concurrency}` is more than the concurrency `{load.concurrency}`",
                f.at("load.prefill_concurrency"),
            )
    if load.request_cancellation_after_chunks is not None and not c.endpoint.streaming:
        yield Problem("needs `--streaming`", f.at("load.request_cancellation_after_chunks"))
    bounds = ("warmup.request_count", "warmup.duration", "warmup.num_sessions")
    if not c.warmup.is_wanted and not any(c.is_set(path) for path in bounds):
        for name in type(c.warmup).model_fields:
            if f.has(f"warmup.{name}"):
                f.has_no_effect(
                    f"warmup.{name}", "has no effect without `--warmup-request-count` or `--warmup-duration`"
                )


def _is_absent(c: Config, tag: str) -> bool:
    return tag in TAGS and TAGS[tag].needs_streaming and not c.endpoint.streaming


def _conditions(f: Asked, c: Config) -> Iterator[Problem]:
    tiers = c.slo.goodput
    seen: set[str | None] = set()
    for tier in tiers:
        if tier.name in seen:
            what = f"two tiers are named `{tier.name}`" if tier.name else "several tiers need names"
            yield Problem(what, f.at("slo.goodput"), "write `--goodput 'strict=time_to_first_token:250'`")
        seen.add(tier.name)
    wanted: list[tuple[str, str]] = [(tag, "slo.goodput") for tier in tiers for tag, _ in tier.limits]
    for path in ("slo.asserts", "load.until", "sweep.slo"):
        value = c.value(path)
        items = value if isinstance(value, tuple) else ()
        wanted += [(item.tag, path) for item in items if isinstance(item, Condition | Precision)]
    figures = ((c.value(p), p) for p in ("sweep.search_metric", "sweep.convergence_metric"))
    wanted += [(normalise(tag), path) for tag, path in figures if isinstance(tag, str)]
    for tag, path in dict.fromkeys(wanted):
        if tag.startswith("server:"):
            # Names and statistics are checked with the conditions themselves (`aiperf.metrics.assertions`).
            if path != "slo.asserts":
                yield Problem(
                    f"`{tag}` is a metric of the server: it can only be asserted", f.at(path), "use `--assert`"
                )
            continue
        yield from _tag_problem(f, tag, f.at(path))
        # AIPerf takes --convergence-metric without: the metric is absent, and all repeats are made (see `_notes`).
        if path != "sweep.convergence_metric" and _is_absent(c, tag):
            yield Problem(f"`{tag}` exists only with `--streaming`", f.at(path))
    if c.output.mark is not None and not _STATS.match(c.output.mark):
        yield Problem(f"`{c.output.mark}` is not a column such as `p75` or `avg`", f.at("output.mark"))
    for percentile in c.output.percentiles:
        if not 0 < percentile < 100:
            yield Problem(f"`{percentile:g}` is not a percentile between 0 and 100", f.at("output.percentiles"))


def _files(f: Asked, c: Config) -> Iterator[Problem]:
    o = c.output
    if o.artifact_dir is not None:
        yield from _writable(o.artifact_dir, f.at("output.artifact_dir"))
    for name in ("junit", "markdown"):
        path = getattr(o, name)
        if path is not None and path.is_dir():
            yield Problem(f"`{path}` is a folder", f.at(f"output.{name}"))
        elif path is not None:
            yield from _writable(path.parent, f.at(f"output.{name}"))
    prefix = o.profile_export_prefix
    if prefix is not None and not Path(prefix).is_absolute() and ("/" in prefix or "\\" in prefix):
        yield Problem(
            "must be a file-name prefix, not a path",
            f.at("output.profile_export_prefix"),
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


def _study(f: Asked, c: Config) -> Iterator[Problem]:
    s = c.sweep
    sizes = {len(a.values) for a in s.axes}
    if s.sweep_type == "zip" and len(sizes) > 1:
        listed = ", ".join(f"`{a.flag}` has {len(a.values)}" for a in s.axes)
        yield Problem(f"lists that go together must be equally long: {listed}", f.at("sweep.sweep_type"))
    elif sweep_points(c) > MAX_POINTS:
        yield Problem(f"the lists make {sweep_points(c):,} points; at most {MAX_POINTS:,} are run", s.axes[0].flag)


def _search(f: Asked, c: Config) -> Iterator[Problem]:
    s = c.sweep
    if s.search is None:
        if s.slo and not s.has_points:
            yield Problem("needs `--search` or a sweep", f.at("sweep.slo"), "`--assert` checks a single run")
    else:
        for axis in s.axes:
            if axis.field in {"load.concurrency", "load.request_rate"}:
                yield Problem("cannot be combined with `--search`: it chooses the load itself", axis.flag)
        if s.search in {"max-concurrency", "max-rate"} and not s.slo:
            yield Problem(
                f"`{s.search}` needs a condition to stay within",
                f.at("sweep.search"),
                "as `--slo 'time_to_first_token:p95<400ms'`",
            )
        if s.search == "max-goodput" and not c.slo.goodput:
            yield Problem(
                "`max-goodput` needs objectives", f.at("sweep.search"), "as `--goodput 'time_to_first_token:370'`"
            )
        if s.search == "space":
            for name in ("search_space", "search_metric"):
                if name == "search_metric" and s.search_planner == "monotone":
                    continue
                if not c.value(f"sweep.{name}"):
                    yield Problem(f"`space` needs `{specs()[f'sweep.{name}'].shown}`", f.at("sweep.search"))
        if s.search == "space" and s.search_planner == "monotone":
            yield from _monotone_space(f, c)
        for text in s.search_space:
            yield from _space_problem(text, f.at("sweep.search_space"))
        if s.optuna_sampler == "botorch" and not all(map(find_spec, ("optuna_integration", "botorch"))):
            yield Problem(
                "`botorch` is not installed", f.at("sweep.optuna_sampler"), "`pip install optuna-integration botorch`"
            )


def _recipe(f: Asked, c: Config) -> Iterator[Problem]:
    yield from recipe_problems(f, c)


def _comparison(f: Asked, c: Config) -> Iterator[Problem]:
    s = c.sweep
    for url in s.ab:
        yield from _url_problem(url, f.at("sweep.ab"))
    if s.ab:
        if len(s.ab) != 2:
            yield Problem(f"needs two URLs, {len(s.ab)} given", f.at("sweep.ab"), "`--ab URL1 URL2`")
        if s.axes or s.search is not None:
            yield Problem("cannot be combined with a sweep or `--search`", f.at("sweep.ab"), "compare at one load")


def _repeats(f: Asked, c: Config) -> Iterator[Problem]:
    s = c.sweep
    for name in ("concurrency", "rate", "isl", "osl"):
        low, high = getattr(s, f"{name}_min"), getattr(s, f"{name}_max")
        if low is not None and high is not None and low > high:
            yield Problem(f"`{low:g}` is more than the largest, `{high:g}`", f.at(f"sweep.{name}_min"))
        if (
            s.search_recipe is None
            and name != "rate"
            and getattr(s, f"{name}_steps") is not None
            and (low is None or high is None)
        ):
            yield Problem(f"needs `--{name}-min` and `--{name}-max`", f.at(f"sweep.{name}_steps"))
    if s.convergence_metric is not None and s.num_profile_runs < 2:
        yield Problem("needs `--num-profile-runs` of 2 or more: the most repeats", f.at("sweep.convergence_metric"))
    if f.has("sweep.vary_seed_per_trial") and s.num_profile_runs < 2:
        yield Problem("needs `--num-profile-runs` of 2 or more", f.at("sweep.vary_seed_per_trial"))
    for name in ("search_stat", "convergence_stat"):
        if not _STATS.match(getattr(s, name)):
            yield Problem(f"`{getattr(s, name)}` is not a statistic such as `p95` or `avg`", f.at(f"sweep.{name}"))


def _monotone_space(f: Asked, c: Config) -> Iterator[Problem]:
    """The highest load within a condition is one option's; what else is searched over has no order."""
    names = [normalise(text.partition(":")[0]).rpartition(".")[2] for text in c.sweep.search_space]
    if len(names) != 1 or names[0] not in {"concurrency", "request_rate"} or not c.sweep.slo:
        yield Problem(
            "`monotone` searches the highest `concurrency` or `request_rate` within `--slo`",
            f.at("sweep.search_planner"),
            "as `--search-space concurrency:1,256 --slo 'time_to_first_token:p95<400ms'`; other spaces are for `bayesian` and `optuna`",
        )


def _space_problem(text: str, where: str) -> Iterator[Problem]:
    name, _, bounds = text.partition(":")
    key = normalise(name).rpartition(".")[2]
    known = {s.name: s for s in specs().values() if s.is_sweepable} | {
        normalise(n.lstrip("-")): s for s in specs().values() if s.is_sweepable for n in s.flag.names
    }
    if key not in known:
        yield Problem(f"no numeric option is named `{name}`", where, did_you_mean(key, known, ""))
    found = re.fullmatch(r"([0-9.]+),([0-9.]+)(?::(int|float|real|log))?", bounds)
    if found is None or float(found[1]) >= float(found[2]):
        yield Problem(f"`{text}` is not `option:low,high`", where)


def _own(f: Asked, c: Config) -> Iterator[Problem]:
    if c.service.cpus and hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        missing = [n for n in c.service.cpus if n not in allowed]
        if missing:
            listed = ", ".join(f"`{n}`" for n in missing)
            have = ", ".join(map(str, sorted(allowed)))
            yield Problem(f"no such core: {listed}", f.at("service.cpus"), f"this process may use {have}")


def _limits(f: Asked, c: Config, limits: Limits) -> Iterator[Problem]:
    """Connections at once against open files and, per server address, local ports."""
    paths = ("load.concurrency", "warmup.concurrency", "load.num_users", "sweep.concurrency_max")
    counts = {p: v for p in paths if isinstance(v := c.value(p), int)}
    counts |= {a.field: max(int(v) for v in a.values) for a in c.sweep.axes if a.field in paths}
    if not counts:
        return
    path = max(counts, key=lambda p: counts[p])
    most = -(-counts[path] // machines(c))
    where = f.at(path, "load.concurrency") if f.has(path) else specs()[path].shown
    if limits.max_files is not None and most + RESERVED_FILES > limits.max_files:
        yield Problem(
            f"`{most:,}` connections need {most + RESERVED_FILES:,} open files, but the limit is {limits.max_files:,}",
            where,
            f"raise it (`ulimit -Hn {most + RESERVED_FILES}` as root, or `LimitNOFILE` of the service), or lower the concurrency",
        )
    addresses = {u for u in c.endpoint.urls if not u.startswith("unix:")}
    ways = len(addresses) * max(1, len(set(c.endpoint.source_addresses)))
    if limits.ports is not None and addresses and -(-most // ways) > limits.ports:
        yield Problem(
            f"`{most:,}` connections to {len(addresses)} address{'es' if len(addresses) > 1 else ''} need as many local ports each, "
            f"but the range has {limits.ports:,}",
            where,
            "widen `net.ipv4.ip_local_port_range`, give more URLs or `--source-address`, or run inside the cluster from several machines",
        )


def _notes(f: Asked, c: Config) -> Iterator[str]:
    if (tag := c.sweep.convergence_metric) is not None and _is_absent(c, normalise(tag)):
        yield f"`{tag}` of `--convergence-metric` exists only with `--streaming`: all repeats are made"
    yield from f.idle
    yield from scenario.notes(c)
    if c.input.input_file is not None:
        ignored = [p for p in ("prompt.isl_mean", "prompt.isl_stddev", "prompt.seq_dist") if f.has(p)]
        for path in ignored:
            yield f"`{f.at(path)}` has no effect: the lengths are those of `{c.input.input_file}`"
    if c.endpoint.insecure:
        yield "the server's certificate is not verified (`--insecure`): anyone on the path can read and change the traffic"
    if (
        c.endpoint.connection_reuse_strategy == "never"
        and (ports := machine_limits().ports) is not None
        and c.load.request_rate is not None
    ):
        most = ports * len(c.endpoint.urls) / 60
        if c.load.request_rate > most:
            yield (
                f"a connection per request at {c.load.request_rate:g}/s: closed ones hold their local port for 60 s, so about "
                f"{most:,.0f}/s is the most; reuse connections, widen `net.ipv4.ip_local_port_range`, or give more URLs"
            )


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
    _search,
    _recipe,
    _comparison,
    _repeats,
    distributed_problems,
    aws_problems,
    _own,
)
