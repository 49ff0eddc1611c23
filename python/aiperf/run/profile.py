"""`profile(config) -> Run`: prepare ▸ open the run directory ▸ drive the load ▸ seal the records. It prints nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aiperf.config.as_data import config_dict_for_run
from aiperf.config.engine_settings import EngineSettings, SignSettings
from aiperf.config.load import describe, load_of
from aiperf.config.model import Config
from aiperf.config.secrets import mask_url
from aiperf.errors import Note
from aiperf.observer import Level, Observer, Observers, RunFacts, Silent
from aiperf.outcome import Outcome
from aiperf.records.agents import write_agent_facts
from aiperf.records.replies import write_links
from aiperf.records.run_json import (
    RUN_FILE,
    Counter,
    NoteEntry,
    PhaseEntry,
    RunJson,
    ServerEntry,
)
from aiperf.reports.paths import Files
from aiperf.reports.writing import Outputs, write_pieces
from aiperf.run.addresses import address_facts
from aiperf.run.agent_notes import agent_notes
from aiperf.run.aws_keys import AwsKeys, aws_keys
from aiperf.run.cluster_run import begin, certified, expect, ready
from aiperf.run.directory import claim, machine, write_run_json
from aiperf.run.drive import Load, Meanwhile, drive, may_end_early, redirect_notes
from aiperf.run.live_requests import LiveRequests
from aiperf.run.log_file import open_log
from aiperf.run.monitoring import Monitored, Watchers, traces_to_wait_for
from aiperf.run.part import check_start, part_entry, part_settings, wait_for_start
from aiperf.run.prepare import Prepared, first_body, plan_run_dir, prepare
from aiperf.run.proxy_notes import proxy_facts
from aiperf.run.run import Run
from aiperf.run.session_tree import session_tree
from aiperf.run.signals import Interrupts, interruptible
from aiperf.workload.live_history import live_links
from aiperf.workload.settings import build_settings, is_schedule

if TYPE_CHECKING:
    from aiperf.distributed.cluster import Cluster
    from aiperf.distributed.generators import Generators
    from aiperf.metrics.summary import Summary
    from aiperf.workload.tokenizers import Tokenizer

__all__ = ["Preview", "complete", "preview", "profile"]

_INPUTS_FIRST = 2000
"""Up to so many turns `inputs.json` is written before the load, so that a killed run has it too."""


@dataclass(frozen=True, slots=True)
class Preview:
    """`body`: of the first request. `in_lanes`: the workload is one of recorded agents, replayed in lanes."""

    body: str
    in_lanes: bool


def preview(config: Config) -> Preview:
    """What a run would send first, without probing the server or sending anything."""
    prepared = prepare(config, Silent(), ask_server=False)
    return Preview(first_body(prepared), in_lanes=prepared.workload.agents is not None)


def profile(config: Config, *, observer: Observer | None = None, interrupts: Interrupts | None = None) -> Run:
    """One run: its records and `run.json` are in its directory; `aiperf.run.write.write(run)` writes the other files.

    `interrupts`: of a caller that handles signals beyond the run. AIPerfError before the first request if anything is wrong.
    """
    # A screen or sink that fails is dropped; the run goes on.
    watcher = observer if isinstance(observer, Observers) else Observers(observer or Silent())
    if config.load.until:
        from aiperf.run.early_stop import check_precisions

        check_precisions(config)
    if config.slo.goodput or config.slo.asserts:
        from aiperf.run.options import check_objectives

        check_objectives(config)
    check_start(config)
    with nullcontext(interrupts) if interrupts is not None else interruptible(watcher) as signals, ExitStack() as held:
        content = None
        if config.media.content_server:
            from aiperf.web.content_server import serve_content

            content = held.enter_context(
                serve_content(config.media.content_server_host, config.media.content_server_port)
            )
        expect(config)
        prepared = prepare(config, watcher, content=content)
        cluster = ready(prepared, watcher)
        signing = held.enter_context(aws_keys(config))
        run, settings = _open(prepared, watcher, held, None if signing is None else signing[0])
        outputs = Outputs(watcher)
        with open_log(run.files.log, config) as log:
            log.info("command: %s", " ".join(config.command) or "(from Python)")
            for note in run.notes:
                log.warning("%s: %s", note.kind, note.text)
            keys = None if signing is None else signing[1]
            run, readings, live = _drive(run, prepared, settings, watcher, signals, outputs, cluster, keys)
            # Imported now, not before the first request: half of all modules.
            from aiperf.run.calibration import calibrate, is_wanted
            from aiperf.run.seal import seal

            if cluster is None and not signals.signals and run.outcome is not None and is_wanted(config, run.outcome):
                watcher.stage("calibration")
                run = run.with_json(outcome=calibrate(run.outcome, settings))
            log.info("outcome: %s", None if run.outcome is None else run.outcome.model_dump())
            run = _with_telemetry(run, readings, watcher, outputs)
            tokenizer = _counter(run, prepared)
            # The plan and the vocabulary have done their work: their memory is the token counter's now.
            del prepared
            watcher.stage("records")
            beside = run.written
            server = None
            if readings.spans is not None:
                from aiperf.run.spans import join_spans

                run, server = join_spans(run, readings.spans, outputs)
                beside = run.written
            run = seal(run, tokenizer, outputs, live=live if server is None else None, server=server)
            watcher.stage("metrics")
            run = replace(run, written=(*run.written, *beside))
            return complete(run, outputs, watcher, signalled=lambda: bool(signals.signals))


def _open(
    prepared: Prepared, observer: Observer, held: ExitStack, sign: SignSettings | None
) -> tuple[Run, EngineSettings]:
    """The directory, with `run.json` before the first request."""
    config = prepared.config
    run_dir, taken = held.enter_context(claim(plan_run_dir(config)))
    notes = prepared.notes
    if taken is not None:
        observer.note(taken.text)
        notes = (*notes, taken)
    settings = build_settings(
        config,
        prepared.workload,
        prepared.endpoint,
        run_dir,
        think_tags=prepared.endpoint.features.tokens_out,
        addresses=prepared.addresses,
        moved=None if prepared.probe is None else prepared.probe.moved,
        part=part_settings(config, prepared.workload.seed),
        sign=sign,
    )
    phases = [PhaseEntry(name=p.name, kind=p.kind, requests=p.requests) for p in settings.phases]
    json = _first_json(prepared).model_copy(update={"phases": phases, "notes": _entries(notes)})
    write_run_json(run_dir, json)
    observer.opened(
        RunFacts(
            directory=run_dir,
            benchmark_id=json.benchmark_id or "",
            models=prepared.workload.plan.models,
            urls=tuple(map(mask_url, config.endpoint.urls)),
            endpoint=config.endpoint.endpoint_type,
            is_streaming=config.endpoint.streaming,
            load=describe(load_of(config), in_lanes=prepared.workload.agents is not None),
            phases=tuple(p.name for p in settings.phases),
            workers=settings.workers,
            server=_family(prepared),
        )
    )
    return Run(dir=run_dir, config=config, json=json, notes=notes), settings


def _drive(
    run: Run,
    prepared: Prepared,
    settings: EngineSettings,
    observer: Observer,
    interrupts: Interrupts,
    outputs: Outputs,
    cluster: Cluster | None,
    keys: AwsKeys | None,
) -> tuple[Run, Monitored, LiveRequests]:
    """The load, with what watches the server and the GPUs meanwhile; the run with its outcome."""
    plan = prepared.workload.plan
    # Half a second for a long trace: the first request does not wait for it.
    has_inputs = plan.agents is None and not _is_verbatim(prepared)
    inputs_first = has_inputs and plan.num_turns <= _INPUTS_FIRST
    if inputs_first:
        _write_inputs(prepared, run.files, outputs)
    if prepared.workload.agents is not None:
        write_agent_facts(run.dir, prepared.workload.agents)
    write_links(run.dir, plan.columns["session"], *(live_links(plan) or plan.reply_rows()))
    if plan.media is not None:
        plan.media.write(run.dir)
    wait_for_start(run.config, observer)
    generators = None if cluster is None else begin(cluster, run, prepared, settings, observer)
    watchers = Watchers.start(run.config, prepared.probe)
    live = LiveRequests(run, _counter(run, prepared))
    if watchers.receiver is not None and watchers.receiver.is_listening:
        observer.note(watchers.receiver.listening)
    traced = finished = 0
    try:
        with live:
            outcome, more = _load(run, prepared, settings, observer, interrupts, watchers.levels, generators, keys)
        traced = traces_to_wait_for(settings.trace_share, outcome)
        finished = outcome.seen.ok if outcome.seen is not None else 0
    finally:
        readings = watchers.stop(traced, finished)
    run = replace(run.with_json(outcome=outcome), notes=(*run.notes, *more))
    if generators is not None:
        run = run.with_json(generators=certified(run, generators))
        generators.release()
    # From here on the run is on disk with what it needs to be evaluated again, whatever happens to the files below.
    with outputs.attempt("description of the run", run.dir / RUN_FILE):
        write_run_json(run.dir, run.json)
    if has_inputs and not inputs_first:
        _write_inputs(prepared, run.files, outputs)
    return run, readings, live


def _counter(run: Run, prepared: Prepared) -> Tokenizer | None:
    """Who counts the tokens of the responses; None: the server did."""
    return None if run.count_source == "server usage" else prepared.tokenizer


def _load(
    run: Run,
    prepared: Prepared,
    settings: EngineSettings,
    observer: Observer,
    interrupts: Interrupts,
    levels: Callable[[], Sequence[Level]],
    generators: Generators | None,
    keys: AwsKeys | None,
) -> tuple[Outcome, tuple[Note, ...]]:
    """The load, with the server's profiler around its measured phase if that is wanted."""
    start = None if generators is None else lambda: generators
    renewed = None if keys is None else keys.news
    if not run.config.endpoint.server_profiler:
        return _watched(run, prepared, settings, observer, interrupts, levels, start, Meanwhile(credentials=renewed))
    from aiperf.telemetry.probe.server_profiler import ServerProfiler

    profiler = ServerProfiler(run.config)
    meanwhile = Meanwhile(before_measured=profiler.start, credentials=renewed)
    try:
        outcome, notes = _watched(run, prepared, settings, observer, interrupts, levels, start, meanwhile)
    except BaseException:
        profiler.stop()
        raise
    return outcome, (*notes, *profiler.stop())


