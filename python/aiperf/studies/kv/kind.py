"""The memory test as a study: `aiperf kv`."""

from __future__ import annotations

from typing import Final, cast

from aiperf.config.model import Config
from aiperf.config.sections import Section
from aiperf.errors import Problem
from aiperf.studies.bench import Bench, Cost
from aiperf.studies.kv.metrics import METRICS
from aiperf.studies.kv.options import PARTS, KvOptions
from aiperf.studies.kv.plan import build_plan
from aiperf.studies.kv.report import build_report
from aiperf.studies.kv.work import read_context, run_test
from aiperf.studies.report import StudyReport
from aiperf.studies.study import StudyKind
from aiperf.telemetry.kv_blocks import read_kv_blocks

__all__ = ["KIND"]

_SINGLE: Final = {
    "input.input_file": "--input-file",
    "input.public_dataset": "--public-dataset",
    "load.request_rate": "--request-rate",
    "load.user_centric_rate": "--user-centric-rate",
    "load.request_rate_series": "--request-rate-series",
    "load.request_count": "--request-count",
    "load.concurrency": "--concurrency",
    "prompt.seq_dist": "--seq-dist",
    "prompt.isl_dist": "--isl-dist",
    "prompt.osl_dist": "--osl-dist",
}
"""Options that the test chooses itself."""


def _check(config: Config, options: Section) -> list[Problem]:
    own = cast("KvOptions", options)
    problems = [
        Problem(f"`{part}` is not one of `{'`, `'.join(PARTS)}`", "--parts") for part in own.parts if part not in PARTS
    ]
    if not own.parts:
        problems.append(Problem("at least one part is needed", "--parts", f"`{','.join(PARTS)}` is the default"))
    problems += [
        Problem("the memory test chooses this itself", flag, "`--isl`, `--osl` and `--max-concurrency` set its bounds")
        for path, flag in _SINGLE.items()
        if config.is_set(path)
    ]
    if len(config.endpoint.urls) > 1:
        problems.append(Problem("the memory test is of one server: the levels of several do not add up", "--url"))
    if not config.endpoint.streaming:
        problems.append(Problem("the memory test needs streams: tokens in flight are counted by them", "--streaming"))
    return problems


def _cost(config: Config, options: Section) -> Cost:
    """Lengths follow from the size of the cache, which is on the server's pages; a server that does not say it has the plan without."""
    return build_plan(config, cast("KvOptions", options), read_kv_blocks(config).tokens, read_context(config)).cost


def _work(bench: Bench, options: Section) -> StudyReport:
    found = run_test(bench, cast("KvOptions", options))
    names = bench.config.endpoint.model_names
    return build_report(found, names[0] if names else bench.config.endpoint.urls[0])


KIND: Final = StudyKind(
    name="kv",
    summary="How much fits in the server's KV cache, and what happens at its edge: usable tokens, waste by blocks, preemption, recovery, "
    "long prompts beside short, blocks of cancelled requests.",
    options=KvOptions,
    metrics=METRICS,
    defaults={"endpoint.streaming": True, "telemetry.server_metrics_interval": 0.1},
    check=_check,
    cost=_cost,
    work=_work,
)
