"""Files and screen: keys and headers AIPerf's users rely on, golden texts, nothing absent shown as 0."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from tests.unit.metrics.metric_rows import REASONING, Chunk, Condition, Goals, Row, columns_of, stream

from aiperf.errors import ErrorKind
from aiperf.metrics import load_all
from aiperf.metrics.conservation import EngineFacts
from aiperf.metrics.context import MetricOptions, Slo
from aiperf.metrics.error_table import ErrorGroup
from aiperf.metrics.goodput import build_tiers
from aiperf.metrics.summarise import summarise
from aiperf.metrics.summary import Phase, Summary, SummaryOptions
from aiperf.records import Columns
from aiperf.reports.exporters.junit import render_junit
from aiperf.reports.exporters.summary_csv import render_csv
from aiperf.reports.exporters.summary_json import JsonOptions, render_json
from aiperf.reports.exporters.timeslices_csv import render_timeslices_csv
from aiperf.reports.exporters.timeslices_json import render_timeslices_json
from aiperf.reports.render.console import ConsoleOptions, render_console
from aiperf.reports.render.markdown import render_markdown
from aiperf.reports.requests_jsonl import JsonlOptions, build_jsonl, render_jsonl

Golden = Callable[[str, str], None]
CONTRACT = json.loads((Path(__file__).parents[2] / "golden/reports/aiperf-0.13.json").read_text(encoding="utf-8"))
GOALS = build_tiers([Goals((("time_to_first_token", 34.0), ("request_latency", 75.0)))])


def run(num: int = 100) -> Columns:
    """As the sample of AIPerf's: 100 streams of 20 tokens, 4 HTTP 500, 12 cancelled; usage, new connections, a constant template."""
    rng = np.random.default_rng(8)
    rows: list[Row] = []
    for number in range(num):
        sent = 14.0 * number + 1
        first = sent + float(rng.uniform(21, 45))
        at = [first + 2.0 * k for k in range(20)]
        row = stream(
            sent,
            *at,
            scheduled=sent - 0.5,
            started=sent - 0.25,
            isl=100,
            requested=20,
            usage=(110, 20, None, None),
            headers=first - 1,
            reused=number % 7 != 0,
            connect=0.2 if number % 7 == 0 else None,
            end=at[-1] + 0.1,
            first_byte=first - 1,
            rtt=0.05,
        )
        if number % 25 == 24:
            row = Row(
                sent=sent,
                kind=ErrorKind.HTTP_STATUS,
                status=500,
                end=sent + 1,
                message="injected",
                isl=100,
                scheduled=sent - 0.5,
            )
        elif number % 8 == 3 and len([r for r in rows if r.kind == 9]) < 12:
            row = Row(
                sent=sent,
                chunks=(Chunk(sent + 22),),
                kind=ErrorKind.CANCELLED,
                end=sent + 40,
                cancelled_at=sent + 40,
                isl=100,
                message="Request cancelled 0.040s after being sent",
                scheduled=sent - 0.5,
            )
        rows.append(row)
    return columns_of(rows)


def summary(**more: object) -> Summary:
    facts = EngineFacts(planned=100, sent=100, busiest_worker=0.23, cpu_wait=0.0)
    options = SummaryOptions(tiers=GOALS, slice_ns=500_000_000, facts=facts, **more)  # type: ignore[arg-type]
    return summarise(run(), options)


JSON = JsonOptions(
    aiperf_version="1.2.3",
    benchmark_id="abc",
    input_config={"endpoint": {"url": "http://x"}},
    run_info={"benchmark_id": "abc", "random_seed": 1},
)


def test_the_json_keeps_every_key_unit_and_statistic() -> None:
    content = json.loads(render_json(summary(), JSON))
    optional = {"telemetry_data"}  # only with GPU telemetry: passed in as `extra`
    assert set(CONTRACT["json_other_keys"]) - optional <= set(content)
    for tag, expected in CONTRACT["json_metrics"].items():
        assert tag in content, tag
        assert content[tag]["unit"] == expected["unit"], tag
        stats = set(expected["stats"])
        if tag.startswith("adj_"):
            # AIPerf counts cancelled requests as infinite too: fewer percentiles of its sample are finite.
            stats -= {"p90", "p95", "p99"}
        assert stats <= set(content[tag]), tag


def test_the_json_holds_no_nan_and_no_infinity() -> None:
    def refuse(text: str) -> float:
        raise AssertionError(text)

    for columns in (run(), columns_of([]), columns_of([stream(0, 1, kind=4)])):
        text = render_json(summarise(columns), JSON)
        assert json.loads(text, parse_constant=refuse)["schema_version"] == "1.4"


