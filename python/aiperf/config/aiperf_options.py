"""AIPerf's options that are no field of our configuration: accepted with a note, or refused with the reason.

Together with the model this covers every spelling of `aiperf profile --help` of AIPerf 0.13 (golden file
`tests/golden/cli/aiperf-0.13-flags.txt`), and with it every one of 0.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FOREIGN", "Foreign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """`values`: how many words follow the flag, `many`: all up to the next flag. `tool`: whose it is."""

    names: tuple[str, ...]
    values: Literal["none", "one", "many"]
    state: Literal["note", "refused"]
    reason: str
    tool: str = "AIPerf"


def _note(reason: str, *names: str, values: Literal["none", "one", "many"] = "one") -> Foreign:
    return Foreign(names=names, values=values, state="note", reason=reason)


def _refuse(reason: str, *flags: str, values: Literal["none", "one", "many"] = "one") -> tuple[Foreign, ...]:
    return tuple(Foreign(names=tuple(f.split()), values=values, state="refused", reason=reason) for f in flags)


_ACCURACY = "responses are not graded here: `--export-outputs-json` writes them for lighteval or lm-eval (docs/guide/grading.md)"

FOREIGN: tuple[Foreign, ...] = (
    # Output
    _note("charts need nothing that could be missing", "--plot-required", values="none"),
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
