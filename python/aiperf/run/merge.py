"""`merge`: the parts of one run, made on several machines, as the run they are: records concatenated, one set of files."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aiperf.distributed.joining import Share, join_outcomes, rows_of_phase
from aiperf.errors import AIPerfError, Note, ResultError
from aiperf.json_text import json_text
from aiperf.observer import Observer, Silent
from aiperf.outcome import Outcome
from aiperf.records.agents import AGENTS_FILE
from aiperf.records.columns import Floats
from aiperf.records.run_json import GeneratorEntry, NoteEntry, PartEntry, RunJson
from aiperf.records.schema import JOURNAL_DIR, PARTS_FILE, RECORDS_FILE
from aiperf.records.store import open_run
from aiperf.reports.writing import Outputs
from aiperf.run.agent_notes import agent_notes
from aiperf.run.directory import claim, write_run_json
from aiperf.run.figures import figures_beside
from aiperf.run.profile import complete
from aiperf.run.report import report
from aiperf.run.run import Run
from aiperf.run.seal import reuse_memory, seal

__all__ = ["merge", "write_parts"]

_COPIED = ("inputs.json", "server_metrics_export*", "gpu_telemetry_export*")


@dataclass(frozen=True, slots=True)
class _Member:
    run: Run
    part: PartEntry


def merge(dirs: Sequence[Path], out: Path, *, observer: Observer | None = None) -> Run:
    """One run of the parts in `dirs`, in `out`; `aiperf.run.write.write` writes its other files. The parts stay as they are.

    ResultError, with all reasons at once, if they are no parts of one run. Parts that are missing or were killed are accounted for:
    what they did not send is unsent, and the exit code is 1.
    """
    watcher = observer or Silent()
    _check_place(dirs, out)
    members = _members(dirs)
    first = members[0]
    of = first.part.of
    watcher.stage("parts")
    members = [_Member(_finished(m.run), m.part) for m in members]
    with claim(out) as (folder, taken):
        notes: list[Note] = [] if taken is None else [taken]
        base = members[0].run.columns.start_wall_ns
        shares = [_share(m, base) for m in members]
        missing = sorted(set(range(of)) - {m.part.index for m in members})
        for index in missing:
            text = f"part {index + 1}/{of} is missing"
            shares.append(Share(entry=GeneratorEntry(index=index, status="missing", reason=text), outcome=None))
        shares.sort(key=lambda s: s.entry.index)
        outcome = join_outcomes(shares, first.run.config, first.run.json, base)
        write_parts(folder, [m.run.dir / RECORDS_FILE for m in members], shares, first.run.json, base)
        with contextlib.suppress(FileNotFoundError):  # only of recorded agents, and equal in all parts
            shutil.copyfile(first.run.dir / AGENTS_FILE, folder / AGENTS_FILE)
        notes += agent_notes(outcome, of)
        described = _described(members, shares, outcome)
        write_run_json(folder, described)
        run = Run(dir=folder, config=first.run.config.replace({"distributed.part": None}), json=described)
        outputs = Outputs(watcher)
        copied = _copy(first, folder, run, outputs)
        for text in outcome.lost_generators:
            notes.append(Note("generator_lost", text))
            watcher.note(f"warning: {text}")
        watcher.stage("records")
        reuse_memory()
        with figures_beside(run):
            sealed = seal(run, None, outputs)
        run = sealed.with_figures_of(run)
        watcher.stage("metrics")
        interrupted = outcome.interrupted
        run = replace(run, notes=tuple(notes), written=(*run.written, *copied))
        return complete(run, outputs, watcher, signalled=lambda: interrupted)


def write_parts(folder: Path, records: Sequence[Path], shares: Sequence[Share], told: RunJson, base_ns: int) -> None:
    """`parts.json`: where the records of the parts are, and how they come onto one time axis. `records`: of the shares that have some."""
    parts = []
    workers = connections = 0
    present = [s for s in shares if s.entry.status != "missing"]
    for path, share in zip(records, present, strict=True):
        where = path.relative_to(folder) if path.is_relative_to(folder) else path.resolve()
        parts.append(
            {
                "path": str(where),
                "shift_ns": share.entry.shift_ns,
                "first_connection": connections,
                "first_worker": workers,
            }
        )
        workers += max(1, len(share.entry.worker_cpu_ns))
        connections += share.connections
    content = {
        "start_wall_ns": base_ns,
        "phases": [p.model_dump(mode="json") for p in told.phases],
        "models": told.models,
        "parts": parts,
    }
    (folder / PARTS_FILE).write_text(json_text(content), encoding="utf-8")


def _check_place(dirs: Sequence[Path], out: Path) -> None:
    """ResultError if the merged run would take the place of a part, which would be moved aside before it is read."""
    taken = [folder for folder in dirs if folder.resolve() == out.resolve()]
    if taken:
        raise ResultError(
            f"`{taken[0]}` is one of the parts, and cannot be the folder of the merged run too",
            "another `--artifact-dir`; without it the run is written beside the first part",
        )


def _members(dirs: Sequence[Path]) -> list[_Member]:
    """By part. ResultError: what does not belong together."""
    members: list[_Member] = []
    wrong: list[str] = []
    for folder in dirs:
        try:
            run = Run.open(folder)
        except AIPerfError as error:
            wrong.append(error.message)
            continue
        if run.json.part is None:
            wrong.append(f"`{folder}` is a whole run: it was not made with `--part`")
        else:
            members.append(_Member(run, run.json.part))
    if members:
        first = members[0]
        seen: dict[int, Path] = {}
        for m in members:
            wrong += _differences(first, m)
            if m.part.index in seen:
                wrong.append(f"`{seen[m.part.index]}` and `{m.run.dir}` are both part {m.part.index + 1}")
            seen.setdefault(m.part.index, m.run.dir)
    if wrong or not members:
        raise ResultError(
            "\n".join(dict.fromkeys(wrong)) or "no parts are named",
            "give the folders of all parts of one run: same command, same `--start-at`, different `--part`",
        )
    return sorted(members, key=lambda m: m.part.index)


def _differences(first: _Member, other: _Member) -> list[str]:
    left, right = first.run, other.run
    facts = {
        "number of parts": (first.part.of, other.part.of),
        "start or seed": ((first.part.salt, first.part.start_wall_ns), (other.part.salt, other.part.start_wall_ns)),
        "workload": (left.json.workload, right.json.workload),
        "models": (left.json.models, right.json.models),
        "phases": (left.json.phases, right.json.phases),
        "version of aiperf": (left.json.aiperf_version, right.json.aiperf_version),
        "load": tuple(
            json_text([r.json.config.get(s) for s in ("load", "warmup", "endpoint")], sort_keys=True)
            for r in (left, right)
        ),
    }
    return [f"`{right.dir}` and `{left.dir}` differ in their {what}" for what, (x, y) in facts.items() if x != y]


def _finished(run: Run) -> Run:
    """With its records in one file, with counts: a part that was killed is evaluated first."""
    if run.files.records.exists() and not (run.dir / JOURNAL_DIR).exists():
        return run
    return report(run.dir)


def _share(member: _Member, base_ns: int) -> Share:
    run = member.run
    columns = open_run(run.dir)
    outcome = run.outcome
    host = str(run.json.machine.get("host", ""))
    shift = columns.start_wall_ns - base_ns
    entry = GeneratorEntry(
        index=member.part.index,
        host=host,
        shift_ns=shift,
        worker_cpu_ns=() if outcome is None else outcome.worker_cpu_ns,
        certificate=run.json.certificate,
    )
    if outcome is None:
        text = f"part {member.part.index + 1}/{member.part.of} was killed: what it had in flight is unknown"
        entry = entry.model_copy(update={"status": "lost", "reason": text})
        phase, error = columns.scalar("phase"), columns.scalar("error_kind")
        phases = tuple(rows_of_phase(p, phase == i, error, columns) for i, p in enumerate(run.json.phases))
        outcome = Outcome(start_wall_ns=columns.start_wall_ns, phases=phases, end_ns=_last_end(columns.scalar("end")))
        return Share(entry=entry, outcome=outcome, connections=_highest(columns.scalar("connection")))
    return Share(entry=entry, outcome=outcome, connections=_highest(columns.scalar("connection")))


def _highest(numbers: Floats) -> int:
    return int(numbers.max()) + 1 if len(numbers) else 0


def _last_end(ends: Floats) -> int:
    return 0 if not len(ends) or np.isnan(ends).all() else int(np.nanmax(ends))


def _described(members: Sequence[_Member], shares: Sequence[Share], outcome: Outcome) -> RunJson:
    told = members[0].run.json
    trips = [m.run.json.network_rtt_ns for m in members if m.run.json.network_rtt_ns is not None]
    metrics = told.server_metrics if members[0].part.index == 0 else None
    if metrics is not None:
        # Its counters are of the time in which part 1 sent: the others may have gone on.
        metrics = metrics.model_copy(update={"conservation": None})
    config = {**told.config}
    if "part" in config.get("distributed", {}):
        part = {**config["distributed"]["part"], "value": None, "kind": "default", "origin": ""}
        config["distributed"] = {**config["distributed"], "part": part}
    notes = {(n.kind, n.text): n for m in members for n in m.run.json.notes if n.kind != "generator_lost"}
    kept = [NoteEntry(kind=n.kind, text=n.text, data=n.data) for n in notes.values() if n.kind in _KEPT_NOTES]
    return told.model_copy(
        update={
            "config": config,
            "part": None,
            "generators": [s.entry for s in shares],
            "outcome": outcome,
            "server_metrics": metrics,
            "network_rtt_ns": float(np.mean(trips)) if trips else None,
            "certificate": None,
            "exit_code": None,
            "notes": kept,
            "status": "running",
        }
    )


_KEPT_NOTES = frozenset({"redirected", "timestamps_ignored", "schedule_ends", "tokenizer_missing"})
"""What was noticed before the load; notes about figures are made again of the whole."""


def _copy(first: _Member, folder: Path, run: Run, outputs: Outputs) -> tuple[tuple[str, Path], ...]:
    """What part 1 alone has: the requests' bodies, the server's metrics."""
    if first.part.index != 0:
        return ()
    files = run.files
    names = {files.inputs.name: "inputs", files.server_metrics("json").name: "server metrics"}
    patterns = [*_COPIED, files.server_metrics("json").stem + "*"]
    out: list[tuple[str, Path]] = []
    for pattern in dict.fromkeys(patterns):
        for path in sorted(first.run.dir.glob(pattern)):
            target = folder / path.name
            if target.exists() or not path.is_file():
                continue
            with outputs.attempt(path.name, target):
                shutil.copyfile(path, target)
                if path.name in names:
                    out.append((names[path.name], target))
    return tuple(out)
