"""The metrics that AIPerf 0.13.0 knows: `python -m tests.compat.registry --peer VENV` writes `metrics.txt`, which the tests compare ours with."""

from __future__ import annotations

import argparse
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["AIPERF", "Known"]

FILE = Path(__file__).parent / "metrics.txt"
_ASK = """
import importlib, pkgutil
import aiperf.metrics.types as types
from aiperf.metrics.metric_registry import MetricRegistry
for module in pkgutil.iter_modules(types.__path__):
    importlib.import_module(f"{types.__name__}.{module.name}")
for one in sorted(MetricRegistry.all_classes(), key=lambda one: one.tag):
    flags = str(one.flags).replace("MetricFlags.", "").lower()
    print(one.tag, one.header, one.display_unit or one.unit, flags, sep="\\t")
"""


@dataclass(frozen=True, slots=True)
class Known:
    """A metric of AIPerf: `unit` as shown, `flags` in lower case."""

    tag: str
    header: str
    unit: str
    flags: tuple[str, ...]


def _read() -> tuple[Known, ...]:
    rows = [line.split("\t") for line in FILE.read_text(encoding="utf-8").splitlines()]
    return tuple(Known(tag, header, unit, tuple(flags.split("|"))) for tag, header, unit, flags in rows)


AIPERF = _read() if FILE.exists() else ()
"""By tag."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, metavar="VENV", required=True, help="an environment with AIPerf 0.13.0")
    told = subprocess.run(
        [parser.parse_args().peer / "bin" / "python", "-c", _ASK], capture_output=True, text=True, check=True
    )
    FILE.write_text(told.stdout, encoding="utf-8")


if __name__ == "__main__":
    main()
