"""`report`: a run directory evaluated again, with other goals, slices or percentiles; also one that was killed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiperf.errors import AIPerfError, Note
from aiperf.observer import Observer, Silent
from aiperf.reports.writing import Outputs
from aiperf.run.directory import write_run_json
from aiperf.run.prepare import pick_tokenizer
from aiperf.run.run import Run
from aiperf.run.seal import seal
from aiperf.workload.tokenizers import Tokenizer

__all__ = ["report"]


def report(
    run_dir: Path | str,
    overrides: Mapping[str, object] | None = None,
    *,
    recount: bool = False,
    engine_traces: Path | None = None,
    observer: Observer | None = None,
) -> Run:
    """`Run.open`, with what is still missing of a killed run: its records and token counts. `aiperf.run.write.write` writes its files again.

    `overrides`: values by option path, as the command's flags give them. ResultError if the directory holds no run; tokens that were
    counted are not counted again unless `recount`. `engine_traces`: a file with the server's spans of that run.
    """
    outputs = Outputs(observer or Silent())
    run = Run.open(run_dir, overrides)
    if run.json.telemetry_data is None:
        run = replace(run, json=run.json.model_copy(update={"telemetry_data": _kept(run)}))
    is_counted = run.files.records.exists() and not recount
    tokenizer: Tokenizer | None = None
    if not is_counted and run.count_source != "server usage":
        run, tokenizer = _with_tokenizer(run, overrides)
    server = None
    if engine_traces is not None:
        from aiperf.run.spans import join_file

        run, server = join_file(run, engine_traces, outputs)
    write_jsonl = not is_counted or server is not None or not run.files.jsonl.exists()
    run = seal(run, tokenizer, outputs, write_jsonl=write_jsonl, recount=recount, server=server)
    if server is not None:
        write_run_json(run.dir, run.json)
    run = replace(run, notes=(*run.notes, *outputs.problems))
    if run.json.status == "running":
        write_run_json(run.dir, run.json.model_copy(update={"status": "recovered"}))
    return run


def _with_tokenizer(run: Run, overrides: Mapping[str, object] | None) -> tuple[Run, Tokenizer | None]:
    """The one that counts, and the run with what is to be said about it; without one the server's counts are taken."""
    try:
        tokenizer, notes = pick_tokenizer(run.config)
    except AIPerfError as error:
        text = f"tokens are the server's own counts, as there is no tokenizer: {error.message}"
        opened = Run.open(run.dir, {**(overrides or {}), "endpoint.use_server_token_count": True})
        return replace(opened, json=run.json, notes=(Note("tokenizer_missing", text),)), None
    counter = run.json.tokenizer.model_copy(update={"name": tokenizer.name, "provenance": tokenizer.provenance})
    return replace(run, json=run.json.model_copy(update={"tokenizer": counter}), notes=tuple(notes)), tokenizer


def _kept(run: Run) -> dict[str, Any] | None:
    """The GPUs' part of the summary, of runs whose `run.json` did not hold it yet."""
    try:
        before = json.loads(run.files.summary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = before.get("telemetry_data")
    return found if isinstance(found, dict) else None
