"""What is printed for `kubectl apply`: held against Kubernetes' own schemas, golden files, and what must never be in it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.kube.schemas import KUBERNETES, validate

from aiperf.cli import main

PROFILE = (
    "--model",
    "m",
    "--url",
    "http://vllm.models.svc:8000",
    "--streaming",
    "--concurrency",
    "100",
    "--request-count",
    "1000",
)
IMAGE = ("--image", "registry.example.com/bench/aiperf:1.2")
EVERYTHING = (
    "--namespace",
    "bench",
    "--image-pull-policy",
    "always",
    "--image-pull-secrets",
    "pull-a,pull-b",
    "--queue-name",
    "nightly",
    "--priority-class",
    "low",
    "--active-deadline",
    "2h",
    "--service-account",
    "bench",
    "--node-selector",
    "disk=ssd,arch=amd64",
    "--tolerations",
    "dedicated=bench:NoSchedule",
    "gpu",
    "--cpu",
    "3500m",
    "--memory",
    "8Gi",
    "--labels",
    "team=bench",
    "--annotations",
    "example.com/why=capacity test: 100 users",
    "--env-vars",
    "HTTPS_PROXY=http://proxy:3128",
    "NO_PROXY=.svc",
    "--network-policy",
    "--api-key-secret",
    "model-key/token",
    "--hf-token-secret",
    "hf/token",
    "--env-from-secrets",
    "AIPERF_HEADER=gateway/header",
    "--ca-bundle",
    "company-ca/ca.crt",
    "--input-pvc",
    "traces",
    "--results-pvc",
    "results",
    "--termination-grace",
    "120",
)
KINDS = ("job", "jobset", "rayjob")
RAY = ("--ray-version", "2.49.0")


Manifest = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def manifest(capsys: pytest.CaptureFixture[str]) -> Manifest:
    def make(*words: str) -> list[dict[str, Any]]:
        code = main(["kube", "manifest", *words])
        out = capsys.readouterr()
        assert code == 0, out.err
        return list(yaml.safe_load_all(out.out))

    return make


@pytest.mark.kubernetes
@pytest.mark.slow
@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_valid_for_kubernetes(manifest: Manifest, kind: str, version: str) -> None:
    for generators in ("1", "4"):
        for more in ((), EVERYTHING):
            for item in manifest("--kind", kind, "--generators", generators, *RAY, *IMAGE, *more, *PROFILE):
                validate(item, version)


@pytest.mark.kubernetes
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["job", "rayjob"])
def test_a_schedule_is_valid_too(manifest: Manifest, kind: str) -> None:
    words = ("--schedule", "0 3 * * 1-5", "--time-zone", "Europe/Berlin", "--results-pvc", "r")
    objects = manifest("--kind", kind, "--generators", "2", *words, *RAY, *IMAGE, *PROFILE)
    for item in objects:
        validate(item, KUBERNETES[-1])
    assert objects[-1]["kind"] == {"job": "CronJob", "rayjob": "RayCronJob"}[kind]


@pytest.mark.kubernetes
def test_the_schemas_refuse_what_is_wrong(manifest: Manifest) -> None:
    """The check itself: a field that does not exist, a type that is not right."""
    for kind in KINDS:
        good = manifest("--kind", kind, *RAY, *IMAGE, *PROFILE)[-1]
        for path, wrong in ((("spec", "nonsense"), 1), (("spec", "ttlSecondsAfterFinished"), "soon")):
            item = copy.deepcopy(good)
            item[path[0]][path[1]] = wrong
            with pytest.raises(Exception, match=r"nonsense|soon"):
                validate(item, KUBERNETES[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_golden(golden: Callable[[str, str], None], capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert main(["kube", "manifest", "--kind", kind, "--generators", "3", *RAY, *IMAGE, *EVERYTHING, *PROFILE]) == 0
    golden(f"kube/{kind}.yaml", capsys.readouterr().out)


def test_a_plain_run_is_one_object(manifest: Manifest) -> None:
    (job,) = manifest(*IMAGE, *PROFILE)
    pod = job["spec"]["template"]["spec"]
    assert (job["kind"], job["spec"]["completions"]) == ("Job", 1)
    assert pod["containers"][0]["args"][-len(PROFILE) :] == list(PROFILE)
    assert "affinity" not in pod


@pytest.mark.parametrize("kind", KINDS)
def test_no_pod_has_a_privilege(manifest: Manifest, kind: str) -> None:
    pods = [t["spec"] for item in manifest("--kind", kind, *RAY, *IMAGE, *PROFILE) for t in _templates(item)]
    assert pods
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod["automountServiceAccountToken"]
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"]
            assert not own["allowPrivilegeEscalation"]
            assert own["capabilities"] == {"drop": ["ALL"]}


def _templates(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [t for v in value for t in _templates(v)]
    if not isinstance(value, dict):
        return []
    own = [value] if "containers" in value.get("spec", {}) else []
    return own + [t for v in value.values() for t in _templates(v)]


@pytest.mark.parametrize(
    "words",
    [
        ("--api-key", "sk-planted"),
        ("--api-key=sk-planted",),
        ("--header", "Authorization: Bearer sk-planted"),
        ("--url", "http://user:sk-planted@host:8000"),
        ("--proxy", "http://user:sk-planted@proxy:3128"),
        ("--env-vars", "HF_TOKEN=sk-planted"),
        ("--", "--api-key", "sk-planted"),
    ],
)
def test_a_secret_never_reaches_a_manifest(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert main(["kube", "manifest", *IMAGE, "--model", "m", *words]) == 2
    out = capsys.readouterr()
    assert "sk-planted" not in out.out
    assert "secret" in out.err.lower()


def test_small_files_travel_in_a_config_map(manifest: Manifest, tmp_path: Path) -> None:
    data, config = tmp_path / "prompts.jsonl", tmp_path / "run.yaml"
    data.write_text('{"text": "hello"}\n', encoding="utf-8")
    config.write_text("streaming: true\n", encoding="utf-8")
    words = ("--input-file", str(data), "--custom-dataset-type", "single_turn", "--config", str(config))
    files, job = manifest(*IMAGE, "--model", "m", *words)
    assert files["data"] == {"prompts.jsonl": '{"text": "hello"}\n', "run.yaml": "streaming: true\n"}
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "/etc/aiperf/files/prompts.jsonl" in args
    assert "/etc/aiperf/files/run.yaml" in args


def test_files_that_the_configuration_file_names_travel_too(manifest: Manifest, tmp_path: Path) -> None:
    data, config = tmp_path / "prompts.jsonl", tmp_path / "run.yaml"
    data.write_text('{"text": "hello"}\n', encoding="utf-8")
    config.write_text(f"input_file: {data}\ncustom_dataset_type: single_turn\n", encoding="utf-8")
    files, job = manifest(*IMAGE, "--model", "m", "--config", str(config))
    assert files["data"]["prompts.jsonl"] == '{"text": "hello"}\n'
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--input-file") + 1] == "/etc/aiperf/files/prompts.jsonl"


def test_names_of_files_become_keys_of_a_config_map(manifest: Manifest, tmp_path: Path) -> None:
    """Letters, digits, `-`, `_` and `.` alone; two files of the same name stay two."""
    odd, other, config = tmp_path / "my prompts é.jsonl", tmp_path / "a" / "my prompts è.jsonl", tmp_path / "run.yaml"
    other.parent.mkdir()
    odd.write_text('{"text": "one"}\n', encoding="utf-8")
    other.write_text("two", encoding="utf-8")
    config.write_text(f"system_prompt_file: {other}\n", encoding="utf-8")
    words = ("--input-file", str(odd), "--custom-dataset-type", "single_turn", "--config", str(config))
    files, job = manifest(*IMAGE, "--model", "m", *words)
    assert len(files["data"]) == 3
    assert set(files["data"].values()) >= {'{"text": "one"}\n', "two"}
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    for name in files["data"]:
        assert re.fullmatch(r"[-._a-zA-Z0-9]+", name)
        assert f"/etc/aiperf/files/{name}" in args


V2 = """\
benchmark:
  models: [m]
  endpoint:
    urls: ["http://h:1"]
    api_key: ${KEY}
    headers:
      Authorization: Bearer ${KEY}
  datasets:
    main: {type: synthetic, entries: 10, prompts: {isl: 10, osl: 5}}
  phases:
    - {name: profiling, type: concurrency, concurrency: 1, requests: 10}
