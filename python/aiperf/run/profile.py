"""`profile`: the recipe."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiperf.config.engine import EngineSettings
from aiperf.config.export import config_dict_for_run
from aiperf.config.model import Config
from aiperf.errors import ExitCode, Note
from aiperf.observer import Observer, Silent
from aiperf.records.replies import write_links
from aiperf.run.addresses import address_facts
from aiperf.run.directory import RUN_FILE, Files, machine, open_run_dir, write_run_json
from aiperf.run.drive import drive, may_end_early
from aiperf.run.log import open_log
from aiperf.run.outputs import Outputs, part_of
from aiperf.run.prepare import Prepared, first_body, plan_run_dir, prepare
from aiperf.run.refusal import refusal_notes
from aiperf.run.server_side import ServerSide, evaluate, start_scraper
from aiperf.run.signals import Interrupts, interruptible
from aiperf.telemetry.network import watch_network
from aiperf.workload.settings import build_settings, is_schedule

# What a run needs only when its load has ended (metrics, files, screen) is imported by then: half of all modules, for which the first
# request would wait.
if TYPE_CHECKING:
    from aiperf.run.finish import Ending, Run
    from aiperf.telemetry.gpu.watch import GpuWatch

__all__ = ["preview", "profile"]

_INPUTS_FIRST = 2000
"""Up to so many turns `inputs.json` is written before the load, so that a killed run has it too."""


def preview(config: Config) -> str:
    """The body of the first request, without probing the server or sending anything."""
    return first_body(prepare(config, Silent(), ask_server=False))


def profile(config: Config, *, observer: Observer | None = None) -> Run:
    """One run: from the configuration to its directory. AIPerfError before the first request if anything is wrong."""
    watcher = observer or Silent()
    if config.load.until:
        from aiperf.run.early_stop import check_precisions

        check_precisions(config)
    with interruptible(watcher) as interrupts:
        return _profile(config, watcher, interrupts)


def _profile(config: Config, watcher: Observer, interrupts: Interrupts) -> Run:
    prepared = prepare(config, watcher)
    workload = prepared.workload
    run_dir, taken = open_run_dir(plan_run_dir(config))
    notes = prepared.notes
    if taken is not None:
        watcher.note(taken.text)
        notes = (*notes, taken)
    files = Files(run_dir, config.output.profile_export_prefix)
    settings = build_settings(
        config,
        workload,
        prepared.endpoint,
        run_dir,
        think_tags=prepared.endpoint.features.tokens_out,
        addresses=prepared.addresses,
        moved=None if prepared.probe is None else prepared.probe.moved,
    )
    benchmark_id = secrets.token_hex(6)
    facts = _facts(prepared, benchmark_id)
    facts["phases"] = [{"name": p.name, "kind": p.kind} for p in settings.phases]
    write_run_json(run_dir, {**facts, "status": "running"})
    with open_log(files.log, config) as log:
        log.info("command: %s", " ".join(config.command) or "(from Python)")
        for note in notes:
            log.warning("%s: %s", note.kind, note.text)
        # Half a second for a long trace: the first request does not wait for it.
        inputs_first = workload.plan.num_turns <= _INPUTS_FIRST
        outputs = Outputs(watcher)
        if inputs_first:
            _write_inputs(prepared, files, outputs)
        write_links(run_dir, workload.plan.columns["session"], *workload.plan.reply_rows())
        scraper = start_scraper(config, prepared.probe)
        gpus = _watch_gpus(config)
        if gpus is not None:
            gpus.start()
        network = watch_network(config)
        if network is not None:
            network.start()
        try:
            outcome, more = _drive(prepared, settings, facts, watcher, interrupts)
        finally:
            readings = () if scraper is None else scraper.stop()
            gpu_readings = () if gpus is None else gpus.stop()
            round_trips = () if network is None else network.stop()
        # From here on the run is on disk with what it needs to be evaluated again, whatever happens to the files below.
        with outputs.attempt("description of the run", run_dir / RUN_FILE):
            write_run_json(run_dir, {**facts, "status": "running", "outcome": outcome})
        from aiperf.run.calibration import calibrate, is_wanted
        from aiperf.run.finish import finish
        from aiperf.run.options import energy_facts
        from aiperf.run.telemetry_files import (
            GpuFiles,
            NetworkFiles,
            write_gpu_files,
            write_network_file,
            write_server_files,
        )

        if not inputs_first:
            _write_inputs(prepared, files, outputs)
        server = evaluate(readings, outcome) if readings else ServerSide()
        notes = (*notes, *more, *server.notes)
        if not interrupts.signals and is_wanted(config, outcome):
            watcher.stage("calibration")
            outcome |= calibrate(outcome, settings)
        log.info("outcome: %s", outcome)
        beside: list[tuple[str, Path]] = []
        with outputs.attempt("server metrics", files.server_metrics("json")):
            beside = write_server_files(files, config, readings, facts, outcome)
        seen = GpuFiles()
        with outputs.attempt("GPU telemetry", files.gpu):
            seen = write_gpu_files(files, () if gpus is None else gpus.pages, gpu_readings, outcome)
        path = NetworkFiles()
        if network is not None:
            with outputs.attempt("network latency", files.network_latency):
                path = write_network_file(files, round_trips, outcome)
        silent = (*(() if gpus is None else gpus.notes(gpu_readings)), *path.notes)
        refused = refusal_notes(config, run_dir, outcome)
        for note in (*server.notes, *silent, *refused):
            watcher.note(note.text)
        notes = (*notes, *silent, *refused, *outputs.problems)
        facts |= {"outcome": outcome, "notes": _notes(notes), "gpu_energy": energy_facts(seen.energy)}
        facts["network_rtt_ns"] = path.rtt_ns
        ending = replace(
            _ending(prepared, files, facts, outcome, notes, server),
            facts=facts,
            extra={"telemetry_data": seen.data},
            written=(*beside, *seen.written, *path.written),
        )
        # The plan and the vocabulary have done their work: their memory is the token counter's now.
        del prepared, workload
        run = finish(ending, watcher)
        run = replace(run, exit_code=_exit_code(run, interrupts, outputs))
        facts |= {
            "server_metrics": server.told or None,
            "status": "complete",
            "outcome": outcome,
            "exit_code": int(run.exit_code),
            "notes": _notes(run.notes, run),
            "certificate": _certificate(run),
        }
        known = len(outputs.problems)
        with outputs.attempt("description of the run", run_dir / RUN_FILE):
            write_run_json(run_dir, facts)
        if len(outputs.problems) > known:
            run = replace(
                run, exit_code=_exit_code(run, interrupts, outputs), notes=(*run.notes, *outputs.problems[known:])
            )
    return run


def _watch_gpus(config: Config) -> GpuWatch | None:
    from aiperf.telemetry.gpu.watch import watch_gpus

    return watch_gpus(config)


def _exit_code(run: Run, interrupts: Interrupts, outputs: Outputs) -> ExitCode:
    """The run's own, unless a signal came (also after the load, while its files were written) or a file is missing."""
    if interrupts.signals:
        return ExitCode.INTERRUPTED
    return ExitCode.ERROR if outputs.problems and run.exit_code == ExitCode.OK else run.exit_code


