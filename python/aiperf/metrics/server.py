"""The server's side of a run in standard names, whatever family it is of: what `server:queue_time` is, and its values in one run.

`SERVER_METRICS` says what each name means and how the series of ranks, engines and replicas become one number; a `ServerView` holds
the figures of one run and their course over time. `telemetry` fills it from what was scraped; reports, assertions, `compare` and
`explain` read it here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = [
    "PREFIX",
    "SERVER_METRICS",
    "Replica",
    "ServerFigure",
    "ServerMetric",
    "ServerPage",
    "ServerSeries",
    "ServerView",
    "view_from_json",
    "view_to_json",
]

PREFIX: Final = "server:"
"""In front of a name wherever metrics of client and server can be meant: `server:queue_time`."""

Shape = Literal["times", "level", "count", "share"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetric:
    """`shape`: "times" (a histogram: avg, p50, p90, p99), "level" (a gauge: avg, max), "count" (growth of a counter: count, rate),
    "share" (a ratio of two growths or a gauge of one: avg, in %). `unit`: as shown. `rule`: how several series become one number.
    """

    name: str
    header: str
    unit: str
    shape: Shape
    formula: str
    rule: str
    larger_is_better: bool = False

    @property
    def tag(self) -> str:
        return PREFIX + self.name

    @property
    def stats(self) -> tuple[str, ...]:
        return {
            "times": ("avg", "p50", "p90", "p99", "count"),
            "level": ("avg", "max"),
            "count": ("count", "rate"),
            "share": ("avg",),
        }[self.shape]

    @property
    def headline(self) -> str:
        """The statistic that is meant if none is named."""
        return "count" if self.shape == "count" else "avg"


_BUCKETS: Final = "buckets of all series are added bound by bound"
_ADDED: Final = "series are added; ranks that repeat the same requests (tp_rank, pp_rank) count once"
_MEAN: Final = "the mean over the series"


def _times(name: str, header: str, formula: str) -> ServerMetric:
    return ServerMetric(name=name, header=header, unit="ms", shape="times", formula=formula, rule=_BUCKETS)


def _level(name: str, header: str, unit: str, formula: str, rule: str = _ADDED) -> ServerMetric:
    return ServerMetric(name=name, header=header, unit=unit, shape="level", formula=formula, rule=rule)


def _count(name: str, header: str, unit: str, formula: str) -> ServerMetric:
    return ServerMetric(name=name, header=header, unit=unit, shape="count", formula=formula, rule=_ADDED)


def _share(name: str, header: str, formula: str, rule: str, *, good: bool = True) -> ServerMetric:
    return ServerMetric(
        name=name, header=header, unit="%", shape="share", formula=formula, rule=rule, larger_is_better=good
    )


SERVER_METRICS: Final[dict[str, ServerMetric]] = {
    m.name: m
    for m in (
        _times("queue_time", "Queue Time", "from the arrival in the engine to the first time it was scheduled"),
        _times("prefill_time", "Prefill Time", "from the first time it was scheduled to the first token"),
        _times("decode_time", "Decode Time", "from the first token to the last"),
        _times("inference_time", "Inference Time", "from the first time it was scheduled to the last token"),
        _times("time_to_first_token", "TTFT (server)", "from the arrival at the server to the first token"),
        _times("inter_token_latency", "ITL (server)", "time between two tokens of a request"),
        _times("time_per_output_token", "TPOT (server)", "decode time ÷ (output tokens − 1), per request"),
        _times("request_latency", "Request Latency (server)", "from the arrival at the server to the last token"),
        _level(
            "requests_in_flight",
            "Requests in Flight (server)",
            "requests",
            "requests that were accepted and have no complete response yet, waiting or running, at each scrape",
        ),
        _level("requests_running", "Requests Running", "requests", "requests in the engine's batch, at each scrape"),
        _level("requests_waiting", "Requests Waiting", "requests", "requests in the engine's queue, at each scrape"),
        _level("requests_swapped", "Requests Swapped", "requests", "requests swapped out, at each scrape"),
        ServerMetric(
            name="batch_size",
            header="Batch Size",
            unit="requests",
            shape="level",
            formula="requests per forward pass: the batch histogram or the busy slots, else requests running ÷ engines",
            rule=_MEAN,
        ),
        ServerMetric(
            name="iteration_tokens",
            header="Tokens per Iteration",
            unit="tokens",
            shape="times",
            formula="tokens computed in one forward pass, prefill and decode together",
            rule=_BUCKETS,
        ),
        _level("kv_cache_usage", "KV Cache Usage", "%", "share of the KV-cache blocks in use, at each scrape", _MEAN),
        _share(
            "prefix_hit_rate",
            "Prefix Cache Hit Rate",
            "prompt tokens found in the prefix cache ÷ prompt tokens looked up, during the measured phase",
            "hits and queries of all series are added, then divided; a gauge of the rate: the mean over series and time",
        ),
        _share(
            "external_hit_rate",
            "External Cache Hit Rate",
            "tokens found in the cache outside the GPU (CPU, disk, remote) ÷ tokens looked up there",
            "hits and queries of all series are added, then divided",
        ),
        _count(
            "preemptions", "Preemptions", "preemptions", "requests that lost their KV blocks and had to start again"
        ),
        _share(
            "acceptance_rate",
            "Draft Acceptance Rate",
            "accepted draft tokens ÷ proposed draft tokens (speculative decoding)",
            "accepted and proposed tokens of all series are added, then divided",
        ),
        _count("rejected_requests", "Rejected Requests", "requests", "requests the server refused or failed"),
        _count("aborted_requests", "Aborted Requests", "requests", "requests ended by a disconnect or an abort"),
        _count("requests", "Requests Finished", "requests", "requests the server counted as finished"),
        _count("prompt_tokens", "Prompt Tokens", "tokens", "prompt tokens the server counted, cached ones included"),
        _count("generation_tokens", "Output Tokens", "tokens", "output tokens the server counted"),
    )
}
"""By name, in the order of the tables."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One engine, rank or replica: its labels (or its address), and the headline statistic of it alone."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFigure:
    """`stats`: by statistic, in the shown unit. `bounds`: (low, high) of the bucket a percentile fell in: the figure's error;
    high is None in the open bucket. `source`: the raw names it was made from. `replicas`: none if there is only one.
    """

    name: str
    stats: Mapping[str, float]
    bounds: Mapping[str, tuple[float, float | None]] = field(default_factory=dict)
    source: str = ""
    replicas: tuple[Replica, ...] = ()

    @property
    def metric(self) -> ServerMetric:
        return SERVER_METRICS[self.name]

    @property
    def imbalance(self) -> float | None:
        """The busiest replica's value ÷ the mean of all; None with one replica, or nothing to compare."""
        values = [r.value for r in self.replicas]
        mean = sum(values) / len(values) if values else 0.0
        return max(values) / mean if len(values) > 1 and mean > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSeries:
    """A course over time. `times_s`: seconds of run time. `label`: which GPU or replica; "" for all together."""

    name: str
    unit: str
    times_s: tuple[float, ...] = field(repr=False)
    values: tuple[float | None, ...] = field(repr=False)
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPage:
    """One metrics endpoint: scrapes that worked and that failed, lines that could not be read, metrics that have no standard name."""

    url: str
    scrapes: int
    failed: int = 0
    error: str | None = None
    bad_lines: int = 0
    unnamed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """`figures`: by name, over the measured phase. `series`: courses over the whole load."""

    figures: Mapping[str, ServerFigure] = field(default_factory=dict)
    series: tuple[ServerSeries, ...] = ()
    pages: tuple[ServerPage, ...] = ()

    def stat(self, name: str, stat: str | None = None) -> float | None:
        """A statistic in the shown unit, the headline one if none is named (or "avg", which a count does not have); None if the server
        does not give it.
        """
        found = self.figures.get(name.removeprefix(PREFIX))
        if found is None:
            return None
        wanted = found.metric.headline if stat is None or (stat not in found.metric.stats and stat == "avg") else stat
        return found.stats.get(wanted)

    def course(self, name: str) -> ServerSeries | None:
        """The course of all replicas together."""
        return next((s for s in self.series if s.name == name and not s.label), None)

    def courses(self, name: str) -> tuple[ServerSeries, ...]:
        """Every course of that name, of GPUs and replicas too."""
        return tuple(s for s in self.series if s.name == name)

    @property
    def ordered(self) -> tuple[ServerFigure, ...]:
        return tuple(self.figures[name] for name in SERVER_METRICS if name in self.figures)


