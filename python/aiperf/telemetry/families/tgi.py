"""TGI: `tgi_*` on `/metrics`. https://huggingface.co/docs/text-generation-inference/reference/metrics

Token counts are sums of histograms; it has no KV gauge and no time to first token.
"""

from __future__ import annotations

from aiperf.telemetry import Family, Mapped

__all__ = ["FAMILY"]

FAMILY = Family(
    name="tgi",
    title="TGI",
    prefixes=("tgi_",),
    identity=("/info", "max_total_tokens"),
    any_model=True,
    has_tokenize=True,
    metrics={
        "tgi_batch_current_size": Mapped("requests_running", "gauge", "requests"),
        "tgi_queue_size": Mapped("requests_waiting", "gauge", "requests"),
        "tgi_request_success": Mapped("requests", "counter", "requests"),
        "tgi_request_input_length": Mapped("prompt_tokens", "counter", "tokens", part="sum"),
        "tgi_request_generated_tokens": Mapped("generation_tokens", "counter", "tokens", part="sum"),
        "tgi_request_duration": Mapped("request_latency", "histogram", "s"),
        "tgi_request_queue_duration": Mapped("queue_time", "histogram", "s"),
        "tgi_request_mean_time_per_token_duration": Mapped("time_per_output_token", "histogram", "s"),
    },
)
