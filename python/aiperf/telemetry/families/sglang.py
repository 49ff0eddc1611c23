"""SGLang: `sglang:*` on `/metrics`, with `--enable-metrics`. https://docs.sglang.ai/references/production_metrics.html

Gauges are per data-parallel rank. Releases after 0.5 also write `sglang_…`; the colon is the documented form. `cached_tokens`
may be split by `cache_source`. `cache_hit_rate` is of the last prefill batch only, no figure of the run.
"""

from __future__ import annotations

from aiperf.telemetry import Family, Mapped

__all__ = ["FAMILY"]

_METRICS: dict[str, Mapped | tuple[Mapped, ...]] = {
    "num_running_reqs": Mapped("requests_running", "gauge", "requests"),
    "num_queue_reqs": Mapped("requests_waiting", "gauge", "requests"),
    "token_usage": Mapped("kv_cache_usage", "gauge", "ratio", combine="mean"),
    "num_used_tokens": Mapped("kv_cache_tokens", "gauge", "tokens"),
    "cache_hit_rate": Mapped("last_batch_hit_rate", "gauge", "ratio", combine="mean"),
    "gen_throughput": Mapped("generation_throughput", "gauge", "tokens/s"),
    "prompt_tokens": (
        Mapped("prompt_tokens", "counter", "tokens"),
        Mapped("prefix_cache_queries", "counter", "tokens"),
    ),
    "generation_tokens": Mapped("generation_tokens", "counter", "tokens"),
    "cached_tokens": Mapped("prefix_cache_hits", "counter", "tokens"),
    "num_requests": Mapped("requests", "counter", "requests"),
    "num_retracted_requests": Mapped("preemptions", "counter", "preemptions"),
    "time_to_first_token_seconds": Mapped("time_to_first_token", "histogram", "s"),
    "inter_token_latency_seconds": Mapped("inter_token_latency", "histogram", "s"),
    "time_per_output_token_seconds": Mapped("inter_token_latency", "histogram", "s"),
    "e2e_request_latency_seconds": Mapped("request_latency", "histogram", "s"),
    "queue_time_seconds": Mapped("queue_time", "histogram", "s"),
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
