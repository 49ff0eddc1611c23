"""TensorRT-LLM: `trtllm_*` on `/prometheus/metrics` of `trtllm-serve` (its `/metrics` is JSON), `trtllm:*` under Dynamo.

https://nvidia.github.io/TensorRT-LLM/commands/trtllm-serve/. With `return_perf_metrics: true`. It has no token counters; running
and waiting requests are in releases after 1.1 only.
"""

from __future__ import annotations

from aiperf.telemetry import Family, Mapped

__all__ = ["FAMILY"]

_METRICS = {
    "num_requests_running": Mapped(name="requests_running", kind="gauge", unit="requests"),
    "num_requests_waiting": Mapped(name="requests_waiting", kind="gauge", unit="requests"),
    "kv_cache_utilization": Mapped(name="kv_cache_usage", kind="gauge", unit="ratio", combine="mean"),
    "kv_cache_hit_rate": Mapped(name="prefix_hit_rate", kind="gauge", unit="ratio", combine="mean"),
    "kv_cache_reused_blocks": Mapped(name="prefix_cache_hit_blocks", kind="counter", unit="blocks"),
    "kv_cache_missed_blocks": Mapped(name="prefix_cache_missed_blocks", kind="counter", unit="blocks"),
    "request_success": Mapped(name="requests", kind="counter", unit="requests"),
    "time_to_first_token_seconds": Mapped(name="time_to_first_token", kind="histogram", unit="s"),
    "time_per_output_token_seconds": Mapped(name="time_per_output_token", kind="histogram", unit="s"),
    "e2e_request_latency_seconds": Mapped(name="request_latency", kind="histogram", unit="s"),
    "request_queue_time_seconds": Mapped(name="queue_time", kind="histogram", unit="s"),
    "request_prefill_time_seconds": Mapped(name="prefill_time", kind="histogram", unit="s"),
    "request_decode_time_seconds": Mapped(name="decode_time", kind="histogram", unit="s"),
}

FAMILY = Family(
    name="trtllm",
    title="TensorRT-LLM",
    prefixes=("trtllm_", "trtllm:"),
    owners=("tensorrt_llm", "tensorrt-llm"),
    accepts_ignore_eos=True,
    any_model=True,
    metrics={f"trtllm{sign}{name}": mapped for sign in "_:" for name, mapped in _METRICS.items()},
)