def _watched(
    run: Run,
    prepared: Prepared,
    settings: EngineSettings,
    observer: Observer,
    interrupts: Interrupts,
    levels: Callable[[], Sequence[Level]],
    start: Callable[[], Load] | None,
    meanwhile: Meanwhile,
) -> tuple[Outcome, tuple[Note, ...]]:
    """The load, watched if it may end before its bound; the engine's outcome and what there is to say about it."""
    config = run.config
    if not may_end_early(config):
        return (
            drive(settings, prepared.workload, observer, interrupts, levels=levels, begin=start, meanwhile=meanwhile),
            (),
        )
    from aiperf.run.early_stop import Stopper

    with Stopper(config, Path(settings.run_dir), run.metric_options, run.phases) as stopper:
        outcome = drive(settings, prepared.workload, observer, interrupts, stopper.watch, levels, start, meanwhile)
    if outcome.stopped_by_watch and stopper.verdict is not None:
        text = f"stopped early: {stopper.verdict.text}"
        observer.note(text)
        return outcome.model_copy(update={"stopped_by": stopper.verdict.text}), (Note("ended_early", text),)
    if stopper.problem is not None:
        return outcome, (Note("not_watched", f"the run could not be watched: {stopper.problem}"),)
    if config.load.until:
        text = f"stopped at the run limit before reaching --until {', '.join(map(str, config.load.until))}"
        observer.note(text)
        return outcome, (Note("not_sure", text),)
    return outcome, ()