def test_the_json_carries_what_aiperf_lacks() -> None:
    s = summary(conditions=(Condition(tag="error_rate", op="<", value=1.0, stat=None, unit="%"),), target_rate=1000.0)
    content = json.loads(render_json(s, JSON))
    assert content["token_provenance"] == "local tokenizer"
    assert content["request_counts"]["deliberate"] == 12
    assert content["certificate"]["verdict"] == "trustworthy"
    assert content["servers"]["by_throughput"] > 1
    assert content["assertions"][0]["passed"] is False
    assert content["goodput_tiers"][0]["slos"][0]["tag"] == "time_to_first_token"
    assert content["cancellation"]["count"] == 12
    assert content["slices"]["count"] == 3
    assert {i["stat"] for i in content["confidence_intervals"]} >= {"avg", "p50", "p90", "p99"}
    assert content["steady_state"]["reason"]
    assert content["stalls"]["threshold_ms"] == 1000


def test_cancellations_are_listed_in_the_json_and_no_rate_counts_them() -> None:
    found = json.loads(render_json(summary(), JSON))
    assert [(e["error_details"]["code"], e["count"]) for e in found["error_summary"]] == [(500, 4), (499, 12)]
    assert found["error_request_count"]["avg"] == 4
    assert found["request_error_rate"]["avg"] == pytest.approx(100 * 4 / 88)


def test_warm_up_has_its_own_key() -> None:
    rows = [stream(0, 500, 510, phase=0), stream(1000, 1030, 1040, phase=1)]
    s = summarise(columns_of(rows), SummaryOptions(phases=(Phase("warmup", "warmup"), Phase())))
    assert json.loads(render_json(s, JSON))["warmup_metrics"]["time_to_first_token"]["avg"] == 500


def test_the_csv_keeps_header_labels_and_order() -> None:
    lines = list(csv.reader(io.StringIO(render_csv(summary()))))
    assert ",".join(lines[0]) == CONTRACT["csv_header"]
    blank = lines.index([])
    first = [row[0] for row in lines[1:blank]]
    assert lines[blank + 1] == ["Metric", "Value"]
    second = [row[0] for row in lines[blank + 2 :] if row]
    ours = [name for name in first if name in CONTRACT["csv_metrics"]]
    assert ours == CONTRACT["csv_metrics"]
    assert [name for name in second if name in CONTRACT["csv_values"]][: len(CONTRACT["csv_values"])] == CONTRACT[
        "csv_values"
    ]
    row = next(r for r in lines if r and r[0] == "Effective Concurrency")
    assert [lines[0][i] for i, cell in enumerate(row) if cell] == [
        "Metric",
        "avg",
        "min",
        "max",
        "p50",
        "p90",
        "p95",
        "p99",
        "std",
    ]


def test_further_percentiles_get_columns_of_their_own() -> None:
    s = summary(percentiles=(80.0,))
    header = render_csv(s, (80.0,)).splitlines()[0]
    assert header == "Metric,avg,min,max,sum,p1,p5,p10,p25,p50,p75,p80,p90,p95,p99,std"
    assert "p80" in json.loads(render_json(s, JsonOptions(aiperf_version="1", percentiles=(80.0,))))["request_latency"]
    assert "p80" in render_console(s, ConsoleOptions(percentiles=(50.0, 80.0)), width=160)


def records(columns: Columns, options: JsonlOptions | None = None) -> list[dict[str, dict[str, object]]]:
    batch = build_jsonl(
        columns, options or JsonlOptions(metrics=MetricOptions(slos=(Slo("time_to_first_token", 34e6),)))
    )
    return [json.loads(line) for line in render_jsonl(batch).decode().splitlines()]


def test_records_keep_every_key_unit_and_type() -> None:
    lines = records(run())
    good = next(r for r in lines if "error" not in r)
    assert set(CONTRACT["record_metadata"]) <= set(good["metadata"])
    for tag, expected in CONTRACT["record_metrics"].items():
        found = good["metrics"][tag]
        assert isinstance(found, dict)
        assert found["unit"] == expected["unit"], tag
        assert type(found["value"]).__name__ == expected["type"], tag


def test_failed_and_cancelled_records_have_error_isl_and_the_error_only() -> None:
    lines = records(run())
    failed = next(r for r in lines if r.get("error", {}).get("code") == 500)
    assert set(failed["metrics"]) == set(CONTRACT["failed_record"]["metrics"])
    assert failed["error"] == {"code": 500, "type": "Internal Server Error", "message": "injected"}
    assert failed["metadata"]["was_cancelled"] is False
    cancelled = next(r for r in lines if r.get("error", {}).get("code") == 499)
    assert set(CONTRACT["cancelled_metadata"]) <= set(cancelled["metadata"])
    assert cancelled["metadata"]["was_cancelled"] is True
    assert cancelled["error"]["type"] == "RequestCancellationError"
    assert cancelled["metrics"] == {"error_isl": {"value": 100, "unit": "tokens"}}


