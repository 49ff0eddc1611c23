"""No option is accepted and then forgotten: each is read outside the configuration, or becomes another option there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import aiperf
from aiperf.config.model import specs
from aiperf.config.resolve import config_from

HOME = Path(aiperf.__file__).parent

BECOMES: dict[str, tuple[dict[str, object], str]] = {
    "sweep.concurrency_steps": ({"concurrency_min": 1, "concurrency_max": 9, "concurrency_steps": 3}, "sweep.axes"),
    **{
        f"sweep.{name}_{end}": ({f"{name}_min": 10, f"{name}_max": 90, f"{name}_steps": 3}, "sweep.axes")
        for name in ("isl", "osl")
        for end in ("min", "max", "steps")
    },
    "sweep.ttft_sla_ms": ({"ttft_sla_ms": 3, "search": "max-rate"}, "sweep.slo"),
    "sweep.itl_sla_ms": ({"itl_sla_ms": 3, "search": "max-rate", "streaming": True}, "sweep.slo"),
    "sweep.e2e_sla_ms": ({"e2e_sla_ms": 3, "search": "max-rate"}, "sweep.slo"),
    "sweep.error_rate_sla": ({"error_rate_sla": 0.1, "search": "max-rate"}, "sweep.slo"),
    "sweep.search_style": (
        {"search_recipe": "max-concurrency-under-sla", "ttft_sla_ms": 3, "search_style": "grid"},
        "sweep.axes",
    ),
    "sweep.isl_osl_pairs": ({"search_recipe": "pareto-sweep", "isl_osl_pairs": ("5/6,7/8",)}, "sweep.scenarios"),
    "sweep.variants": ({"variant": ("isl=5", "isl=6")}, "sweep.scenarios"),
    "sweep.slo_attainment_fraction": (
        {"slo_attainment_fraction": 0.9, "search": "max-rate", "goodput": "request_latency:5"},
        "sweep.slo",
    ),
}
"""Option → an example, and the option it becomes."""


def text_outside() -> str:
    """The load is read through its five shapes, which `config.load` makes; `config.as_aiperf` writes AIPerf's files."""
    files = [f for f in HOME.rglob("*.py") if "config" not in f.relative_to(HOME).parts]
    files += [HOME / "config" / name for name in ("load.py", "as_aiperf.py")]
    return "\n".join(f.read_text(encoding="utf-8") for f in files)


def test_every_option_is_read() -> None:
    text = text_outside()
    unread = {p for p, s in specs().items() if not re.search(rf"\.{s.name}\b", text)}
    assert unread == set(BECOMES)


@pytest.mark.parametrize("path", BECOMES)
def test_option_becomes_another(path: str) -> None:
    given, target = BECOMES[path]
    made = config_from(given, check=False, model="m")
    own = {path.partition(".")[2], *(n.lstrip("-").replace("-", "_") for n in specs()[path].flag.names)}
    without = {k: v for k, v in given.items() if k not in own}
    assert made.value(target) != config_from(without, check=False, model="m").value(target)