def _with_telemetry(run: Run, readings: Monitored, observer: Observer, outputs: Outputs) -> Run:
    """What the server, the GPUs and the network said, in `run.json` and in files of their own."""
    from aiperf.run.journal_health import disk_notes
    from aiperf.run.options import energy_entries
    from aiperf.run.refusal import refusal_notes
    from aiperf.run.server_side import ServerSide, evaluate
    from aiperf.run.telemetry_files import (
        GpuFiles,
        NetworkFiles,
        write_gpu_files,
        write_network_file,
        write_server_files,
    )

    outcome = run.outcome or Outcome()
    server = evaluate(readings.server, outcome, readings.gpus) if readings.server or readings.gpus else ServerSide()
    beside: list[tuple[str, Path]] = []
    with outputs.attempt("server metrics", run.files.server_metrics("json")):
        beside += write_server_files(run.files, run.config, readings.server, run.json, outcome)
    seen = GpuFiles()
    with outputs.attempt("GPU telemetry", run.files.gpu):
        seen = write_gpu_files(run.files, readings.gpu_pages, readings.gpus, outcome)
    path = NetworkFiles()
    if readings.round_trips is not None:
        with outputs.attempt("network latency", run.files.network_latency):
            path = write_network_file(run.files, readings.round_trips, outcome)
    refused, disk = refusal_notes(run.config, run.dir, outcome), disk_notes(outcome)
    notes = (
        *redirect_notes(outcome),
        *agent_notes(outcome, run.config.distributed.generators or 1),
        *server.notes,
        *readings.notes,
        *path.notes,
        *refused,
        *disk,
    )
    for note in notes:
        observer.note(note.text)
    run = run.with_json(
        server_metrics=server.metrics,
        gpu_energy=energy_entries(seen.energy),
        network_rtt_ns=path.rtt_ns,
        telemetry_data=dict(seen.data),
    )
    return replace(run, notes=(*run.notes, *notes), written=(*beside, *seen.written, *path.written))


