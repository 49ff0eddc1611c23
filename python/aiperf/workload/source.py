"""Datasets and traces by the configuration: which format, with which options, and what all formats have in common."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ValidationError

from aiperf import registry
from aiperf.config.defaults import AGENT_TRACES
from aiperf.config.model import Config, specs
from aiperf.config.scenario import repository_of
from aiperf.datasets import DatasetOptions, dataset_module
from aiperf.datasets.row_filter import parse_filters
from aiperf.errors import ConfigError, DatasetError, Note, Problem, did_you_mean
from aiperf.reading.detect import Format, detect_format, first_fields
from aiperf.reading.lines import kind_of, require_file
from aiperf.reading.records import first_record
from aiperf.session import LONGEST_NS, Pause, Session, Turn
from aiperf.traces import TraceTable, trace_module
from aiperf.traces.agents import AgentTable
from aiperf.traces.formats.baseten_trace import is_baseten
from aiperf.traces.reading.detect import trace_formats
from aiperf.traces.replay import Replay, prepare
from aiperf.workload.synthetic import length_law
from aiperf.workload.tokenizers import Tokenizer

__all__ = ["Data", "open_data", "with_lengths"]

_LAST = ("multi_turn", "raw_payload", "single_turn", "hf")
"""Datasets tried after all others, in this order: their fields are common words."""

_SAGEMAKER = frozenset({"captureData", "eventMetadata"})
"""Fields of a captured request."""

_CHUNK = 2048
"""Sessions whose recorded answers are counted in one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A dataset or trace, opened. `replay`: of a trace; its columns are all there is if it is synthetic."""

    kind: str
    sessions: Callable[[], Iterator[Session]]
    notes: Callable[[], tuple[Note, ...]]
    """Complete when all sessions have been taken."""
    sampling: Literal["sequential", "random", "shuffle"]
    digest: str | None
    """Of the file's bytes; None for a folder or the hub."""
    replay: Replay | None = None
    limits: DatasetOptions | None = None
    agents: AgentTable | None = None
    """Of recorded agent sessions: all there is; `sessions` gives none."""


def open_data(config: Config, rng: np.random.Generator) -> Data:
    """For an input file or a public dataset. ConfigError for an option the format does not know, DatasetError for a broken file."""
    data_options = config.input
    if data_options.input_file is not None:
        require_file(data_options.input_file)
    kind = _kind(config)
    _refuse_what_is_not_its(config, kind)
    if kind in registry.names("traces"):
        return _agents(config, kind) or _trace(config, kind, rng)
    module = dataset_module(kind)
    options = _dataset_options(config, kind, module.Options)

    is_guess = data_options.input_file is not None and data_options.custom_dataset_type is None
    is_filled = is_guess and kind == "raw_payload" and config.endpoint.endpoint_type != "raw"
    count = 0

    def sessions() -> Iterator[Session]:
        nonlocal count
        for number, session in enumerate(module.load(options, rng)):
            if options.limit is not None and number >= options.limit:
                break
            count += 1
            ready = _filled(session) if is_filled else session
            yield _timed(ready, config)

    def notes() -> tuple[Note, ...]:
        return (*((_guess(config, kind, count),) if is_guess else ()), *options.notes)

    return Data(
        kind=kind,
        sessions=sessions,
        notes=notes,
        sampling=module.SAMPLING,
        digest=_digest(data_options.input_file),
        limits=options,
    )


_FILTERED = {"hf", "mooncake_hf", "exgentic"}
_BASETEN = ("open_loop_replay", "open_loop_strict", "omit_kv_hints")


def _refuse_what_is_not_its(config: Config, kind: str) -> None:
    """ConfigError for options that only another format has."""
    data_options = config.input
    problems = []
    if config.endpoint.uuid_and_strip and kind != "single_turn":
        text = f"needs a `single_turn` file, whose lines of one `session_id` are a session; the data are `{kind}`"
        problems.append(Problem(text, "--uuid-and-strip"))
    if data_options.dataset_filters and kind not in _FILTERED:
        problems.append(Problem(f"`{kind}` data have no columns to filter by", "--dataset-filter"))
    if data_options.mooncake_trace_to_hf_mapping and kind != "mooncake_hf":
        problems.append(Problem("needs `--hf-mooncake-dataset`", "--mooncake-trace-to-hf-mapping"))
    for name in _BASETEN:
        if config.is_set(f"input.{name}") and kind != "baseten_trace":
            shown = specs()[f"input.{name}"].shown
            problems.append(Problem(f"is for a `baseten_trace`; the data are `{kind}`", shown))
    if config.agentic.tool_messages and kind != "weka_trace":
        text = f"`{kind}` does not say which messages are results of tools, or has them as they are"
        problems.append(Problem(text, "--agentic-tool-messages", "leave it out: it is for `weka_trace`"))
    if config.agentic.history == "live" and kind != "weka_trace" and kind in registry.names("traces"):
        text = f"`{kind}` does not say which part of a prompt is a response, so no live one can stand in its place"
        problems.append(
            Problem(text, "--agentic-history", "leave it out, or replay a `weka_trace` or `chat_transcript`")
        )
    if problems:
        raise ConfigError(problems)


