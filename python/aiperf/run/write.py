"""`write(run)`: the files of a run, by the exporters its options ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from aiperf.observer import Observer, Silent
from aiperf.records.run_json import RUN_FILE, NoteEntry
from aiperf.reports import Exporter, all_exporters
from aiperf.reports.writing import Outputs
from aiperf.run.directory import write_run_json
from aiperf.run.run import Run

__all__ = ["write"]

Part = Literal["all", "early", "late"]
_RECORDS = {"requests": 30, "records": 90}
"""Places in the list of the files that are written when the load ends."""


def write(run: Run, observer: Observer | None = None, *, part: Part = "all") -> Run:
    """The run with its files in `written`; a file that cannot be written costs that file, a note, and exit code 1.

    `part`: the page and the charts take their time: `early` is everything else, so that a table can be shown in between.
    """
    watcher = observer or Silent()
    outputs = Outputs(watcher)
    run = run.found()
    order = {**_RECORDS}
    for exporter in all_exporters():
        order.setdefault(exporter.what, exporter.order)
        if (part != "all" and exporter.is_late != (part == "late")) or not exporter.is_wanted(run.config):
            continue
        if exporter.is_late:
            watcher.stage(f"report {exporter.what}")
        run = _put(run, exporter, outputs, order)
    if outputs.problems:
        run = replace(run, notes=(*run.notes, *outputs.problems))
        run = _remember(run, outputs)
    return run


def _put(run: Run, exporter: Exporter, outputs: Outputs, order: dict[str, int]) -> Run:
    """The later ones list the files that are there by then."""
    outputs.written = []
    outputs.put(exporter.what, exporter.path(run), lambda: exporter.render(run))
    if not exporter.is_listed or not outputs.written:
        return run
    known = [entry for entry in run.written if entry not in outputs.written]
    listed = sorted((*known, *outputs.written), key=lambda entry: order.get(entry[0], 95))
    return replace(run, written=tuple(listed))


def _remember(run: Run, outputs: Outputs) -> Run:
    """What failed, in `run.json`."""
    entries = [NoteEntry(kind=n.kind, text=n.text, data=dict(n.data)) for n in outputs.problems]
    json = run.json.model_copy(update={"notes": [*run.json.notes, *entries], "exit_code": int(run.exit_code)})
    with outputs.attempt("description of the run", run.dir / RUN_FILE):
        write_run_json(run.dir, json)
    return replace(run, json=json)
