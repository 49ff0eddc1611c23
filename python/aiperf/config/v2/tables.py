"""Which key of AIPerf's YAML (schema 2) is which option, place by place.

A word that begins with `--` is the option that takes the value; the options themselves check it. A `Note` has no effect here and says
why. What needs more than that is in `aiperf.config.v2.body`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = [
    "ARTIFACTS",
    "AUDIO",
    "DATASET",
    "ENDPOINT",
    "IMAGES",
    "MULTI_RUN",
    "NETWORK",
    "PHASE",
    "PHASE_ONLY",
    "PREFIXES",
    "PROMPTS",
    "RANKINGS",
    "RUNTIME",
    "SYNTHESIS",
    "TOKENIZER",
    "VIDEO",
    "WARMUP",
    "Note",
    "Table",
]


@dataclass(frozen=True, slots=True)
class Note:
    """A key that changes nothing. `reason`: understood alone."""

    reason: str


Table = Mapping[str, "str | Note"]

_BUS = Note("there are no service processes and no message bus")
_LATER = Note("nothing here depends on it")

ENDPOINT: Final[Table] = {
    "url": "--url",
    "urls": "--url",
    "url_strategy": "--url-strategy",
    "type": "--endpoint-type",
    "path": "--endpoint",
    "api_key": "--api-key",
    "timeout": "--request-timeout-seconds",
    "streaming": "--streaming",
    "transport": "--transport",
    "connection_reuse": "--connection-reuse-strategy",
    "use_legacy_max_tokens": "--use-legacy-max-tokens",
    "use_server_token_count": "--use-server-token-count",
    "per_chunk_usage": "--per-chunk-usage",
    "headers": "--header",
    "extra": "--extra-inputs",
    "download_video_content": "--download-video-content",
    "request_content_type": "--request-content-type",
    "session_header": "--session-header",
    "uuid_and_strip": "--uuid-and-strip",
    "wait_for_model_timeout": "--wait-for-model-timeout",
    "wait_for_model_interval": "--wait-for-model-interval",
    "wait_for_model_mode": "--wait-for-model-mode",
    "auth_type": "--auth-type",
    "aws_region": "--aws-region",
    "aws_profile": "--aws-profile",
    "aws_service": "--aws-service",
    "sagemaker.endpoint_name": "--sagemaker-endpoint-name",
    "sagemaker.target_model": "--sagemaker-target-model",
    "sagemaker.inference_component_name": "--sagemaker-inference-component-name",
    "sagemaker.target_variant": "--sagemaker-target-variant",
}

DATASET: Final[Table] = {
    "path": "--input-file",
    "format": "--custom-dataset-type",
    "dataset": "--public-dataset",
    "entries": "--num-dataset-entries",
    "sampling": "--dataset-sampling-strategy",
    "system_prompt": "--system-prompt",
    "system_prompt_file": "--system-prompt-file",
    "hf_subset": "--hf-subset",
    "hf_weka_dataset": "--hf-weka-dataset",
    "hf_mooncake_dataset": "--hf-mooncake-dataset",
    "hf_mooncake_split": "--hf-mooncake-split",
    "trace_session_sample_ratio": "--trace-session-sample-ratio",
    "inter_turn_delay_cap_seconds": "--inter-turn-delay-cap-seconds",
    "max_idle_gap_cap_seconds": "--max-idle-gap-cap-seconds",
    "trace_idle_gap_cap_seconds": "--trace-idle-gap-cap-seconds",
    "replay_speedup": "--replay-speedup",
    "open_loop_replay": "--open-loop-replay",
    "open_loop_strict": "--open-loop-strict",
    "omit_kv_hints": "--omit-kv-hints",
    "force_min_tokens": "--force-min-tokens",
    "prompt_batch_size": "--batch-size-text",
    "image_batch_size": "--image-batch-size",
    "audio_batch_size": "--audio-batch-size",
    "video_batch_size": "--video-batch-size",
    "block_size": "--isl-block-size",
    "ignore_trace_delays": "--ignore-trace-delays",
    "use_think_time_only": "--use-think-time-only",
    "max_context_length": "--max-context-length",
    "turn_delay_ratio": "--session-delay-ratio",
}

PROMPTS: Final[Table] = {
    "block_size": "--isl-block-size",
    "batch_size": "--batch-size-text",
    "corpus": "--prompt-corpus",
    "random_range_ratio": "--random-range-ratio",
    "random_corpus_style": "--random-corpus-style",
}

PREFIXES: Final[Table] = {
    "pool_size": "--num-prefix-prompts",
    "length": "--prefix-prompt-length",
    "shared_system_length": "--shared-system-prompt-length",
    "user_context_length": "--user-context-prompt-length",
}

SYNTHESIS: Final[Table] = {
    "speedup_ratio": "--synthesis-speedup-ratio",
    "prefix_len_multiplier": "--synthesis-prefix-len-multiplier",
    "prefix_root_multiplier": "--synthesis-prefix-root-multiplier",
    "prompt_len_multiplier": "--synthesis-prompt-len-multiplier",
    "output_len_multiplier": "--synthesis-output-len-multiplier",
    "max_isl": "--synthesis-max-isl",
    "max_osl": "--synthesis-max-osl",
    "allow_dataset_wrap": "--allow-dataset-wrap",
}

IMAGES: Final[Table] = {
    "batch_size": "--image-batch-size",
    "format": "--image-format",
    "source": "--image-source",
    "source_sampling": "--image-source-sampling",
}

AUDIO: Final[Table] = {
    "batch_size": "--audio-batch-size",
    "format": "--audio-format",
    "sample_rates": "--audio-sample-rates",
    "depths": "--audio-depths",
    "channels": "--audio-num-channels",
}

VIDEO: Final[Table] = {
    "batch_size": "--video-batch-size",
    "duration": "--video-duration",
    "fps": "--video-fps",
    "width": "--video-width",
    "height": "--video-height",
    "format": "--video-format",
    "codec": "--video-codec",
    "synth_type": "--video-synth-type",
    "audio.sample_rate": "--video-audio-sample-rate",
    "audio.channels": "--video-audio-num-channels",
    "audio.codec": "--video-audio-codec",
    "audio.depth": "--video-audio-depth",
}

RANKINGS: Final[Mapping[str, tuple[str, str]]] = {
    "passages": ("--rankings-passages-mean", "--rankings-passages-stddev"),
    "passage_tokens": ("--rankings-passages-prompt-token-mean", "--rankings-passages-prompt-token-stddev"),
    "query_tokens": ("--rankings-query-prompt-token-mean", "--rankings-query-prompt-token-stddev"),
}

PHASE: Final[Table] = {
    "requests": "--request-count",
    "sessions": "--num-sessions",
    "duration": "--benchmark-duration",
    "concurrency": "--concurrency",
    "prefill_concurrency": "--prefill-concurrency",
    "rate": "--request-rate",
    "grace_period": "--benchmark-grace-period",
    "concurrency_ramp": "--concurrency-ramp-duration",
    "prefill_ramp": "--prefill-concurrency-ramp-duration",
    "rate_ramp": "--request-rate-ramp-duration",
}
"""Of a phase that is measured."""

WARMUP: Final[Table] = {
    "requests": "--warmup-request-count",
    "sessions": "--num-warmup-sessions",
    "duration": "--warmup-duration",
    "concurrency": "--warmup-concurrency",
    "prefill_concurrency": "--warmup-prefill-concurrency",
    "rate": "--warmup-request-rate",
    "grace_period": "--warmup-grace-period",
    "concurrency_ramp": "--warmup-concurrency-ramp-duration",
    "prefill_ramp": "--warmup-prefill-concurrency-ramp-duration",
    "rate_ramp": "--warmup-request-rate-ramp-duration",
}
"""Of a warm-up: the same keys."""

PHASE_ONLY: Final[Table] = {
    "smoothness": "--arrival-smoothness",
    "users": "--num-users",
    "failed_request_threshold": "--failed-request-threshold",
    "auto_offset": "--fixed-schedule-auto-offset",
    "start_offset": "--fixed-schedule-start-offset",
    "end_offset": "--fixed-schedule-end-offset",
    "trajectory_start_min_ratio": "--trajectory-start-min-ratio",
    "trajectory_start_max_ratio": "--trajectory-start-max-ratio",
    "burst_phase_starts": "--burst-phase-starts",
    "system_idle_gap_cap_seconds": "--system-idle-gap-cap-seconds",
    "agentic_cache_warmup_duration": "--agentic-cache-warmup-duration",
    "agentic_warmup_grace_period": "--agentic-warmup-grace-period",
    "seamless": Note("each phase begins when the one before it has ended"),
    "timing_mode": Note("the phase's type sets its timing"),
}
"""Of a phase that is measured; a warm-up takes them from there."""

ARTIFACTS: Final[Table] = {
    "dir": "--artifact-dir",
    "prefix": "--profile-export-prefix",
    "trace": "--export-http-trace",
    "show_trace_timing": "--show-trace-timing",
    "slice_duration": "--slice-duration",
    "export_outputs_json": "--export-outputs-json",
    "auto_plot": "--auto-plot",
    "plot_required": Note("a chart that cannot be drawn is named and changes no exit code"),
}

TOKENIZER: Final[Table] = {
    "name": "--tokenizer",
    "revision": "--tokenizer-revision",
    "trust_remote_code": "--tokenizer-trust-remote-code",
    "apply_chat_template": "--apply-chat-template",
}

NETWORK: Final[Table] = {
    "enabled": "--network-latency-automatic",
    "ping_interval": "--network-latency-ping-interval",
    "mean_ms": "--network-latency-mean",
}

RUNTIME: Final[Table] = {
    "ui": "--ui",
    "workers": "--workers-max",
    "workers_min": _BUS,
    "record_processors": "--record-processors",
    "service_run_type": _BUS,
    "communication": _BUS,
    "dataset_api_base_url": _BUS,
    "workers_per_pod": _LATER,
    "record_processors_per_pod": _LATER,
    "api_port": "--api-port",
    "api_host": "--api-host",
    "stats_interval": "--stats-interval",
}

MULTI_RUN: Final[Table] = {
    "num_runs": "--num-profile-runs",
    "cooldown_seconds": "--profile-run-cooldown-seconds",
    "confidence_level": "--confidence-level",
    "set_consistent_seed": "--set-consistent-seed",
    "vary_seed_per_trial": "--vary-seed-per-trial",
    "disable_warmup_after_first": "--profile-run-disable-warmup-after-first",
    "convergence.metric": "--convergence-metric",
    "convergence.stat": "--convergence-stat",
    "convergence.mode": "--convergence-mode",
    "convergence.threshold": "--convergence-threshold",
    "convergence.min_runs": Note("convergence is looked at from the second run on"),
}
