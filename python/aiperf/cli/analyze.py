"""`aiperf analyze`: what was said in a run, turn by turn, as a page that opens without a server."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from aiperf.cli.command import Commands
from aiperf.config.flag import Flag

__all__ = ["app"]

app = Commands(name="analyze", help="Pages about what a run sent and received.")

_STYLE = (
    "body{font:14px system-ui;margin:2rem;max-width:70rem}pre{white-space:pre-wrap;background:#8881;padding:.6rem;border-radius:4px}"
    "summary{cursor:pointer;padding:.2rem 0}details details{margin-left:1.2rem}.role{font-weight:600}"
)


@app.command
def turn_messages(
    run: Annotated[Path, Flag(help="Folder of a run with --export-level raw")],
    /,
    *,
    output: Annotated[
        Path | None, Flag("--output", "-o", help="Page to write; default: turn_messages.html in the run")
    ] = None,
    limit: Annotated[int, Flag("--limit", help="Maximum number of sessions on the page")] = 200,
) -> int:
    """Write a page with the messages of each turn of each session."""
    from aiperf.errors import ResultError
    from aiperf.reports.writing import write_text

    raw = run / "profile_export_raw.jsonl"
    if not raw.is_file():
        raise ResultError(f"`{run}` has no `{raw.name}`", "run with `--export-level raw`")
    sessions: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(raw):
        name = str(row["metadata"].get("x_correlation_id", row["metadata"].get("x_request_id")))
        if name in sessions or len(sessions) < limit:
            sessions.setdefault(name, []).append(row)
    body = "".join(_session(name, rows) for name, rows in sessions.items())
    page = f"<!doctype html><meta charset=utf-8><title>{html.escape(run.name)}</title><style>{_STYLE}</style>"
    target = output or run / "turn_messages.html"
    write_text(target, f"{page}<h1>{html.escape(run.name)}</h1>{body}")
    print(target)
    return 0


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _session(name: str, rows: list[dict[str, Any]]) -> str:
    rows.sort(key=lambda r: int(r["metadata"].get("turn_index", 0)))
    title = rows[0]["metadata"].get("conversation_id", name)
    turns = "".join(_turn(row) for row in rows)
    return f"<details><summary>{html.escape(str(title))}: {len(rows)} turns</summary>{turns}</details>"


def _turn(row: dict[str, Any]) -> str:
    meta = row["metadata"]
    messages = row["payload"].get("messages", []) if isinstance(row["payload"], dict) else []
    said = "".join(
        f"<p class=role>{html.escape(str(m.get('role', '')))}</p><pre>{html.escape(_text(m.get('content')))}</pre>"
        for m in messages
        if isinstance(m, dict)
    )
    answer = "".join(_pieces(row))
    span = (meta.get("request_end_ns", 0) - meta.get("request_start_ns", 0)) / 1e6
    return (
        f"<details><summary>turn {meta.get('turn_index', 0)}, status {row['status']}, {span:,.0f} ms</summary>{said}"
        f"<p class=role>response</p><pre>{html.escape(answer)}</pre></details>"
    )


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) if content is not None else ""


def _pieces(row: dict[str, Any]) -> Iterator[str]:
    for response in row["responses"]:
        for packet in response["packets"]:
            try:
                event = json.loads(packet["value"])
            except (ValueError, TypeError):
                continue
            for choice in event.get("choices", []) if isinstance(event, dict) else []:
                said = choice.get("delta") or choice.get("message") or {}
                yield said.get("content") or ""
