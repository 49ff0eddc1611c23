"""The command line: `main(argv)` finds the command, runs it, and turns errors into `error: …` / `hint: …` and an exit code.

A command is one file, `cli/<name>.py`, and one line in `COMMANDS`; it appears as soon as its file is there. The file imports
heavy modules inside its functions, writes data to stdout and everything else to stderr, and raises `AIPerfError`. Its entry
(the part behind the colon in `COMMANDS`) is one of

* `command`: an annotated function (`cli/command.py`), or `app`: `Commands` with such functions. What it returns, an int or None
  (0), is the exit code.
* `run(argv) -> int`: parses by itself. `profile`, `report` and `kube`, whose options are the fields of a model.

`aiperf --help` imports none of them, `aiperf profile --help` only the configuration's model (docs/dev/2026-11-24-cli.md).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["COMMANDS", "Command", "available", "main"]


@dataclass(frozen=True, slots=True)
class Command:
    """`target`: `module:attribute` within this package. `is_alias`: AIPerf's name for a command of ours, not in the help."""

    name: str
    target: str
    summary: str
    is_alias: bool = False

    @property
    def exists(self) -> bool:
        return Path(__file__).with_name(self.target.partition(":")[0] + ".py").exists()


COMMANDS: tuple[Command, ...] = (
    Command("profile", "profile:run", "Measure a server: load, latency, throughput, goodput"),
    Command("report", "report:run", "Recompute the report from a run's records"),
    Command("merge", "merge:command", "Join the parts of a run that several machines sent"),
    Command("compare", "compare:command", "Compare runs, with significance tests"),
    Command("plot", "plot:command", "Draw charts of one or several runs"),
    Command("view", "view:command", "Browse a folder of runs"),
    Command("config", "config:app", "Write, check and expand configuration files for `profile --config`"),
    Command("trace", "trace:app", "Statistics, cuts, synthesis, checks and hashing of traces"),
    Command("capture", "capture:command", "Pass requests on to a server and write a shareable trace of them"),
    Command("sim", "sim:command", "Run a simulated LLM server, for tests and dry runs"),
    Command("cache", "cache:run", "Measure what the server's prefix cache saves and how many tokens it holds"),
    Command("capacity", "capacity:command", "Maximum load this machine can generate without distorting results"),
    Command("kv", "kv:run", "Measure how much the server's KV cache holds and what happens when it is full"),
    Command("explain", "explain:command", "Definition, formula, unit and provenance of a metric"),
    Command("explain-request", "explain_request:command", "Where the time of single requests went"),
    Command("kube", "kube:run", "Run inside a Kubernetes cluster: manifest, run, status, logs, collect"),
    Command("chat", "chat:command", "Talk to a server in the terminal, with the timings of each response"),
    Command("plugins", "plugins:command", "List plug-ins, or check that all can be used"),
    Command("analyze", "analyze:app", "Pages about what a run sent and received"),
    Command("speed-bench-report", "speed_bench_report:command", "SPEED-Bench categories side by side"),
    Command("completion", "completion:command", "Completion script for bash, zsh or fish"),
    Command("analyze-trace", "trace:analyze_trace", "AIPerf's name for `trace stats`", is_alias=True),
    Command("synthesize", "trace:synthesize", "AIPerf's name for `trace synth`", is_alias=True),
    Command("validate", "trace:validate", "AIPerf's name for `trace validate`", is_alias=True),
)


def available() -> dict[str, Command]:
    """Commands whose file is there, by name."""
    return {c.name: c for c in COMMANDS if c.exists}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; None: this process's. Returns the exit code (`aiperf.errors.ExitCode`)."""
    from aiperf.cli.screen import endings_as_interrupts, screens

    # Plug-ins of pydantic (tracing of validation) are looked for in the metadata of everything that is installed: 40 ms of each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    words = list(sys.argv[1:] if argv is None else argv)
    with screens() as both, endings_as_interrupts():
        code = _run(words)
        failure = both.failure
        if failure is not None:
            print(f"error: cannot write to stdout: {failure.strerror or failure}", file=sys.stderr)
            # What `profile` and `report` make is files; of the other commands the output is all there is.
            if code == 0 and words[:1] not in (["profile"], ["report"]):
                return 1
    return code


def _run(words: list[str]) -> int:
    try:
        return _dispatch(words)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 - the last place that can report it
        from aiperf.cli.message import report_error

        return report_error(error)


def _dispatch(words: list[str]) -> int:
    first = words[0] if words else "--help"
    if first == "--version":
        from aiperf.version import __version__

        print(__version__)
        return 0
    if first in {"--help", "-h", "help"}:
        if len(words) > 1 and not words[1].startswith("-"):
            return _dispatch([words[1], "--help"])
        print(_overview())
        return 0
    commands = available()
    command = commands.get(first.replace("_", "-"))
    if command is None:
        from aiperf.errors import ConfigError, did_you_mean

        what = "option" if first.startswith("-") else "command"
        hint = did_you_mean(first, commands, "`aiperf --help` lists the commands")
        raise ConfigError(f"there is no {what} `{first}`", hint)
    return _call(command, words[1:])


def _call(command: Command, argv: list[str]) -> int:
    import importlib

    module, _, attribute = command.target.partition(":")
    entry = getattr(importlib.import_module(f"aiperf.cli.{module}"), attribute)
    if attribute == "run":
        return int(entry(argv))
    from aiperf.cli.command import Commands, run_function

    return entry.run(argv) if isinstance(entry, Commands) else run_function(entry, f"aiperf {command.name}", argv)


def _overview() -> str:
    from aiperf.cli.style import bold

    commands = [c for c in available().values() if not c.is_alias]
    width = max(len(c.name) for c in commands)
    lines = [
        "Measure generative-AI inference servers: load, latency, throughput, goodput",
        "",
        f"{bold('Usage:')} aiperf COMMAND [OPTIONS]",
        "",
        bold("Commands"),
        *(f"  {c.name.ljust(width)}  {c.summary}" for c in commands),
        "",
        bold("Options"),
        f"  {'--help'.ljust(width)}  Show this help, or that of a command: `aiperf profile --help`",
        f"  {'--version'.ljust(width)}  Print the version",
        "",
        bold("Start here"),
        "  aiperf profile --model NAME --url localhost:8000 --streaming --concurrency 10 --isl 1000 --osl 500",
        "  aiperf sim                 # no server available: a simulated one",
    ]
    return "\n".join(lines)
