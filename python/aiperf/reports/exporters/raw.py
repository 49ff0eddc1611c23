"""`profile_export_raw.jsonl` (--export-level raw): the workers' raw lines in AIPerf's form; times become epoch ns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiperf.config.model import Config
from aiperf.config.secrets import mask_headers
from aiperf.endpoints import headers_of, load_endpoint, session_headers
from aiperf.endpoints.form import form_fields
from aiperf.json_text import json_text
from aiperf.reports import Exporter, ReportedRun
from aiperf.reports.requests_jsonl import JsonlOptions, errors_of, metadata_of
from aiperf.version import __version__

__all__ = ["EXPORTER"]


def _lines(run: ReportedRun) -> Iterator[bytes]:
    """One at a time: the texts of a long run need not fit in memory."""
    columns = run.columns
    start = columns.start_wall_ns
    options = JsonlOptions(
        metrics=run.options.metrics,
        phases=run.phases,
        sessions=run.session_ids,
        benchmark_id=run.benchmark_id,
        parents=run.session_parents,
    )
    metadata, errors = metadata_of(columns, options), errors_of(columns)
    headers, carriers = _headers(run.config)
    is_stream = _streams(run.config)
    number = {name: i for i, name in enumerate(columns.strings("request_id")) if name is not None}
    sessions = columns.strings("correlation_id")
    for entry in _entries(run.dir / "raw"):
        row = number.get(entry["x_request_id"])
        line = {
            "metadata": {"x_request_id": entry["x_request_id"]} if row is None else metadata(row),
            "start_perf_ns": start + entry["start_ns"],
            "payload": _payload(entry),
            "request_headers": headers
            | {"X-Request-ID": entry["x_request_id"]}
            | ({} if row is None else dict.fromkeys(carriers, sessions[row])),
            "status": entry["status"],
            "responses": [_response(start + at, data, is_stream=is_stream) for at, data in entry["responses"]],
        }
        if row in errors:
            line["error"] = errors[row]
        yield (json_text(line) + "\n").encode("utf-8", "replace")


def _payload(entry: dict[str, Any]) -> object:
    """What was sent: JSON as it is, a form by its fields, anything else as text."""
    if "payload" in entry:
        return entry["payload"]
    body = entry["body"].encode("latin-1")
    fields = form_fields(body)
    return body.decode("utf-8", "replace") if fields is None else fields


def _streams(config: Config) -> bool:
    return config.endpoint.streaming and load_endpoint(config.endpoint.endpoint_type).features.streaming


def _response(at: int, data: str, *, is_stream: bool) -> dict[str, object]:
    """An event of a stream; without one the whole body, as AIPerf tells them apart."""
    if is_stream:
        return {"perf_ns": at, "packets": [{"name": "data", "value": data}]}
    kind = {"content_type": "application/json"} if data.lstrip()[:1] in {"{", "["} else {}
    return {"perf_ns": at, "text": data, **kind}


def _headers(config: Config) -> tuple[dict[str, str], tuple[str, ...]]:
    """Those that every request has, secrets masked, and the names of those with the session's id. The engine's own come first."""
    streams = _streams(config)
    ours = {
        "User-Agent": f"aiperf/{__version__}",
        "Accept": "text/event-stream, application/json" if streams else "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
    }
    given = dict(mask_headers(headers_of(config)))
    taken = {name.lower() for name in given}
    return {n: v for n, v in ours.items() if n.lower() not in taken} | given, session_headers(config)


def _entries(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):  # the last one of a killed run may be half
                    yield json.loads(line)


EXPORTER = Exporter(
    what="raw",
    path=lambda run: run.files.raw,
    render=_lines,
    is_wanted=lambda config: config.output.export_level == "raw",
    order=70,
)
