"""The dashboard's screen as lines of text, for a width and a height: pure functions of the view, tested without a terminal.

Colours are the terminal's own sixteen, by name, so that light and dark themes both work.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

import numpy as np
from rich.text import Text

from aiperf.live.progress import clock_text
from aiperf.live.spread import Distribution
from aiperf.live.view import Figures, Percentiles, View
from aiperf.live.words import counted, milliseconds, runs_done
from aiperf.observer import Level, RunFacts, StudyState

__all__ = ["Page", "bar_line", "errors_page", "generators_page", "log_page", "overview", "server_page", "study_page"]

Page = list[Text]
_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_WIDE: Final = 150
_VERDICT_STYLE: Final = {"trustworthy": "green", "degraded": "yellow", "client-limited": "red"}
LEVEL_NAMES: Final = {
    "requests_running": "Requests running",
    "requests_waiting": "Requests waiting",
    "requests_swapped": "Requests swapped",
    "kv_cache_usage": "KV cache use",
    "nvidia_gpu_utilization": "utilisation",
    "nvidia_power_usage": "power",
    "nvidia_memory_used": "memory used",
    "nvidia_temperature": "temperature",
    "amd_gfx_activity": "utilisation",
    "amd_power": "power",
    "amd_memory_used": "memory used",
    "amd_temperature": "temperature",
}


def _clip(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.1f}"


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The last `width` values, from 0 to the largest; a gap where there is none."""
    shown = list(values)[-width:]
    known = [v for v in shown if v is not None]
    top = max(known, default=0.0)
    out = []
    for value in shown:
        if value is None:
            out.append(" ")
        else:
            out.append(_EIGHTHS[1 + min(7, int(7.999 * value / top))] if top > 0 else _EIGHTHS[1])
    return "".join(out)


