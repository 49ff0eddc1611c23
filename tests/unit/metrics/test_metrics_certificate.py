"""Certificate, conservation, assertions, cancellation: each part on a run made to trip it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.metrics.metric_rows import CONTENT, MERGED, Chunk, Condition, Goals, Row, columns_of, stream

from aiperf.errors import ErrorKind
from aiperf.metrics.certificate import Certificate
from aiperf.metrics.conservation import EngineFacts, ServerCounters
from aiperf.metrics.error_table import ErrorGroup, error_code, error_type, group_errors, merge_similar, success_text
from aiperf.metrics.goodput import build_tiers
from aiperf.metrics.summarise import summarise
from aiperf.metrics.summary import AssertionResult, Gauge, Summary, SummaryOptions

FACTS = EngineFacts(planned=100, sent=100, busiest_worker=0.2, cpu_wait=0.01)


def run(
    num: int = 100,
    late: float = 0.1,
    *,
    rtt: float | None = None,
    usage: tuple[int | None, int | None, int | None, int | None] = (None,) * 4,
) -> list[Row]:
    return [
        stream(20 * i + late, 20 * i + late + 30, 20 * i + late + 40, scheduled=20 * i, rtt=rtt, usage=usage)
        for i in range(num)
    ]


def certificate(rows: list[Row], facts: EngineFacts = FACTS, **more: object) -> Certificate:
    found = summarise(columns_of(rows), SummaryOptions(facts=facts, **more)).certificate  # type: ignore[arg-type]
    assert found is not None
    return found


def test_a_fit_client_is_trustworthy() -> None:
    fitness = certificate(run())
    assert fitness.verdict == "trustworthy"
    assert fitness.reasons == ()
    assert fitness.send_lag_p99_ms == pytest.approx(0.1)
    assert fitness.receive_lag_p99_ms is None
    assert "trustworthy" in fitness.lines[0]
    assert "user-space timestamps" in fitness.lines[0]
    assert "not calibrated" in fitness.lines[1]


def test_late_sends_limit_the_client() -> None:
    assert certificate(run(late=5)).verdict == "client-limited"
    some = [*run(98), stream(2000 + 5, 2040, 2050, scheduled=2000), stream(2025, 2060, 2070, scheduled=2020)]
    found = certificate(some)
    assert found.verdict == "degraded"
    assert "late" in found.reasons[0]


def test_waiting_for_the_users_own_cap_is_no_fault_of_the_client() -> None:
    """Open loop at 10/s under --concurrency 1, each request 150 ms: they queue, the client is fit."""
    rows = [stream(150 * i, 150 * i + 100, 150 * i + 150, scheduled=100 * i, capped=i > 0) for i in range(60)]
    facts = EngineFacts(planned=60, sent=60, requested_rate=10)
    found = certificate(rows, facts)
    assert found.verdict == "trustworthy"
    assert found.waited == 59
    assert certificate([replace(r, capped=False) for r in rows], facts).verdict == "client-limited"


def test_a_busy_or_starved_thread() -> None:
    assert certificate(run(), replace(FACTS, busiest_worker=0.8)).verdict == "degraded"
    assert certificate(run(), replace(FACTS, busiest_worker=0.97)).verdict == "client-limited"
    found = certificate(run(), replace(FACTS, cpu_wait=0.5))
    assert found.verdict == "client-limited"
    assert "50%" in found.reasons[0]


def test_receive_lag_and_merged_chunks() -> None:
    def rows(lag: float, merged: bool) -> list[Row]:
        kind = CONTENT | (MERGED if merged else 0)
        return [
            Row(
                sent=20 * number,
                chunks=(Chunk(20 * number + 30, lag=lag), Chunk(20 * number + 40, 4, kind, lag)),
                output=2,
                end=20 * number + 40,
            )
            for number in range(100)
        ]

    assert certificate(rows(0.05, merged=False)).receive_lag_p99_ms == pytest.approx(0.05, rel=0.01)
    late = certificate(rows(25.0, merged=False))
    assert late.verdict == "client-limited"
    assert "kernel timestamps" in late.lines[0]
    merged = certificate(rows(0.05, merged=True))
    assert merged.merged == 0.5
    assert merged.verdict == "client-limited"


def test_a_rate_that_was_not_reached() -> None:
    """183 of 200 req/s reached in silence (lessons 2): here it is said."""
    rows = [stream(1000 / 183 * i, 1000 / 183 * i + 3, 1000 / 183 * i + 4, scheduled=5 * i) for i in range(400)]
    facts = EngineFacts(planned=400, sent=400, requested_rate=200)
    found = certificate(rows, facts)
    assert found.verdict == "client-limited"
    assert any("183.0 requests/s were sent of a target of 200.0" in r for r in found.reasons)


def test_random_arrivals_scatter_without_blame() -> None:
    rng = np.random.default_rng(0)
    due = np.cumsum(rng.exponential(10, 300))
    rows = [stream(t + 0.05, t + 5, t + 6, scheduled=t) for t in due.tolist()]
    facts = EngineFacts(planned=300, sent=300, requested_rate=100)
    assert certificate(rows, facts).verdict == "trustworthy"


def test_a_first_token_bound_by_the_round_trip_is_said() -> None:
    found = certificate(run(rtt=25.0))
    assert found.rtt_bound
    assert "dominated by network RTT" in found.lines[1]
    assert not certificate(run(rtt=0.1)).rtt_bound


def verdicts(rows: list[Row], facts: EngineFacts, server: ServerCounters | None = None) -> dict[str, str]:
    s = summarise(columns_of(rows), SummaryOptions(facts=facts, server=server))
    return {c.name: c.verdict for c in s.checks}


def test_the_account_of_requests() -> None:
    assert verdicts(run(), FACTS) == {"planned": "holds", "sent": "holds", "Little's law": "holds"}
    assert verdicts(run(), replace(FACTS, planned=120, unsent=20))["planned"] == "holds"
    assert verdicts(run(), replace(FACTS, planned=120))["planned"] == "broken"
    found = certificate(run(99))
    assert found.verdict == "degraded"
    assert any("sent 100 = ok 99" in r for r in found.reasons)


def test_usage_against_the_clients_count() -> None:
    """A constant offset is the chat template; one that varies is another tokenizer."""
    constant = verdicts(run(usage=(21, 2, None, None)), FACTS)
    assert constant["prompt tokens"] == "explained"
    assert constant["output tokens"] == "holds"
    varying = [replace(r, usage=(10 + 3 * (i % 9), 2, None, None)) for i, r in enumerate(run())]
    assert verdicts(varying, FACTS)["prompt tokens"] == "broken"
    slight = [replace(r, isl=100, usage=(100 + 3 * (i % 5), 3, None, None)) for i, r in enumerate(run())]
    assert verdicts(slight, FACTS)["prompt tokens"] == "explained"
    assert verdicts(slight, FACTS)["output tokens"] == "explained"


def test_the_servers_own_counters() -> None:
    rows = run(usage=(10, 2, None, None))
    good = ServerCounters(requests=100, prompt_tokens=1000, generation_tokens=200, mean_running=1.5)
    assert set(verdicts(rows, FACTS, good).values()) == {"holds"}
    lost = verdicts(rows, FACTS, replace(good, requests=90, generation_tokens=150))
    assert (lost["server requests"], lost["server output tokens"]) == ("broken", "broken")
    assert verdicts(rows, FACTS, replace(good, mean_running=9))["server running"] == "broken"


def test_a_broken_account_is_a_warning() -> None:
    s = summarise(columns_of(run(99)), SummaryOptions(facts=FACTS))
    assert s.notices[0].kind == "conservation"


def assertions(rows: list[Row], *conditions: Condition, **more: object) -> tuple[AssertionResult, ...]:
    return summarise(columns_of(rows), SummaryOptions(conditions=conditions, **more)).assertions  # type: ignore[arg-type]


def test_gates_compare_in_the_unit_given() -> None:
    tiers = build_tiers([Goals((("time_to_first_token", 30.0),))])
    judged = assertions(
        run(),
        Condition(tag="time_to_first_token", op="<", value=500.0, stat="p99", unit="ms"),
        Condition(tag="time_to_first_token", op=">", value=30.0, stat="max", unit=None),
        Condition(tag="good_request_fraction", op=">=", value=95.0, stat=None, unit="%"),
        Condition(tag="good_request_fraction", op=">=", value=0.95),
        Condition(tag="error_rate", op="<", value=1.0, stat=None, unit="%"),
        Condition(tag="benchmark_duration", op="<", value=3000.0, stat=None, unit="ms"),
        Condition(tag="certificate", op="=", value="trustworthy"),
        Condition(tag="error_request_count", op="=", value=0.0),
        tiers=tiers,
        facts=FACTS,
    )
    assert [g.passed for g in judged] == [True, False, True, True, True, True, True, True]
    assert judged[0].actual == "30.00 ms"
    assert judged[2].actual == "100.00%"


def test_a_gate_on_a_figure_that_does_not_exist_is_missed() -> None:
    judged = assertions(
        run(),
        Condition(tag="good_request_fraction", op=">=", value=95.0, stat=None, unit="%"),
        Condition(tag="time_to_first_token", op="<", value=1.0, stat="p99.9"),
        Condition(tag="time_to_frist_token", op="<", value=1.0),
        Condition(tag="request_latency", op="<", value=5.0, stat=None, unit="%"),
        Condition(tag="certificate", op="=", value="trustworthy"),
        Condition(tag="reasoning_token_count", op=">", value=0.0),
    )
    assert not any(g.passed for g in judged)
    assert [g.actual for g in judged] == ["–"] * 6
    assert "--goodput" in (judged[0].reason or "")
    assert "10,000" in (judged[1].reason or "")
    assert "time_to_first_token" in (judged[2].reason or "")


def test_a_gate_says_whether_it_is_sure() -> None:
    rng = np.random.default_rng(1)
    rows = [stream(20 * i, 20 * i + float(t), 20 * i + float(t) + 5) for i, t in enumerate(rng.normal(30, 5, 200))]
    judged = assertions(
        rows,
        Condition(tag="time_to_first_token", op="<", value=60.0),
        Condition(tag="time_to_first_token", op="<", value=30.2),
    )
    assert judged[0].sure is True
    assert judged[1].sure is False


def cancelled_run() -> list[Row]:
    rows: list[Row] = []
    for number in range(120):
        sent = 100.0 * number
        slow = number % 2 == 0
        rows.append(stream(sent, sent + (60 if slow else 30), sent + (90 if slow else 60)))
        if slow:
            rows.append(
                Row(
                    sent=sent,
                    chunks=(Chunk(sent + 20),),
                    kind=ErrorKind.CANCELLED,
                    end=sent + 50,
                    cancelled_at=sent + 50,
                    reused=number == 0,
                )
            )
    return rows


def test_cancellation_shows_its_delay_and_its_effect_on_neighbours() -> None:
    summary = summarise(columns_of(cancelled_run()))
    cancellation = summary.cancellation
    assert cancellation is not None
    assert cancellation.count == 60
    assert cancellation.delay_ms is not None
    assert (cancellation.delay_ms.min, cancellation.delay_ms.max) == (50, 50)
    assert cancellation.before_first_token == 0
    ttft = cancellation.neighbours[0]
    assert (ttft.during, ttft.apart, ttft.num_during, ttft.num_apart) == (60, 30, 60, 60)
    assert ttft.ratio == 2
    assert cancellation.reconnects == 59
    assert summary.stat("request_error_rate") == 0
    assert summary.counts.deliberate == 60


def test_a_server_that_keeps_generating_after_a_disconnect_is_found() -> None:
    rows = cancelled_run()
    times = tuple(float(t) * 1e6 for t in range(0, 14_000, 100))
    honest = tuple(0.0 for _ in times)
    lingering = tuple(3.0 if t > 60e6 else 0.0 for t in times)
    for levels, lingers in ((honest, False), (lingering, True)):
        summary: Summary = summarise(
            columns_of(rows), SummaryOptions(gauges=(Gauge("requests running", times, levels, counts_requests=True),))
        )
        assert summary.cancellation is not None
        assert (summary.cancellation.recovery[0].seconds is None) is lingers
        assert any(n.kind == "lingering" for n in summary.notices) is lingers


def test_a_gauge_that_returns_is_timed() -> None:
    rows = cancelled_run()
    last = 100 * 118 + 50
    times = tuple(float(t) * 1e6 for t in range(0, 20_000, 50))
    levels = tuple(0.1 if t < 50e6 else 0.4 if t < (last + 2000) * 1e6 else 0.1 for t in times)
    s = summarise(
        columns_of(rows), SummaryOptions(gauges=(Gauge("KV cache use", times, levels, counts_requests=False),))
    )
    assert s.cancellation is not None
    assert s.cancellation.recovery[0].seconds == pytest.approx(2.0, abs=0.06)


def test_no_cancellation_nothing_to_say() -> None:
    assert summarise(columns_of(run())).cancellation is None
    asked = summarise(columns_of(run()), SummaryOptions(cancels=True)).cancellation
    assert asked is not None
    assert (asked.count, asked.delay_ms, asked.reconnects, asked.recovery) == (0, None, 0, ())


def test_errors_are_grouped_with_aiperfs_codes_and_names() -> None:
    rows = [
        stream(0, 1, kind=4, status=500, message="injected"),
        stream(0, 1, kind=4, status=500, message="injected"),
        stream(0, 1, kind=8, status=200),
        stream(0, 1, kind=17, status=400, message="too long"),
        stream(0, 1, kind=9, message="Request cancelled 0.040s after being sent"),
    ]
    columns = columns_of(rows)
    groups = group_errors(columns, np.array([True] * 4 + [False]))
    assert [(g.code, g.type, g.message, g.count) for g in groups] == [
        (500, "Internal Server Error", "injected", 2),
        (None, "InvalidInferenceResultError", "empty response", 1),
        (400, "Bad Request", "too long", 1),
    ]
    assert success_text(4, groups) == (
        "Success Rate: 50.0% (4 errors: 2 HTTP 500, 1 empty response, 1 context length exceeded)"
    )
    assert error_code(ErrorKind.CANCELLED, None) == 499
    assert error_type(ErrorKind.GRACE, None) == "RequestCancellationError"
    assert error_type(ErrorKind.HTTP_STATUS, 599) == "HTTP 599"


def test_every_error_kind_has_words_a_code_and_a_type() -> None:
    for kind in ErrorKind:
        if kind is not ErrorKind.OK:
            assert error_type(kind, None)
            assert success_text(0, ()) == "Success Rate: –"


@pytest.mark.parametrize(
    ("ok", "failed", "text"),
    [(1690, 75, "95.8%"), (1000, 0, "100%"), (0, 3, "0%"), (99_999, 1, "99.999%"), (1, 100_000, "0.001%")],
)
def test_success_rate_never_looks_better_than_it_is(ok: int, failed: int, text: str) -> None:
    rows = columns_of([stream(0, 1, kind=17)])
    group = group_errors(rows, np.array([True]))[0]
    groups = (replace(group, count=failed),) if failed else ()
    assert success_text(ok, groups).startswith(f"Success Rate: {text} (")


def test_messages_that_differ_in_numbers_or_ids_are_one_error_for_people() -> None:
    def refused(message: str, count: int, kind: ErrorKind = ErrorKind.CONTEXT_OVERFLOW) -> ErrorGroup:
        return ErrorGroup(kind=kind, code=400, type="Bad Request", message=message, count=count)

    merged = merge_similar(
        [
            refused("busy", 5, ErrorKind.HTTP_STATUS),
            refused("limit 32768, asked 90423 (89867 + 556), request 0123456789abcdef0123456789abcdef", 1),
            refused("limit 32768, asked 94408 (94407 + 1), request fedcba9876543210fedcba9876543210", 3),
            refused("limit 32768, asked 40000 (39444 + 556), request 0123456789abcdef0123456789abcde0", 2),
            refused("limit 32768, asked too much", 1),
        ]
    )
    assert [(g.message, g.count) for g in merged] == [
        ("limit 32768, asked … (… + …), request …", 6),
        ("busy", 5),
        ("limit 32768, asked too much", 1),
    ]
    assert merge_similar([]) == ()


def test_the_demos_success_line() -> None:
    group = group_errors(columns_of([stream(0, 1, kind=17)]), np.array([True]))[0]
    assert (
        success_text(1690, (replace(group, count=75),)) == "Success Rate: 95.8% (75 errors: 75 context length exceeded)"
    )
