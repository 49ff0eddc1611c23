"""`plots/` of a study: the charts of its points as SVG and PNG, and what was drawn (--auto-plot, `aiperf plot`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aiperf.errors import AIPerfError
from aiperf.terminal import Part, Text

if TYPE_CHECKING:
    from aiperf.plots import PlotRun, Spec
    from aiperf.sweeps.table import SweepTable

__all__ = ["draw_study", "draw_table", "write_images", "write_summary"]


def draw_study(table: SweepTable, folder: Path) -> list[Part]:
    """Draws the points into `plots/`. What goes wrong costs a warning, not the study."""
    from aiperf.sweeps.page import point_runs, sweep_title

    target = folder / "plots"
    try:
        drawn = point_runs(table)
        target.mkdir(exist_ok=True)
        for _ in write_images(draw_table(table, drawn), target):
            pass
        write_summary(target, sweep_title(table, drawn), [path for point in table.points for path in point.paths])
    except (AIPerfError, OSError, ValueError) as error:
        return [Text(f"warning: the charts were not drawn: {error}", style="yellow")]
    return [Text(f"charts     {target}")]


def draw_table(table: SweepTable, drawn: Sequence[PlotRun], charts: Sequence[str] | None = None) -> dict[str, Spec]:
    """The charts over several runs; those with a mark per point are of the table's points."""
    from aiperf.plots import draw_all
    from aiperf.sweeps.page import draw_points

    specs = dict(draw_all(drawn, charts))
    return specs | {name: spec for name, spec in draw_points(table, drawn).items() if name in specs}


def write_images(
    specs: Mapping[str, Spec],
    folder: Path,
    formats: Collection[str] = ("svg", "png"),
    theme: Literal["light", "dark"] = "light",
) -> Iterator[Path]:
    """Each file as it is written."""
    from aiperf.plots.render import render_png, render_svg

    for name, spec in specs.items():
        svg = render_svg(spec, theme)
        if "svg" in formats:
            (folder / f"{name}.svg").write_bytes(svg)
            yield folder / f"{name}.svg"
        if "png" in formats:
            (folder / f"{name}.png").write_bytes(render_png(spec, theme, svg=svg))
            yield folder / f"{name}.png"


def write_summary(folder: Path, title: str, runs: Sequence[Path]) -> None:
    """`summary.txt`: what was drawn, of which runs."""
    made = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name not in {"summary.txt", "aiperf_plot.log"})
    lines = [title, "", "Runs", *(f"  {run}" for run in runs), "", "Files", *(f"  {name}" for name in made)]
    (folder / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "aiperf_plot.log").write_text(f"{len(runs)} runs, {len(made)} files\n", encoding="utf-8")
