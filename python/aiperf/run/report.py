"""`report`: a run directory evaluated again, with other goals, slices or percentiles; also one that was killed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiperf.config.export import config_from_run
from aiperf.endpoints import load_endpoint
from aiperf.errors import AIPerfError, Note
from aiperf.metrics.context import TOKEN_SOURCES, TokenSource
from aiperf.observer import Silent
from aiperf.records.schema import RECORDS_FILE
from aiperf.run.directory import Files, read_run_json, write_run_json
from aiperf.run.finish import Ending, Run, finish, is_streaming, token_source
from aiperf.run.options import metric_options, phases_of, summary_options
from aiperf.run.prepare import pick_tokenizer
from aiperf.run.profile import run_info
from aiperf.run.server_side import from_facts
from aiperf.workload.tokenizer import Tokenizer

__all__ = ["report"]


def report(run_dir: Path, overrides: Mapping[str, object] | None = None, *, recount: bool = False) -> Run:
    """Files and screen again from the records. `overrides`: values by field path, as the command's flags give them.

    ResultError if the directory holds no run; tokens that were counted are not counted again unless `recount`.
    """
    facts = read_run_json(run_dir)
    config = config_from_run(facts["config"]).replace(dict(overrides or {}))
    endpoint = load_endpoint(config.endpoint.endpoint_type)
    outcome: Mapping[str, Any] = facts.get("outcome") or {}
    notes: list[Note] = []
    source = str(facts.get("tokenizer", {}).get("provenance", "local tokenizer"))
    tokenizer: Tokenizer | None = None
    is_counted = (run_dir / RECORDS_FILE).exists() and not recount
    if not is_counted and not config.endpoint.use_server_token_count and endpoint.features.tokens_out:
        try:
            tokenizer, found = pick_tokenizer(config)
            notes += found
        except AIPerfError as error:
            text = f"tokens are the server's own counts, as there is no tokenizer: {error.message}"
            notes.append(Note("tokenizer_missing", text))
            config = config.replace({"endpoint.use_server_token_count": True})
    counts: TokenSource = token_source(config, endpoint, tokenizer)
    if is_counted and counts == "chunks":
        counts = next((s for s in TOKEN_SOURCES if s == source), "local tokenizer")
    phases = phases_of(facts)
    metrics = metric_options(
        config, counts, schedule=bool(facts.get("is_schedule")), streaming=is_streaming(config, endpoint)
    )
    ids = facts.get("session_ids") or [f"session_{i:06d}" for i in range(int(facts.get("num_sessions", 0)))]
    server = from_facts(facts)
    files = Files(run_dir, config.output.profile_export_prefix)
    run = finish(
        Ending(
            config=config,
            endpoint=endpoint,
            files=files,
            options=summary_options(config, metrics, facts, outcome, server.counters, server.gauges),
            phases=phases,
            session_ids=ids,
            tokenizer=tokenizer,
            count_source=counts,
            benchmark_id=str(facts["benchmark_id"]),
            run_info=run_info(facts),
            outcome=outcome,
            notes=tuple(notes),
            facts=facts,
            extra=_kept(files),
        ),
        Silent(),
        write_jsonl=not is_counted or not files.jsonl.exists(),
        recount=recount,
    )
    if facts.get("status") == "running":
        write_run_json(run_dir, {**facts, "status": "recovered"})
    return run


def _kept(files: Files) -> dict[str, object]:
    """Parts of the summary that are not made from records: as the run wrote them, if it did."""
    try:
        before = json.loads(files.summary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: before[name] for name in ("telemetry_data",) if name in before}
