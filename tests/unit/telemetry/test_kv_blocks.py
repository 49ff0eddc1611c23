"""The size of the KV cache, as servers of each kind say it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aiperf._core import SimServer
from aiperf.config.resolve import config_from
from aiperf.telemetry.kv_blocks import KvBlocks, read_kv_blocks

_VLLM = """# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="1000",sliding_window="None"} 1.0
vllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="1200"} 1.0
"""


@contextmanager
def serving(pages: Mapping[str, str]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = pages.get(self.path)
            self.send_response(404 if text is None else 200)
            body = (text or "").encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("pages", "size", "blocks", "slots"),
    [
        ({"/metrics": _VLLM}, 16, 2200, None),
        ({"/get_server_info": json.dumps({"page_size": 64, "max_total_num_tokens": 6500})}, 64, 101, None),
        ({"/get_server_info": json.dumps({"internal_states": [{"max_total_num_tokens": 900}]})}, 1, 900, None),
        ({"/props": json.dumps({"total_slots": 4, "default_generation_settings": {"n_ctx": 512}})}, 1, 2048, 4),
        ({"/info": json.dumps({"max_batch_total_tokens": 4096})}, 1, 4096, None),
        ({"/metrics": "dynamo_component_kvstats_total_blocks 512\n"}, None, 512, None),
        ({"/metrics": json.dumps([{"kvCacheStats": {"maxNumBlocks": 77, "tokensPerBlock": 32}}])}, 32, 77, None),
        ({"/metrics": "other 1\n"}, None, None, None),
        ({}, None, None, None),
    ],
)
def test_each_kind_of_server(pages: dict[str, str], size: int | None, blocks: int | None, slots: int | None) -> None:
    with serving(pages) as url:
        found = read_kv_blocks(config_from(model="m", url=url))
    assert (found.block_size, found.num_blocks, found.slots) == (size, blocks, slots)
    assert found.tokens == (None if size is None or blocks is None else size * blocks)


def test_blocks_of_several_urls_are_added_and_an_absent_server_costs_only_itself() -> None:
    with serving({"/metrics": _VLLM}) as one, serving({"/metrics": _VLLM}) as two:
        found = read_kv_blocks(config_from(model="m", url=[one, two, "http://127.0.0.1:9"]))
    assert (found.block_size, found.num_blocks, found.engines) == (16, 4400, 4)
    assert read_kv_blocks(config_from(model="m", url="http://127.0.0.1:9")) == KvBlocks()


def test_a_page_named_besides_is_read_where_the_server_says_nothing() -> None:
    """A frontend without figures of its own: the worker's page has them."""
    engine = json.dumps({"engine": {"block_size": 32, "num_blocks": 77}})
    with SimServer(engine) as worker:
        asked = {"model": "m", "url": "http://127.0.0.1:9", "server_metrics": (f"{worker.url}/metrics",)}
        found = read_kv_blocks(config_from(asked))
    assert (found.block_size, found.num_blocks) == (32, 77)
