"""What `--dry-run` prints: each value with its origin, the load to expect, the first body."""

from __future__ import annotations

import json
from collections.abc import Iterator

from aiperf.cli.style import bold
from aiperf.config.as_data import shown
from aiperf.config.check import sweep_points
from aiperf.config.load import describe, load_of
from aiperf.config.model import Config, Origin, specs
from aiperf.number_text import exact

__all__ = ["expected_load", "render_dry_run"]


def render_dry_run(config: Config, first_body: str, *, in_lanes: bool = False) -> str:
    """`first_body`: the body of the first request as sent; JSON is indented, anything else shown as it is. `in_lanes`: as in `describe`."""
    try:
        body = json.dumps(json.loads(first_body), indent=2, ensure_ascii=False)
    except json.JSONDecodeError:
        body = first_body
    lines = [bold("Configuration")]
    lines += _values(config)
    lines += ["", bold("Load"), *(f"  {line}" for line in expected_load(config, in_lanes=in_lanes))]
    lines += ["", bold("First request body"), body, *_added(config, body)]
    return "\n".join(lines)


def _added(config: Config, body: str) -> Iterator[str]:
    """What only the server's answers decide, and a dry run asks nothing."""
    if config.endpoint.ignore_eos == "auto" and any(
        f'"{name}"' in body for name in ("max_completion_tokens", "max_tokens")
    ):
        yield "  and `ignore_eos: true` if the server is one that accepts it (`--ignore-eos off` leaves it out)"


def _values(config: Config) -> Iterator[str]:
    rows = []
    for path in specs():
        origin = config.origins.get(path, Origin("default", ""))
        text = shown(config, path)
        if text == "–" and origin.kind == "default":
            continue
        rows.append((path, text, str(origin)))
    wide = max(len(path) for path, _, _ in rows)
    middle = min(max(len(text) for _, text, _ in rows), 40)
    for path, text, origin_text in rows:
        yield f"  {path.ljust(wide)}  {text.ljust(middle)}  {origin_text}".rstrip()
    for phase in config.load.phases:
        settings = ", ".join(f"{p} {v}" for p, v in phase.values.items() if v is not None)
        yield f"  {f'phase {phase.name}'.ljust(wide)}  {phase.kind}: {settings}"
    for scenario in config.sweep.scenarios:
        changes = ", ".join(f"{p} {v}" for p, v in scenario.values.items())
        yield f"  {f'scenario {scenario.name}'.ljust(wide)}  {changes}"
    for axis in config.sweep.axes:
        yield f"  {axis.field.ljust(wide)}  {len(axis.values)} values: {', '.join(f'{exact(v)}' for v in axis.values)}"


def expected_load(config: Config, *, in_lanes: bool = False) -> list[str]:
    """In words and figures; only what the configuration can say, and whether the workload is replayed in lanes."""
    load, prompt = config.load, config.prompt
    lines = [describe(load_of(config), in_lanes=in_lanes)]
    stops = []
    if load.request_count is not None:
        stops.append(f"{load.request_count:,} requests")
    if load.benchmark_duration is not None:
        grace = (
            ""
            if load.benchmark_grace_period is None
            else f" and at most {exact(load.benchmark_grace_period)} s more for those in flight"
        )
        stops.append(f"{exact(load.benchmark_duration)} s{grace}")
    if config.conversation.num_sessions is not None:
        stops.append(f"{config.conversation.num_sessions:,} sessions")
    stops += [f"until {p}" for p in load.until]
    lines.append(
        "ends after " + ", or ".join(stops) + (", whichever is first" if len(stops) > 1 else "")
        if stops
        else "ends with the file"
    )
    if load.request_rate is not None and load.request_count is not None and load.benchmark_duration is None:
        lines.append(f"takes about {load.request_count / load.request_rate:,.0f} s")
    if config.input.input_file is None and config.input.public_dataset is None and prompt.seq_dist is None:
        lines.append(_tokens(config))
    if (warmup := config.warmup).is_wanted:
        parts = [
            f"{warmup.request_count:,} requests" if warmup.request_count else "",
            f"{exact(warmup.duration)} s" if warmup.duration else "",
        ]
        parts.append(f"{warmup.num_sessions:,} sessions" if warmup.num_sessions else "")
        lines.append("before it a warm-up of " + ", or ".join(p for p in parts if p))
    if config.load.request_cancellation_rate:
        lines.append(f"{exact(config.load.request_cancellation_rate)} % of the requests are cancelled on purpose")
    if config.is_study:
        lines.append(
            f"{sweep_points(config):,} points × {config.sweep.num_profile_runs} runs"
            if not config.sweep.search
            else f"a search: {config.sweep.search}"
        )
    return lines


def _tokens(config: Config) -> str:
    prompt, count = config.prompt, config.load.request_count
    each = f"{prompt.isl_mean:,.0f} input tokens"
    end = ""
    if prompt.osl_mean is not None:
        each += f" and {prompt.osl_mean:,.0f} output tokens"
    elif not any(name in config.endpoint.extra_inputs for name in ("max_completion_tokens", "max_tokens")):
        end = "; no output length is requested"
    if count is None or config.conversation.turn_mean > 1:
        return f"{each} per {'turn' if config.conversation.turn_mean > 1 else 'request'}{end}"
    total = f"{count * prompt.isl_mean:,.0f} in"
    if prompt.osl_mean is not None:
        total += f", {count * prompt.osl_mean:,.0f} out"
    return f"{each} per request: {total} in all{end}"