def test_wall_times_in_records_are_exact_to_the_nanosecond() -> None:
    row = stream(0.123457, 30.000001, 40.000003)
    line = records(columns_of([row]))[0]
    wall = 1_795_491_051_000_000_000
    assert line["metadata"]["request_start_ns"] == wall + 123_457
    assert line["metadata"]["request_end_ns"] == wall + 40_000_003


def test_absent_values_leave_their_key_out_of_the_record() -> None:
    line = records(columns_of([stream(0, 30), stream(0, 30, 40)]))[0]
    assert not {"inter_token_latency", "inter_chunk_latency", "time_to_second_token", "reasoning_token_count"} & set(
        line["metrics"]
    )
    reasoning = Row(sent=0, chunks=(Chunk(10, 4, REASONING), Chunk(20)), output=1, reasoning=1, end=20)
    assert records(columns_of([reasoning]))[0]["metrics"]["reasoning_token_count"] == {"value": 1, "unit": "tokens"}


def test_phases_and_conversations_in_records() -> None:
    columns = columns_of([stream(0, 30, 40, phase=0), stream(100, 130, 140, phase=1)])
    options = JsonlOptions(
        metrics=MetricOptions(),
        phases=(Phase("warm", "warmup"), Phase("main")),
        sessions=("a", "b"),
        benchmark_id="run",
    )
    first, second = (r["metadata"] for r in records(columns, options))
    assert (first["benchmark_phase"], second["benchmark_phase"]) == ("warmup", "profiling")
    assert (second["phase_name"], second["phase_index"], second["profiling_index"]) == ("main", 1, 0)
    assert (first["conversation_id"], second["conversation_id"]) == ("a", "b")
    assert str(first["worker_id"]).startswith("worker_")
    assert len(str(first["worker_id"])) == len("worker_") + 8


DEMO_SCRIPT = """
import json
import numpy as np
from pathlib import Path
# Read all TTFT values
ttft_values = []
with open("{path}", 'r') as f:
    for line in f:
        record = json.loads(line)
        ttft = record['metrics']['time_to_first_token']['value']
        ttft_values.append(ttft)
# Calculate P75
p75_ttft = np.percentile(ttft_values, 75)
print(f"P75 TTFT: {{p75_ttft:.2f}} ms")
"""


