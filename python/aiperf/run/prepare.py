"""Before the clock starts: server, tokenizer, workload, settings. Everything that can be wrong is found here."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aiperf.config.load import Closed, describe, load_of
from aiperf.config.machine_limits import raise_file_limit
from aiperf.config.model import Config
from aiperf.config.proxy import proxy_rule
from aiperf.endpoints import Endpoint, access_to, endpoint_of, targets_of
from aiperf.errors import Note
from aiperf.number_text import exact
from aiperf.observer import Observer
from aiperf.run.addresses import Addresses, address_notes, choose
from aiperf.run.proxy_notes import proxy_notes
from aiperf.web.hub import hub_through
from aiperf.workload import Workload, build_workload, seed_of
from aiperf.workload.choose_tokenizer import load_tokenizer
from aiperf.workload.media import Content
from aiperf.workload.settings import AS_FAST_AS_POSSIBLE, is_schedule
from aiperf.workload.tokenizers import ServerAddress, Tokenizer, TokenizerOptions
from aiperf.workload.vocabulary import text_source

if TYPE_CHECKING:
    from aiperf.telemetry.probe import ProbeResult

__all__ = ["Prepared", "pick_tokenizer", "prepare", "server_address"]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything a run needs, checked. `probe` None: not probed. `addresses`: of the URLs' names; empty in a dry run."""

    config: Config
    endpoint: Endpoint
    tokenizer: Tokenizer
    workload: Workload
    probe: ProbeResult | None
    notes: tuple[Note, ...] = field(default=())
    addresses: Addresses = field(default_factory=dict)


def server_address(config: Config) -> ServerAddress:
    """The first URL, with the user's headers and key, for `/tokenize`."""
    e = config.endpoint
    target = targets_of(config)[0]
    url = target.base.origin if target.base.socket is not None else target.base.at(target.root)
    model = e.model_names[0] if e.model_names else ""
    return ServerAddress(url, model, access_to(config).of_user(target.base))


def pick_tokenizer(config: Config) -> tuple[Tokenizer, list[Note]]:
    """The tokenizer the configuration asks for, or the best there is (aiperf-compatibility.md, In short)."""
    tokenizer = config.tokenizer
    options = TokenizerOptions(
        name=tokenizer.name,
        model=config.endpoint.model_names[0] if config.endpoint.model_names else "",
        revision=tokenizer.revision,
        trust_remote_code=tokenizer.trust_remote_code,
    )
    return load_tokenizer(options, server_address(config))


def prepare(config: Config, observer: Observer, *, ask_server: bool = True, content: Content | None = None) -> Prepared:
    """ConfigError, EndpointError or DatasetError before any load is sent. `ask_server` False: for --dry-run."""
    with hub_through(proxy_rule(config.endpoint.proxy, os.environ)):
        return _prepare(config, observer, ask_server=ask_server, content=content)


def _prepare(config: Config, observer: Observer, *, ask_server: bool, content: Content | None) -> Prepared:
    raise_file_limit()
    probe = None
    notes: list[Note] = [*proxy_notes(config)]
    addresses: Addresses = {}
    if ask_server:
        probe = _ask(config, observer)
        if probe is not None:
            notes += probe.notes
        addresses = choose(config)
        notes += address_notes(addresses)
    observer.stage("tokenizer")
    tokenizer, found = pick_tokenizer(config)
    notes += found
    source, found_here = text_source(tokenizer, config.prompt.prompt_corpus)
    notes += found_here
    observer.stage("workload")
    endpoint = endpoint_of(config)
    ignore_eos = probe.supports_ignore_eos if probe is not None else None
    workload = build_workload(config, tokenizer, source, seed_of(config), ignore_eos=ignore_eos, content=content)
    notes += workload.notes
    notes += _timing_notes(config, workload)
    for note in notes:
        observer.note(note.text)
    return Prepared(
        config=config,
        endpoint=endpoint,
        tokenizer=tokenizer,
        workload=workload,
        probe=probe,
        notes=tuple(notes),
        addresses=addresses,
    )


def _ask(config: Config, observer: Observer) -> ProbeResult | None:
    from aiperf.telemetry.probe import probe, reset_kv_cache, wait_for_model

    if config.endpoint.wait_for_model_timeout:
        observer.stage("waiting for the model")
        wait_for_model(config, progress=observer.stage)
    result = None
    if config.endpoint.probe:
        observer.stage("probing the server")
        result = probe(config)
    if config.endpoint.reset_kv_cache:
        observer.stage("resetting the server's prefix cache")
        reset_kv_cache(config)
    return result


def _timing_notes(config: Config, workload: Workload) -> Sequence[Note]:
    load = config.load
    if is_schedule(config, workload):
        last_s = float(workload.plan.columns["at_ns"].max()) / 1e9
        if config.input.loop or load.benchmark_duration is None or last_s >= load.benchmark_duration:
            return ()
        text = (
            f"the schedule's last request is due after {last_s:,.1f} s: the run ends with it, "
            f"before its {exact(load.benchmark_duration)} s are over (`--loop` starts over)"
        )
        return (Note("schedule_ends", text),)
    if not workload.is_timestamped:
        return ()
    match load_of(config):
        case Closed(concurrency) if not config.is_set("load.concurrency"):
            how = f"as fast as the server accepts it, {concurrency or AS_FAST_AS_POSSIBLE} in flight"
        case asked:
            how = describe(asked)
    text = (
        f"the timestamps of the trace are not used: each line is sent once, {how} (--fixed-schedule replays its timing)"
    )
    return (Note("timestamps_ignored", text),)


_DATA = re.compile(r"([A-Za-z0-9+/]{40})[A-Za-z0-9+/=]{400,}")
"""Media as base64: their beginning is enough to look at."""


def first_body(prepared: Prepared) -> str:
    """The first request's body as it will be sent."""
    from aiperf.workload.inputs import render_body

    plan = prepared.workload.plan
    text = render_body(plan, int(plan.request_rows[0]), prepared.workload.source).decode("utf-8", "replace")
    return _DATA.sub(lambda found: f"{found[1]}… ({len(found[0]):,} characters)", text)


def plan_run_dir(config: Config) -> Path:
    """Where the run wants to be; `config.resolve` has filled it in."""
    return config.output.artifact_dir or Path("artifacts") / "run"
