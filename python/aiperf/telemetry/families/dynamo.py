"""NVIDIA Dynamo: `dynamo_frontend_*` on the Pareto frontend's `/metrics`, `dynamo_component_*` on the workers' system ports.

https://docs.nvidia.com/dynamo/latest/observability/metrics.html. A frontend has no view of the engines' batches, queues and KV caches:
its requests in flight are ours, those "queued" are all that have no first token yet, and token counts are sums of histograms. Workers show
the metrics of their engine (vllm:, sglang:, trtllm_) too: name them with `--server-metrics`. Names and labels as Dynamo 1.6.1 has them.
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
        "dynamo_frontend_inflight_requests": Mapped(name="requests_in_flight", kind="gauge", unit="requests"),
        "dynamo_frontend_router_queue_pending_requests": Mapped(name="router_queue", kind="gauge", unit="requests"),
        "dynamo_frontend_requests": (
            Mapped(name="requests", kind="counter", unit="requests"),
            Mapped(
                name="rejected_requests",
                kind="counter",
                unit="requests",
                where={"status": "error"},
                without={"error_type": "cancelled"},
            ),
        ),
        "dynamo_frontend_model_cancellation": Mapped(name="aborted_requests", kind="counter", unit="requests"),
        "dynamo_frontend_input_sequence_tokens": (
            Mapped(name="prompt_tokens", kind="counter", unit="tokens", part="sum"),
            Mapped(name="prefix_cache_queries", kind="counter", unit="tokens", part="sum"),
        ),
        "dynamo_frontend_output_sequence_tokens": Mapped(
            name="generation_tokens", kind="counter", unit="tokens", part="sum"
        ),
        # Of streamed completions it counts fewer tokens than were sent.
        "dynamo_frontend_output_tokens": Mapped(name="generation_tokens", kind="counter", unit="tokens"),
        "dynamo_frontend_cached_tokens": Mapped(name="prefix_cache_hits", kind="counter", unit="tokens", part="sum"),
        "dynamo_frontend_disconnected_clients": Mapped(name="disconnected_clients", kind="gauge", unit="clients"),
        "dynamo_frontend_time_to_first_token_seconds": Mapped(name="time_to_first_token", kind="histogram", unit="s"),
        "dynamo_frontend_inter_token_latency_seconds": Mapped(name="inter_token_latency", kind="histogram", unit="s"),
        "dynamo_frontend_request_duration_seconds": Mapped(name="request_latency", kind="histogram", unit="s"),
        "dynamo_component_kvstats_gpu_cache_usage_percent": Mapped(
            name="kv_cache_usage", kind="gauge", unit="ratio", combine="mean"
        ),
        "dynamo_component_kvstats_gpu_prefix_cache_hit_rate": Mapped(
            name="prefix_hit_rate", kind="gauge", unit="ratio", combine="mean"
        ),
        "dynamo_component_inflight_requests": Mapped(name="worker_requests", kind="gauge", unit="requests"),
    },
)
