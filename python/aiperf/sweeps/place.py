"""What a run of a study says of its place in it: `run_info` of its files, and AIPerf's `run_config.json`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aiperf.json_text import dump_json, to_json_value
from aiperf.observer import Observer
from aiperf.records.run_json import RUN_FILE, StudyEntry
from aiperf.reports.input_config import input_config_of
from aiperf.reports.writing import Outputs
from aiperf.run.directory import write_run_json
from aiperf.run.run import Run

__all__ = ["remember_place"]


def remember_place(run: Run, place: StudyEntry, observer: Observer) -> Run:
    """The run with its place, in `run.json` and `run_config.json`; a file that cannot be written costs a note."""
    run = run.with_json(study=place)
    outputs = Outputs(observer)
    with outputs.attempt("description of the run", run.dir / RUN_FILE):
        write_run_json(run.dir, run.json)
    outputs.put("run configuration", run.dir / "run_config.json", lambda: _run_config(run, place, run.dir))
    return replace(run, notes=(*run.notes, *outputs.problems))


def _run_config(run: Run, place: StudyEntry, folder: Path) -> str:
    """As AIPerf hands a run's configuration to the process that makes it: `cfg`, `variation`, `trial`, `label`, …"""
    content: dict[str, object] = {
        "benchmark_id": run.benchmark_id,
        "sweep_id": place.study_id,
        "cfg": input_config_of(run.config, run.json),
        "variation": {"index": place.index, "label": place.variation, "values": place.values},
        "trial": place.trial,
        "artifact_dir": str(folder),
        "label": place.label,
        "cli_command": " ".join(run.command),
        "random_seed": run.json.seed,
        "variables": {},
        "resolved": {},
    }
    return dump_json(to_json_value(content)) + "\n"