def _failures(config: Config, summary: Summary) -> Iterator[Note]:
    """Failed requests that do not change the exit code are not to be overlooked."""
    counts = summary.counts
    if not counts.ok or not counts.failed:
        return
    total = counts.ok + counts.failed
    text = f"{counts.failed:,} of {total:,} requests failed ({100 * counts.failed / total:.1f}%): all metrics but error counts are of the others"
    if config.load.max_error_rate is None:
        text += "; the exit code is 0 all the same (`--max-error-rate 1%` makes it 4)"
    yield Note("requests_failed", text, {"failed": counts.failed, "requests": total})


def complete(run: Run, outputs: Outputs, observer: Observer, *, signalled: Callable[[], bool]) -> Run:
    """The summary is computed, and `run.json` says what it found. `signalled` is asked afterwards: it takes its time."""
    from aiperf.run.options import certificate_entry

    summary = run.summary()
    failures = tuple(_failures(run.config, summary))
    for note in failures:
        observer.note(f"warning: {note.text}")
    run = replace(run, notes=(*run.notes, *failures, *outputs.problems), was_signalled=signalled())
    known = len(outputs.problems)
    run = run.with_json(
        status="complete",
        exit_code=int(run.exit_code),
        notes=[*_entries(run.notes), *_entries(summary.notices)],
        certificate=certificate_entry(summary.certificate),
    )
    with outputs.attempt("description of the run", run.dir / RUN_FILE):
        write_run_json(run.dir, run.json)
    return replace(run, notes=(*run.notes, *outputs.problems[known:]))


def _first_json(prepared: Prepared) -> RunJson:
    """`run.json` as far as it is known before the first request."""
    from aiperf.version import __version__

    config, workload, probe = prepared.config, prepared.workload, prepared.probe
    ids = workload.plan.session_ids
    is_plain = all(name == f"session_{i:06d}" for i, name in enumerate(ids))
    return RunJson(
        aiperf_version=__version__,
        benchmark_id=workload.benchmark_id,
        command=list(config.command),
        config=config_dict_for_run(config),
        seed=workload.seed,
        workload=dict(workload.fingerprint),
        models=list(workload.plan.models),
        tokenizer=Counter(name=prepared.tokenizer.name, provenance=prepared.tokenizer.provenance),
        is_schedule=is_schedule(config, workload),
        num_sessions=len(ids),
        num_turns=len(workload.plan.request_rows),
        part=part_entry(config, workload.seed),
        session_ids=None if is_plain else list(ids),
        session_tree=session_tree(workload.plan),
        server=None if probe is None else ServerEntry(family=probe.family, models=list(probe.models)),
        proxies=proxy_facts(config),
        targets=address_facts(prepared.addresses),
        machine=machine(),
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        status="running",
    )


def _family(prepared: Prepared) -> str | None:
    """Which server it is, if it was recognised."""
    from aiperf.telemetry import UNKNOWN

    found = None if prepared.probe is None else prepared.probe.family
    return None if found == UNKNOWN.name else found


def _entries(notes: Iterable[Note]) -> list[NoteEntry]:
    return [NoteEntry(kind=n.kind, text=n.text, data=dict(n.data)) for n in notes]


def _is_verbatim(prepared: Prepared) -> bool:
    """Traces and files of bodies are not written out once more, as AIPerf does not: they are the inputs."""
    from aiperf.registry import names

    return prepared.workload.kind in {*names("traces"), "raw_payload", "inputs_json"}


def _write_inputs(prepared: Prepared, files: Files, outputs: Outputs) -> None:
    from aiperf.workload.inputs import inputs_json

    with outputs.attempt("inputs", files.inputs):
        write_pieces(files.inputs, iter(inputs_json(prepared.workload.plan, prepared.workload.source)))