def _agents(config: Config, kind: str) -> Data | None:
    """None if it is a trace of requests that stand alone."""
    from aiperf.workload.agent_data import open_agents, path_of_agents

    table = open_agents(config, kind)
    if table is None:
        return None
    i = config.input
    is_guess = i.input_file is not None and i.custom_dataset_type is None
    notes = (*((_guess(config, kind, table.num_traces),) if is_guess else ()), *table.notes)
    digest = table.digest or _digest(path_of_agents(config))
    return Data(
        kind=kind,
        sessions=lambda: iter(()),
        notes=lambda: notes,
        sampling="sequential",
        digest=digest,
        agents=table,
    )


def _kind(config: Config) -> str:
    data_options = config.input
    if repository_of(config) is not None and data_options.input_file is None:
        return "weka_trace"
    if data_options.custom_dataset_type is not None:
        name = registry.normalise(data_options.custom_dataset_type)
        return "speed_bench" if name.startswith("speed_bench") else name
    if data_options.public_dataset is not None:
        from aiperf.datasets.formats.exgentic import PUBLIC as EXGENTIC
        from aiperf.datasets.formats.hf import ELSEWHERE

        name = registry.normalise(data_options.public_dataset)
        if name in {"mooncake_hf", "exgentic"}:
            return name
        if name in EXGENTIC:
            return "exgentic"
        if name.startswith("speed_bench_"):
            return "speed_bench"
        if name in ELSEWHERE:
            raise DatasetError(
                f"`--public-dataset {data_options.public_dataset}` cannot be downloaded from here", ELSEWHERE[name]
            )
        return "sharegpt" if name == "sharegpt" else "hf"
    path = data_options.input_file
    if path is None:
        raise DatasetError("no file is given", "give it with `--input-file`")
    return _detect(path)


def _filled(session: Session) -> Session:
    """Bodies the file does not call ready: the endpoint fills in what they lack."""
    return replace(session, turns=tuple(replace(t, fill=True) for t in session.turns))


def _guess(config: Config, kind: str, count: int) -> Note:
    """What the file was taken for, how much of it, and how to say otherwise."""
    sessions = "1 session" if count == 1 else f"{count:,} sessions"
    text = f"`{config.input.input_file}` is read as `{kind}`, {sessions} (`--custom-dataset-type` names another format)"
    return Note("format_guessed", text, {"format": kind, "count": count})


def _detect(path: Path) -> str:
    """The format of a file by its name and first record: a trace if the record has times or lengths, else a dataset."""
    if path.is_dir():
        return _detect_folder(path)
    if {".tar", ".tgz"} & {s.lower() for s in path.suffixes}:
        return "weka_trace"
    kind = kind_of(path)
    if kind == "parquet":
        return "baseten_trace" if is_baseten(path) else "hf"
    if kind == "csv":
        try:
            return detect_format(path, trace_formats(), "--custom-dataset-type")
        except DatasetError:
            return "hf"
    found = detect_format(path, _formats(), "--custom-dataset-type")
    return "chat_transcript" if found == "raw_payload" and _is_transcript(path) else found


def _is_transcript(path: Path) -> bool:
    """Messages that end with a response have been answered already: no request would be sent so."""
    from aiperf.datasets.formats.chat_transcript import is_transcript

    record = first_record(path)
    return isinstance(record, dict) and is_transcript(record)


def _formats() -> Iterator[Format]:
    """Traces, then datasets; of each, formats whose fields are common words last."""
    yield from trace_formats()
    for name in sorted(registry.names("datasets"), key=lambda n: _LAST.index(n) if n in _LAST else -1):
        yield Format(name, dataset_module(name).FIELDS, frozenset({"jsonl"}))


