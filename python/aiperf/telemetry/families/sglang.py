"""SGLang: `sglang:*` on `/metrics`, with `--enable-metrics`. https://docs.sglang.ai/references/production_metrics.html

Gauges are per data-parallel rank. Releases after 0.5 also write `sglang_…`; the colon is the documented form. `cached_tokens`
may be split by `cache_source`. `cache_hit_rate` is of the last prefill batch only, no figure of the run.
"""

from __future__ import annotations

from aiperf.telemetry import Family, Mapped

__all__ = ["FAMILY"]

_METRICS: dict[str, Mapped | tuple[Mapped, ...]] = {
    "num_running_reqs": Mapped(name="requests_running", kind="gauge", unit="requests"),
    "num_queue_reqs": Mapped(name="requests_waiting", kind="gauge", unit="requests"),
    "token_usage": Mapped(name="kv_cache_usage", kind="gauge", unit="ratio", combine="mean"),
    "num_used_tokens": Mapped(name="kv_cache_tokens", kind="gauge", unit="tokens"),
    "kv_used_tokens": Mapped(name="kv_cache_tokens", kind="gauge", unit="tokens"),
    "cache_hit_rate": Mapped(name="last_batch_hit_rate", kind="gauge", unit="ratio", combine="mean"),
    "gen_throughput": Mapped(name="generation_throughput", kind="gauge", unit="tokens/s"),
    "prompt_tokens": (
        Mapped(name="prompt_tokens", kind="counter", unit="tokens"),
        Mapped(name="prefix_cache_queries", kind="counter", unit="tokens"),
    ),
    "generation_tokens": Mapped(name="generation_tokens", kind="counter", unit="tokens"),
    "cached_tokens": Mapped(name="prefix_cache_hits", kind="counter", unit="tokens"),
    "num_requests": Mapped(name="requests", kind="counter", unit="requests"),
    "num_retracted_requests": Mapped(name="preemptions", kind="counter", unit="preemptions"),
    "num_aborted_requests": Mapped(name="aborted_requests", kind="counter", unit="requests"),
    "spec_accept_rate": Mapped(name="last_acceptance_rate", kind="gauge", unit="ratio", combine="mean"),
    "spec_accept_length": Mapped(name="acceptance_length", kind="gauge", unit="tokens", combine="mean"),
    "per_stage_req_latency_seconds": (
        Mapped(name="prefill_time", kind="histogram", unit="s", where={"stage": "prefill_forward"}),
        Mapped(name="decode_time", kind="histogram", unit="s", where={"stage": "decode_forward"}),
    ),
    "time_to_first_token_seconds": Mapped(name="time_to_first_token", kind="histogram", unit="s"),
    "inter_token_latency_seconds": Mapped(name="inter_token_latency", kind="histogram", unit="s"),
    "time_per_output_token_seconds": Mapped(name="inter_token_latency", kind="histogram", unit="s"),
    "e2e_request_latency_seconds": Mapped(name="request_latency", kind="histogram", unit="s"),
    "queue_time_seconds": Mapped(name="queue_time", kind="histogram", unit="s"),
}

FAMILY = Family(
    name="sglang",
    title="SGLang",
    prefixes=("sglang:", "sglang_"),
    owners=("sglang",),
    identity=("/get_model_info", "model_path"),
    accepts_ignore_eos=True,
    any_model=True,
    has_tokenize=True,
    metrics={f"sglang{sign}{name}": mapped for sign in ":_" for name, mapped in _METRICS.items()},
)