"""


def test_a_secret_in_a_configuration_file_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "run.yaml"
    for line in ("api_key: sk-planted", "header: ['Authorization: Bearer sk-planted']", "url: http://u:sk-planted@h:1"):
        config.write_text(f"{line}\n", encoding="utf-8")
        assert main(["kube", "manifest", *IMAGE, "--model", "m", "--config", str(config)]) == 2, line
        out = capsys.readouterr()
        assert "sk-planted" not in out.out + out.err
        assert "--api-key-secret" in out.err
    monkeypatch.setenv("KEY", "sk-planted")
    config.write_text(V2, encoding="utf-8")
    assert main(["kube", "manifest", *IMAGE, "--config", str(config)]) == 0
    assert "sk-planted" not in capsys.readouterr().out


def test_a_path_in_the_cluster_is_named_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A configuration is read here, where the path is none."""
    config = tmp_path / "run.yaml"
    config.write_text("input_file: /inputs/t.jsonl\ncustom_dataset_type: single_turn\n", encoding="utf-8")
    words = (*IMAGE, "--model", "m", "--input-pvc", "traces", "--config", str(config))
    assert main(["kube", "manifest", *words]) == 2
    assert "on the command line" in capsys.readouterr().err
    config.write_text("custom_dataset_type: single_turn\n", encoding="utf-8")
    assert main(["kube", "manifest", *words, "--input-file", "/inputs/t.jsonl"]) == 0


def test_options_of_several_machines_go_to_several_pods(manifest: Manifest) -> None:
    words = ("--generators", "3", "--on-generator-loss", "continue", "--record-store", "s3://b/x")
    args = manifest(*IMAGE, *words, *PROFILE)[-1]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--on-generator-loss") + 1] == "continue"
    assert args[args.index("--record-store") + 1] == "s3://b/x"


