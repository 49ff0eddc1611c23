"""`aiperf capture`: a pass-through proxy (`crates/capture`) that writes a trace of what it passes on, until Ctrl-C."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from aiperf.config.flag import Flag

if TYPE_CHECKING:
    from aiperf.traces.tools.hash import Encode

__all__ = ["command"]


def command(
    *,
    target: Annotated[str, Flag("--target", "--url", "-u", help="URL of the server that requests are passed on to")],
    listen: Annotated[
        str, Flag(help="Address for clients: `host:port`; `:8100` listens on all interfaces; port 0: any free one")
    ] = "127.0.0.1:8100",
    output: Annotated[Path, Flag("--output", "-o", help="Trace to write, JSONL; must not exist yet")] = Path(
        "capture.jsonl"
    ),
    tokenizer: Annotated[str, Flag(help="Tokenizer of the served model: a hub name, a path, `builtin`")] = "builtin",
    block_size: Annotated[int, Flag(help="Tokens per hash id")] = 64,
    salt: Annotated[
        str | None, Flag(help="Secret salt; the same salt gives the same ids; default: random, not stored")
    ] = None,
    session_header: Annotated[
        list[str] | None,
        Flag(
            help="Header that names the session of a request; repeatable [X-Session-ID, X-Session-Affinity, X-Dynamo-Session-ID]",
        ),
    ] = None,
    grace: Annotated[str, Flag(help="Time that requests in flight get to end after Ctrl-C: `5s`, `500ms`")] = "5s",
    ca_file: Annotated[Path | None, Flag(help="Trust the certificate authorities of this file (PEM)")] = None,
    insecure: Annotated[bool, Flag(help="Do not verify the target's certificate")] = False,
    stats: Annotated[bool, Flag(help="Print counters as JSON at the end")] = False,
) -> int:
    """Pass requests on to a server and write a shareable trace of them: lengths, salted prefix ids, times, sessions; no text.

    Prints the URL for clients, runs until Ctrl-C. Replay: `aiperf profile --input-file capture.jsonl --fixed-schedule`.
    """
    from aiperf.traces.capture import DEFAULT_HEADERS, CaptureSettings, finish, report, serve, start

    settings = CaptureSettings(
        target=target,
        listen=listen,
        output=output,
        tokenizer=tokenizer,
        block_size=block_size,
        salt=salt,
        session_headers=tuple(session_header) if session_header else DEFAULT_HEADERS,
        grace=grace,
        ca_file=ca_file,
        insecure=insecure,
    )
    encode = _encoder(tokenizer)
    capture = start(settings, builtin=encode is None)
    print(capture.url, flush=True)
    print(f"passing requests on to {settings.shown_target}, writing `{output}`; Ctrl-C ends", file=sys.stderr)
    try:
        serve(capture, encode, lambda text: print(f"warning: {text}", file=sys.stderr))
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)
    finish(capture, encode, settings.grace_s)
    if stats:
        print(capture.stats())
    lines, code = report(capture, settings)
    for line in lines:
        print(line, file=sys.stderr)
    return code


def _encoder(name: str) -> Encode | None:
    """None: the native one."""
    from aiperf.workload.choose_tokenizer import load_tokenizer
    from aiperf.workload.tokenizers import TokenizerOptions

    if name == "builtin":
        return None
    found, notes = load_tokenizer(TokenizerOptions(name=name, model=name))
    for note in notes:
        print(f"note: {note.text}", file=sys.stderr)
    return found.encode
