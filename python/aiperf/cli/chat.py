"""`aiperf chat`: one conversation with a server in the terminal, each response with its timings. A first look, not a measurement."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from aiperf.config.flag import Flag

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from aiperf.workload.tokenizers import Tokenizer

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spoken:
    """A response. `first_s`: until its first text; None: there was none."""

    text: str
    first_s: float | None
    whole_s: float
    tokens: int | None


def command(
    message: Annotated[str | None, Flag(help="With --quick: the message; none: it is read from stdin")] = None,
    /,
    *,
    model: Annotated[str, Flag("--model", "-m", help="Model name served by the endpoint")],
    url: Annotated[str, Flag("--url", "-u", help="Base URL of an OpenAI-compatible server")] = "http://localhost:8000",
    system_prompt: Annotated[str | None, Flag("--system-prompt", help="System prompt of the conversation")] = None,
    quick: Annotated[
        bool, Flag("--quick", "-q", help="Send one message, print the response and its timings, and end")
    ] = False,
    history: Annotated[bool, Flag("--history", help="Send the earlier turns with each message")] = True,
    api_key: Annotated[str | None, Flag("--api-key", help="API key; default: the variable OPENAI_API_KEY")] = None,
    tokenizer: Annotated[
        str, Flag("--tokenizer", help="Counts the output tokens where the server reports no usage")
    ] = "builtin",
) -> int:
    """Talk to a server: one message per line, until an empty line, end of input or Ctrl-C."""
    from aiperf.config.resolve import config_from
    from aiperf.run.prepare import pick_tokenizer

    config = config_from({"model": model, "url": url, "tokenizer": tokenizer, "streaming": True}, check=False)
    counter, _ = pick_tokenizer(config)
    key = api_key or os.environ.get("OPENAI_API_KEY")
    turns: list[dict[str, str]] = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    start = len(turns)
    for text in _messages(message, quick=quick):
        turns.append({"role": "user", "content": text})
        spoken = _ask(url, key, model, turns, counter)
        print(_timings(spoken), file=sys.stderr)
        turns.append({"role": "assistant", "content": spoken.text})
        if not history:
            del turns[start:]
        if quick:
            break
    return 0


def _messages(message: str | None, *, quick: bool) -> Iterator[str]:
    if message is not None:
        yield message
        if quick:
            return
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line.strip():
            return
        yield line.rstrip("\n")


def _ask(url: str, key: str | None, model: str, turns: list[dict[str, str]], counter: Tokenizer) -> _Spoken:
    """Prints the text as it comes. EndpointError."""
    from urllib.error import HTTPError, URLError
    from urllib.request import ProxyHandler, Request, build_opener

    from aiperf.config.url import target_of
    from aiperf.errors import EndpointError

    target = target_of(url, "/v1/chat/completions")
    body = {"model": model, "messages": turns, "stream": True, "stream_options": {"include_usage": True}}
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    address = target.base.at(target.request_path)
    request = Request(address, json.dumps(body, allow_nan=False).encode(), headers)  # noqa: S310 - parsed as http or https just above
    # Without a proxy, as the load is.
    opener = build_opener(ProxyHandler({}))
    begin = time.monotonic()
    try:
        with opener.open(request, timeout=600) as response:
            return _read(response, begin, counter)
    except HTTPError as error:
        detail = error.read(400).decode("utf-8", "replace")
        raise EndpointError(f"`{address}` returned {error.code}: {detail}") from error
    except (URLError, OSError) as error:
        raise EndpointError(f"cannot talk to `{address}`: {getattr(error, 'reason', error)}") from error


def _read(response: HTTPResponse, begin: float, counter: Tokenizer) -> _Spoken:
    parts: list[str] = []
    first: float | None = None
    usage: int | None = None
    for raw in response:
        line = raw.decode("utf-8", "replace").strip()
        if not line.startswith("data:") or line == "data: [DONE]":
            continue
        event: dict[str, Any] = json.loads(line.removeprefix("data:"))
        usage = (event.get("usage") or {}).get("completion_tokens", usage)
        for choice in event.get("choices", []):
            delta = choice.get("delta") or {}
            piece = delta.get("content") or delta.get("reasoning_content") or ""
            if piece:
                first = time.monotonic() - begin if first is None else first
                parts.append(delta.get("content") or "")
                print(piece, end="", flush=True)
    print()
    text = "".join(parts)
    tokens = usage if usage is not None else int(counter.count([text])[0]) if text else None
    return _Spoken(text=text, first_s=first, whole_s=time.monotonic() - begin, tokens=tokens)


def _timings(spoken: _Spoken) -> str:
    if spoken.first_s is None:
        return f"no text; {spoken.whole_s * 1e3:,.0f} ms"
    parts = [f"TTFT {spoken.first_s * 1e3:,.0f} ms", f"latency {spoken.whole_s * 1e3:,.0f} ms"]
    if spoken.tokens is not None:
        parts.append(f"{spoken.tokens:,} tokens")
        decode = spoken.whole_s - spoken.first_s
        if spoken.tokens > 1 and decode > 0:
            parts.append(f"{(spoken.tokens - 1) / decode:,.1f} tokens/s")
    return ", ".join(parts)
