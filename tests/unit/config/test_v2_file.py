"""AIPerf's YAML becomes the options it means, each with its line; what it says wrongly is said with the line too."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from aiperf.config.model import Config
from aiperf.config.resolve import configure
from aiperf.errors import ConfigError

BODY = """
schemaVersion: "2.0"
benchmark:
  model: m
  endpoint: {url: localhost:1, streaming: true}
"""


def read(
    tmp_path: Path, text: str, env: dict[str, str] | None = None, monkeypatch: pytest.MonkeyPatch | None = None
) -> Config:
    for name, value in (env or {}).items():
        assert monkeypatch is not None
        monkeypatch.setenv(name, value)
    path = tmp_path / "bench.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return configure(config_file=path, env={})


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return [f"{p.where}: {p.message}" for p in caught.value.problems]


def values(config: Config, *paths: str) -> list[object]:
    return [config.value(path) for path in paths]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            "phases: {type: concurrency, concurrency: 8, requests: 100}",
            {"load.concurrency": 8, "load.request_count": 100},
        ),
        ("phases: {type: concurrency, requests: 5}", {"load.concurrency": 1}),
        (
            "profiling: {type: poisson, rate: 5.0, duration: 2m}",
            {"load.request_rate": 5.0, "load.benchmark_duration": 120},
        ),
        (
            "profiling: {type: gamma, rate: 30, smoothness: 1.5, duration: 9, rateRamp: 30s, gracePeriod: inf}",
            {
                "load.arrival_pattern": "gamma",
                "load.arrival_smoothness": 1.5,
                "load.request_rate_ramp_duration": 30.0,
                "load.benchmark_grace_period": None,
            },
        ),
        (
            "phases: [{name: profiling, type: constant, rate: 2, requests: 9, concurrency: 4, prefillConcurrency: 2, prefill_ramp: 3}]",
            {
                "load.arrival_pattern": "constant",
                "load.prefill_concurrency": 2,
                "load.prefill_concurrency_ramp_duration": 3.0,
            },
        ),
        (
            "phases: {type: user_centric, users: 30, rate: 2, duration: 10}",
            {"load.user_centric_rate": 2.0, "load.num_users": 30, "load.request_rate": None},
        ),
        (
            "phases: {type: concurrency, sessions: 7, concurrencyRamp: {duration: 4, strategy: exponential}}",
            {"conversation.num_sessions": 7, "load.concurrency_ramp_duration": 4.0, "load.ramp_shape": "exponential"},
        ),
        (
            "phases: {type: poisson, rate: 3, requests: 9, cancellation: {rate: 10, delay: 0.5}}",
            {"load.request_cancellation_rate": 10.0, "load.request_cancellation_delay": 0.5},
        ),
        (
            "phases: {type: poisson, rateSeries: {points: [{timeS: 0, qps: 1}, {timeS: 9, qps: 4}]}}",
            {"load.benchmark_duration": 9.0},
        ),
    ],
)
def test_a_phase_is_the_load(tmp_path: Path, block: str, expected: dict[str, object]) -> None:
    config = read(tmp_path, f"{BODY}  {block}\n")
    assert {path: config.value(path) for path in expected} == expected
    assert not config.load.phases


def test_a_warmup_is_the_warmup_however_it_is_written(tmp_path: Path) -> None:
    written = (
        "warmup: {type: concurrency, requests: 5, concurrency: 2}\n  profiling: {type: poisson, rate: 4, requests: 9}",
        "phases: [{name: w, excludeFromResults: true, requests: 5, concurrency: 2}, {type: poisson, rate: 4, requests: 9}]",
        "phases: {warmup: {requests: 5, concurrency: 2}, profiling: {type: poisson, rate: 4, requests: 9}}",
    )
    for text in written:
        config = read(tmp_path, f"{BODY}  {text}\n")
        assert (config.warmup.request_count, config.warmup.concurrency, config.warmup.request_rate) == (5, 2, None)
        assert config.load.request_rate == 4


def test_several_phases_are_kept_with_what_each_has(tmp_path: Path) -> None:
    """What one phase has and another has not is absent in the other, not taken over."""
    config = read(
        tmp_path,
        f"""{BODY}
  phases:
    - {{name: warm, kind: warmup, type: user_centric, users: 3, rate: 1, duration: 5}}
    - {{name: calm, type: concurrency, concurrency: 2, requests: 10}}
    - {{name: rush, type: poisson, rate: 50, duration: 3}}
