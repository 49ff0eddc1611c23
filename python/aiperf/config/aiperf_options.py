"""AIPerf's options that are no field of our configuration: accepted with a note, or refused with the reason.

Together with the model this covers every spelling of `aiperf profile --help` of AIPerf 0.13 (golden file
`tests/golden/cli/aiperf-0.13-flags.txt`), and with it every one of 0.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FOREIGN", "Foreign"]


@dataclass(frozen=True, slots=True)
class Foreign:
    """`values`: how many words follow the flag, `many`: all up to the next flag."""

    names: tuple[str, ...]
    values: Literal["none", "one", "many"]
    state: Literal["note", "refused"]
    reason: str


def _note(reason: str, *names: str, values: Literal["none", "one", "many"] = "one") -> Foreign:
    return Foreign(names, values, "note", reason)


def _refuse(reason: str, *flags: str, values: Literal["none", "one", "many"] = "one") -> tuple[Foreign, ...]:
    return tuple(Foreign(tuple(f.split()), values, "refused", reason) for f in flags)


_PROFILER = (
    "the server's profiler is not driven from here; post to its `/start_profile` and `/stop_profile` around the run"
)
_RANKINGS = "queries and passages are not made here; give them in a file (`--input-file`)"
_ACCURACY = "answers are not graded; `--export-outputs-json` keeps them for a grader"

FOREIGN: tuple[Foreign, ...] = (
    # Endpoint
    _note("there is one transport, HTTP", "--transport", "--transport-type"),
    *_refuse(_PROFILER, "--server-profiler", values="none"),
    *_refuse(
        _PROFILER, "--server-profiler-timeout-seconds", "--server-profiler-start-path", "--server-profiler-stop-path"
    ),
    *_refuse("bodies are JSON; set the header with `--header`", "--request-content-type"),
    *_refuse("ids of media are not sent", "--uuid-and-strip", values="none"),
    # Input
    *_refuse("filter the dataset first and give the file with `--input-file`", "--dataset-filter"),
    _note("a schedule is always replayed open-loop", "--open-loop-replay", values="none"),
    *_refuse(
        "for a closed loop leave out `--fixed-schedule` and give `--concurrency`",
        "--no-open-loop-replay",
        values="none",
    ),
    _note("late requests are sent and marked, never dropped", "--open-loop-strict", values="none"),
    _note("no hints about the KV cache are sent", "--omit-kv-hints", values="none"),
    # Output
    _note("charts need nothing that could be missing", "--plot-required", values="none"),
    # Prompts of other kinds
    *_refuse(
        _RANKINGS,
        "--rankings-passages-mean",
        "--rankings-passages-stddev",
        "--rankings-passages-prompt-token-mean",
        "--rankings-passages-prompt-token-stddev",
        "--rankings-query-prompt-token-mean",
        "--rankings-query-prompt-token-stddev",
    ),
    # Service
    _note(
        "records are written by the worker threads themselves",
        "--record-processor-service-count",
        "--record-processors",
    ),
    _note("there are no worker processes; `--workers` sets the worker threads", "--workers-max", "--max-workers"),
    _note("there is no message bus", "--zmq-host"),
    _note("there is no message bus", "--zmq-ipc-path"),
    _note("there is no message bus", "--zmq-dual-bind", values="none"),
    # Accuracy
    *_refuse(_ACCURACY, "--accuracy-benchmark", "--accuracy-n-shots", "--accuracy-grader", "--accuracy-system-prompt"),
    *_refuse(_ACCURACY, "--accuracy-tasks", values="many"),
    *_refuse(_ACCURACY, "--accuracy-enable-cot --accuracy-no-enable-cot", "--accuracy-verbose", values="none"),
    # Search
    _note("optuna's own choice is used", "--optuna-acquisition"),
    _note("the search ends by `--search-max-iterations` and its own intervals", "--optuna-terminator"),
    _note("percentiles are of all requests of a point", "--search-percentile-pooling"),
    _note("a point that misses a condition never wins", "--bo-constraint-mode"),
)
