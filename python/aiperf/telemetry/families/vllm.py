"""vLLM: `vllm:*` on `/metrics`. https://docs.vllm.ai/en/latest/usage/metrics.html

Since V1 the KV and prefix metrics have no `gpu_` in their names; both spellings are known. Token counts of the prefix cache are
tokens, not blocks. Aborted requests are in no `request_success`. The simulated server speaks the same names.
"""

from __future__ import annotations

from aiperf.telemetry import Family, Mapped

__all__ = ["FAMILY"]

_KV = Mapped("kv_cache_usage", "gauge", "ratio", combine="mean")

FAMILY = Family(
    name="vllm",
    title="vLLM",
    prefixes=("vllm:",),
    owners=("vllm",),
    accepts_ignore_eos=True,
    has_tokenize=True,
    metrics={
        "vllm:num_requests_running": Mapped("requests_running", "gauge", "requests"),
        "vllm:num_requests_waiting": Mapped("requests_waiting", "gauge", "requests"),
        "vllm:num_requests_swapped": Mapped("requests_swapped", "gauge", "requests"),
        "vllm:kv_cache_usage_perc": _KV,
        "vllm:gpu_cache_usage_perc": _KV,
        "vllm:prompt_tokens": Mapped("prompt_tokens", "counter", "tokens"),
        "vllm:generation_tokens": Mapped("generation_tokens", "counter", "tokens"),
        "vllm:request_success": Mapped("requests", "counter", "requests"),
        "vllm:num_preemptions": Mapped("preemptions", "counter", "preemptions"),
        "vllm:prefix_cache_queries": Mapped("prefix_cache_queries", "counter", "tokens"),
        "vllm:gpu_prefix_cache_queries": Mapped("prefix_cache_queries", "counter", "tokens"),
        "vllm:prefix_cache_hits": Mapped("prefix_cache_hits", "counter", "tokens"),
        "vllm:gpu_prefix_cache_hits": Mapped("prefix_cache_hits", "counter", "tokens"),
        "vllm:spec_decode_num_draft_tokens": Mapped("draft_tokens", "counter", "tokens"),
        "vllm:spec_decode_num_accepted_tokens": Mapped("accepted_tokens", "counter", "tokens"),
        "vllm:time_to_first_token_seconds": Mapped("time_to_first_token", "histogram", "s"),
        "vllm:inter_token_latency_seconds": Mapped("inter_token_latency", "histogram", "s"),
        "vllm:time_per_output_token_seconds": Mapped("inter_token_latency", "histogram", "s"),
        "vllm:request_time_per_output_token_seconds": Mapped("time_per_output_token", "histogram", "s"),
        "vllm:e2e_request_latency_seconds": Mapped("request_latency", "histogram", "s"),
        "vllm:request_queue_time_seconds": Mapped("queue_time", "histogram", "s"),
        "vllm:request_prefill_time_seconds": Mapped("prefill_time", "histogram", "s"),
        "vllm:request_decode_time_seconds": Mapped("decode_time", "histogram", "s"),
    },
)
