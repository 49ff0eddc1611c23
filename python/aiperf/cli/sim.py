"""`aiperf sim`: the simulated server (`crates/sim`), in the foreground until Ctrl-C."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from aiperf.config.flag import Flag
from aiperf.json_text import json_text

__all__ = ["build_options", "command"]


def command(
    *,
    host: Annotated[str, Flag(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, Flag(help="Port; 0 takes a free one")] = 0,
    unix: Annotated[Path | None, Flag(help="Listen on this Unix socket instead: a third of the work per chunk")] = None,
    model: Annotated[list[str] | None, Flag(help="Name on /v1/models; repeatable [sim]")] = None,
    strict_model: Annotated[bool, Flag(help="Refuse other names with 404")] = False,
    ttft: Annotated[str | None, Flag(help="Time to the first token: `50ms` or ms [0]")] = None,
    itl: Annotated[str | None, Flag(help="Gap between chunks: `5ms` or ms; 0: as fast as possible [0]")] = None,
    jitter: Annotated[float | None, Flag(help="Uniform jitter of both, ± this share [0]")] = None,
    osl: Annotated[int | None, Flag(help="Output tokens where the request asks for no maximum [16]")] = None,
    tokens_per_chunk: Annotated[str | None, Flag(help="Tokens of the chunks in turn, as `1` or `0,1,3,7` [1]")] = None,
    reasoning_tokens: Annotated[int | None, Flag(help="Number of output tokens sent first, as reasoning [0]")] = None,
    usage: Annotated[
        Literal["auto", "always", "never", "continuous"] | None, Flag(help="When streams carry usage [auto]")
    ] = None,
    context_limit: Annotated[
        int | None, Flag(help="Context limit: maximum prompt plus output tokens; longer requests get status 400")
    ] = None,
    max_running: Annotated[int | None, Flag(help="Requests served at once; others wait")] = None,
    api_key: Annotated[str | None, Flag(help="Require this API key")] = None,
    tls_cert: Annotated[Path | None, Flag(help="Serve TLS with this certificate (PEM)")] = None,
    tls_key: Annotated[Path | None, Flag(help="Private key of the TLS certificate (PEM)")] = None,
    fault: Annotated[
        list[str] | None,
        Flag(
            help='Faults to inject, JSON or short form: `{"kind":"cut","rate":0.1}`, `cut:rate=0.1`; repeatable',
        ),
    ] = None,
    preset: Annotated[str | None, Flag(help="Engine model instead of fixed times: a model on a GPU")] = None,
    block_size: Annotated[int | None, Flag(help="Engine: tokens per KV block [16]")] = None,
    num_blocks: Annotated[int | None, Flag(help="Engine: KV blocks per replica [16384, or the preset's]")] = None,
    max_num_seqs: Annotated[int | None, Flag(help="Engine: requests per batch [256, or the preset's]")] = None,
    max_num_batched_tokens: Annotated[
        int | None, Flag(help="Engine: tokens computed per step [8192, or the preset's]")
    ] = None,
    no_chunked_prefill: Annotated[bool, Flag(help="Engine: compute each prompt in one step")] = False,
    no_prefix_caching: Annotated[bool, Flag(help="Engine: never reuse KV blocks")] = False,
    preemption: Annotated[
        Literal["recompute", "swap"] | None,
        Flag(
            help="Engine: preempted requests recompute their tokens, or have their blocks swapped back in [recompute]"
        ),
    ] = None,
    cache_fault: Annotated[
        Literal["never_hits", "evicts_at_random", "leaks_after_cancel"] | None,
        Flag(
            help="Engine: break the KV cache: no prefix is ever found, eviction is random instead of LRU, or blocks of cancelled requests leak"
        ),
    ] = None,
    kv_tier: Annotated[
        list[str] | None,
        Flag(
            help="Engine: a tier below the GPU's KV cache, `BLOCKS` or `BLOCKS:MS` (per block to bring back); repeatable"
        ),
    ] = None,
    max_waiting: Annotated[int | None, Flag(help="Engine: waiting requests allowed; others get status 503")] = None,
    ledger: Annotated[Path | None, Flag(help="Write a ledger of what was really sent, as JSON lines")] = None,
    seed: Annotated[int | None, Flag(help="Random seed [0]")] = None,
    threads: Annotated[int | None, Flag(help="Event loops [1]")] = None,
    options: Annotated[str | None, Flag(help="All other options, as a JSON object or a file containing one")] = None,
    stats: Annotated[bool, Flag(help="Print counters as JSON at the end")] = False,
) -> int:
    """Serve a simulated model; prints the URL, runs until Ctrl-C."""
    given: dict[str, object] = {
        "host": host,
        "port": port,
        "unix": unix,
        "models": model,
        "strict_model": strict_model or None,
        "ttft_ms": ttft,
        "itl_ms": itl,
        "ttft_jitter": jitter,
        "itl_jitter": jitter,
        "osl": osl,
        "tokens_per_chunk": tokens_per_chunk,
        "reasoning_tokens": reasoning_tokens,
        "usage": usage,
        "context_limit": context_limit,
        "max_running": max_running,
        "api_key": api_key,
        "tls": _tls(tls_cert, tls_key),
        "faults": fault,
        "engine": {
            "preset": preset,
            "block_size": block_size,
            "num_blocks": num_blocks,
            "max_num_seqs": max_num_seqs,
            "max_num_batched_tokens": max_num_batched_tokens,
            "chunked_prefill": False if no_chunked_prefill else None,
            "prefix_caching": False if no_prefix_caching else None,
            "preemption": preemption,
            "cache_fault": cache_fault,
            "tiers": kv_tier,
            "max_waiting": max_waiting,
        },
        "ledger": ledger,
        "seed": seed,
        "threads": threads,
    }
    text = build_options(given, options)
    import threading

    from aiperf._core import SimServer

    try:
        server = SimServer(text)
    except (OSError, RuntimeError, ValueError) as error:
        from aiperf.errors import ConfigError

        raise ConfigError(
            f"the simulated server cannot start: {error}", "`aiperf sim --help` shows the options"
        ) from error
    print(server.url, flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    finally:
        counters = server.stats()
        server.stop()
        if stats:
            print(counters)
    return 0


def _tls(cert: Path | None, key: Path | None) -> dict[str, str] | None:
    from aiperf.errors import ConfigError

    if (cert is None) != (key is None):
        raise ConfigError("a certificate and its key belong together", "give both `--tls-cert` and `--tls-key`")
    return None if cert is None or key is None else {"cert": str(cert), "key": str(key)}


def build_options(given: dict[str, object], options: str | None) -> str:
    """The options object of the server as JSON: `options` (text or file), over it what was given by flags (None: not given).

    Flags of the engine go over the keys of `options`' engine, which may be a preset's name.

    ConfigError names what cannot be read. Unknown keys are refused by the server itself.
    """
    from aiperf.errors import ConfigError

    merged: dict[str, object] = {}
    if options is not None:
        text = options
        if not text.lstrip().startswith("{"):
            try:
                text = Path(options).read_text(encoding="utf-8")
            except OSError as error:
                raise ConfigError(
                    f"cannot read `{options}`: {error.strerror}", "give a JSON object or a file with one"
                ) from error
        try:
            merged = dict(json.loads(text))
        except (json.JSONDecodeError, ValueError, TypeError) as error:
            raise ConfigError(f"`--options` is not a JSON object: {error}") from error
    engine = {name: value for name, value in _mapping(given.get("engine")).items() if value is not None}
    if isinstance(engine.get("tiers"), list):
        engine["tiers"] = _value("tiers", engine["tiers"])
    if engine:
        base = merged.get("engine")
        merged["engine"] = ({"preset": base} if isinstance(base, str) else _mapping(base)) | engine
    for name, value in given.items():
        if name == "engine":
            continue
        if value is not None and (name not in merged or name not in {"host", "port"} or value not in {"127.0.0.1", 0}):
            merged[name] = _value(name, value)
    return json_text(merged)


def _mapping(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, dict) else {}


def _value(name: str, value: object) -> object:
    from aiperf.config.parse import parse_number
    from aiperf.errors import ConfigError

    try:
        if name in {"ttft_ms", "itl_ms"}:
            return parse_number(str(value), unit="ms")
        if name == "tokens_per_chunk":
            return [int(parse_number(part, whole=True)) for part in str(value).split(",")]
        if name == "tiers" and isinstance(value, list):
            return [_tier(str(text)) for text in value]
        if name == "faults" and isinstance(value, list):
            return [_fault(str(text)) for text in value]
    except ValueError as error:
        flag = {"tiers": "kv-tier", "faults": "fault"}.get(name, name.removesuffix("_ms").replace("_", "-"))
        raise ConfigError(f"--{flag}: {error}") from error
    return str(value) if isinstance(value, Path) else value


def _tier(text: str) -> dict[str, float]:
    """`BLOCKS` or `BLOCKS:MS`."""
    from aiperf.config.parse import parse_number

    blocks, _, ms = text.partition(":")
    return {"num_blocks": int(parse_number(blocks, whole=True)), "block_ms": parse_number(ms or "0", unit="ms")}


def _fault(text: str) -> dict[str, object]:
    """`kind` or `kind:name=value,…`, values as JSON where they are, or a whole JSON object."""
    if text.lstrip().startswith("{"):
        return dict(json.loads(text))
    kind, _, rest = text.partition(":")
    fault: dict[str, object] = {"kind": kind.strip().replace("-", "_")}
    for part in filter(None, rest.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"`{part}` of the fault `{text}` is not `name=value`")
        try:
            fault[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            fault[name.strip()] = value
    return fault