def _drive(
    prepared: Prepared,
    settings: EngineSettings,
    facts: Mapping[str, Any],
    observer: Observer,
    interrupts: Interrupts,
) -> tuple[dict[str, Any], tuple[Note, ...]]:
    """The load, watched if it may end before its bound; the engine's outcome and what there is to say about it."""
    config = prepared.config
    if not may_end_early(config):
        return drive(settings, prepared.workload, observer, interrupts), ()
    from aiperf.run.early_stop import Stopper
    from aiperf.run.finish import is_streaming, token_source
    from aiperf.run.options import metric_options, phases_of

    metrics = metric_options(
        config,
        token_source(config, prepared.endpoint, prepared.tokenizer),
        schedule=bool(facts["is_schedule"]),
        streaming=is_streaming(config, prepared.endpoint),
    )
    with Stopper(config, Path(settings.run_dir), metrics, phases_of(facts)) as stopper:
        outcome = drive(settings, prepared.workload, observer, interrupts, stopper.watch)
    if outcome["stopped_by_watch"] and stopper.verdict is not None:
        outcome["stopped_by"] = stopper.verdict.text
        text = f"stopped early: {stopper.verdict.text}"
        observer.note(text)
        return outcome, (Note("ended_early", text),)
    if stopper.problem is not None:
        return outcome, (Note("not_watched", f"the run could not be watched: {stopper.problem}"),)
    if config.load.until:
        text = f"stopped at the run limit before reaching --until {', '.join(map(str, config.load.until))}"
        observer.note(text)
        return outcome, (Note("not_sure", text),)
    return outcome, ()


