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
        "llamacpp:requests_processing": Mapped(name="requests_running", kind="gauge", unit="requests"),
        "llamacpp:requests_deferred": Mapped(name="requests_waiting", kind="gauge", unit="requests"),
        "llamacpp:kv_cache_usage_ratio": Mapped(name="kv_cache_usage", kind="gauge", unit="ratio", combine="mean"),
        "llamacpp:kv_cache_tokens": Mapped(name="kv_cache_tokens", kind="gauge", unit="tokens"),
        "llamacpp:prompt_tokens": Mapped(name="computed_prompt_tokens", kind="counter", unit="tokens"),
        "llamacpp:prompt_tokens_cached": Mapped(name="prefix_cache_hits", kind="counter", unit="tokens"),
        "llamacpp:tokens_predicted": Mapped(name="generation_tokens", kind="counter", unit="tokens"),
        "llamacpp:prompt_seconds": Mapped(name="prefill_seconds", kind="counter", unit="s"),
        "llamacpp:tokens_predicted_seconds": Mapped(name="decode_seconds", kind="counter", unit="s"),
        "llamacpp:n_decode": Mapped(name="decode_calls", kind="counter", unit="calls"),
        "llamacpp:n_busy_slots_per_decode": Mapped(name="busy_slots", kind="gauge", unit="slots", combine="mean"),
    },
)