def bar_line(view: View, facts: RunFacts | None, width: int, *, paused: bool) -> Text:
    """Phase, bar, share, times, model and load."""
    pace = view.pace
    line = Text(f"{pace.phase or 'starting'} ", style="bold")
    if pace.share is not None:
        size = max(10, min(40, width // 4))
        full = round(size * pace.share)
        line.append("━" * full, style="cyan")
        line.append("━" * (size - full), style="bright_black")
        line.append(f" {100 * pace.share:3.0f}%", style="not bold")
    times = clock_text(pace.elapsed_s)
    if pace.left_s is not None and not pace.is_stopping:
        times += f" · {clock_text(pace.left_s)} left"
    line.append(f"  {times}", style="not bold")
    if pace.is_stopping:
        line.append(" · stopping", style="yellow")
    if paused:
        line.append(" · display paused (p)", style="yellow")
    if facts is not None:
        line.append(f" · {', '.join(facts.models)} · {facts.load}", style="not bold bright_black")
    return _clip(line, width)


def overview(view: View, width: int, height: int, log: Sequence[str] = ()) -> Page:
    """Everything at a glance; on a wide terminal in two columns."""
    if width < _WIDE:
        head = [*_rates(view, width), Text(), *_latencies(view, width)]
        goals = _goals(view, width)
        tail = [*goals[: max(2, height // 6)], *_client(view, width)[:2], *_levels_line(view.levels, width)]
        tail += _last_error(view, width)
        room = height - len(head) - len(tail) - 1
        return [*head, Text(), *histogram(view, width, room), *tail][:height]
    half = width // 2 - 2
    left = [*_rates(view, half), Text(), *_latencies(view, half), Text(), *_goals(view, half), *_client(view, half)]
    left += [Text(), *_errors(view, half, 8)]
    third = max(8, (height - 2) // 3)
    right = [*histogram(view, half, third), Text(), *histogram(view, half, third, "request_latency"), Text()]
    right += [*_levels(view.levels, half)]
    if log:
        rest = height - len(left) - 2
        left += [
            Text(),
            Text("Log", style="bold"),
            *(_clip(Text(x), half) for x in list(log)[-max(0, rest) :] if rest > 0),
        ]
    page = []
    for i in range(min(height, max(len(left), len(right)))):
        line = left[i].copy() if i < len(left) else Text()
        line.pad_right(half + 3 - line.cell_len)
        if i < len(right):
            line.append_text(right[i])
        page.append(line)
    return page


def _rates(view: View, width: int) -> Page:
    """Figures now and so far, and the last minutes as a line."""
    now, all_ = view.now, view.so_far
    moments = view.moments
    room = width - 47
    rows: list[tuple[str, str, str, list[float | None]]] = [
        ("Requests/s", _number(now.requests_per_s), _number(all_.requests_per_s), [m.requests_per_s for m in moments]),
        (f"{now.flow_unit.capitalize()}/s", _number(now.flow), _number(all_.flow), [m.flow for m in moments]),
        ("In flight", f"{view.snapshot.in_flight:,}", "", [float(m.in_flight) for m in moments]),
        ("Errors", _share(now), _share(all_), [float(m.errors) for m in moments]),
    ]
    title = Text(f"{'':16}{'last 10 s':>13}{'so far':>15}", style="bright_black")
    if room > 12:
        title.append("   over time")
    page = [_clip(title, width)]
    for name, a, b, series in rows:
        line = Text(f"{name:16}", style="bold")
        line.append(f"{a:>13}{b:>15}", style="red not bold" if name == "Errors" and all_.failed else "not bold")
        if room > 12:
            line.append(f"   {sparkline(series, room)}", style="not bold cyan")
        page.append(_clip(line, width))
    return page


def _share(figures: Figures) -> str:
    share = figures.error_share
    return "–" if share is None else f"{100 * share:.1f}%" if share else "0"


def _latencies(view: View, width: int) -> Page:
    room = width - 72
    title = Text(
        f"{'last 10 s':16}{'p50':>8}{'p90':>8}{'p99':>8}   {'so far: p50':>11}{'p90':>8}{'p99':>8}",
        style="bright_black",
    )
    if room > 9:
        title.append("  p99")
    page = [_clip(title, width)]
    for name, key in (("TTFT (ms)", "ttft"), ("ITL (ms)", "itl"), ("Latency (ms)", "latency")):
        now: Percentiles | None = getattr(view.now, key)
        all_: Percentiles | None = getattr(view.so_far, key)
        line = Text(f"{name:16}", style="bold")
        for values, first in ((now, 8), (all_, 11)):
            if first == 11:
                line.append("   ")
            for i in range(3):
                line.append(f"{_ms(None if values is None else values[i]):>{first if i == 0 else 8}}", style="not bold")
        if room > 9:
            ends = [getattr(m, key) for m in view.moments]
            line.append(f"  {sparkline([None if e is None else e[1] for e in ends], room)}", style="not bold cyan")
        page.append(_clip(line, width))
    return page


def histogram(view: View, width: int, height: int, name: str | None = None) -> Page:
    """Columns over log-spaced bins of the run so far: of TTFT where there is one, else of the request latency."""
    if height < 4:
        return []
    tag = name or ("time_to_first_token" if view.spreads["time_to_first_token"].count else "request_latency")
    spread: Distribution = view.spreads[tag]
    words = {"time_to_first_token": "TTFT", "inter_token_latency": "ITL", "request_latency": "Request latency"}
    title = Text(f"{words[tag]} so far", style="bold")
    title.append(f" · {counted(spread.count, 'request')}", style="not bold bright_black")
    rows = height - 2
    number = max(10, min(width - 2, 100))
    edges, counts = spread.bars(number)
    if not len(edges):
        return [title, *[Text() for _ in range(rows + 1)]]
    tall = np.ceil(8 * rows * counts / max(1, int(counts.max()))).astype(int)
    page = [_clip(title, width)]
    for row in range(rows - 1, -1, -1):
        cells = np.clip(tall - 8 * row, 0, 8)
        page.append(Text("".join(map(_EIGHTHS.__getitem__, cells.tolist())), style="cyan"))
    marks = [f"{_ms(float(edges[0]))} ms", f"{_ms(float(edges[number // 2]))}", f"{_ms(float(edges[-1]))} ms"]
    middle = marks[1].center(number - len(marks[0]) - len(marks[2]))
    page.append(Text(f"{marks[0]}{middle}{marks[2]}", style="bright_black"))
    return page


def _goals(view: View, width: int) -> Page:
    """SLOs and assertions, those that are missed first."""
    page: Page = []
    for tier in view.tiers:
        line = Text("Goodput ", style="bold")
        known = tier.share is not None and tier.per_s is not None
        words = f"{100 * (tier.share or 0):.1f}% of requests · {_number(tier.per_s)}/s" if known else "known at the end"
        line.append(f"{tier.name}: {words}", style="not bold")
        page.append(_clip(line, width))
    for assertion in sorted(view.asserts, key=lambda a: (a.holds is not False, a.holds is None)):
        style = {True: "green", False: "red", None: "bright_black"}[assertion.holds]
        state = {True: "met", False: "NOT MET", None: "known at the end"}[assertion.holds]
        line = Text("Assert ", style="bold")
        line.append(f"{assertion.text} ", style="not bold")
        line.append(f"{state}", style=f"not bold {style}")
        if assertion.holds is not None:
            line.append(
                f" ({assertion.actual}"
                + ("" if assertion.margin is None else f", margin {100 * assertion.margin:+.0f}%")
                + ")",
                style="not bold",
            )
        page.append(_clip(line, width))
    return page


def _client(view: View, width: int) -> Page:
    """The certificate so far."""
    fitness = view.fitness
    line = Text("Measurement quality ", style="bold")
    if not view.so_far.ok:
        return [line.append("–", style="not bold")]
    line.append(fitness.verdict, style=f"not bold {_VERDICT_STYLE[fitness.verdict]}")
    for name, lag in (("send lag", fitness.send_lag), ("receive lag", fitness.receive_lag)):
        if lag is not None:
            line.append(f" · {name} p99 {_ms(lag[1])} ms", style="not bold")
    if fitness.cpu is not None:
        line.append(f" · client CPU {100 * fitness.cpu:.0f}%", style="not bold")
    return [_clip(line, width), *(_clip(Text(f"  {r}", style="yellow"), width) for r in fitness.reasons)]


def _level_words(level: Level) -> str:
    value = (
        f"{100 * level.value:.0f}%"
        if level.unit == "ratio"
        else f"{_number(level.value)} {level.unit}".removesuffix(" requests")
    )
    name = LEVEL_NAMES.get(level.name, level.name.replace("_", " "))
    return f"{level.place} {name} {value}".strip()


def _levels_line(levels: Sequence[Level], width: int) -> Page:
    if not levels:
        return []
    line = Text("Server ", style="bold")
    line.append(" · ".join(map(_level_words, levels)), style="not bold")
    return [_clip(line, width)]


def _levels(levels: Sequence[Level], width: int) -> Page:
    if not levels:
        return []
    return [Text("Server and GPUs", style="bold"), *(_clip(Text(f"  {_level_words(x)}"), width) for x in levels)]


def _last_error(view: View, width: int) -> Page:
    if not view.errors:
        return []
    latest = min(view.errors, key=lambda e: e.ago_s)
    line = Text("Errors ", style="bold red")
    line.append(" · ".join(f"{e.count:,} × {e.name}" for e in view.errors[:4]), style="not bold red")
    line.append(f" · {latest.message}", style="not bold bright_black")
    return [_clip(line, width)]


def _errors(view: View, width: int, most: int) -> Page:
    if not view.errors:
        return []
    lines = (f"  {e.count:>7,} {e.name}: {e.message} ({_ago(e.ago_s)})" for e in view.errors[:most])
    return [Text("Errors", style="bold red"), *(_clip(Text(line), width) for line in lines)]


def _ago(seconds: float) -> str:
    return "now" if seconds < 1 else f"{clock_text(seconds)} ago"


def errors_page(view: View, width: int, needle: str = "") -> Page:
    """All kinds of errors with their latest message; `needle`: only those that contain it."""
    total = view.so_far.failed
    title = Text(counted(total, "failed request"), style="bold")
    if needle:
        title.append(f" · filter `{needle}`", style="yellow")
    page = [title, Text()]
    shown = [e for e in view.errors if needle.lower() in f"{e.name} {e.message}".lower()]
    if not shown:
        return [*page, Text("no error" + (" matches the filter" if needle else " so far"), style="bright_black")]
    page.append(Text(f"{'count':>9} {'share':>7}  {'latest':>10}  kind", style="bright_black"))
    for e in shown:
        line = Text(f"{e.count:>9,} {100 * e.count / max(1, total):>6.1f}%  {_ago(e.ago_s):>10}  ")
        line.append(e.name, style="bold red")
        page.append(_clip(line, width))
        page += [Text(" " * 31 + part) for part in textwrap.wrap(e.message, max(20, width - 32))]
    return page


def server_page(view: View, width: int) -> Page:
    if not view.levels:
        return [
            Text("The server exposes no metrics, or they were turned off (--no-server-metrics).", style="bright_black")
        ]
    page: Page = []
    for source, title in (("server", "Server"), ("gpu", "GPUs")):
        found = [x for x in view.levels if x.source == source]
        if found:
            page += [Text(title, style="bold"), *(_clip(Text(f"  {_level_words(x)}"), width) for x in found), Text()]
    return page


def generators_page(view: View, width: int) -> Page:
    """One line per generator of a distributed run."""
    if not view.generators:
        return [Text("This run has one load generator: this process.", style="bright_black")]
    has_room = width >= 88
    heads = (
        f"{'in flight':>10}{'done':>10}{'errors':>7}{'req/s':>8}{'lag p99':>9}{'CPU':>5}" + f"{'tokens':>13}" * has_room
    )
    page = [Text(f"{'generator':17}{'state':9}{heads}", style="bright_black")]
    for generator in view.generators:
        lag = "–" if generator.send_lag_p99_ms is None else milliseconds(generator.send_lag_p99_ms)
        cells = f"{generator.in_flight:>10,}{generator.done:>10,}{generator.failed:>7,}{generator.rate:>8,.1f}{lag:>9}{100 * generator.cpu:>4.0f}%"
        cells += f"{generator.output_tokens:>13,}" * has_room
        page.append(
            _clip(
                Text(
                    f"{generator.name[:16]:17}{generator.state[:8]:9}{cells}",
                    style="red" if generator.state == "lost" else "",
                ),
                width,
            )
        )
    return page


def study_page(study: StudyState | None, width: int) -> Page:
    """The points of a sweep or search so far; ▸ marks those on the Pareto front, the best one is bold."""
    if study is None:
        return [Text("This is a single run.", style="bright_black")]
    page = [Text(f"{study.what}: {runs_done(study)}", style="bold"), Text()]
    if not study.rows:
        return page
    heads, gap = _study_heads(study, width)
    sizes = [max(map(len, cells)) for cells in zip(*heads, *study.rows, strict=True)]
    for i, row in enumerate((*heads, *study.rows), -len(heads)):
        line = Text("▸ " if i in study.front else "  ", style="green")
        style = "bright_black" if i < 0 else "bold" if i == study.best else "not bold"
        cells = [f"{c:<{sizes[0]}}" if j == 0 else f"{c:>{sizes[j]}}" for j, c in enumerate(row)]
        line.append(gap.join(cells), style=style)
        page.append(_clip(line, width))
    page.append(Text())
    if study.front:
        page.append(Text("▸ on the Pareto front of throughput and speed per user", style="bright_black"))
    if study.best is not None:
        page.append(_clip(Text(f"bold: the best so far, {study.rows[study.best][0]}", style="bright_black"), width))
    return page


def _study_heads(study: StudyState, width: int) -> tuple[list[Sequence[str]], str]:
    """Lines of the table's head, and what is between two columns: where the table is too wide, the words of a title are below each other."""
    columns = list(zip(*study.rows, strict=True))

    def is_too_wide(heads: Sequence[Sequence[str]], gap: str) -> bool:
        sizes = [max(map(len, cells)) for cells in zip(*heads, *study.rows, strict=True)]
        return 2 + sum(sizes) + len(gap) * (len(columns) - 1) > width

    whole: list[Sequence[str]] = [study.columns]
    if not is_too_wide(whole, "  "):
        return whole, "  "
    words = [name.replace("/", " /").split() for name in study.columns]
    lines = max(map(len, words))
    heads: list[Sequence[str]] = [
        [w[i - lines + len(w)] if i >= lines - len(w) else "" for w in words] for i in range(lines)
    ]
    return heads, " " if is_too_wide(heads, "  ") else "  "


def log_page(log: Sequence[str], width: int, height: int) -> Page:
    if not log:
        return [Text("no note so far", style="bright_black")]
    lines: Page = []
    for entry in list(log)[-height:]:
        lines += [Text(part) for part in textwrap.wrap(entry, width)]
    return lines[-height:]