def test_the_demos_percentile_script_gives_the_summarys_p75(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Use case 2 of the AIPerf 0.3.0 demo, unchanged but for the path, on a clean run."""
    rng = np.random.default_rng(2)
    columns = columns_of(
        [stream(20 * i, 20 * i + float(t), 20 * i + 90) for i, t in enumerate(rng.lognormal(3, 0.5, 57))]
    )
    path = tmp_path / "profile_export.jsonl"
    path.write_bytes(render_jsonl(build_jsonl(columns, JsonlOptions(metrics=MetricOptions()))))
    scope: dict[str, object] = {}
    exec(DEMO_SCRIPT.format(path=path), scope)
    p75 = json.loads(render_json(summarise(columns), JSON))["time_to_first_token"]["p75"]
    assert scope["p75_ttft"] == p75
    assert capsys.readouterr().out == f"P75 TTFT: {p75:.2f} ms\n"


def test_slices_carry_both_generations_of_keys() -> None:
    s = summary()
    found = json.loads(render_timeslices_json(s, {"a": 1}))
    assert found["input_config"] == {"a": 1}
    items = found["timeslices"]
    assert [i["timeslice_index"] for i in items] == [0, 1, 2]
    assert items[1]["start_ns"] - items[0]["start_ns"] == 500_000_000
    assert items[-1]["is_complete"] is False
    assert "is_complete" not in items[0]
    # Failures fell into another slice in AIPerf's sample than in ours.
    first = set(CONTRACT["timeslice_keys"]) - {"error_isl", "total_error_isl", "error_request_count"}
    adjusted = {k for k in first if k.startswith("adj_")}
    assert first - adjusted <= set(items[0])


def test_the_slices_csv_has_a_row_per_statistic() -> None:
    rows = list(csv.DictReader(io.StringIO(render_timeslices_csv(summary()))))
    assert ",".join(rows[0]) == CONTRACT["timeslices_csv_header"]
    found = {(r["Timeslice"], r["Metric"], r["Stat"]): r["Value"] for r in rows}
    assert found["0", "Request Count", "avg"] == f"{summary().slices[0].ended}.00"
    assert summary().slices[0].ended > 20
    assert ("0", "Request Latency", "p99") in found
    assert ("0", "Request Count", "p99") not in found


def test_the_console(golden: Golden) -> None:
    files = (
        ("Records", "artifacts/x/profile_export.jsonl"),
        ("Summary (JSON)", "artifacts/x/profile_export_aiperf.json"),
    )
    options = ConsoleOptions(files=files, command="aiperf profile --model m")
    golden("reports/console.txt", render_console(summary(), options))


def test_the_console_with_every_table(golden: Golden) -> None:
    everything = summary(
        target_rate=1000.0,
        target_share=0.95,
        conditions=(Condition(tag="error_rate", op="<", value=1.0, stat=None, unit="%"),),
    )
    options = ConsoleOptions(
        tables=("effective", "active", "usage", "http"),
        mark=75.0,
        show_gaps=True,
        show_tail=True,
        show_intervals=True,
        percentiles=(25.0, 50.0, 90.0),
    )
    golden("reports/console-all.txt", render_console(everything, options, width=140))


def test_the_json_file(golden: Golden) -> None:
    s = summarise(columns_of([stream(0, 30, 40, 50), stream(5, 45, 55, kind=4, status=503, message="busy")]))
    text = render_json(s, JSON)
    # Local times depend on the machine's zone.
    found = json.loads(text)
    del found["start_time"], found["end_time"]
    golden("reports/summary.json", json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def test_the_csv_file(golden: Golden) -> None:
    golden("reports/summary.csv", render_csv(summary()))


def test_the_markdown(golden: Golden) -> None:
    conditions = (
        Condition(tag="time_to_first_token", op="<", value=500.0, stat="p99", unit="ms"),
        Condition(tag="good_request_fraction", op=">=", value=95.0, stat=None, unit="%"),
    )
    golden("reports/summary.md", render_markdown(summary(conditions=conditions)))


def test_the_error_table_ends_after_twenty_and_says_what_is_left() -> None:
    many = tuple(
        ErrorGroup(kind=ErrorKind.HTTP_STATUS, code=500, type="Internal Server Error", message="x" * n, count=2)
        for n in range(1, 31)
    )
    crowded = render_console(replace(summary(), errors=many))
    assert crowded.count("Internal Server Error") == 20
    assert re.search(r"10 further messages.*│ +20 │", crowded)


def test_the_tables_rows_are_ordered_and_absent_cells_say_so() -> None:
    text = render_console(summary())
    labels = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    order = sorted(
        (m for m in load_all().values() if m.table == "main" and m.order is not None),
        key=lambda m: m.order or 0,
    )
    headers = [m.header for m in order]
    shown = [
        next(h for h in headers if label.startswith(h)) for label in labels if any(label.startswith(h) for h in headers)
    ]
    assert [h for h in headers if h in shown] == list(dict.fromkeys(shown))
    assert "AIPerf | LLM Metrics" in text
    assert "NVIDIA" not in text
    assert "N/A" in text
    assert "nan" not in text.lower()


def test_long_headers_put_their_unit_on_a_line_of_its_own() -> None:
    lines = render_console(summary()).splitlines()
    at = next(i for i, line in enumerate(lines) if "Completed Requests (Success + Error)" in line)
    assert lines[at + 1].split("│")[1].strip() == "(requests)"


def test_numbers_are_never_cut_on_a_narrow_screen() -> None:
    text = render_console(summary(), width=90)
    assert "…" not in text


def test_the_screen_without_any_success() -> None:
    text = render_console(summarise(columns_of([stream(0, 1, kind=1, status=None, message="refused")] * 3)))
    assert "Success Rate: 0% (3 errors: 3 connection failed)" in text
    assert "Benchmark Duration: –" in text


def test_junit_is_read_by_a_junit_reader() -> None:
    conditions = (
        Condition(tag="time_to_first_token", op="<", value=500.0, stat="p99", unit="ms"),
        Condition(tag="request_latency", op="<", value=1.0, stat="p99", unit="ms"),
        Condition(tag="certificate", op="=", value="trustworthy"),
    )
    root = ET.fromstring(render_junit(summary(conditions=conditions)))
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "0")
    cases = suite.findall("testcase")
    assert next(c.get("name") for c in cases) == "time_to_first_token:p99 < 500.0ms"
    failure = cases[1].find("failure")
    assert failure is not None
    assert "actual:" in (failure.get("message") or "")
    assert [c.find("failure") is None for c in cases] == [True, False, True]
