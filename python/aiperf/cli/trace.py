"""`aiperf trace`: read, cut, make, check and share traces; and AIPerf's `analyze-trace`, `validate`, `synthesize`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from aiperf.cli.command import Commands
from aiperf.config.flag import Flag
from aiperf.errors import DatasetError
from aiperf.json_text import json_text

if TYPE_CHECKING:
    from aiperf.traces.tools.agent_sessions import SessionScale

__all__ = ["analyze_trace", "app", "synthesize", "validate"]

app = Commands(name="trace", help="Statistics, cuts, synthesis, checks and hashing of traces.")

_File = Annotated[Path, Flag(help="Trace file: JSONL, CSV or Parquet; .gz and .zst too")]
_Format = Annotated[str | None, Flag("--format", help="Trace format; default: detected from the first record")]
_Block = Annotated[int | None, Flag("--block-size", help="Tokens per hash id; default: the format's")]
_Skip = Annotated[bool, Flag("--skip-invalid", help="Skip malformed lines (they are counted)")]
_Output = Annotated[Path, Flag("--output", "-o", help="File to write; `.gz` is compressed")]


def _note(message: str) -> None:
    print(message, file=sys.stderr)


def _numbers(text: str, flag: str) -> list[int]:
    try:
        return [int(n.replace("_", "")) for n in text.split(",")]
    except ValueError as e:
        raise DatasetError(f"{flag} takes whole numbers with commas between, found `{text}`") from e


def _seconds(text: str) -> float:
    from aiperf.traces.tools.cut import parse_span

    ns = parse_span(text)
    if not ns:
        raise DatasetError(f"cannot read the window `{text}`", "for example `--window 5m`; units: ms, s, m, h")
    return ns / 1e9


@app.command
def stats(
    file: _File,
    /,
    *,
    format_name: _Format = None,
    block_size: _Block = None,
    bins: Annotated[str | None, Flag(help="Lower edges of the size bins, tokens: 0,5000,10000")] = None,
    window: Annotated[str, Flag(help="Width of the arrival windows: 5m, 30s, 1h")] = "5m",
    cache_blocks: Annotated[str | None, Flag(help="Sizes of bounded (LRU) caches, blocks: 1000,10000")] = None,
    context_limit: Annotated[int | None, Flag(help="Count requests of more tokens, input and output")] = None,
    json: Annotated[bool, Flag(help="Print JSON instead of text")] = False,
    html: Annotated[Path | None, Flag(help="Write a self-contained HTML page too")] = None,
    skip_invalid: _Skip = False,
) -> None:
    """Print what a trace is made of: totals, token lengths, sizes, arrivals, prefix reuse, sessions, findings."""
    from aiperf.traces.reading.detect import read_trace
    from aiperf.traces.tools.stats import DEFAULT_BINS, compute_stats

    _, _, table = read_trace(file, format_name, block_size=block_size, skip_invalid=skip_invalid)
    statistics = compute_stats(
        table,
        bins=_numbers(bins, "--bins") if bins else DEFAULT_BINS,
        window_s=_seconds(window),
        cache_blocks=_numbers(cache_blocks, "--cache-blocks") if cache_blocks else (),
        context_limit=context_limit,
    )
    if html is not None:
        from aiperf.traces.tools.cut import open_output
        from aiperf.traces.tools.stats_html import render_html

        page = render_html(statistics)
        with open_output(html) as out:
            out.write(page)
        _note(f"written: {html}")
    from aiperf.traces.tools.stats_text import render_json, render_text

    sys.stdout.write(render_json(statistics) if json else render_text(statistics))


@app.command
def cut(
    file: _File,
    /,
    *,
    output: _Output,
    window: Annotated[str | None, Flag(help="Part to keep, since the first request: 0m:5m, 30s:, :1h")] = None,
    every: Annotated[int, Flag(help="Keep the first of each N sessions")] = 1,
    max_tokens: Annotated[int | None, Flag(help="Skip requests with more tokens, input and output together")] = None,
    speed: Annotated[float, Flag(help="Divide all timestamps by this factor")] = 1.0,
    format_name: _Format = None,
    skip_invalid: _Skip = False,
) -> None:
    """Write a part of a trace, in the same format; its first moment becomes time 0."""
    from aiperf.traces.tools.cut import cut_trace

    done = cut_trace(
        file,
        output,
        window=window,
        every=every,
        max_tokens=max_tokens,
        speed=speed,
        format_name=format_name,
        skip_invalid=skip_invalid,
    )
    span = "" if done.duration_s is None else f" over {done.duration_s:,.1f} s"
    _note(f"written: {done.output}: {done.requests:,} of {done.of:,} requests{span}")
    if done.beyond_max_tokens:
        _note(f"left out: {done.beyond_max_tokens:,} requests of more than {max_tokens:,} tokens")


@app.command
def synth(
    file: _File,
    /,
    *,
    output: _Output,
    requests: Annotated[int | None, Flag(help="How many to write; default: as many as the trace has")] = None,
    rate: Annotated[float, Flag(help="Factor on the request rate")] = 1.0,
    prompt: Annotated[float, Flag(help="Factor on the input tokens behind the shared prefix")] = 1.0,
    prefix: Annotated[float, Flag(help="Factor on the length of shared prefixes")] = 1.0,
    osl: Annotated[float, Flag("--output-length", help="Factor on the output lengths")] = 1.0,
    roots: Annotated[int, Flag(help="Trees of prefixes, which share nothing; 1: as the trace")] = 1,
    seed: Annotated[int, Flag(help="Random seed of the synthesis")] = 0,
    format_name: _Format = None,
    block_size: _Block = None,
    skip_invalid: _Skip = False,
) -> None:
    """Write a new trace like the given one, scaled as asked; Mooncake's format, or a Weka trace like a Weka trace."""
    import numpy as np

    from aiperf.traces.reading.detect import read_trace
    from aiperf.traces.tools.agent_sessions import SessionScale, has_agents
    from aiperf.traces.tools.cut import open_output
    from aiperf.traces.tools.mooncake_lines import write_mooncake
    from aiperf.traces.tools.stats import compute_stats
    from aiperf.traces.tools.synth import Scale, synthesize

    if has_agents(file, format_name) == "weka_trace":
        others = {"--prefix": prefix, "--roots": roots}
        scale = SessionScale(requests=requests, prompt=prompt, output=osl, rate=rate)
        _synth_agents(file, output, scale, seed, [flag for flag, factor in others.items() if factor != 1])
        return
    _, _, table = read_trace(file, format_name, block_size=block_size, skip_invalid=skip_invalid)
    made = synthesize(
        table,
        Scale(requests=requests, prefix=prefix, prompt=prompt, output=osl, rate=rate, roots=roots),
        np.random.default_rng(seed),
    )
    with open_output(output) as out:
        write_mooncake(made, out)
    _note(f"written: {output}: {made.num_rows:,} requests")
    for name, of in (("source", table), ("synthetic", made)):
        statistics = compute_stats(of)
        length, reuse = statistics.input_lengths, statistics.reuse
        _note(
            f"{name}: "
            + ", ".join(
                part
                for part in (
                    f"{statistics.requests_per_minute:,.1f} requests/minute" if statistics.requests_per_minute else "",
                    f"{length.mean:,.0f} input tokens on average" if length else "",
                    f"{reuse.hit_rate:.1%} of the blocks sent before" if reuse else "",
                )
                if part
            )
        )
    if made.block_size != 512 and len(made.hash_ids):
        _note(f"its hash ids are of {made.block_size} tokens: replay it with `--isl-block-size {made.block_size}`")


