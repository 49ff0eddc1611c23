"""The table over the points of a sweep: throughput against experience, each point's role, the winner of each goal, costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiperf.number_text import significant
from aiperf.reports.render.console import framed
from aiperf.reports.tables import Table
from aiperf.sweeps.pareto import DEFAULT_X, DEFAULT_Y, Pareto, pareto_front
from aiperf.sweeps.points import AXIS_FIELDS, RunPoint, flag_name
from aiperf.sweeps.roles import Role, Roles, assign_roles
from aiperf.terminal import Justify, Part, Text

__all__ = [
    "SweepRow",
    "SweepTable",
    "axis_header",
    "build_screen",
    "build_table",
    "front_text",
    "report_table",
    "winner_lines",
]

_GOALS = {"experience": "Best experience", "balanced": "Balanced", "cost": "Lowest cost"}
_MARKS: dict[Role, str] = {
    "best experience": "best experience",
    "balanced": "balanced",
    "peak": "peak ★",
    "saturated": "saturated",
    "over-saturated": "over-saturated",
    "rising": "",
    "single": "",
    "failed": "no result",
}
_STYLES: dict[Role, str] = {
    "best experience": "green",
    "balanced": "cyan",
    "peak": "bold yellow",
    "saturated": "dim",
    "over-saturated": "red",
    "rising": "",
    "single": "",
    "failed": "red",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRow:
    """A point's figures. None: does not exist. `scaling`: growth of TPS / growth of load since the point before, 1 is ideal.

    `tps_ratio`, `user_change`, `ttft_ratio`: against the lowest load (×, share, ×). `within`: share of requests under the TTFT limit.
    """

    point: RunPoint
    role: Role
    tps: float | None
    tps_per_gpu: float | None
    tps_per_user: float | None
    ttft_ms: float | None
    scaling: float | None
    tps_ratio: float | None
    user_change: float | None
    ttft_ratio: float | None
    within: float | None
    cost: float | None
    good_cost: float | None
    requests_per_gpu_hour: float | None


@dataclass(frozen=True, kw_only=True)
class SweepTable:
    """`axes`: option paths of the first columns. `ttft_limit_ms`: from --goodput or --slo; None if there is none."""

    rows: tuple[SweepRow, ...]
    axes: tuple[str, ...]
    roles: Roles
    pareto: Pareto
    ttft_limit_ms: float | None
    notes: tuple[str, ...]

    @property
    def points(self) -> tuple[RunPoint, ...]:
        return tuple(r.point for r in self.rows)

    @property
    def has_comparison(self) -> bool:
        """Two points have a result, or more: one is better than another."""
        return bool(self.roles.winners)


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


def build_table(
    points: Sequence[RunPoint],
    *,
    ttft_limit_ms: float | None = None,
    x_figure: str | None = None,
    y_figure: str | None = None,
) -> SweepTable:
    """`points` in the order of load. `ttft_limit_ms` None: the points' own objective for TTFT, if they have one. `x_figure`, `y_figure`: metrics of
    the front, `tag` or `tag:stat`.
    """
    if ttft_limit_ms is None:
        limits = {p.slo_limits["time_to_first_token"] for p in points if "time_to_first_token" in p.slo_limits}
        ttft_limit_ms = limits.pop() if len(limits) == 1 else None
    roles = assign_roles(points, ttft_limit_ms)
    first = next((p for p in points if p.tps is not None), None) if roles.winners else None
    rows: list[SweepRow] = []
    before: RunPoint | None = None
    for point, role in zip(points, roles.roles, strict=True):
        growth = None if before is None else _ratio(point.tps, before.tps)
        more = None if before is None or before.load is None else _ratio(point.load, before.load)
        user = None if first is None else _ratio(point.tps_per_user, first.tps_per_user)
        rows.append(
            SweepRow(
                point=point,
                role=role,
                tps=point.tps,
                tps_per_gpu=point.tps_per_gpu,
                tps_per_user=point.tps_per_user,
                ttft_ms=point.ttft,
                scaling=_ratio(growth, more) if more is not None and more > 1 else None,
                tps_ratio=None if first is None else _ratio(point.tps, first.tps),
                user_change=None if user is None else user - 1,
                ttft_ratio=None if first is None else _ratio(point.ttft, first.ttft),
                within=None if ttft_limit_ms is None else point.share_within(ttft_limit_ms),
                cost=point.cost_per_million_tokens,
                good_cost=point.cost_per_million_good_tokens,
                requests_per_gpu_hour=point.requests_per_gpu_hour,
            )
        )
        before = point if point.tps is not None else before
    axes = tuple(p for p in AXIS_FIELDS if any(p in q.values for q in points))
    more_axes = tuple(dict.fromkeys(p for q in points for p in q.values if p not in AXIS_FIELDS))
    pareto = (
        pareto_front(points, *(v for v in (x_figure, y_figure) if v is not None))
        if x_figure or y_figure
        else pareto_front(points)
    )
    return SweepTable(
        rows=tuple(rows),
        axes=(*axes, *more_axes),
        roles=roles,
        pareto=pareto,
        ttft_limit_ms=ttft_limit_ms,
        notes=_notes(points),
    )


def _notes(points: Sequence[RunPoint]) -> tuple[str, ...]:
    out: list[str] = []
    for point in points:
        if point.verdict in {"client-limited", "degraded"}:
            out.append(
                f"{point.label} is {point.verdict}: {'; '.join(point.reasons)}"
                if point.reasons
                else f"{point.label} is {point.verdict}"
            )
        if point.num_failed:
            out.append(f"{point.label}: {point.num_failed:,} of {point.num_ok + point.num_failed:,} requests failed")
    if len({p.num_gpus for p in points}) > 1:
        out.append("the points have different numbers of GPUs")
    if any(p.num_gpus is None for p in points):
        out.append("`--num-gpus` was not given: throughput is that of the whole server")
    if len({p.tool.split()[0] for p in points if p.tool}) > 1:
        out.append(
            "the points were measured with different tools; `aiperf compare` says where their definitions differ"
        )
    return tuple(out)


def _rounded(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _pm(row: SweepRow, tag: str, divisor: float = 1.0, digits: int = 0) -> str:
    """Half the interval, where there are repeats."""
    found = row.point.intervals.get((tag, "avg"))
    if found is None or len(row.point.paths) < 2:
        return ""
    return f" ±{(found[1] - found[0]) / 2 / divisor:,.{digits}f}"


def _against(row: SweepRow) -> str:
    """Throughput and experience against the lowest load: `3.96×, -2%`."""
    if row.tps_ratio is None:
        return "–"
    return f"{row.tps_ratio:.2f}×" + ("" if row.user_change is None else f", {100 * row.user_change:+.0f}%")


_COLUMNS: tuple[tuple[str, Callable[[SweepRow], str]], ...] = (
    ("Total TPS", lambda r: _rounded(r.tps) + _pm(r, "output_token_throughput")),
    ("TPS/GPU", lambda r: _rounded(r.tps_per_gpu)),
    ("TPS/User", lambda r: _rounded(r.tps_per_user, 2) + _pm(r, "output_token_throughput_per_user", digits=2)),
    ("TTFT avg (ms)", lambda r: _rounded(r.ttft_ms, 1) + _pm(r, "time_to_first_token", digits=1)),
    ("Scaling", lambda r: "–" if r.scaling is None else f"{100 * r.scaling:.0f}%"),
    ("vs lowest", _against),
    ("In limit", lambda r: "–" if r.within is None else f"{100 * r.within:.1f}%"),
    ("$/M tokens", lambda r: _rounded(r.cost, 3)),
    ("$/M good", lambda r: _rounded(r.good_cost, 3)),
    ("Req/GPU-h", lambda r: _rounded(r.requests_per_gpu_hour)),
)


def axis_header(path: str) -> str:
    """What the column of an option is called."""
    return {
        "load.concurrency": "Concurrency",
        "load.request_rate": "Rate (req/s)",
        "input.replay_speedup": "Speed",
    }.get(path, flag_name(path))


def report_table(table: SweepTable) -> Table:
    """One row per point, its option values first; columns without a value are left out."""
    shown = [(name, cell) for name, cell in _COLUMNS if any(cell(r) != "–" for r in table.rows)]
    axes = tuple(axis_header(path) for path in table.axes) or ("Run",)
    rows: list[tuple[str, ...]] = []
    for index, row in enumerate(table.rows):
        place = [significant(row.point.values[p], 6) if p in row.point.values else "–" for p in table.axes]
        front = " ◆" if table.has_comparison and index in table.pareto.on_front else ""
        rows.append((*(place or [row.point.name]), *(cell(row) for _, cell in shown), _MARKS[row.role] + front))
    columns = (*axes, *(name for name, _ in shown), "Role")
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Table(
        id="sweep",
        title="Sweep",
        columns=columns,
        rows=tuple(rows),
        note=front_text(table),
        marked=frozenset(i for i, r in enumerate(table.rows) if r.role == "peak"),
    )


def build_screen(table: SweepTable, title: str = "AIPerf | Sweep") -> list[Part]:
    """Table, winners, collapse, notes."""
    shown = report_table(table)
    grid = framed(title.removeprefix("AIPerf | "))
    for i, name in enumerate(shown.columns):
        is_axis, is_number = i < max(1, len(table.axes)), name not in {"Run", "Role"}
        justify: Justify = "right" if is_number else "left"
        grid.add_column(name, justify=justify, style="cyan" if is_axis else "", no_wrap=name != "Run")
    for row, cells in zip(table.rows, shown.rows, strict=True):
        grid.add_row(*cells, style=_STYLES[row.role])
    out: list[Part] = [grid]
    if shown.note:
        out.append(Text(shown.note, style="dim"))
    out += [Text(line) for line in winner_lines(table)]
    if table.roles.collapse is not None:
        out.append(Text(f"Collapse: {table.roles.collapse[1]}", style="red"))
    out += [Text(f"note: {n}", style="yellow") for n in table.notes]
    return out


def front_text(table: SweepTable) -> str:
    """What the marks in the last column say; empty where nothing is compared."""
    if not table.has_comparison:
        return ""
    names = {DEFAULT_Y: "TPS per GPU", DEFAULT_X: "TPS per user"}
    y, x = (names.get(n, f"`{n}`") for n in (table.pareto.y, table.pareto.x))
    return f"◆ on the Pareto front of {y} against {x}"


def winner_lines(table: SweepTable) -> list[str]:
    """One line per goal, with what the winner gives and takes against the lowest load."""
    lines: list[str] = []
    for goal, index in table.roles.winners:
        row = table.rows[index]
        parts = [f"{_rounded(row.tps)} TPS"]
        if row.tps_per_user is not None:
            parts.append(f"{row.tps_per_user:,.1f} per user")
        if row.ttft_ms is not None:
            parts.append(f"TTFT {row.ttft_ms:,.0f} ms")
        if row.tps_ratio is not None and index > 0:
            change = "" if row.user_change is None else f", {100 * row.user_change:+.0f}% per user"
            parts.append(f"{row.tps_ratio:.1f}× the throughput of the lowest load{change}")
        if row.within is not None and table.ttft_limit_ms is not None:
            parts.append(f"{100 * row.within:.0f}% within {significant(table.ttft_limit_ms, 6)} ms")
        if row.cost is not None and goal == "cost":
            parts.append(f"{row.cost:,.3f} per million tokens")
        lines.append(f"{_GOALS[goal]}: {row.point.label} ({', '.join(parts)})")
    if table.roles.limited:
        lines.append(f"No point keeps TTFT within {significant(table.ttft_limit_ms, 6)} ms for 95% of its requests")
    return lines
