"""Errors of the whole package, one tree:

AIPerfError (exit code 1)
├── ConfigError (2)     flags, files of settings, impossible combinations; holds every problem found
├── DatasetError (2)    a dataset or trace cannot be read or makes no sense
├── EndpointError (2)   the server does not answer, lacks the path or the model, or refuses the key
├── EngineError (1)     the native engine could not start or go on
└── ResultError (1)     a run directory cannot be read or written

A failed *request* is not an exception: it is a row with `error_kind` (see `ErrorKind`) and `error_message`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar

__all__ = [
    "AIPerfError",
    "ConfigError",
    "DatasetError",
    "EndpointError",
    "EngineError",
    "ErrorKind",
    "ExitCode",
    "Note",
    "Problem",
    "ResultError",
    "did_you_mean",
    "nearest",
]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, None if none is."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(known), n=1)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str], otherwise: str | None = None) -> str | None:
    """The hint of an error about a wrong name: the nearest one, else `otherwise` ("": no hint), else all that are known."""
    names = list(known)
    near = nearest(word, names)
    if near is not None:
        return f"did you mean `{near}`?"
    if otherwise is None and names:
        return "known: " + ", ".join(f"`{n}`" for n in names)
    return otherwise or None


class ExitCode(IntEnum):
    """Exit codes; where several hold: INTERRUPTED, then REQUESTS_FAILED, then THRESHOLD_MISSED."""

    OK = 0
    ERROR = 1
    USAGE = 2
    THRESHOLD_MISSED = 3
    REQUESTS_FAILED = 4
    INTERRUPTED = 130


class AIPerfError(Exception):
    """`message` says what happened and where, `hint` what to do."""

    exit_code: ClassVar[ExitCode] = ExitCode.ERROR

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration. `where`: the flag, variable or `file:line` the value came from."""

    message: str
    where: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """A warning as a value: shown once, written to `run.json`. `kind` is stable and for machines, `text` one line for people, `hint`
    what to do, `data` the figures behind it.
    """

    kind: str
    text: str
    data: Mapping[str, object] = field(default_factory=dict)
    hint: str | None = None


class ConfigError(AIPerfError):
    """Every problem found, not only the first."""

    exit_code = ExitCode.USAGE

    def __init__(self, problems: Sequence[Problem] | str, hint: str | None = None) -> None:
        found = (Problem(problems, hint=hint),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(f"{p.where}: {p.message}" if p.where else p.message for p in found), hint)
        self.problems = found


class DatasetError(AIPerfError):
    exit_code = ExitCode.USAGE


class EndpointError(AIPerfError):
    """Every problem found, of all URLs; one if it is made from a message."""

    exit_code = ExitCode.USAGE

    def __init__(self, problems: Sequence[Problem] | str, hint: str | None = None) -> None:
        found = (Problem(problems, hint=hint),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(p.message for p in found), found[0].hint if len(found) == 1 else hint)
        self.problems = found


class EngineError(AIPerfError):
    pass


class ResultError(AIPerfError):
    pass


class ErrorKind(IntEnum):
    """Why a request failed; the numbers are stable and equal to the engine's (`crates/engine/src/error.rs`)."""

    OK = 0
    CONNECT = 1
    TLS = 2
    TIMEOUT = 3
    HTTP_STATUS = 4
    CUT = 5
    MALFORMED = 6
    ERROR_IN_REPLY = 7
    EMPTY_REPLY = 8
    CANCELLED = 9
    DNS = 10
    FD_LIMIT = 11
    PORT_EXHAUSTED = 12
    SEND = 13
    CONNECT_TIMEOUT = 14
    GRACE = 15
    INTERRUPTED = 16
    CONTEXT_OVERFLOW = 17
    DEPENDENCY = 18
    TOO_LONG = 19