def _detect_folder(path: Path) -> str:
    first = next((p for p in sorted(path.iterdir()) if ".jsonl" in p.suffixes[-2:]), None)
    nested = first or next((p for p in sorted(path.rglob("*")) if p.is_file() and ".jsonl" in p.suffixes[-2:]), None)
    if nested is not None and _detected(nested, iter((_captures(),))) is not None:
        return "sagemaker_data_capture"
    if first is not None and (agents := _detected(first, trace_formats())) in AGENT_TRACES:
        return str(agents)
    if first is None:
        single = next((p for p in sorted(path.iterdir()) if p.suffix == ".json"), None)
        if single is not None:
            return detect_format(single, trace_formats(), "--custom-dataset-type")
        raise DatasetError(f"cannot read `{path}`: no `.jsonl` file in this folder")
    return "raw_payload" if "messages" in first_fields(first) else "random_pool"


def _captures() -> Format:
    """Requests captured by SageMaker, which lie in folders by hour."""
    return Format("sagemaker_data_capture", (_SAGEMAKER,), frozenset({"jsonl"}))


def _detected(path: Path, formats: Iterator[Format]) -> str | None:
    """None if no format has the file's fields."""
    with suppress(DatasetError):  # None says so
        return detect_format(path, formats, "--custom-dataset-type")
    return None


def _digest(path: Path | None) -> str | None:
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _checked(model: type[BaseModel], values: Mapping[str, object], kind: str) -> BaseModel:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False):
            name = ".".join(str(p) for p in problem["loc"])
            if problem["type"] == "extra_forbidden":
                hint = did_you_mean(name, [f for f in model.model_fields if f != "path"])
                problems.append(Problem(f"`{kind}` has no option `{name}`", "--dataset-option", hint))
            else:
                where = f"`{name}`: " if name else ""
                problems.append(Problem(f"{where}{problem['msg'].removeprefix('Value error, ')}", "--dataset-option"))
        raise ConfigError(problems) from error


def _dataset_options(config: Config, kind: str, model: type[DatasetOptions]) -> DatasetOptions:
    data_options = config.input
    values: dict[str, object] = {"path": data_options.input_file, "skip_invalid": data_options.skip_invalid}
    if kind == "random_pool":
        values["entries"] = data_options.num_dataset_entries or config.conversation.num_sessions or 100
        values["batch_size"] = config.prompt.batch_size_text
    elif data_options.num_dataset_entries is not None:
        values["limit"] = data_options.num_dataset_entries
    if kind == "speed_bench":
        values |= _speed_bench(config)
    if kind == "hf" and data_options.public_dataset is not None:
        from aiperf.datasets.formats.hf import KNOWN

        known = KNOWN.get(registry.normalise(data_options.public_dataset))
        values |= known if known is not None else {"dataset": data_options.public_dataset}
        if data_options.hf_subset is not None:
            values["subset"] = data_options.hf_subset
        if config.is_set("input.hf_split") or known is None:
            values["split"] = data_options.hf_split
    values |= _filtered(config, kind)
    if kind == "single_turn" and config.endpoint.uuid_and_strip:
        values["strip_images"] = True
    if data_options.max_context_length is not None:
        values["max_total_tokens"] = data_options.max_context_length
    if config.agentic.history is not None:
        if "history" not in model.model_fields:
            text = f"`{kind}` has no choice of history: it is made of the server's responses where the format has turns"
            raise ConfigError((Problem(text, "--agentic-history", "leave it out, or replay a `chat_transcript`"),))
        values["history"] = config.agentic.history
    options = _checked(model, {**values, **data_options.dataset_options}, kind)
    if not isinstance(options, DatasetOptions):
        raise TypeError(f"{kind}.Options is not a DatasetOptions")
    return options


def _speed_bench(config: Config) -> dict[str, object]:
    """Which part of it is named. ConfigError for a name it does not have."""
    from aiperf.datasets.formats.speed_bench import CATEGORIES, category_of, public_options

    data_options = config.input
    if data_options.input_file is not None:
        return (
            {}
            if data_options.custom_dataset_type is None
            else {"category": category_of(registry.normalise(data_options.custom_dataset_type))}
        )
    options = public_options(registry.normalise(data_options.public_dataset or ""))
    if options is None:
        hint = did_you_mean(
            registry.normalise(data_options.public_dataset or ""), [f"speed_bench_{c}" for c in CATEGORIES]
        )
        raise ConfigError(
            (Problem(f"SPEED-Bench has no part `{data_options.public_dataset}`", "--public-dataset", hint),)
        )
    return options if data_options.hf_subset is None else {**options, "subset": data_options.hf_subset}


