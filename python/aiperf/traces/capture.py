"""Capturing traffic: the settings of `aiperf capture`, the texts that its writer asks to be tokenised, and what is said at the end.

Requests pass in native threads (`_core.Capture`); Python sees texts only where the tokenizer is Python's, in batches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aiperf._core import Capture
from aiperf.config.parse import parse_number
from aiperf.config.url import BaseUrl, UrlError, parse_url
from aiperf.errors import ConfigError, Problem
from aiperf.json_text import json_text
from aiperf.traces.tools.hash import Encode, make_salt

__all__ = ["DEFAULT_HEADERS", "CaptureSettings", "finish", "report", "serve", "start"]

DEFAULT_HEADERS = ("X-Session-ID", "X-Session-Affinity", "X-Dynamo-Session-ID")

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_POLL_S = 0.25
_FAR_OFF = 0.02
"""Share by which the tokenizer's prompt tokens may differ from the server's before that is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSettings:
    """As given on the command line."""

    target: str
    listen: str
    output: Path
    tokenizer: str
    block_size: int
    salt: str | None
    session_headers: tuple[str, ...]
    grace: str
    ca_file: Path | None
    insecure: bool

    @property
    def base(self) -> BaseUrl:
        return parse_url(self.target)

    @property
    def shown_target(self) -> str:
        return self.base.shown

    @property
    def grace_s(self) -> float:
        return parse_number(self.grace, unit="s")


def start(settings: CaptureSettings, *, builtin: bool) -> Capture:
    """The capture, listening. ConfigError with everything that is wrong with the settings; DatasetError for a salt."""
    if problems := tuple(_problems(settings)):
        raise ConfigError(problems)
    options: dict[str, object] = {
        "listen": _address(settings.listen),
        "target": settings.shown_target,
        "output": str(settings.output),
        "salt": make_salt(settings.salt).hex(),
        "block_size": settings.block_size,
        "session_headers": list(settings.session_headers),
        "ca_file": None if settings.ca_file is None else str(settings.ca_file),
        "insecure": settings.insecure,
    }
    try:
        return Capture(json_text(options), builtin=builtin)
    except FileExistsError as error:
        raise ConfigError(f"`{settings.output}` exists already", "name another file with `--output`") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"the capture cannot start: {error}", "`aiperf capture --help` shows the options") from error


def _address(listen: str) -> str:
    every = "0.0.0.0"  # noqa: S104 - what `:8100` asks for
    return f"{every}{listen}" if listen.startswith(":") else listen


def _problems(settings: CaptureSettings) -> Sequence[Problem]:
    problems = []
    try:
        base = settings.base
        if base.scheme == "unix":
            problems.append(Problem("a unix socket cannot be the target", "--target", "give a URL: `http://host:8000`"))
        if base.user is not None:
            hint = "leave it out: clients send credentials of their own, which are passed on"
            problems.append(Problem("the target's URL has a user name", "--target", hint))
    except UrlError as error:
        problems.append(Problem(error.message, "--target", error.hint))
    host, colon, port = settings.listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        hint = "for example `127.0.0.1:8100`, `[::1]:8100`, or `:8100` for all interfaces"
        problems.append(Problem(f"`{settings.listen}` is not an address with a port", "--listen", hint))
    if settings.block_size < 1:
        problems.append(Problem(f"must be at least 1 token, not {settings.block_size}", "--block-size"))
    problems += [
        Problem(f"`{name}` is not the name of a header", "--session-header")
        for name in settings.session_headers
        if not _NAME.fullmatch(name)
    ]
    try:
        if settings.grace_s < 0:
            problems.append(Problem("a time cannot be negative", "--grace"))
    except ValueError as error:
        problems.append(Problem(str(error), "--grace"))
    return problems


def serve(capture: Capture, encode: Encode | None, warn: Callable[[str], None]) -> None:
    """Until Ctrl-C: tokenises what it is asked to, and warns once when lines are lost."""
    warned = False
    while True:
        _answer(capture, encode)
        if not warned:
            stats = json.loads(capture.stats())
            if lost := _lost(stats):
                warned = True
                warn(f"{lost}; requests are passed on all the same")


def finish(capture: Capture, encode: Encode | None, grace_s: float) -> None:
    """Ends it: no connection any more, and all that has ended is written."""
    import threading

    # The writer asks on while the last requests end.
    stopping = threading.Thread(target=capture.stop, args=(grace_s,))
    stopping.start()
    while stopping.is_alive() or not capture.is_written:
        _answer(capture, encode)
    stopping.join()
    capture.wait()


def _answer(capture: Capture, encode: Encode | None) -> None:
    texts = capture.next_texts(_POLL_S)
    if texts is None or encode is None:
        return
    ids = [encode(text) for text in texts]
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum([len(i) for i in ids], out=offsets[1:])
    capture.give_tokens(offsets, np.fromiter((t for i in ids for t in i), np.uint32, int(offsets[-1])))


def _lost(stats: dict[str, object]) -> str | None:
    """What is missing in the trace, and why."""
    unwritten, lost = int(str(stats["unwritten"])), int(str(stats["lost"]))
    if stats["write_error"] is not None:
        return f"requests that could not be written: {unwritten:,} ({stats['write_error']})"
    return f"requests that came faster than they could be tokenised and written: {lost:,}" if lost else None


def report(capture: Capture, settings: CaptureSettings) -> tuple[list[str], int]:
    """Lines for the terminal, and the exit code: 1 if the trace is not complete."""
    stats = json.loads(capture.stats())
    conversations = f"conversations: {stats['conversations']:,}, requests that continue one: {stats['continued']:,}"
    lines = [
        f"requests passed on: {stats['requests']:,}, of them to generate text: {stats['generating']:,}",
        f"written: {settings.output}: {stats['rows']:,} requests, {conversations}",
    ]
    if stats["left"]:
        lines.append(f"clients that left before the response was complete: {stats['left']:,}")
    if stats["failed"]:
        lines.append(f"requests without a successful response, which a replay leaves out: {stats['failed']:,}")
    if stats["unread"]:
        lines.append(
            f"note: requests whose prompt could not be read, not in the trace: {stats['unread']:,} (first: {stats['unread_why']})"
        )
    if stats["with_media"]:
        lines.append(
            f"note: requests with images, sound or files, whose tokens are not counted: {stats['with_media']:,}"
        )
    if stats["counted"]:
        lines.append(
            f"note: responses counted by the tokenizer, because the server reported no usage: {stats['counted']:,}"
        )
    ours, theirs = stats["prompt_tokens"], stats["server_prompt_tokens"]
    if theirs and abs(ours - theirs) > _FAR_OFF * theirs:
        lines.append(
            f"note: the server counted {theirs:,} prompt tokens where `{settings.tokenizer}` counted {ours:,} ({ours / theirs - 1:+.0%}): "
            "chat templates add some; if the difference is large, name the model's own tokenizer with `--tokenizer`"
        )
    cpu = 1e6 * (stats["proxy_cpu_s"] + stats["writer_cpu_s"]) / max(1, stats["requests"])
    lines.append(
        f"CPU time per request: {cpu:,.0f} µs, of them to pass it on: {1e6 * stats['proxy_cpu_s'] / max(1, stats['requests']):,.0f} µs"
    )
    if lost := _lost(stats):
        lines.append(f"error: {lost}: the trace is not complete")
        return lines, 1
    return lines, 0
