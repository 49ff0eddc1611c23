"""What it costs to see what the server does: trace headers, spans joined to requests, endpoints scraped, the page with all charts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.command import run
from benchmarks.pages import PAGES
from benchmarks.report import write_run
from benchmarks.server import Server
from benchmarks.tool import Tool

__all__ = ["join_seconds", "page_mb", "send_lag_p99_ms"]

SPANS = 100_000
SPANS_A_LINE = 500
LAG_RATE = 500
LAG_SECONDS = 10
ENGINE: dict[str, object] = {"engine": {"preset": "qwen3-0.6b-8xh200"}}
FLAGS = ("--model", "sim", "--tokenizer", "builtin", "--random-seed", "1", "--ui", "none", "--no-calibrate")


@contextmanager
def _profile(tool: Tool, server: Server, flags: Sequence[str]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as name:
        folder = Path(name, "run")
        command: list[str | Path] = [tool.executable, "profile", "--url", server.url, "--artifact-dir", folder]
        run([*command, *FLAGS, *flags])
        yield folder


def send_lag_p99_ms(tool: Tool, server: Server, pages: str | None) -> float:
    """At a constant rate, ten pages below the URL being scraped each second; None: no page is."""
    load = ("--request-rate", str(LAG_RATE), "--arrival-pattern", "constant", "--benchmark-duration", str(LAG_SECONDS))
    urls = [] if pages is None else ["--server-metrics", *(f"{pages}/{i}" for i in range(PAGES))]
    watched = ["--no-server-metrics"] if pages is None else [*urls, "--server-metrics-formats", "json"]
    flags = (*load, "--isl", "16", "--osl", "1", "--no-gpu-telemetry", "--no-report", *watched)
    with _profile(tool, server, flags) as folder:
        parts = json.loads((folder / "run.json").read_text(encoding="utf-8"))["certificate"]["parts"]
    return float(next(p["value"] for p in parts if p["name"] == "send lag p99"))


def join_seconds(tool: Tool, repeats: int) -> tuple[list[float], list[float]]:
    """(with, without) the spans of 100,000 requests: `aiperf report` as a whole command, spans read from OTLP JSON, columns written."""
    joined, bare = [], []
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as name:
        folder, spans = Path(name, "run"), Path(name, "spans.jsonl")
        folder.mkdir()
        write_run(folder, SPANS, 1)
        _write_spans(folder, spans)
        for _ in range(repeats):
            bare.append(run([tool.executable, "report", folder]).wall_s)
            joined.append(run([tool.executable, "report", folder, "--engine-traces", spans]).wall_s)
            facts = json.loads((folder / "profile_export_aiperf.json").read_text(encoding="utf-8"))
            if facts["server_queue_time"]["avg"] != 1.0:
                raise RuntimeError(f"spans were not joined: {facts['server_queue_time']}")
    return joined, bare


def _write_spans(folder: Path, path: Path) -> None:
    """In vLLM's shape: one span a request, with its latencies as attributes."""
    from aiperf.records import open_run

    columns = open_run(folder)
    sent, end = columns.scalar("sent") + columns.start_wall_ns, columns.scalar("end") + columns.start_wall_ns
    latencies = {"time_in_queue": 0.001, "time_to_first_token": 0.012, "time_in_model_prefill": 0.011, "e2e": 0.02}
    attributes = [
        {"key": "gen_ai.request.id", "value": {"stringValue": "chatcmpl-0123456789abcdef"}},
        {"key": "gen_ai.response.model", "value": {"stringValue": "Qwen/Qwen3-0.6B"}},
        {"key": "gen_ai.usage.prompt_tokens", "value": {"intValue": "1000"}},
        {"key": "gen_ai.usage.completion_tokens", "value": {"intValue": "100"}},
        *({"key": f"gen_ai.latency.{k}", "value": {"doubleValue": v}} for k, v in latencies.items()),
    ]
    spans = [
        {
            "traceId": (request_id or "").replace("-", ""),
            "spanId": f"{row + 1:016x}",
            "name": "llm_request",
            "kind": 2,
            "startTimeUnixNano": str(int(sent[row])),
            "endTimeUnixNano": str(int(end[row])),
            "attributes": attributes,
        }
        for row, request_id in enumerate(columns.strings("request_id"))
    ]
    with path.open("w", encoding="utf-8") as file:
        for at in range(0, len(spans), SPANS_A_LINE):
            batch = {"resourceSpans": [{"scopeSpans": [{"spans": spans[at : at + SPANS_A_LINE]}]}]}
            file.write(json.dumps(batch, separators=(",", ":")) + "\n")


def page_mb(tool: Tool, server: Server, gpus: str) -> float:
    """`report.html` of a run with every chart of the server and of eight GPUs, each course with all the points it may have."""
    load = ("--streaming", "--concurrency", "64", "--benchmark-duration", "20", "--isl", "500", "--osl", "100")
    watched = ("--server-metrics-interval", "0.05", "--gpu-telemetry", gpus)
    with _profile(tool, server, (*load, *watched)) as folder:
        view = json.loads((folder / "run.json").read_text(encoding="utf-8"))["server_metrics"]["view"]
        courses = {s["name"] for s in view["series"]}
        if missing := {"requests_waiting", "kv_cache_usage", "prefix_hit_rate", "gpu_power"} - courses:
            raise RuntimeError(f"courses that are not on the page: {', '.join(sorted(missing))}")
        return (folder / "report.html").stat().st_size / 1e6
