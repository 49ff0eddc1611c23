"""Reports: a run as files (`exporters/`), as tables (`tables.py`) and as what shows them (`render/`, `page/`). Nothing here prints.

An exporter is one file, `exporters/<name>.py` with its `EXPORTER` (third parties: an entry point in the group `aiperf.exporters`). It is
told the run and returns content; `aiperf.run.write` opens the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from aiperf.config.model import Config
from aiperf.errors import Note
from aiperf.records import Columns
from aiperf.records.run_json import RunJson
from aiperf.reports.paths import Files

if TYPE_CHECKING:
    from aiperf.metrics.summary import Phase, Summary, SummaryOptions

__all__ = ["Content", "Exporter", "ReportedRun", "all_exporters"]

Content = str | bytes | Iterator[bytes] | Mapping[str, bytes] | None
"""A file's content; for a folder (a path without a suffix) the files in it by name; None: there is nothing to write."""


class ReportedRun(Protocol):
    """What exporters, tables, charts and pages may ask of a run (`aiperf.Run`)."""

    @property
    def dir(self) -> Path: ...
    @property
    def config(self) -> Config: ...
    @property
    def json(self) -> RunJson:
        """`run.json`: seed, models, machine, the engine's outcome, …."""

    @property
    def files(self) -> Files: ...
    @property
    def written(self) -> Sequence[tuple[str, Path]]:
        """(what, path) of the files that are there."""

    @property
    def notes(self) -> Sequence[Note]: ...
    @property
    def columns(self) -> Columns: ...
    @property
    def options(self) -> SummaryOptions:
        """What its summary is computed with."""

    @property
    def phases(self) -> tuple[Phase, ...]: ...
    @property
    def session_ids(self) -> Sequence[str]: ...
    @property
    def session_parents(self) -> Sequence[int]: ...
    @property
    def metrics_title(self) -> str: ...
    @property
    def title(self) -> str:
        """What the run is called: model, endpoint, load."""

    @property
    def facts(self) -> tuple[str, ...]:
        """Words for the line below the title: streaming or not, when, where, seed."""

    @property
    def load_axis(self) -> tuple[float | None, str]:
        """(value, name) of its load among other runs."""

    @property
    def num_gpus(self) -> int | None: ...
    @property
    def is_ours(self) -> bool:
        """False: another tool's, whose options are not known."""

    @property
    def is_streaming(self) -> bool: ...
    @property
    def benchmark_id(self) -> str: ...
    @property
    def command(self) -> Sequence[str]: ...
    @property
    def run_info(self) -> Mapping[str, object]: ...
    @property
    def incomplete_reason(self) -> str | None: ...
    @property
    def was_interrupted(self) -> bool: ...
    @property
    def telemetry_data(self) -> Mapping[str, Any] | None: ...
    def summary(self, options: SummaryOptions | None = None) -> Summary: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """`what`: what the file is called in the list on the screen. `path`: where it goes. `order`: place in that list; built-ins use tens.

    `is_late`: takes its time, so the table is on the screen first. `is_listed`: False for a file that only repeats the screen.
    """

    what: str
    path: Callable[[ReportedRun], Path]
    render: Callable[[ReportedRun], Content]
    is_wanted: Callable[[Config], bool] = lambda _: True
    order: int = 100
    is_late: bool = False
    is_listed: bool = True


def all_exporters() -> list[Exporter]:
    """All of them, in the order of the list."""
    from aiperf import registry

    found = [registry.load("exporters", name, "EXPORTER", _is_exporter) for name in registry.names("exporters")]
    return sorted(found, key=lambda e: e.order)


def _is_exporter(found: object) -> TypeGuard[Exporter]:
    return isinstance(found, Exporter)
