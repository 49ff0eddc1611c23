"""The studies there are, by the name of their command; imported when one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

from aiperf.studies.metric import StudyMetric

if TYPE_CHECKING:
    from aiperf.studies.study import StudyKind

__all__ = ["STUDIES", "kind_named", "study_metrics"]

STUDIES: Final[Mapping[str, str]] = {"cache": "aiperf.studies.cache", "kv": "aiperf.studies.kv"}
"""Package of each: `kind.KIND` and `metrics.METRICS`."""


def kind_named(name: str) -> StudyKind:
    """KeyError if there is no such study."""
    return cast("StudyKind", import_module(f"{STUDIES[name]}.kind").KIND)


def study_metrics() -> dict[str, Mapping[str, StudyMetric]]:
    """By study, each metric by its name."""
    return {name: import_module(f"{package}.metrics").METRICS for name, package in STUDIES.items()}
