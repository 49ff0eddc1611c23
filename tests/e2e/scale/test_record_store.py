"""`--record-store`: records by a shared folder or a bucket, in place of Ray. With generators in one process; the bucket is moto's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.e2e.runs import Sim, simulate
from tests.e2e.scale.many import InProcess, in_process

from aiperf import Run
from aiperf.config.model import Config
from aiperf.config.resolve import config_from
from aiperf.distributed.cluster import check_nodes
from aiperf.errors import ConfigError
from aiperf.observer import Observers
from aiperf.run import profile as profile_module

COUNT = 3
FLAGS: dict[str, object] = {"generators": COUNT, "workers": 1, "request_count": 60, "concurrency": 6}


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    with simulate(tmp_path_factory.mktemp("sim"), ttft_ms=2) as server:
        yield server


def run_by(sim: Sim, where: str, monkeypatch: pytest.MonkeyPatch, name: str) -> tuple[Run, InProcess]:
    cluster, behind = in_process(COUNT)
    monkeypatch.setattr(profile_module, "ready", lambda *_: cluster)
    return sim.run(**FLAGS, record_store=where, artifact_dir=sim.dir / name), behind


def config_of(where: str) -> Config:
    return config_from({"model": "m", "url": "http://localhost:1", "record_store": where, **FLAGS})


@pytest.mark.slow
def test_records_come_through_a_shared_folder(sim: Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = run_by(sim, str(tmp_path), monkeypatch, "folder")
    assert run.exit_code == 0
    assert run.summary().counts.ok == run.columns.num_rows == 60
    assert not list(tmp_path.iterdir()), "the head takes what is there, and leaves nothing"


@pytest.mark.slow
def test_what_a_store_refuses_comes_through_ray(
    sim: Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []
    monkeypatch.setattr(Observers, "note", lambda _self, text: said.append(text))
    run, _ = run_by(sim, str(tmp_path / "file"), monkeypatch, "refused")
    assert run.summary().counts.ok == run.columns.num_rows == 60
    refused = [t for t in said if "sends its records through Ray" in t]
    assert len(refused) == COUNT
    assert all("Not a directory" in t for t in refused)


def test_a_store_that_a_node_cannot_write_is_named_before_the_load(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cluster, _ = in_process(2)
    with pytest.raises(ConfigError) as caught:
        check_nodes(cluster, config_of(str(tmp_path / "file")), 2, [])
    problems = caught.value.problems
    assert [p.message.partition(" on ")[0] for p in problems] == ["generator 1", "generator 2"]
    assert all("Not a directory" in p.message for p in problems)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The client of the owner; `aiperf` finds the server by the environment, as on a node."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    secrets = {"AWS_ACCESS_KEY_ID": "owner", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    for name, value in {**secrets, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    try:
        client.create_bucket(Bucket="records")
        yield client
    finally:
        client.close()
        server.stop()


@pytest.mark.slow
@pytest.mark.store
@pytest.mark.filterwarnings("ignore")
def test_records_come_through_a_bucket(sim: Sim, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, behind = in_process(COUNT)
    check_nodes(cluster, config_of("s3://records/load"), 2, [])
    seen: list[str] = []
    for generator in behind.generators:
        hand_over = generator._handed_over

        def noted(batch: Any, folder: str, hand_over: Any = hand_over) -> Any:
            found = hand_over(batch, folder)
            seen.append(cast("str", found.key))
            return found

        monkeypatch.setattr(generator, "_handed_over", noted)
    monkeypatch.setattr(profile_module, "ready", lambda *_: cluster)
    run = sim.run(**FLAGS, record_store="s3://records/load", artifact_dir=sim.dir / "bucket")
    assert run.exit_code == 0
    assert run.summary().counts.ok == run.columns.num_rows == 60
    assert len(seen) >= COUNT
    assert all(seen), "every batch went through the bucket"
    assert "Contents" not in bucket.list_objects_v2(Bucket="records"), "nothing is left there"


@pytest.mark.slow
@pytest.mark.store
@pytest.mark.filterwarnings("ignore")
def test_a_bucket_that_is_not_there_is_named_before_the_load(bucket: Any) -> None:
    cluster, _ = in_process(1)
    with pytest.raises(ConfigError) as caught:
        check_nodes(cluster, config_of("s3://nowhere/load"), 2, [])
    (problem,) = caught.value.problems
    assert "s3://nowhere/load" in problem.message