def test_the_network_policy_lets_the_command_reach_what_its_options_name(manifest: Manifest) -> None:
    words = (
        *("--proxy", "http://proxy:3128", "--server-metrics", "http://h:9090/metrics", "--gpu-telemetry", "dcgm:9400"),
        *("--otel-url", "http://collector:4318", "--generators", "2", "--record-store", "s3://b/x"),
    )
    policy = manifest(*IMAGE, "--network-policy", *PROFILE, *words)[0]
    ports = {p["port"] for rule in policy["spec"]["egress"] for p in rule.get("ports", ()) if p["protocol"] == "TCP"}
    assert ports == {53, 443, 3128, 4318, 8000, 9090, 9400}


def test_large_files_need_a_volume(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = tmp_path / "big.jsonl"
    data.write_text('{"text": "hello"}\n' * 60_000, encoding="utf-8")
    words = ("--input-file", str(data), "--custom-dataset-type", "single_turn")
    assert main(["kube", "manifest", *IMAGE, "--model", "m", *words]) == 2
    assert "--input-pvc" in capsys.readouterr().err


def test_a_file_in_the_cluster_is_named_by_its_path_there(manifest: Manifest) -> None:
    for more in ((), ("--custom-dataset-type", "mooncake_trace")):
        words = (*IMAGE, "--input-pvc", "traces", "--model", "m", "--input-file", "/inputs/trace.jsonl", *more)
        (job,) = manifest(*words)
        assert "/inputs/trace.jsonl" in job["spec"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), ("--image",)),
        ((*IMAGE, "--name", "Upper"), ("--name", "lower-case")),
        ((*IMAGE, "--name", "x" * 41), ("41 characters",)),
        ((*IMAGE, "--memory", "4gb"), ("--memory", "4Gi")),
        ((*IMAGE, "--cpu", "two"), ("--cpu",)),
        ((*IMAGE, "--kind", "pod"), ("jobset", "--kind")),
        ((*IMAGE, "--schedule", "daily", "--results-pvc", "r"), ("cron",)),
        ((*IMAGE, "--schedule", "0 3 * * *"), ("--results-pvc",)),
        ((*IMAGE, "--schedule", "0 3 * * *", "--kind", "jobset", "--results-pvc", "r"), ("JobSets",)),
        ((*IMAGE, "--time-zone", "Europe/Berlin"), ("--schedule",)),
        ((*IMAGE, "--generators", "0"), ("--generators",)),
        ((*IMAGE, "--tolerations", "a:Never"), ("NoSchedule",)),
        ((*IMAGE, "--api-key-secret", "nokey"), ("NAME/KEY",)),
        ((*IMAGE, "--port-range", "9 1"), ("range of ports",)),
        ((*IMAGE, "--concurrency", "0.5"), ("--concurrency",)),
        ((*IMAGE, "--input-file", "/nowhere/x.jsonl"), ("--input-file", "/nowhere/x.jsonl")),
        ((*IMAGE, "--artifact-dir", "here"), ("/results",)),
        ((*IMAGE, "--name", "1run"), ("--name", "begin with a letter")),
        ((*IMAGE, "--active-deadline", "0.5"), ("--active-deadline",)),
        ((*IMAGE, "--run-as-user", "99999999999"), ("--run-as-user",)),
        (
            (*IMAGE, "--schedule", "@daily", "--results-pvc", "r", "--time-zone", "Mars/Olympus"),
            ("--time-zone", "Mars/Olympus"),
        ),
        ((*IMAGE, "--env-vars", "1BAD=x", "A B=y"), ("--env-vars", "1BAD", "A B")),
        ((*IMAGE, "--tolerations", "[1]"), ("--tolerations", "JSON object")),
        ((*IMAGE, "--generators", "4", "--cluster", "local"), ("--cluster", "pods")),
        ((*IMAGE, "--generators", "4", "--export-level", "raw"), ("--export-level", "raw")),
        ((*IMAGE, "--generators", "4", "--part", "1/2"), ("--part",)),
        ((*IMAGE, "--on-generator-loss", "stop"), ("--generators",)),
    ],
)
def test_bad_input_is_named_before_anything_is_applied(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: tuple[str, ...]
) -> None:
    assert main(["kube", "manifest", "--model", "m", *words]) == 2
    err = capsys.readouterr().err
    for part in says:
        assert part in err


def test_all_problems_come_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--cpu", "two", "--memory", "4gb", "--concurrency", "x", "--nonsense")
    assert main(["kube", "manifest", "--model", "m", *words]) == 2
    err = capsys.readouterr().err
    assert "--nonsense" in err
    assert "--concurrency" in err


@pytest.mark.kubernetes
def test_the_examples_are_valid() -> None:
    examples = sorted((Path(__file__).parents[3] / "deploy" / "examples").glob("*.yaml"))
    assert examples
    for path in examples:
        for item in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            validate(item, KUBERNETES[-1])
