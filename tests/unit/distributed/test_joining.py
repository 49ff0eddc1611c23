"""What became of a shared load: sums, times on one clock, and what lost generators leave open."""

from __future__ import annotations

import numpy as np
import pytest

from aiperf.config.model import Config
from aiperf.distributed.joining import Share, join_outcomes, rows_of_phase
from aiperf.distributed.live import join_snapshots, join_spreads, quantiles_of
from aiperf.errors import ErrorKind
from aiperf.outcome import Counts, ErrorCount, Outcome, Snapshot, Spread, Spreads
from aiperf.records import Columns
from aiperf.records.run_json import GeneratorEntry, PhaseEntry, RunJson

TOLD = RunJson(config={}, phases=[PhaseEntry()])


def outcome(start_ns: int, sent: int, requests: int | None = None, **more: object) -> Outcome:
    phase = {
        "start_ns": start_ns,
        "issue_end_ns": start_ns + 50,
        "end_ns": start_ns + 100,
        "planned": requests or sent,
        "requests": requests,
        "sent": sent,
        "unsent": (requests or sent) - sent,
        "ok": sent,
    }
    return Outcome.model_validate({"phases": [phase], "end_ns": start_ns + 100, **more})


def share(index: int, found: Outcome | None, shift_ns: int = 0, **more: object) -> Share:
    entry = GeneratorEntry.model_validate({"index": index, "shift_ns": shift_ns, **more})
    return Share(entry=entry, outcome=found)


def test_outcomes_add_up_on_one_clock() -> None:
    shares = [
        share(0, outcome(1000, 3, 3, worker_cpu_ns=(5,))),
        share(1, outcome(200, 2, 2, worker_cpu_ns=(7, 8), journal_lost_rows=1), shift_ns=900),
    ]
    joined = join_outcomes(shares, Config(), TOLD, 77)
    (phase,) = joined.phases
    assert (phase.planned, phase.sent, phase.unsent, phase.is_complete) == (5, 5, 0, True)
    assert (phase.start_ns, phase.end_ns, joined.end_ns) == (1000, 1200, 1200)
    assert joined.worker_cpu_ns == (5, 7, 8)
    assert joined.start_wall_ns == 77
    assert joined.journal_lost_rows == 1
    assert [s.entry.start_skew_ns for s in shares] == [0, 100]


def test_what_a_missing_generator_was_to_send_is_unsent() -> None:
    told = RunJson(config={}, phases=[PhaseEntry(requests=10)])
    shares = [share(0, outcome(0, 5, 5)), share(1, None, status="missing", reason="part 2/2 is missing")]
    joined = join_outcomes(shares, Config(), told, 0)
    assert (joined.phases[0].planned, joined.phases[0].sent, joined.phases[0].unsent) == (10, 5, 5)
    assert joined.phases[0].stop_reason == "generator_lost"
    assert joined.lost_generators == ("part 2/2 is missing",)
    assert joined.has_losses
    assert "part 2/2" in str(joined.incomplete_reason)


def test_a_lost_schedule_plans_what_the_trace_holds() -> None:
    told = TOLD.model_copy(update={"is_schedule": True, "num_turns": 9})
    shares = [share(0, outcome(0, 5)), share(1, outcome(0, 2), status="lost")]
    joined = join_outcomes(shares, Config(), told, 0)
    assert (joined.phases[0].planned, joined.phases[0].unsent) == (9, 2)


def test_records_tell_what_a_lost_generator_did() -> None:
    kinds = np.array([ErrorKind.OK, ErrorKind.OK, ErrorKind.TIMEOUT, ErrorKind.CANCELLED], float)
    columns = Columns.from_arrays({"started": np.arange(4.0), "end": np.array([9.0, 8, 7, np.nan])})
    found = rows_of_phase(PhaseEntry(), np.ones(4, np.bool_), kinds, columns)
    assert (found.sent, found.start_ns, found.end_ns, found.is_complete) == (4, 0, 9, False)
    told = found.model_dump()
    assert (told["ok"], told["failed"], told["cancelled"]) == (2, 1, 1)


def test_a_phase_that_one_generator_left_was_interrupted() -> None:
    """Whatever ended the others: as one process would say of it."""
    from aiperf.distributed.joining import _stop_reason

    assert _stop_reason(["duration", "interrupted"]) == "interrupted"
    assert _stop_reason(["duration", "requests"]) == "duration"
    assert _stop_reason([]) == ""


def test_live_histograms_are_added_bin_by_bin() -> None:
    a = Spreads(time_to_first_token=Spread(upper_us=(10, 20), counts=(1, 2), sum_ns=5))
    b = Spreads(time_to_first_token=Spread(upper_us=(20, 40), counts=(3, 4), sum_ns=6))
    joined = join_spreads([a, b, Spreads()]).time_to_first_token
    assert joined == Spread(upper_us=(10, 20, 40), counts=(1, 5, 4), sum_ns=11)
    assert quantiles_of(joined) == (0.02, 0.04, 0.04)
    assert quantiles_of(Spread()) is None


def test_live_totals_are_those_of_all_and_each_has_a_line() -> None:
    one = Snapshot(
        sent=5,
        ok=3,
        in_flight=2,
        now_ns=2_000_000_000,
        phase_start_ns=1_000_000_000,
        phase_done=3,
        counts=Counts(ok=3, good=(2,)),
        errors=(ErrorCount(kind=3, count=1, last_ns=1, message="early"),),
        worker_cpu_ns=(500_000_000,),
    )
    other = one.model_copy(
        update={
            "errors": (ErrorCount(kind=3, count=4, last_ns=2, message="late"),),
            "journal_failing": "no space left",
        }
    )
    joined = join_snapshots([("generator 1 (a)", "running", one), ("generator 2 (b)", "lost", other)])
    assert (joined.sent, joined.ok, joined.in_flight, joined.phase_done) == (10, 6, 4, 6)
    assert joined.counts == Counts(ok=6, good=(4,))
    (error,) = joined.errors
    assert (error.count, error.message) == (5, "late")
    assert joined.journal_failing == "generator 2 (b): no space left"
    assert [(g.name, g.state, g.sent) for g in joined.generators] == [
        ("generator 1 (a)", "running", 5),
        ("generator 2 (b)", "lost", 5),
    ]
    assert joined.generators[0].rate == pytest.approx(3.0)
    assert joined.generators[0].cpu == pytest.approx(0.25)
