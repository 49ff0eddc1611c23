"""OpenTelemetry metrics over OTLP/HTTP (`--otel-url`). Latencies carry the names of the GenAI semantic conventions, all else those of `/metrics` with dots.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import Metric as Family

from aiperf.config.sections.live import LiveConfig
from aiperf.errors import ConfigError, Problem
from aiperf.live.board import Board
from aiperf.live.exposition import families
from aiperf.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric, MetricsData

__all__ = ["Otlp"]

_NAMES: Final = {
    "aiperf_request_latency_seconds": "gen_ai.client.operation.duration",
    "aiperf_time_to_first_token_seconds": "gen_ai.server.time_to_first_token",
    "aiperf_inter_token_latency_seconds": "gen_ai.server.time_per_output_token",
}
_TIMING: Final = ("requests", "errors", "phase_", "study_", "worker_", "send_lag", "receive_lag", "measurement_quality")
"""What `--stream timing` selects, by the names of `/metrics`; all else is `metrics`."""
_STREAMS: Final = ("metrics", "timing", "default")


class _Said(logging.Handler):
    """Why an export failed: the exporter says so in its log alone, a line for each attempt, which is not for the screen."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.words: list[str] = []
        logger = logging.getLogger("opentelemetry.exporter")
        logger.addHandler(self)
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self.words.append(record.getMessage())


class Otlp:
    """`interval_s`: between two exports."""

    name = "OpenTelemetry"
    interval_s = 5.0

    def __init__(self, options: LiveConfig) -> None:
        """ConfigError if the client is not installed or an option makes no sense."""
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        except ImportError as error:
            raise ConfigError(
                [Problem("`--otel-url` needs the OpenTelemetry exporter", "--otel-url", "pip install 'aiperf[otel]'")]
            ) from error
        unknown = [s for s in options.stream if s not in _STREAMS]
        if unknown:
            raise ConfigError(
                [
                    Problem(
                        f"`{unknown[0]}` is not one of metrics, timing, default",
                        "--stream",
                        "`--stream metrics timing`",
                    )
                ]
            )
        streams = set(options.stream) - {"default"}
        self._streams = streams if streams and "default" not in options.stream else {"metrics", "timing"}
        self._attributes = _pairs(options.otel_resource_attributes, "=", "--otel-resource-attributes")
        self._provider = options.gen_ai_provider
        self._said = _Said()
        url = (options.otel_url or "").rstrip("/")
        self._exporter = OTLPMetricExporter(
            endpoint=url if url.endswith("/v1/metrics") else f"{url}/v1/metrics", timeout=10
        )

    def connect(self, board: Board) -> None:
        """Every export stands alone."""

    def live(self, board: Board) -> None:
        from opentelemetry.sdk.metrics.export import MetricExportResult

        data = self._data(board)
        self._said.words.clear()
        if data is not None and self._exporter.export(data) != MetricExportResult.SUCCESS:
            # The first attempt's; the last word is that there were too many.
            raise ConnectionError(next(iter(self._said.words), "the collector did not take the metrics"))

    def results(self, board: Board) -> None:
        """The last export, after `live`, holds the final counts already."""

    def close(self) -> None:
        self._exporter.shutdown()

    def _data(self, board: Board) -> MetricsData | None:
        from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        facts = board.facts
        if facts is None or board.started_at_ns is None:
            return None
        resource = Resource.create(
            {"service.name": "aiperf", "service.version": __version__, "aiperf.benchmark_id": facts.benchmark_id}
            | self._attributes
        )
        common: dict[str, Any] = {
            "gen_ai.operation.name": facts.endpoint,
            "gen_ai.request.model": ",".join(facts.models),
        }
        provider = self._provider or facts.server
        if provider:
            common["gen_ai.provider.name"] = provider
        now_ns = time.time_ns()
        metrics = [
            m
            for family in families(board)
            for m in _convert(family, board.started_at_ns, now_ns, common)
            if self._is_wanted(family.name)
        ]
        scope = ScopeMetrics(scope=InstrumentationScope("aiperf", __version__), metrics=metrics, schema_url="")
        return MetricsData(resource_metrics=[ResourceMetrics(resource=resource, scope_metrics=[scope], schema_url="")])

    def _is_wanted(self, name: str) -> bool:
        is_timing = name.removeprefix("aiperf_").startswith(_TIMING)
        return ("timing" if is_timing else "metrics") in self._streams


def _convert(family: Family, start_ns: int, now_ns: int, common: Mapping[str, Any]) -> Iterator[Metric]:
    from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Histogram, Metric, NumberDataPoint, Sum

    name = _NAMES.get(family.name, family.name.removesuffix("_seconds").replace("aiperf_", "aiperf.", 1))
    unit = "s" if family.name.endswith("_seconds") else "1"
    if family.type == "info" or not family.samples:
        return
    if family.type == "histogram":
        points = list(_histogram_points(family, start_ns, now_ns, common))
        data: Any = Histogram(data_points=points, aggregation_temporality=AggregationTemporality.CUMULATIVE)
    else:
        numbers = [
            NumberDataPoint(
                attributes=dict(common) | s.labels, start_time_unix_nano=start_ns, time_unix_nano=now_ns, value=s.value
            )
            for s in family.samples
        ]
        is_counter = family.type == "counter"
        data = (
            Sum(data_points=numbers, aggregation_temporality=AggregationTemporality.CUMULATIVE, is_monotonic=True)
            if is_counter
            else Gauge(data_points=numbers)
        )
    yield Metric(name=name, description=family.documentation, unit=unit, data=data)


def _histogram_points(family: Family, start_ns: int, now_ns: int, common: Mapping[str, Any]) -> Iterator[Any]:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    by_phase: dict[str, list[tuple[float, float]]] = {}
    sums: dict[str, float] = {}
    for sample in family.samples:
        phase = sample.labels.get("phase", "")
        if sample.name.endswith("_bucket"):
            by_phase.setdefault(phase, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            sums[phase] = sample.value
    for phase, buckets in by_phase.items():
        buckets.sort()
        counts = [
            int(b - a) for a, b in zip([0.0, *(c for _, c in buckets[:-1])], (c for _, c in buckets), strict=True)
        ]
        yield HistogramDataPoint(
            attributes=dict(common) | {"phase": phase},
            start_time_unix_nano=start_ns,
            time_unix_nano=now_ns,
            count=int(buckets[-1][1]),
            sum=sums.get(phase, 0.0),
            bucket_counts=counts,
            explicit_bounds=[edge for edge, _ in buckets[:-1]],
            # Not known to the last digit, and optional in OTLP: left out. The SDK's type has no word for that.
            min=None,  # type: ignore[arg-type]
            max=None,  # type: ignore[arg-type]
        )


def _pairs(texts: Sequence[str], sign: str, option: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for text in texts:
        key, found, value = text.partition(sign)
        if not found or not key.strip():
            raise ConfigError([Problem(f"`{text}` is not key{sign}value", option, f"`team{sign}inference`")])
        out[key.strip()] = value.strip()
    return out