""",
    )
    warm, calm, rush = config.load.phases
    assert [(p.name, p.kind) for p in (warm, calm, rush)] == [
        ("warm", "warmup"),
        ("calm", "profiling"),
        ("rush", "profiling"),
    ]
    assert warm.values["load.user_centric_rate"] == 1.0
    assert calm.values["load.request_count"] == 10
    assert calm.values["load.request_rate"] is None
    assert rush.values["load.request_count"] is None
    assert rush.values["load.concurrency"] is None
    assert config.load.concurrency == 2, "the options are those of the first that is measured"


def test_the_rest_of_the_block(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """
        schemaVersion: "2.0"
        randomSeed: 7
        multiRun: {numRuns: 3, cooldownSeconds: 1.5, confidenceLevel: 0.9, disableWarmupAfterFirst: false}
        benchmark:
          models: {items: [{name: a}, {name: b}], strategy: random}
          endpoint:
            urls: [http://h1:1, http://h2:2/v1]
            streaming: true
            timeout: 12.5
            headers: {X-Team: "7"}
            extra: {temperature: 0, nested: {keepCase: true}}
            connectionReuse: sticky-user-sessions
            useServerTokenCount: true
            resetKvCache: {path: /flush}
          dataset:
            type: synthetic
            entries: 40
            prompts: {isl: {mean: 300, median: 200}, osl: {mean: 20, stddev: 5}}
            prefixPrompts: {poolSize: 3, length: 50}
            turns: {mean: 4, stddev: 1}
            turnDelay: {mean: 100}
            turnDelayRatio: 0.5
          profiling: {type: concurrency, requests: 4}
          slos: {time_to_first_token: 300, request_latency: 1000.5}
          tokenizer: {name: builtin, applyChatTemplate: false}
          gpuTelemetry: {enabled: false}
          serverMetrics: {urls: ["http://h1:1/metrics"], formats: [json, parquet]}
          artifacts: {dir: out, prefix: p, raw: true, sliceDuration: 5m, trace: true, showTraceTiming: true}
          networkLatency: {meanMs: 2}
          runtime: {ui: none, workers: 4}
          otel: {metricsUrl: "http://x"}
        """,
    )
    assert values(config, "endpoint.model_names", "endpoint.model_selection_strategy") == [("a", "b"), "random"]
    assert config.endpoint.urls == ("http://h1:1", "http://h2:2/v1")
    assert config.endpoint.headers == (("X-Team", "7"),)
    assert config.endpoint.extra_inputs == {"temperature": 0, "nested": {"keepCase": True}}
    assert values(config, "endpoint.reset_kv_cache", "endpoint.reset_kv_cache_path") == [True, "/flush"]
    assert values(config, "input.num_dataset_entries", "input.random_seed") == [40, 7]
    assert values(config, "prompt.isl_mean", "prompt.osl_mean", "prompt.osl_stddev") == [300, 20, 5]
    assert config.prompt.isl_dist == '{"mean": 300, "median": 200}'
    assert values(config, "conversation.turn_mean", "conversation.turn_delay_ratio") == [4, 0.5]
    assert config.slo.goodput[0].limits == (("time_to_first_token", 300.0), ("request_latency", 1000.5))
    assert values(config, "telemetry.no_gpu_telemetry", "telemetry.network_latency_mean") == [True, 2]
    assert config.telemetry.server_metrics_formats == ("json", "parquet")
    assert values(config, "output.export_level", "output.slice_duration", "output.export_http_trace") == [
        "raw",
        300,
        True,
    ]
    assert values(config, "sweep.num_profile_runs", "sweep.profile_run_disable_warmup_after_first") == [3, False]
    assert str(config.origins["prompt.isl_dist"]).endswith("bench.yaml:19")
    told = "\n".join(config.notes)
    assert "OpenTelemetry" in told
    assert "runtime.workers" in told


def test_variables_and_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`${…}` from the environment with its type, `{{ … }}` from variables that are made of each other and of the block."""
    config = read(
        tmp_path,
        """
        schemaVersion: "2.0"
        randomSeed: ${SEED_OF_TEST:42}
        variables: {total: "{{ per_gpu * gpus }}", per_gpu: 8, gpus: 4, label: x}
        benchmark:
          model: ${MODEL_OF_TEST:org/some-model}
          endpoint: {url: "http://${HOST_OF_TEST:localhost}:80", streaming: true}
          dataset: {type: synthetic, entries: "{{ total * 2 }}", prompts: {isl: "{{ total // 3 }}", osl: 5}}
          profiling: {type: concurrency, concurrency: "{{ total }}", requests: "{{ profiling.concurrency_of | default(3) }}"}
          artifacts: {dir: "out-{{ label }}"}
        """,
        {"HOST_OF_TEST": "h"},
        monkeypatch,
    )
    assert values(config, "input.random_seed", "load.concurrency", "input.num_dataset_entries") == [42, 32, 64]
    assert values(config, "prompt.isl_mean", "load.request_count") == [10, 3]
    assert config.endpoint.model_names == ("org/some-model",)
    assert config.endpoint.urls == ("http://h:80",)
    assert str(config.output.artifact_dir) == "out-x"


@pytest.mark.parametrize(
    ("sweep", "points"),
    [
        ("{type: grid, parameters: {concurrency: [1, 4]}}", [("load.concurrency", (1, 4))]),
        (
            "{type: grid, parameters: {phases.profiling.concurrency: [1, 2], datasets.default.prompts.isl: [10, 20, 30]}}",
            [("load.concurrency", (1, 2)), ("prompt.isl_mean", (10, 20, 30))],
        ),
        (
            "{type: zip, parameters: {isl: [1, 2], osl: [3, 4]}}",
            [("prompt.isl_mean", (1, 2)), ("prompt.osl_mean", (3, 4))],
        ),
    ],
)
def test_numbers_sweep_options(tmp_path: Path, sweep: str, points: list[tuple[str, tuple[int, ...]]]) -> None:
    config = read(
        tmp_path,
        f"{BODY}  dataset: {{type: synthetic, prompts: {{isl: 5, osl: 5}}}}\n"
        f"  phases: [{{name: profiling, type: concurrency, requests: 9, concurrency: 3}}]\nsweep: {sweep}\n",
    )
    assert [(a.field, a.values) for a in config.sweep.axes] == points
    assert not config.sweep.scenarios


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        (
            "{runs: [{name: a, benchmark: {dataset: {prompts: {isl: {mean: 9, median: 8}}}}}, {name: b, benchmark: {phases: [{name: profiling, requests: 2}]}}]}",
            {
                "a": {"prompt.isl_dist": '{"mean": 9, "median": 8}', "prompt.isl_mean": 550.0},
                "b": {"load.request_count": 2},
            },
        ),
        (
            "{type: grid, parameters: {endpoint.streaming: [true, false]}}",
            {"streaming_True": {}, "streaming_False": {"endpoint.streaming": False}},
        ),
        (
            "{type: grid, parameters: {isl: [5, {mean: 7, stddev: 2}]}}",
            {"isl_5": {}, "isl_mean_7_stddev_2": {"prompt.isl_mean": 7.0, "prompt.isl_stddev": 2.0}},
        ),
        (
            "{type: latin_hypercube, samples: 2, seed: 1, dimensions: [{path: concurrency, choices: [6]}, {path: requests, lo: 9, hi: 9}]}",
            {"concurrency_6-requests_9": {"load.concurrency": 6}},
        ),
    ],
)
def test_anything_else_makes_scenarios(tmp_path: Path, sweep: str, expected: dict[str, dict[str, object]]) -> None:
    """A scenario holds what differs from the block alone."""
    config = read(
        tmp_path,
        f"{BODY}  dataset: {{type: synthetic, prompts: {{isl: 5, osl: 5}}}}\n"
        f"  phases: [{{name: profiling, type: concurrency, requests: 9, concurrency: 3}}]\nsweep: {sweep}\n",
    )
    assert {s.name: dict(s.values) for s in config.sweep.scenarios} == expected
    assert config.is_study


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  phases: {type: concurrency, request: 5}", ":6: no key is named `request` in `benchmark.phases`"),
        ("  endpoints: {}", ":6: no key is named `endpoints` in `benchmark`"),
        ("  phases: {type: burst, requests: 5}", ":6: `burst` is not a type of phase"),
        ("  phases: {type: poisson, requests: 5}", ":6: the phase `profiling` of type `poisson` has no `rate`"),
        ("  dataset: {type: synthetic, prompts: {isl: {mean: 5, median: 9}}}", ":6: `median` 9 of a log-normal"),
        ("  dataset: {type: synthetic, prompts: {isl: many}}", ":6: `many` is not a number"),
        ("  model: ${NOT_SET_ANYWHERE}", ":6: the variable `NOT_SET_ANYWHERE` is not set"),
        ("  model: x\n  model: y", "is there twice"),
        ("sweep: {type: grid, parameters: {phases.other.rate: [1, 2]}}", "names nothing in `benchmark`"),
        ("sweep: {type: grid}", "the sweep has no `parameters`"),
        ("sweep: {type: zip, parameters: {isl: [1], osl: [2, 3]}}", "same length"),
        ("randomseed: 5", "did you mean"),
        ('variables: {a: "{{ b }}", b: "{{ a }}"}', "is undefined"),
        ("  phases: [{name: a, requests: 4}, {name: b, type: concurrency}]", "the phase `b` has no end"),
        ("  artifacts: {user_files: [{path: ../x, content: y}]}", "is not a path within"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    told = "\n".join(problems(tmp_path, f"{BODY}{text}\n"))
    if "did you mean" in message:
        with pytest.raises(ConfigError) as caught:
            read(tmp_path, f"{BODY}{text}\n")
        told = str([p.hint for p in caught.value.problems])
    assert message in told


def test_records_in_the_file_are_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIPERF_CACHE_DIR", str(tmp_path / "cache"))
    config = read(
        tmp_path,
        f"{BODY}  dataset: {{type: file, format: single_turn, records: [{{text: a, output_length: 3}}, {{text: bé}}]}}\n",
    )
    assert config.input.input_file is not None
    assert config.input.input_file.read_text(encoding="utf-8") == '{"text": "a", "output_length": 3}\n{"text": "bé"}\n'


def test_a_path_beside_the_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"timestamp": 0, "input_length": 5}\n', encoding="utf-8")
    config = read(
        tmp_path, f"{BODY}  dataset: {{path: ./t.jsonl, format: mooncake_trace}}\n  phases: {{type: fixed_schedule}}\n"
    )
    assert config.input.input_file == tmp_path / "t.jsonl"
    assert config.input.fixed_schedule
