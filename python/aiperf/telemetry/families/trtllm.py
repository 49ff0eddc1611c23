"""TensorRT-LLM: `trtllm_*` on `/prometheus/metrics` of `trtllm-serve` (its `/metrics` is JSON), `trtllm:*` under Dynamo.

https://nvidia.github.io/TensorRT-LLM/commands/trtllm-serve/. With `return_perf_metrics: true`. It has no token counters; running
and waiting requests are in releases after 1.1 only.
"""

from __future__ import annotations

from aiperf.telemetry import Family, Mapped

__all__ = ["FAMILY"]

_METRICS = {
    "num_requests_running": Mapped("requests_running", "gauge", "requests"),
    "num_requests_waiting": Mapped("requests_waiting", "gauge", "requests"),
    "kv_cache_utilization": Mapped("kv_cache_usage", "gauge", "ratio", combine="mean"),
    "kv_cache_hit_rate": Mapped("prefix_hit_rate", "gauge", "ratio", combine="mean"),
    "kv_cache_reused_blocks": Mapped("prefix_cache_hit_blocks", "counter", "blocks"),
    "kv_cache_missed_blocks": Mapped("prefix_cache_missed_blocks", "counter", "blocks"),
    "request_success": Mapped("requests", "counter", "requests"),
    "time_to_first_token_seconds": Mapped("time_to_first_token", "histogram", "s"),
    "time_per_output_token_seconds": Mapped("time_per_output_token", "histogram", "s"),
    "e2e_request_latency_seconds": Mapped("request_latency", "histogram", "s"),
    "request_queue_time_seconds": Mapped("queue_time", "histogram", "s"),
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
