"""How large the server's KV cache is, as far as it says so: tokens per block, and blocks.

| Server | From |
|---|---|
| vLLM, the simulated server | labels of `vllm:cache_config_info` on `/metrics`, one line per engine |
| SGLang | `page_size` and `max_total_num_tokens` of `/get_server_info` |
| TensorRT-LLM | `kvCacheStats` of the JSON on `/metrics` |
| Dynamo | `dynamo_component_kvstats_total_blocks` on `/metrics`; it does not tell the block size |
| TGI | `max_batch_total_tokens` of `/info` |
| llama.cpp | `total_slots` and `n_ctx` of `/props`: each slot keeps the last prompt it served |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aiperf.config.model import Config
from aiperf.config.secrets import is_secret_name
from aiperf.config.url import parse_url
from aiperf.endpoints import access_to, targets_of
from aiperf.telemetry.prometheus.scraper import pages_of, split_page
from aiperf.web import HttpResponse, Server

__all__ = ["KvBlocks", "read_kv_blocks"]

_LIMIT_S: Final = 3.0
_INFO: Final = re.compile(r"^(?:vllm:|vllm_)cache_config_info\{([^}]*)\}", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_DYNAMO: Final = re.compile(r"^dynamo_component_kvstats_total_blocks(?:\{[^}]*\})? +([0-9.e+]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class KvBlocks:
    """`block_size`: tokens per block; `num_blocks`: over all engines of all URLs; `engines`: how many said so. None: it is not known.

    `slots`: of a server that keeps whole prompts, how many. `source`: where it was read, "" if nowhere.
    """

    block_size: int | None = None
    num_blocks: int | None = None
    engines: int = 0
    slots: int | None = None
    source: str = ""

    @property
    def tokens(self) -> int | None:
        """Capacity in tokens."""
        return None if self.block_size is None or self.num_blocks is None else self.block_size * self.num_blocks


def read_kv_blocks(config: Config) -> KvBlocks:
    """Asks each URL; what is not known stays None. Never raises for a server that does not answer."""
    blocks: list[KvBlocks] = []
    for target in dict.fromkeys(targets_of(config)):
        server = Server(target.base, access_to(config))
        try:
            blocks.append(_read(server, target.root))
        finally:
            server.close()
    return _together([f for f in blocks if f.source] or [f for f in _named(config) if f.source])


def _named(config: Config) -> Iterator[KvBlocks]:
    """Of the pages of `--server-metrics`: those of the workers, where the measured server is a frontend. Keys are not for them."""
    access = access_to(config).without(is_secret_name)
    for page in pages_of(config, ()):
        base, path = split_page(page.url)
        server = Server(parse_url(base), access)
        try:
            reply = server.ask("GET", path, timeout_s=_LIMIT_S, accept="*/*")
            if reply.is_ok:
                yield _of_metrics(reply)
        except (OSError, ValueError):
            continue
        finally:
            server.close()


def _together(blocks: list[KvBlocks]) -> KvBlocks:
    if not blocks:
        return KvBlocks()
    sizes = {f.block_size for f in blocks}
    counts = [f.num_blocks for f in blocks]
    slots = [f.slots for f in blocks if f.slots is not None]
    return KvBlocks(
        block_size=sizes.pop() if len(sizes) == 1 else None,
        num_blocks=None if None in counts or len(sizes) > 1 else sum(c for c in counts if c is not None),
        engines=sum(f.engines for f in blocks),
        slots=sum(slots) if slots else None,
        source=blocks[0].source,
    )


def _read(server: Server, root: str) -> KvBlocks:
    def get(path: str) -> HttpResponse | None:
        try:
            reply = server.ask("GET", root + path, timeout_s=_LIMIT_S, accept="*/*")
        except (OSError, ValueError):
            return None
        return reply if reply.is_ok else None

    metrics = get("/metrics")
    if metrics is not None and (told := _of_metrics(metrics)).source:
        return told
    for path, read in _PATHS.items():
        reply = get(path)
        data = None if reply is None else reply.json()
        found = read(data) if isinstance(data, dict) else None
        if found is not None:
            return found
    return KvBlocks()


def _of_metrics(reply: HttpResponse) -> KvBlocks:
    text = reply.text
    lines = [dict(_LABEL.findall(labels)) for labels in _INFO.findall(text)]
    sizes = {_whole(line.get("block_size")) for line in lines}
    counts = [_whole(line.get("num_gpu_blocks")) for line in lines]
    if lines and len(sizes) == 1:
        known = [c for c in counts if c is not None]
        return KvBlocks(
            block_size=sizes.pop(),
            num_blocks=sum(known) if len(known) == len(counts) else None,
            engines=len(lines),
            source="`vllm:cache_config_info`",
        )
    totals = [float(v) for v in _DYNAMO.findall(text)]
    if totals:
        name = "`dynamo_component_kvstats_total_blocks`"
        return KvBlocks(num_blocks=round(sum(totals)), engines=len(totals), source=name)
    data = reply.json()
    last = data[-1] if isinstance(data, list) and data else data
    stats = last.get("kvCacheStats") if isinstance(last, dict) else None
    if isinstance(stats, dict):
        size, count = _whole(stats.get("tokensPerBlock")), _whole(stats.get("maxNumBlocks"))
        return KvBlocks(block_size=size, num_blocks=count, engines=1, source="`kvCacheStats`")
    return KvBlocks()


def _whole(value: object) -> int | None:
    try:
        number = int(float(str(value)))
    except (ValueError, OverflowError):
        return None
    return number if number > 0 else None


def _of_sglang(data: Mapping[str, object]) -> KvBlocks | None:
    states = data.get("internal_states")
    inner = states[0] if isinstance(states, list) and states and isinstance(states[0], dict) else {}
    tokens = _whole(data.get("max_total_num_tokens")) or _whole(inner.get("max_total_num_tokens"))
    if tokens is None:
        return None
    page = _whole(data.get("page_size")) or 1
    return KvBlocks(
        block_size=page, num_blocks=tokens // page, engines=1, source="`max_total_num_tokens` of `/get_server_info`"
    )


def _of_llamacpp(data: Mapping[str, object]) -> KvBlocks | None:
    slots = _whole(data.get("total_slots"))
    settings = data.get("default_generation_settings")
    context = _whole(settings.get("n_ctx")) if isinstance(settings, dict) else None
    if slots is None:
        return None
    source = "`total_slots` and `n_ctx` of `/props`"
    count = None if context is None else slots * context
    return KvBlocks(block_size=1, num_blocks=count, engines=1, slots=slots, source=source)


def _of_tgi(data: Mapping[str, object]) -> KvBlocks | None:
    tokens = _whole(data.get("max_batch_total_tokens"))
    if tokens is None:
        return None
    return KvBlocks(block_size=1, num_blocks=tokens, engines=1, source="`max_batch_total_tokens` of `/info`")


_PATHS: Final[Mapping[str, Callable[[Mapping[str, object]], KvBlocks | None]]] = {
    "/get_server_info": _of_sglang,
    "/props": _of_llamacpp,
    "/info": _of_tgi,
}
