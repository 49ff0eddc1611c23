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
        "tgi_batch_current_size": Mapped(name="requests_running", kind="gauge", unit="requests"),
        "tgi_queue_size": Mapped(name="requests_waiting", kind="gauge", unit="requests"),
        "tgi_request_success": Mapped(name="requests", kind="counter", unit="requests"),
        "tgi_request_input_length": Mapped(name="prompt_tokens", kind="counter", unit="tokens", part="sum"),
        "tgi_request_generated_tokens": Mapped(name="generation_tokens", kind="counter", unit="tokens", part="sum"),
        "tgi_request_duration": Mapped(name="request_latency", kind="histogram", unit="s"),
        "tgi_request_queue_duration": Mapped(name="queue_time", kind="histogram", unit="s"),
        "tgi_request_inference_duration": Mapped(name="inference_time", kind="histogram", unit="s"),
        "tgi_request_failure": Mapped(name="rejected_requests", kind="counter", unit="requests"),
        "tgi_batch_next_size": Mapped(name="batch_size_histogram", kind="histogram", unit="requests"),
        "tgi_request_mean_time_per_token_duration": Mapped(name="time_per_output_token", kind="histogram", unit="s"),
    },
)