def _filtered(config: Config, kind: str) -> dict[str, object]:
    """Options of what is read by its columns."""
    data_options = config.input
    if kind not in _FILTERED:
        return {}
    values: dict[str, object] = {}
    try:
        if data_options.dataset_filters:
            values["filters"] = parse_filters(data_options.dataset_filters)
        if data_options.mooncake_trace_to_hf_mapping:
            values["mapping"] = parse_filters(data_options.mooncake_trace_to_hf_mapping)
    except ValueError as error:
        where = (
            "--mooncake-trace-to-hf-mapping"
            if "filters" in values or not data_options.dataset_filters
            else "--dataset-filter"
        )
        raise ConfigError((Problem(str(error), where),)) from error
    if kind == "mooncake_hf" and data_options.input_file is None:
        values |= {
            "dataset": data_options.hf_mooncake_dataset,
            "split": data_options.hf_mooncake_split,
            "subset": data_options.hf_subset,
        }
    if kind == "exgentic":
        from aiperf.datasets.formats.exgentic import PUBLIC

        values["schedule"] = bool(data_options.fixed_schedule)
        if data_options.input_file is None:
            values["dataset"] = PUBLIC[registry.normalise(data_options.public_dataset or "")]
    return values


def _trace(config: Config, kind: str, rng: np.random.Generator) -> Data:
    data_options, conversation = config.input, config.conversation
    module = trace_module(kind)
    values: dict[str, object] = {
        "path": data_options.input_file,
        "block_size": data_options.isl_block_size,
        "start_offset_ms": data_options.fixed_schedule_start_offset,
        "end_offset_ms": data_options.fixed_schedule_end_offset,
        "auto_offset": data_options.fixed_schedule_auto_offset,
        "follow_times": bool(data_options.fixed_schedule),
        "speedup": data_options.replay_speedup * (data_options.synthesis_speedup_ratio or 1.0),
        "idle_gap_cap_s": data_options.idle_gap_cap_seconds
        or config.agentic.trace_idle_gap_cap_seconds
        or config.agentic.system_idle_gap_cap_seconds,
        "delay_cap_s": 0.0 if data_options.ignore_trace_delays else conversation.turn_delay_cap_seconds,
        "context_limit": data_options.max_context_length,
        "max_isl": data_options.synthesis_max_isl,
        "max_osl": data_options.synthesis_max_osl,
        "session_sample_ratio": data_options.trace_session_sample_ratio,
        "loop": bool(data_options.loop),
        "skip_invalid": data_options.skip_invalid,
    }
    if kind == "baseten_trace":
        values |= {
            "open_loop": data_options.open_loop_replay,
            "strict": data_options.open_loop_strict,
            "omit_kv_hints": data_options.omit_kv_hints,
        }
        values["force_min_tokens"] = config.endpoint.force_min_tokens
        _refuse_clashes(config)
    given = {name: value for name, value in values.items() if value is not None}
    options = _checked(module.Options, {**given, **data_options.dataset_options}, kind)
    from aiperf.traces import TraceOptions

    if not isinstance(options, TraceOptions):
        raise TypeError(f"{kind}.Options is not a TraceOptions")
    table = module.read(options.path, options)
    table = _scaled(table, config, rng)
    replay = prepare(table, options, rng)
    is_guess = data_options.custom_dataset_type is None
    notes = (*((_guess(config, kind, table.num_sessions),) if is_guess else ()), *replay.notes)
    return Data(
        kind=kind,
        sessions=replay.sessions,
        notes=lambda: notes,
        sampling="sequential",
        digest=_digest(data_options.input_file),
        replay=replay,
    )


def _scaled(table: TraceTable, config: Config, rng: np.random.Generator) -> TraceTable:
    """As the synthesis options ask for."""
    data_options = config.input
    factors = (
        data_options.synthesis_prefix_len_multiplier,
        data_options.synthesis_prefix_root_multiplier,
        data_options.synthesis_prompt_len_multiplier,
        data_options.synthesis_output_len_multiplier,
    )
    if any(f is not None for f in factors):
        from aiperf.traces.tools.synth import Scale, scale_table

        prefix, roots, prompt, output = factors
        return scale_table(
            table,
            Scale(
                requests=None,
                prefix=prefix or 1.0,
                prompt=prompt or 1.0,
                output=output or 1.0,
                rate=1.0,
                roots=roots or 1,
            ),
            rng,
        )
    return table


def _refuse_clashes(config: Config) -> None:
    """ConfigError for extra inputs that the rows of the trace would overwrite."""
    endpoint = config.endpoint
    clashes = [] if endpoint.force_min_tokens is False else [("min_tokens", "--no-force-min-tokens")]
    clashes += [] if config.input.omit_kv_hints else [(name, "--omit-kv-hints") for name in ("hash_ids", "block_size")]
    problems = [
        Problem(f"`{name}` is overwritten by each row of the trace", "--extra-inputs", f"`{flag}` sends yours")
        for name, flag in clashes
        if name in endpoint.extra_inputs
    ]
    if problems:
        raise ConfigError(problems)


