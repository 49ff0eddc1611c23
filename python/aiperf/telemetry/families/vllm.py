"""vLLM: `vllm:*` on `/metrics`. https://docs.vllm.ai/en/latest/usage/metrics.html

Since V1 the KV and prefix metrics have no `gpu_` in their names; both spellings are known. Token counts of the prefix cache are
tokens, not blocks. Aborted requests are in no `request_success`. What was computed of a prompt is neither in the cache nor came from another
engine (`prompt_tokens_by_source`). The simulated server speaks the same names.
"""

from __future__ import annotations

from aiperf.telemetry import Family, Mapped

__all__ = ["FAMILY"]

_KV = Mapped(name="kv_cache_usage", kind="gauge", unit="ratio", combine="mean")

FAMILY = Family(
    name="vllm",
    title="vLLM",
    prefixes=("vllm:",),
    owners=("vllm",),
    accepts_ignore_eos=True,
    has_tokenize=True,
    metrics={
        "vllm:num_requests_running": Mapped(name="requests_running", kind="gauge", unit="requests"),
        "vllm:num_requests_waiting": Mapped(name="requests_waiting", kind="gauge", unit="requests"),
        "vllm:num_requests_swapped": Mapped(name="requests_swapped", kind="gauge", unit="requests"),
        "vllm:kv_cache_usage_perc": _KV,
        "vllm:gpu_cache_usage_perc": _KV,
        "vllm:prompt_tokens": Mapped(name="prompt_tokens", kind="counter", unit="tokens"),
        "vllm:prompt_tokens_by_source": Mapped(
            name="computed_prompt_tokens", kind="counter", unit="tokens", where={"source": "local_compute"}
        ),
        "vllm:generation_tokens": Mapped(name="generation_tokens", kind="counter", unit="tokens"),
        "vllm:request_success": (
            Mapped(name="requests", kind="counter", unit="requests"),
            Mapped(name="aborted_requests", kind="counter", unit="requests", where={"finished_reason": "abort"}),
        ),
        "vllm:admission_rejections": Mapped(name="rejected_requests", kind="counter", unit="requests"),
        "vllm:num_preemptions": Mapped(name="preemptions", kind="counter", unit="preemptions"),
        "vllm:external_prefix_cache_queries": Mapped(name="external_cache_queries", kind="counter", unit="tokens"),
        "vllm:external_prefix_cache_hits": Mapped(name="external_cache_hits", kind="counter", unit="tokens"),
        "vllm:prefix_cache_queries": Mapped(name="prefix_cache_queries", kind="counter", unit="tokens"),
        "vllm:gpu_prefix_cache_queries": Mapped(name="prefix_cache_queries", kind="counter", unit="tokens"),
        "vllm:prefix_cache_hits": Mapped(name="prefix_cache_hits", kind="counter", unit="tokens"),
        "vllm:gpu_prefix_cache_hits": Mapped(name="prefix_cache_hits", kind="counter", unit="tokens"),
        "vllm:spec_decode_num_draft_tokens": Mapped(name="draft_tokens", kind="counter", unit="tokens"),
        "vllm:spec_decode_num_accepted_tokens": Mapped(name="accepted_tokens", kind="counter", unit="tokens"),
        "vllm:time_to_first_token_seconds": Mapped(name="time_to_first_token", kind="histogram", unit="s"),
        "vllm:inter_token_latency_seconds": Mapped(name="inter_token_latency", kind="histogram", unit="s"),
        "vllm:time_per_output_token_seconds": Mapped(name="inter_token_latency", kind="histogram", unit="s"),
        "vllm:request_time_per_output_token_seconds": Mapped(name="time_per_output_token", kind="histogram", unit="s"),
        "vllm:e2e_request_latency_seconds": Mapped(name="request_latency", kind="histogram", unit="s"),
        "vllm:request_queue_time_seconds": Mapped(name="queue_time", kind="histogram", unit="s"),
        "vllm:request_prefill_time_seconds": Mapped(name="prefill_time", kind="histogram", unit="s"),
        "vllm:request_decode_time_seconds": Mapped(name="decode_time", kind="histogram", unit="s"),
        "vllm:request_inference_time_seconds": Mapped(name="inference_time", kind="histogram", unit="s"),
        "vllm:iteration_tokens_total": Mapped(name="iteration_tokens", kind="histogram", unit="tokens"),
    },
)