def _facts(prepared: Prepared, benchmark_id: str) -> dict[str, Any]:
    """`run.json` as far as it is known before the first request."""
    from aiperf import __version__

    config, workload = prepared.config, prepared.workload
    ids = workload.plan.session_ids
    is_plain = all(name == f"session_{i:06d}" for i, name in enumerate(ids))
    return {
        "aiperf_version": __version__,
        "benchmark_id": benchmark_id,
        "command": list(config.command),
        "config": config_dict_for_run(config),
        "seed": workload.seed,
        "workload": dict(workload.fingerprint),
        "models": list(workload.plan.models),
        "tokenizer": {"name": prepared.tokenizer.name, "provenance": prepared.tokenizer.provenance},
        "is_schedule": is_schedule(config, workload),
        "num_sessions": len(ids),
        "session_ids": None if is_plain else ids,
        "server": None
        if prepared.probe is None
        else {"family": prepared.probe.family, "models": list(prepared.probe.models)},
        "targets": address_facts(prepared.addresses),
        "machine": machine(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "notes": _notes(prepared.notes),
    }


def _notes(notes: tuple[Note, ...], run: Run | None = None) -> list[dict[str, object]]:
    out: list[dict[str, object]] = [{"kind": n.kind, "text": n.text, "data": dict(n.data)} for n in notes]
    if run is not None:
        out += [{"kind": n.kind, "text": n.text, "data": dict(n.data)} for n in run.summary.notices]
    return out


def _certificate(run: Run) -> dict[str, object] | None:
    c = run.summary.certificate
    if c is None:
        return None
    parts = [
        {"name": p.name, "value": p.value, "unit": p.unit, "verdict": p.verdict, "reason": p.reason} for p in c.parts
    ]
    return {"verdict": c.verdict, "reasons": list(c.reasons), "parts": parts}


def _write_inputs(prepared: Prepared, files: Files, outputs: Outputs) -> None:
    from aiperf.workload.inputs import inputs_json

    part = part_of(files.inputs)
    with outputs.attempt("inputs", files.inputs):
        try:
            with part.open("wb") as file:
                for piece in inputs_json(prepared.workload.plan, prepared.workload.source):
                    file.write(piece)
            part.replace(files.inputs)
        finally:
            part.unlink(missing_ok=True)


def _ending(
    prepared: Prepared,
    files: Files,
    facts: Mapping[str, Any],
    outcome: Mapping[str, Any],
    notes: tuple[Note, ...],
    server: ServerSide,
) -> Ending:
    from aiperf.run.finish import Ending, is_streaming, token_source
    from aiperf.run.options import metric_options, phases_of, summary_options

    config, endpoint = prepared.config, prepared.endpoint
    source = token_source(config, endpoint, prepared.tokenizer)
    metrics = metric_options(
        config, source, schedule=bool(facts["is_schedule"]), streaming=is_streaming(config, endpoint)
    )
    phases = phases_of(facts)
    return Ending(
        config=config,
        endpoint=endpoint,
        files=files,
        options=summary_options(config, metrics, facts, outcome, server.counters, server.gauges),
        phases=phases,
        session_ids=prepared.workload.plan.session_ids,
        tokenizer=None if source == "server usage" else prepared.tokenizer,
        count_source=source,
        benchmark_id=str(facts["benchmark_id"]),
        run_info=run_info(facts),
        outcome=outcome,
        notes=notes,
    )


def run_info(facts: Mapping[str, Any]) -> dict[str, object]:
    """AIPerf's `run_info` (compat.md §4)."""
    return {
        "benchmark_id": facts["benchmark_id"],
        "random_seed": facts["seed"],
        "trial": 0,
        "cli_command": " ".join(facts["command"]),
    }