def _synth_agents(file: Path, output: Path, scale: SessionScale, seed: int, refused: list[str]) -> None:
    """`refused`: flags that mean nothing here."""
    import numpy as np

    from aiperf.traces.tools.agent_sessions import read_sessions, synthesize_sessions, text_of
    from aiperf.traces.tools.cut import open_output

    if refused:
        text = f"{' and '.join(refused)} cannot be used with agent sessions"
        raise DatasetError(text, "each session has blocks of its own; `--prompt` scales whole prompts")
    source = list(read_sessions(file))
    count = 0
    with open_output(output) as out:
        for session in synthesize_sessions(source, scale, np.random.default_rng(seed)):
            out.write(text_of(session))
            count += 1
    _note(f"written: {output}: sessions {count:,}, drawn from {len(source):,}, in the source's format")


@app.named("validate")
def check(file: _File, /, *, format_name: _Format = None, block_size: _Block = None) -> None:
    """Read every line, list every broken one; exit code 2 if there is one."""
    _validate(file, format_name, block_size)


def _validate(file: Path, format_name: str | None, block_size: int | None = None) -> None:
    from aiperf.traces.tools.validate import validate_trace

    report = validate_trace(file, format_name, block_size)
    for problem in report.problems:
        sys.stdout.write(problem + "\n")
    for note in report.notes:
        _note(f"note: {note.text}")
    if not report.is_valid:
        more = report.num_problems - len(report.problems)
        raise DatasetError(
            f"`{file}` is not valid; problems: {report.num_problems:,}"
            + (f", {more:,} of them not listed" if more else ""),
            "`--skip-invalid` replays the rest",
        )
    sessions = f", sessions {report.sessions:,}" if report.sessions != report.requests else ""
    sys.stdout.write(f"valid: format {report.format}, requests {report.requests:,}{sessions}\n")


