"""Every dataset and trace format, sent: what the plan says of a prompt's length is what the server counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.runs import Sim

from aiperf import registry
from aiperf.errors import DatasetError, ErrorKind

DATA = Path(__file__).parents[2] / "data"
TRACES = {
    "mooncake_trace": "mooncake_trace.jsonl",
    "bailian_trace": "bailian_trace.jsonl",
    "burst_gpt_trace": "burst_gpt_trace.csv",
    "azure": "azure.csv",
    "generic": "generic.jsonl",
    "hashed_trace": "hashed_trace.jsonl",
    "baseten_trace": "baseten_trace.parquet",
}
DATASETS = {
    "single_turn": "single_turn.jsonl",
    "multi_turn": "multi_turn.jsonl",
    "random_pool": "single_turn.jsonl",
    "sharegpt": "sharegpt.json",
    "raw_payload": "raw_payload.jsonl",
    "inputs_json": "inputs.json",
    "dag_jsonl": "agents.jsonl",
    "hf": "questions.csv",
    "chat_transcript": "chat_transcript.jsonl",
    "exgentic": "exgentic.jsonl",
    "sagemaker_data_capture": "sagemaker_data_capture.jsonl",
}
OPTIONS = {"hf": {"prompt_field": "question", "answer_field": "answer"}}


def test_no_format_is_forgotten() -> None:
    agents = {"weka_trace", "agentic_mooncake", "dynamo_request_trace"}
    assert {*TRACES, *agents} == set(registry.names("traces")), "agents: test_agent_replay, test_agent_formats"
    elsewhere = {"speed_bench", "mooncake_hf"}
    assert {*DATASETS, *elsewhere} == set(registry.names("datasets")), (
        "the miniature of SPEED-Bench: test_public_datasets; the hub's Mooncake rows: test_datasets"
    )


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_of_each_format_has_its_lengths_at_the_server(serve: Callable[..., Sim], name: str) -> None:
    sim = serve()
    run = sim.run(
        input_file=DATA / "traces" / TRACES[name],
        custom_dataset_type=name,
        isl=None,
        osl=None,
        concurrency=8,
        request_count=None,
    )
    columns = run.columns
    assert set(columns.scalar("error_kind")) == {float(ErrorKind.OK)}
    served = {row["request_id"]: row["prompt_tokens"] for row in sim.ledger()}
    counted = np.array([served[str(n)] for n in columns.strings("request_id")], dtype=float)
    if name != "baseten_trace":  # its lines have texts of their own, and lengths by their server's tokenizer
        assert columns.scalar("isl").tolist() == counted.tolist()


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_of_each_format_is_sent_and_counted(serve: Callable[..., Sim], name: str, tmp_path: Path) -> None:
    file = DATA / "datasets" / DATASETS[name]
    if name == "raw_payload":  # the file's second body is one for completions
        lines = file.read_text(encoding="utf-8").splitlines()
        file = tmp_path / "chat.jsonl"
        file.write_text("".join(f"{x}\n" for x in lines if '"messages"' in x), encoding="utf-8")
    sim = serve()
    run = sim.run(
        input_file=file,
        custom_dataset_type=name,
        dataset_option=OPTIONS.get(name),
        isl=None,
        osl=None,
        request_count=12,
        concurrency=2,
    )
    columns = run.columns
    assert set(columns.scalar("error_kind")) == {float(ErrorKind.OK)}
    # Data with times of their own are sent once.
    assert columns.num_rows == (3 if name == "sagemaker_data_capture" else 12)
    served = {row["request_id"]: row["prompt_tokens"] for row in sim.ledger()}
    counted = np.array([served[str(n)] for n in columns.strings("request_id")], dtype=float)
    isl = columns.scalar("isl")
    known = ~np.isnan(isl)
    assert known.any()
    assert np.all(np.abs(isl - counted)[known] <= 4 + 4 * columns.scalar("turn")[known])


@pytest.mark.parametrize("name", [*TRACES])
def test_a_malformed_trace_fails_before_anything_is_sent(serve: Callable[..., Sim], name: str) -> None:
    suffix = Path(TRACES[name]).suffix
    sim = serve()
    with pytest.raises(DatasetError):
        sim.run(input_file=DATA / "traces" / f"{name}_bad{suffix}", custom_dataset_type=name, isl=None, osl=None)
    assert not sim.ledger()
