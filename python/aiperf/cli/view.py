"""`aiperf view DIR`: a folder of runs in the browser: list, filter, select, compare. On loopback only, nothing is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from aiperf.config.flag import Flag
from aiperf.number_text import exact

if TYPE_CHECKING:
    from aiperf.plots import PlotRun

__all__ = ["RunEntry", "Viewer", "command", "find_runs", "serve"]

_MOST_RUNS: Final = 5_000
_MOST_COMPARED: Final = 24
_SUMMARY: Final = "profile_export_aiperf.json"


def command(
    folder: Annotated[Path, Flag(help="Folder that holds runs, at any depth")] = Path("artifacts"),
    /,
    *,
    port: Annotated[int, Flag(help="Port on 127.0.0.1; 0 takes a free one")] = 0,
    open_browser: Annotated[bool, Flag("--open", help="Open it in the browser")] = False,
) -> int:
    """List, filter and compare the runs of a folder in the browser, until Ctrl-C."""
    from aiperf.errors import ConfigError

    if not folder.is_dir():
        raise ConfigError(f"there is no folder `{folder}`", "`aiperf view artifacts`")
    with serve(folder, port) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        print(url, flush=True)
        if open_browser:
            import webbrowser

            webbrowser.open(url)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    return 0


def serve(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server that listens; `serve_forever` serves. ConfigError if the port is taken."""
    from aiperf.errors import ConfigError

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(Viewer, folder.resolve()))
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on port {port}: {getattr(error, 'strerror', None) or error}", "`--port 0` takes a free one"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry:
    """One run of the list. `path`: below the folder, `/` between parts; figures None where the summary has none.

    `live`: URL of the live page of a run that is going on (`--serve`).
    """

    path: str
    model: str
    endpoint: str
    load: str
    created: str
    verdict: str
    status: str
    figures: Mapping[str, float | None]
    live: str = ""


_FIGURES: Final = (
    ("ttft", "time_to_first_token", "p50"),
    ("ttft99", "time_to_first_token", "p99"),
    ("itl", "inter_token_latency", "p50"),
    ("latency", "request_latency", "p50"),
    ("tokens", "output_token_throughput", "avg"),
    ("rate", "request_throughput", "avg"),
    ("requests", "request_count", "avg"),
    ("errors", "request_error_rate", "avg"),
)