def view_to_json(view: ServerView) -> dict[str, Any]:
    """For `run.json`, without what is empty."""
    return {
        "figures": {
            figure.name: {
                "unit": figure.metric.unit,
                **figure.stats,
                **({"buckets": {k: list(v) for k, v in figure.bounds.items()}} if figure.bounds else {}),
                **({"replicas": {r.name: r.value for r in figure.replicas}} if figure.replicas else {}),
                **({"imbalance": figure.imbalance} if figure.imbalance is not None else {}),
                "source": figure.source,
            }
            for figure in view.ordered
        },
        "series": [
            {"name": s.name, "unit": s.unit, "label": s.label, "times_s": list(s.times_s), "values": list(s.values)}
            for s in view.series
        ],
        "scrapes": [
            {
                "url": page.url,
                "scrapes": page.scrapes,
                "failed": page.failed,
                "error": page.error,
                "bad_lines": page.bad_lines,
                "unnamed": page.unnamed,
            }
            for page in view.pages
        ],
    }


def view_from_json(told: Mapping[str, Any]) -> ServerView:
    """What `view_to_json` wrote; names this version does not know are left out."""
    figures = {name: _figure(name, entry) for name, entry in told.get("figures", {}).items() if name in SERVER_METRICS}
    series = tuple(
        ServerSeries(
            name=series["name"],
            unit=series.get("unit", ""),
            label=series.get("label", ""),
            times_s=tuple(map(float, series["times_s"])),
            values=tuple(None if v is None else float(v) for v in series["values"]),
        )
        for series in told.get("series", ())
    )
    pages = tuple(
        ServerPage(
            url=page["url"],
            scrapes=int(page["scrapes"]),
            failed=int(page.get("failed", 0)),
            error=page.get("error"),
            bad_lines=int(page.get("bad_lines", 0)),
            unnamed=int(page.get("unnamed", 0)),
        )
        for page in told.get("scrapes", ())
    )
    return ServerView(figures=figures, series=series, pages=pages)


def _figure(name: str, entry: Mapping[str, Any]) -> ServerFigure:
    stats = {k: float(v) for k in SERVER_METRICS[name].stats if isinstance(v := entry.get(k), int | float)}
    bounds: dict[str, tuple[float, float | None]] = {
        k: (float(low), None if high is None else float(high)) for k, (low, high) in entry.get("buckets", {}).items()
    }
    replicas: Sequence[Replica] = [Replica(n, float(v)) for n, v in entry.get("replicas", {}).items()]
    kept = {k: v for k, v in stats.items() if math.isfinite(v)}
    return ServerFigure(name=name, stats=kept, bounds=bounds, source=entry.get("source", ""), replicas=tuple(replicas))
