"""The figures of the memory test, each with its definition."""

from __future__ import annotations

from typing import Final

from aiperf.studies.metric import StudyMetric

__all__ = ["METRICS"]


def _metric(
    name: str, header: str, unit: str, formula: str, *, meaning: str = "", better: bool | None = False
) -> StudyMetric:
    return StudyMetric(name=name, header=header, unit=unit, formula=formula, meaning=meaning, larger_is_better=better)


METRICS: Final[dict[str, StudyMetric]] = {
    m.name: m
    for m in (
        _metric(
            "usable_tokens",
            "Usable KV Tokens",
            "tokens",
            "most tokens in flight at a moment: Σ over requests with a first token and no last one of prompt + output tokens so far, "
            "without those that are preempted meanwhile",
            meaning="Measured at the edge. If the edge was not reached, tokens in flight ÷ share of the cache in use.",
            better=True,
        ),
        _metric(
            "reported_tokens",
            "Reported KV Tokens",
            "tokens",
            "KV blocks × tokens per block, as the server reports them",
            better=True,
        ),
        _metric("usable_share", "Usable Share", "%", "usable tokens ÷ reported tokens", better=True),
        _metric(
            "filled_share",
            "Cache Filled at the Edge",
            "%",
            "Σ tokens of each request rounded up to whole blocks ÷ reported tokens, at the moment with most tokens in flight",
            better=True,
        ),
        _metric("block_size", "Block Size", "tokens", "tokens per KV block, as the server reports it", better=None),
        _metric(
            "block_fill",
            "Block Fill",
            "%",
            "tokens in flight ÷ (blocks in use × block size), over the scrapes during which no prompt was computed",
            better=True,
        ),
        _metric(
            "expected_block_fill",
            "Expected Block Fill",
            "%",
            "Σ tokens of each request ÷ Σ tokens of each request rounded up to whole blocks, at the same moments",
            better=True,
        ),
        _metric("rounding_waste", "Waste by Rounding", "%", "100 % − block fill"),
        _metric(
            "preemptions", "Preemptions", "preemptions", "growth of the server's counter, in the step with most of them"
        ),
        _metric(
            "victims",
            "Preempted Requests",
            "requests",
            "requests whose stream paused while the engine made tokens for others: at most as many pauses as the server counted "
            "preemptions, the longest ones; without its count, pauses of more than three steps",
        ),
        _metric(
            "lost_tokens",
            "Lost Tokens",
            "tokens",
            "Σ over pauses of prompt tokens + output tokens until then − 1: what had been computed before the preemption; "
            "times preemptions ÷ pauses where the server counted more",
        ),
        _metric(
            "recomputed_share",
            "Recomputed Share",
            "%",
            "d ÷ c of a fit by least absolute deviations: step time = a + b · decoded + c · new prompt tokens + d · lost tokens that came back",
            meaning="100 %: lost tokens cost what new prompt tokens cost. 0 %: they came back without being computed.",
        ),
        _metric(
            "recomputed_tokens",
            "Recomputed Tokens",
            "tokens",
            "lost tokens × recomputed share; all of them, or none, if the interval allows it",
        ),
        _metric("victim_pause", "Pause of a Preempted Request", "ms", "mean gap in the stream around a preemption"),
        _metric(
            "victim_itl_ratio",
            "ITL of Preempted Requests",
            "x",
            "mean ITL of preempted requests ÷ of the others of the same run",
        ),
        _metric(
            "victim_ttft_ratio",
            "TTFT of Preempted Requests",
            "x",
            "mean TTFT of preempted requests ÷ of the others of the same run",
        ),
        _metric(
            "requests_waiting",
            "Requests Waiting",
            "requests",
            "highest number of requests waiting at a scrape, at the edge",
        ),
        _metric(
            "refused_requests",
            "Refused Requests",
            "requests",
            "responses with status 400, 413, 422, 429 or 503, in all steps",
        ),
        _metric(
            "lost_requests",
            "Lost Requests",
            "requests",
            "requests without a connection, cut off, or with status 500, in all steps",
        ),
        _metric(
            "recovery_time",
            "Recovery Time",
            "s",
            "from the last token of the pressure to the first scrape from which on the KV cache is as empty as before the test",
        ),
        _metric(
            "recovery_ttft_ratio",
            "TTFT after the Pressure",
            "x",
            "median TTFT of the light load after the pressure ÷ before it",
        ),
        _metric(
            "recovery_itl_ratio",
            "ITL after the Pressure",
            "x",
            "median ITL of the light load after the pressure ÷ before it",
        ),
        _metric(
            "cancelled_requests",
            "Cancelled Requests",
            "requests",
            "requests that the client cancelled in the middle",
            better=None,
        ),
        _metric(
            "reclaim_time",
            "Time to Reclaim",
            "s",
            "from the end of the last request of a load with cancellations to the first scrape from which on the KV cache is as "
            "empty as before it",
        ),
        _metric(
            "leaked_blocks",
            "Leaked Blocks",
            "blocks",
            "blocks in use after the cancellations and another light load − blocks in use before",
        ),
        _metric("leaked_tokens", "Leaked Tokens", "tokens", "leaked blocks × block size"),
        _metric("long_prefill_time", "Long Prompt Alone", "ms", "median TTFT of a long prompt without other load"),
        _metric(
            "long_prefill_pause",
            "Pause beside a Long Prompt",
            "ms",
            "longest gap in any other stream while a long prompt is computed, median over the long prompts",
        ),
        _metric(
            "prefill_pause_share",
            "Prefill in One Piece",
            "%",
            "(pause beside a long prompt − median gap) ÷ long prompt alone: 100 %: in one step; 25 %: in four",
        ),
        _metric("itl_p99_alone", "ITL p99 Alone", "ms", "99th percentile of the gaps between chunks of short requests"),
        _metric(
            "itl_p99_beside_long",
            "ITL p99 beside Long Prompts",
            "ms",
            "99th percentile of the gaps between chunks of short requests, with long prompts beside them",
        ),
        _metric("ttft_p99_alone", "TTFT p99 Alone", "ms", "99th percentile of the TTFT of short requests"),
        _metric(
            "ttft_p99_beside_long",
            "TTFT p99 beside Long Prompts",
            "ms",
            "99th percentile of the TTFT of short requests, with long prompts beside them",
        ),
    )
}
"""By name, in the order of the tables."""
