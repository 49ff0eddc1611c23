"""llama.cpp: `llamacpp:*` on `/metrics`, with `--metrics`. https://github.com/ggml-org/llama.cpp/tree/master/tools/server

It counts tokens but not requests, and prompt tokens without those found in the cache. Builds since the unified KV cache have no
KV gauge.
"""

from __future__ import annotations

from aiperf.telemetry import Family, Mapped

__all__ = ["FAMILY"]

FAMILY = Family(
    name="llamacpp",
    title="llama.cpp",
    prefixes=("llamacpp:",),
    owners=("llamacpp",),
    servers=("llama.cpp",),
    identity=("/props", "default_generation_settings"),
    accepts_ignore_eos=True,
    any_model=True,
    has_tokenize=True,
    metrics={
        "llamacpp:requests_processing": Mapped("requests_running", "gauge", "requests"),
        "llamacpp:requests_deferred": Mapped("requests_waiting", "gauge", "requests"),
        "llamacpp:kv_cache_usage_ratio": Mapped("kv_cache_usage", "gauge", "ratio", combine="mean"),
        "llamacpp:kv_cache_tokens": Mapped("kv_cache_tokens", "gauge", "tokens"),
        "llamacpp:prompt_tokens": Mapped("computed_prompt_tokens", "counter", "tokens"),
        "llamacpp:prompt_tokens_cached": Mapped("prefix_cache_hits", "counter", "tokens"),
        "llamacpp:tokens_predicted": Mapped("generation_tokens", "counter", "tokens"),
        "llamacpp:prompt_seconds": Mapped("prefill_seconds", "counter", "s"),
        "llamacpp:tokens_predicted_seconds": Mapped("decode_seconds", "counter", "s"),
        "llamacpp:n_decode": Mapped("decode_calls", "counter", "calls"),
        "llamacpp:n_busy_slots_per_decode": Mapped("busy_slots", "gauge", "slots", combine="mean"),
    },
)