def find_runs(folder: Path) -> list[RunEntry]:
    """Runs below the folder, ours and AIPerf's, the newest first. What cannot be read is listed with its state."""
    from aiperf.records.run_json import RUN_FILE

    folders: dict[Path, None] = {}
    for name in (RUN_FILE, _SUMMARY):
        for file in folder.rglob(name):
            folders.setdefault(file.parent)
            if len(folders) >= _MOST_RUNS:
                break
    entries = [_entry(folder, path) for path in folders]
    return sorted(entries, key=lambda e: (e.created, e.path), reverse=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _entry(folder: Path, path: Path) -> RunEntry:
    from aiperf.reports.paths import Files
    from aiperf.run.directory import is_written

    facts = _read(path / "run.json")
    prefix = _value(facts, "output", "profile_export_prefix")
    summary = _read(Files(path, str(prefix) if prefix else None).summary)
    figures = {key: _figure(summary, tag, stat) for key, tag, stat in _FIGURES}
    models = facts.get("models") or _value(facts, "endpoint", "model_names") or _foreign_models(summary)
    rate, level = _value(facts, "load", "request_rate"), _value(facts, "load", "concurrency")
    if _value(facts, "input", "fixed_schedule"):
        load = "schedule"
    else:
        load = f"{exact(rate)} req/s" if isinstance(rate, int | float) else f"c {level}" if level else ""
    certificate = facts.get("certificate")
    verdict = str(certificate.get("verdict", "")) if isinstance(certificate, dict) else ""
    status = str(facts.get("status", "")) if facts else "AIPerf"
    live = ""
    if status == "running":
        is_alive = is_written(path)
        status = "running" if is_alive else "killed"
        live = str(_read(path / "live.json").get("url", "")) if is_alive else ""
    created = str(facts.get("created") or summary.get("start_time") or "")
    return RunEntry(
        path=path.relative_to(folder).as_posix(),
        model=", ".join(map(str, models)) if isinstance(models, list | tuple) else str(models),
        endpoint=str(_value(facts, "endpoint", "endpoint_type") or ""),
        load=load,
        created=created,
        verdict=verdict,
        live=live,
        status=status if figures["requests"] is not None or status != "complete" else "no figures",
        figures=figures,
    )


def _value(facts: Mapping[str, Any], section: str, name: str) -> object:
    """A field of `run.json`'s configuration; None if it is not there."""
    value: object = facts.get("config")
    for key in (section, name, "value"):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _foreign_models(summary: Mapping[str, Any]) -> str:
    """AIPerf 0.3: `endpoint.model_names`; 0.13: `models`, or `models.items` with names."""
    config = summary.get("input_config")
    if not isinstance(config, dict):
        return ""
    endpoint, models = config.get("endpoint"), config.get("models")
    names = endpoint.get("model_names") if isinstance(endpoint, dict) else None
    if names is None:
        names = models.get("items") if isinstance(models, dict) else models
    found = names if isinstance(names, list) else [names] if isinstance(names, str) else []
    return ", ".join(str(n["name"]) if isinstance(n, dict) and "name" in n else str(n) for n in found)


def _figure(summary: Mapping[str, Any], tag: str, stat: str) -> float | None:
    found = summary.get(tag)
    value = found.get(stat) if isinstance(found, dict) else None
    return float(value) if isinstance(value, int | float) else None


class Viewer(BaseHTTPRequestHandler):
    """GET `/` the list, `/run/PATH` a run's page, `/compare?run=PATH&run=PATH` several; all else 404."""

    server_version = "aiperf-view"
    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, *args: Any, **kwargs: Any) -> None:
        self.folder = folder
        super().__init__(*args, **kwargs)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Requests are not logged."""

    def do_GET(self) -> None:
        from aiperf.errors import AIPerfError

        # A page elsewhere may make a browser ask us under its own name (DNS rebinding): only our own names are answered.
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        if host not in {"127.0.0.1", "localhost"}:
            self._send(403, "text/plain", b"only by 127.0.0.1 or localhost\n")
            return
        url = urlsplit(self.path)
        try:
            if url.path == "/":
                self._send(200, "text/html", _list_page(self.folder).encode())
            elif url.path.startswith("/run/"):
                self._send(200, "text/html", self._run_page(unquote(url.path[5:])))
            elif url.path == "/compare":
                self._send(200, "text/html", self._compare(parse_qs(url.query).get("run", [])))
            else:
                self._send(404, "text/plain", b"not here\n")
        except AIPerfError as error:
            self._send(422, "text/plain", f"{error}\n".encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def _inside(self, path: str) -> Path:
        """ResultError for a path that leaves the folder."""
        from aiperf.errors import ResultError

        found = (self.folder / path).resolve()
        if not found.is_relative_to(self.folder) or not found.is_dir():
            raise ResultError(f"there is no run `{path}`")
        return found

    def _run_page(self, path: str) -> bytes:
        """The page the run wrote; made now if it has none."""
        from aiperf.reports.page import render_page

        run = self._inside(path)
        page = run / "report.html"
        return page.read_bytes() if page.is_file() else render_page(self._drawn([run])[0])

    def _compare(self, paths: list[str]) -> bytes:
        from aiperf.errors import ResultError
        from aiperf.reports.page import ComparisonInput, render_comparison

        if len(paths) < 2:
            raise ResultError("a comparison needs two runs at least")
        if len(paths) > _MOST_COMPARED:
            raise ResultError(f"at most {_MOST_COMPARED} runs at once")
        runs = self._drawn([self._inside(p) for p in paths])
        return render_comparison(
            ComparisonInput(title=f"{len(runs)} runs", runs=tuple(runs), facts=tuple(r.label for r in runs[:6]))
        )

    @staticmethod
    def _drawn(runs: list[Path]) -> list[PlotRun]:
        from aiperf.sweeps.page import load_together

        return load_together(runs)


def _list_page(folder: Path) -> str:
    from jinja2 import Environment

    from aiperf.version import __version__

    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_LIST)
    return page.render(folder=str(folder), runs=find_runs(folder), version=__version__, most=_MOST_COMPARED)


_LIST: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; form-action 'self'">
<title>Runs in {{ folder }}</title><link rel="icon" href="data:,">
<style>
:root { --paper: #fff; --card: #f6f8fa; --ink: #1c2024; --soft: #5b6470; --line: #e3e7eb; --accent: #0072B2; --good: #00805d; --warn: #b8720a; --bad: #c43c0b; --tint: #eaf4fb; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --card: #1c2126; --ink: #e8eaec; --soft: #a3acb6; --line: #2c333a; --accent: #56B4E9; --good: #2FC79A; --warn: #F2B544; --bad: #FF8A4C; --tint: #17293a; } }
* { box-sizing: border-box; } body { margin: 0 auto; max-width: 84rem; padding: 1.6rem clamp(1rem, 3vw, 2rem) 5rem; font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--ink); background: var(--paper); }
.brand { font-weight: 700; color: var(--accent); } h1 { font-size: 1.5rem; margin: .2rem 0 1rem; overflow-wrap: anywhere; } .soft { color: var(--soft); }
.bar { display: flex; gap: .7rem; flex-wrap: wrap; align-items: center; margin-bottom: .9rem; } input[type=search] { font: inherit; flex: 1 1 16rem; padding: .4rem .8rem; border-radius: .6rem; border: 1px solid var(--line); background: var(--card); color: inherit; }
button { font: inherit; padding: .4rem 1rem; border-radius: .6rem; border: 1px solid var(--accent); background: var(--accent); color: var(--paper); cursor: pointer; } button:disabled { opacity: .4; cursor: default; } :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; } th, td { padding: .36rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); } td.t, th.t { text-align: left; } thead th { white-space: normal; vertical-align: bottom; line-height: 1.25; color: var(--soft); font-weight: 500; cursor: pointer; } thead th:hover { color: var(--accent); } thead th[aria-sort]::after { content: " ↑"; } thead th[aria-sort=descending]::after { content: " ↓"; } tbody tr:hover { background: var(--tint); } a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
.trustworthy { color: var(--good); } .degraded { color: var(--warn); } .client-limited { color: var(--bad); }
</style></head><body>
<div class="brand">aiperf</div><h1>{{ folder }}</h1>
<form action="/compare" method="get">
<div class="bar"><input type="search" id="filter" placeholder="Filter: model, load, path, verdict" aria-label="Filter" autocomplete="off"><span class="soft" id="count" aria-live="polite">{{ runs|length }} runs</span><button id="go" disabled>Compare</button></div>
{% if runs %}
<div class="scroll"><table id="runs"><thead><tr><th></th>
{% for name, kind in [("Run", "t"), ("Model", "t"), ("Load", "t"), ("When", "t"), ("TTFT p50 (ms)", ""), ("p99", ""), ("ITL p50 (ms)", ""), ("Latency p50 (ms)", ""), ("Tokens/s", ""), ("Requests/s", ""), ("Requests", ""), ("Errors (%)", ""), ("Certificate", "t"), ("State", "t")] %}<th scope="col" class="{{ kind }}">{{ name }}</th>{% endfor %}
</tr></thead><tbody>
{% for r in runs %}
<tr><td><input type="checkbox" name="run" value="{{ r.path }}" aria-label="Select {{ r.path }}"></td><td class="t"><a href="/run/{{ r.path|urlencode }}">{{ r.path }}</a></td><td class="t">{{ r.model }}</td><td class="t">{{ r.load }}</td><td class="t">{{ r.created[:16]|replace("T", " ") }}</td>
{% for key, digits in [("ttft", 1), ("ttft99", 1), ("itl", 2), ("latency", 0), ("tokens", 0), ("rate", 2), ("requests", 0), ("errors", 1)] %}<td data-v="{{ r.figures[key] if r.figures[key] is not none else "" }}">{{ "–" if r.figures[key] is none else ("{:,.%df}" % digits).format(r.figures[key]) }}</td>{% endfor %}
<td class="t {{ r.verdict }}">{{ r.verdict or "–" }}</td><td class="t soft">{{ r.status }}{% if r.live %} · <a href="{{ r.live }}" rel="noreferrer">live page</a>{% endif %}</td></tr>
{% endfor %}
</tbody></table></div>
{% else %}<p>There is no run in this folder. <code>aiperf profile … --artifact-dir DIR</code> makes one.</p>{% endif %}
</form>
<script>
"use strict";
(() => {
  const table = document.getElementById("runs"); if (!table) return;
  const body = table.tBodies[0], rows = [...body.rows], filter = document.getElementById("filter"), count = document.getElementById("count"), go = document.getElementById("go");
  const chosen = () => rows.filter((r) => r.querySelector("input").checked).length;
  const update = () => { const n = chosen(); go.disabled = n < 2 || n > {{ most }}; go.textContent = n ? `Compare ${n}` : "Compare"; };
  body.addEventListener("change", update); update();
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\\s+/).filter(Boolean); let n = 0;
    for (const r of rows) { const text = r.textContent.toLowerCase(); r.hidden = !words.every((w) => text.includes(w)); n += !r.hidden; }
    count.textContent = n === rows.length ? `${n} runs` : `${n} of ${rows.length} runs`;
  });
  filter.addEventListener("keydown", (e) => { if (e.key === "Enter") e.preventDefault(); });
  [...table.tHead.rows[0].cells].forEach((th, i) => th.addEventListener("click", () => {
    const down = th.getAttribute("aria-sort") !== "descending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (r) => { const c = r.cells[i]; return c.dataset.v !== undefined ? (c.dataset.v === "" ? NaN : +c.dataset.v) : c.textContent.trim(); };
    rows.sort((a, b) => { const x = key(a), y = key(b); if (typeof x === "number") { if (isNaN(x)) return isNaN(y) ? 0 : 1; if (isNaN(y)) return -1; return down ? y - x : x - y; } return down ? y.localeCompare(x, "en", { numeric: true }) : x.localeCompare(y, "en", { numeric: true }); });
    body.append(...rows);
  }));
})();
</script></body></html>
"""
