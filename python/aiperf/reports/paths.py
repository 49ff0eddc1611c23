"""The names of a run's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Files", "prefix_of"]

_ENDINGS = (
    "_server_metrics.parquet",
    "_server_metrics.jsonl",
    "_server_metrics.json",
    "_server_metrics.csv",
    "_network_latency.jsonl",
    "_gpu_telemetry.jsonl",
    "_timeslices.csv",
    "_timeslices.json",
    "_console.txt",
    "_raw.jsonl",
    ".parquet",
    ".csv",
    ".jsonl",
    ".json",
)


def prefix_of(name: str | None) -> str | None:
    """`my.json` and `my_raw.jsonl` are `my`, `/results/my.json` too (the folder is --artifact-dir's), as in AIPerf."""
    if name is None:
        return None
    if Path(name).is_absolute():
        name = Path(name).name
    ending = next((e for e in _ENDINGS if name.endswith(e)), "")
    return name.removesuffix(ending) or None


@dataclass(frozen=True, slots=True)
class Files:
    """Paths of the files of a run; `--profile-export-prefix foo` renames AIPerf's as AIPerf does (aiperf-compatibility.md §2)."""

    run_dir: Path
    prefix: str | None = None

    def _named(self, default: str, suffix: str) -> Path:
        prefix = prefix_of(self.prefix)
        return self.run_dir / (default if prefix is None else f"{prefix}{suffix}")

    @property
    def jsonl(self) -> Path:
        return self._named("profile_export.jsonl", ".jsonl")

    @property
    def raw(self) -> Path:
        return self._named("profile_export_raw.jsonl", "_raw.jsonl")

    @property
    def summary(self) -> Path:
        return self._named("profile_export_aiperf.json", ".json")

    @property
    def csv(self) -> Path:
        return self._named("profile_export_aiperf.csv", ".csv")

    @property
    def slices_csv(self) -> Path:
        return self._named("profile_export_aiperf_timeslices.csv", "_timeslices.csv")

    @property
    def slices_json(self) -> Path:
        return self._named("profile_export_aiperf_timeslices.json", "_timeslices.json")

    @property
    def console(self) -> Path:
        return self._named("profile_export_console.txt", "_console.txt")

    @property
    def inputs(self) -> Path:
        return self.run_dir / "inputs.json"

    @property
    def outputs(self) -> Path:
        return self.run_dir / "outputs.json"

    @property
    def page(self) -> Path:
        return self.run_dir / "report.html"

    def server_metrics(self, ending: str) -> Path:
        return self._named(f"server_metrics_export.{ending}", f"_server_metrics.{ending}")

    @property
    def gpu(self) -> Path:
        return self._named("gpu_telemetry_export.jsonl", "_gpu_telemetry.jsonl")

    @property
    def spans(self) -> Path:
        return self._named("engine_traces.jsonl", "_engine_traces.jsonl")

    @property
    def network_latency(self) -> Path:
        return self._named("profile_export_network_latency.jsonl", "_network_latency.jsonl")

    @property
    def records(self) -> Path:
        return self.run_dir / "records.parquet"

    @property
    def charts(self) -> Path:
        return self.run_dir / "plots"

    @property
    def log(self) -> Path:
        return self.run_dir / "logs" / "aiperf.log"
