"""Options of GenAI-Perf and, behind its `--`, of perf_analyzer that AIPerf dropped: accepted with a note, or refused with what to use instead.

Those that both tools have are AIPerf's. Source: the guides and `--help` of GenAI-Perf 0.0.16 and AIPerf's page on migrating from it.
"""

from __future__ import annotations

from typing import Literal

from aiperf.config.aiperf_options import Foreign

__all__ = ["GENAI_PERF"]


def _of(
    state: Literal["note", "refused"], reason: str, *names: str, values: Literal["none", "one", "many"] = "one"
) -> Foreign:
    return Foreign(names=names, values=values, state=state, reason=reason, tool="GenAI-Perf")


_ONE_API = "leave it out: `--endpoint-type` alone says which API is measured"

GENAI_PERF: tuple[Foreign, ...] = (
    _of("note", "there is no limit of threads; `--workers` sets the worker threads", "--max-threads"),
    _of("note", "requests never wait for one another", "--async", values="none"),
    _of("note", "charts are drawn of every run: `report.html`, `aiperf plot`", "--generate-plots", values="none"),
    _of("refused", _ONE_API, "--service-kind"),
    _of("refused", _ONE_API, "--backend"),
    _of("refused", _ONE_API, "--output-format"),
    _of(
        "refused", "`--benchmark-duration` (in seconds) or `--request-count` ends a run", "--measurement-interval", "-p"
    ),
    _of(
        "refused",
        "`--num-profile-runs` with `--convergence-metric` repeats until a metric is steady",
        "--stability-percentage",
        "-s",
    ),
    _of("refused", "`--concurrency 1,2,4` measures several levels", "--concurrency-range"),
    _of("refused", "`--request-rate 1,2,4` measures several rates", "--request-rate-range"),
    _of(
        "refused",
        "it named a DCGM exporter: `--gpu-telemetry URL`; the server's own metrics are `--server-metrics URL`",
        "--server-metrics-url",
        "--server-metrics-urls",
        values="many",
    ),
)
