"""NVIDIA Dynamo: `dynamo_frontend_*` on the Pareto frontend's `/metrics`, `dynamo_component_*` on the workers' system ports.

https://docs.nvidia.com/dynamo/latest/observability/metrics.html. A frontend has no view of the engines' batches: its requests in
flight are ours, and token counts are sums of histograms. Workers show the metrics of their engine (vllm:, sglang:, trtllm_) too:
name them with `--server-metrics`.
"""

from __future__ import annotations

from aiperf.telemetry import Family, Mapped

__all__ = ["FAMILY"]

FAMILY = Family(
    name="dynamo",
    title="Dynamo",
    prefixes=("dynamo_frontend_", "dynamo_component_"),
    accepts_ignore_eos=True,
    metrics={
        "dynamo_frontend_inflight_requests": Mapped("requests_running", "gauge", "requests"),
        "dynamo_frontend_queued_requests": Mapped("requests_waiting", "gauge", "requests"),
        "dynamo_frontend_requests": Mapped("requests", "counter", "requests"),
        "dynamo_frontend_output_tokens": Mapped("generation_tokens", "counter", "tokens"),
        "dynamo_frontend_input_sequence_tokens": (
            Mapped("prompt_tokens", "counter", "tokens", part="sum"),
            Mapped("prefix_cache_queries", "counter", "tokens", part="sum"),
        ),
        "dynamo_frontend_output_sequence_tokens": Mapped("generation_tokens", "counter", "tokens", part="sum"),
        "dynamo_frontend_cached_tokens": Mapped("prefix_cache_hits", "counter", "tokens", part="sum"),
        "dynamo_frontend_disconnected_clients": Mapped("disconnected_clients", "gauge", "clients"),
        "dynamo_frontend_time_to_first_token_seconds": Mapped("time_to_first_token", "histogram", "s"),
        "dynamo_frontend_inter_token_latency_seconds": Mapped("inter_token_latency", "histogram", "s"),
        "dynamo_frontend_request_duration_seconds": Mapped("request_latency", "histogram", "s"),
        "dynamo_component_kvstats_gpu_cache_usage_percent": Mapped("kv_cache_usage", "gauge", "ratio", combine="mean"),
        "dynamo_component_kvstats_gpu_prefix_cache_hit_rate": Mapped(
            "prefix_hit_rate", "gauge", "ratio", combine="mean"
        ),
        "dynamo_component_inflight_requests": Mapped("worker_requests", "gauge", "requests"),
    },
)