@app.named("hash")
def hash_(
    file: _File,
    /,
    *,
    output: _Output,
    tokenizer: Annotated[str, Flag(help="Tokenizer of the served model: a hub name, a path, `builtin`")],
    block_size: Annotated[int, Flag(help="Tokens per hash id")] = 512,
    salt: Annotated[
        str | None, Flag(help="Secret salt; the same salt gives the same ids; default: random, not stored")
    ] = None,
    prompt_field: Annotated[str | None, Flag(help="Field with the prompt; default: found by its name")] = None,
    rows: Annotated[
        Literal["auto", "transcripts", "prompts", "additions"],
        Flag(help="What a line is: a conversation with its responses, a whole prompt, or what a request adds"),
    ] = "auto",
    skip_invalid: _Skip = False,
) -> None:
    """Turn prompts or conversations of your own logs (JSONL) into a trace that can be shared: no text, only lengths, times and ids."""
    from aiperf.traces.tools.cut import open_output
    from aiperf.traces.tools.hash import Hasher, HashOptions, hash_prompts
    from aiperf.traces.tools.hashed_lines import write_hashed
    from aiperf.workload.choose_tokenizer import load_tokenizer
    from aiperf.workload.tokenizers import TokenizerOptions

    hasher = Hasher.create(block_size, salt)
    encoder, notes = load_tokenizer(TokenizerOptions(name=tokenizer, model=tokenizer))
    options = HashOptions(rows=rows, prompt_field=prompt_field, skip_invalid=skip_invalid)
    table = hash_prompts(file, encoder.encode, hasher, options)
    with open_output(output) as out:
        write_hashed(table, out)
    for note in (*notes, *table.notes):
        _note(f"note: {note.text}")
    _note(f"written: {output}: {table.num_rows:,} requests, {len(table.hash_ids):,} hash ids of {block_size:,} tokens")


def analyze_trace(
    input_file: Annotated[Path, Flag(help="Mooncake trace")],
    block_size: Annotated[int, Flag(help="Tokens per hash id")] = 512,
    output_file: Annotated[Path | None, Flag(help="Write the report as JSON too")] = None,
) -> None:
    """AIPerf's report of a Mooncake trace; `aiperf trace stats` says more."""
    from aiperf.traces.reading.detect import read_trace
    from aiperf.traces.tools.aiperf_report import compute_aiperf_report, render_aiperf_text

    _, _, table = read_trace(input_file, "mooncake_trace", block_size=block_size)
    report = compute_aiperf_report(table)
    sys.stdout.write(render_aiperf_text(report))
    if output_file is not None:
        from aiperf.traces.tools.cut import open_output

        with open_output(output_file) as out:
            out.write(json_text(report, indent=2))
        _note(f"Analysis report saved to {output_file}")


def validate(
    target: Annotated[Literal["mooncake-trace"], Flag(help="Format of the file")],
    input_path: Annotated[Path, Flag("--input", help="File to check")],
) -> None:
    """AIPerf's name for `aiperf trace validate`."""
    _validate(input_path, target)


def synthesize(
    target: Annotated[Literal["agentic-code"], Flag(help="What to make: sessions of coding agents")],  # noqa: ARG001
    *,
    num_sessions: Annotated[int, Flag(help="Number of sessions")] = 1000,
    output: Annotated[Path, Flag(help="Folder in which the run's folder is made")] = Path(),
    config: Annotated[Path | None, Flag(help="Settings, JSON: AIPerf's, or a manifest.json")] = None,
    seed: Annotated[int, Flag(help="Random seed of the sessions")] = 42,
    max_isl: Annotated[int | None, Flag(help="Maximum prompt length in tokens")] = None,
    max_osl: Annotated[int | None, Flag(help="Maximum response length in tokens")] = None,
) -> None:
    """Write sessions of coding agents as a Mooncake trace (AIPerf's command); `aiperf trace synth` follows a given trace."""
    from datetime import UTC, datetime

    from aiperf.traces.tools.agentic import load_options, write_dataset

    stamp = f"{datetime.now(tz=UTC):%Y%m%d-%H%M%S}"
    name = config.stem if config is not None else "default"
    folder = output / f"{name}_{num_sessions}s_seed{seed}_{stamp}"
    options = load_options(config, max_isl, max_osl)
    sessions, turns = write_dataset(folder, options, num_sessions, seed, name)
    _note(f"written: {folder / 'dataset.jsonl'}: {turns:,} turns in {sessions:,} sessions")
    _note(f"written: {folder / 'manifest.json'}, {folder / 'quality.json'}")