def _timed(session: Session, config: Config) -> Session:
    """Think times and timestamps of a dataset by the options that apply to them."""
    c, data_options = config.conversation, config.input
    factor = 0.0 if data_options.ignore_trace_delays else c.turn_delay_ratio
    cap = None if c.turn_delay_cap_seconds is None else round(c.turn_delay_cap_seconds * 1e9)
    if factor == 1 and cap is None and data_options.replay_speedup == 1:
        return session

    def timed(turn: Turn) -> Turn:
        delay = round(turn.delay_ns * factor)
        at = None if turn.at_ns is None else round(turn.at_ns / data_options.replay_speedup)
        most = delay if cap is None else min(delay, cap)
        return replace(turn, delay_ns=most, at_ns=at, silent=None if turn.silent is None else paused(turn.silent))

    def paused(pause: Pause) -> Pause:
        most = LONGEST_NS if cap is None else cap
        return replace(pause, **{n: min(round(getattr(pause, n) * factor), most) for n in ("min_ns", "max_ns")})

    return replace(session, turns=tuple(timed(t) for t in session.turns))


def with_lengths(
    sessions: Iterator[Session],
    config: Config,
    limits: DatasetOptions | None,
    tokenizer: Tokenizer,
    rng: np.random.Generator,
) -> Iterator[Session]:
    """Output lengths where the data give none: `--osl` if the user gave it, else the tokens of the recorded answer. Sessions
    out of the dataset's limits are left out, with a note.
    """
    law = length_law(config) if config.prompt.osl_mean is not None or config.prompt.seq_dist is not None else None
    left_out: Counter[str] = Counter()
    total = 0
    for chunk in _chunks(sessions):
        answers = [t.expected for s in chunk for t in s.turns if t.expected is not None]
        tokens = dict(zip(answers, tokenizer.count(answers).tolist(), strict=True)) if answers else {}
        prompts = _first_prompts(chunk, limits, tokenizer)
        for session, prompt in zip(chunk, prompts, strict=True):
            total += 1
            answer = tokens.get(session.turns[0].expected or "") if session.turns else None
            if limits is not None and (why := _out_of(limits, prompt, answer or session.turns[0].osl)):
                left_out[why] += 1
                continue
            turns = []
            for turn in session.turns:
                osl = turn.osl
                if osl is None and (turn.payload is None or turn.fill):
                    drawn = law.draw(1, rng)[1] if law is not None else None
                    osl = int(drawn[0]) if drawn is not None else tokens.get(turn.expected or "")
                turns.append(turn if osl == turn.osl else replace(turn, osl=osl))
            yield replace(session, turns=tuple(turns))
    if left_out and limits is not None:
        count = left_out.total()
        reasons = ", ".join(f"{n:,} with {why}" for why, n in left_out.most_common())
        text = f"{count:,} of {total:,} sessions left out: {reasons}; `--dataset-option NAME=N` sets these limits"
        limits.note("out_of_limits", text, count=count, reasons=dict(left_out))


def _chunks(sessions: Iterator[Session]) -> Iterator[list[Session]]:
    chunk: list[Session] = []
    for session in sessions:
        chunk.append(session)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _first_prompts(chunk: list[Session], limits: DatasetOptions | None, tokenizer: Tokenizer) -> list[int | None]:
    """Tokens of each session's first request, where a limit asks for it and it is text."""
    if limits is None or (limits.min_tokens, limits.max_prompt_tokens, limits.max_total_tokens) == (None, None, None):
        return [None] * len(chunk)
    texts = [
        " ".join(p for m in s.turns[0].messages for part in (m.parts, *m.more) for p in part if isinstance(p, str))
        for s in chunk
    ]
    return list(tokenizer.count(texts).tolist())


def _out_of(limits: DatasetOptions, prompt: int | None, answer: int | None) -> str | None:
    """Which limit the session breaks; None if it keeps all."""
    if prompt is None:
        return None
    least, longest, most = limits.min_tokens, limits.max_prompt_tokens, limits.max_total_tokens
    if least is not None and prompt < least:
        return f"a prompt under {least:,} tokens (min_tokens)"
    if least is not None and (answer or least) < least:
        return f"an answer under {least:,} tokens (min_tokens)"
    if longest is not None and prompt > longest:
        return f"a prompt over {longest:,} tokens (max_prompt_tokens)"
    if most is not None and prompt + (answer or 0) > most:
        return f"prompt and answer over {most:,} tokens (max_total_tokens)"
    return None
