"""`aiperf plot` and `aiperf view` by their commands."""

from __future__ import annotations

import gzip
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.plots.plot_runs import write_run

from aiperf.cli import main
from aiperf.cli.view import find_runs, serve


@pytest.fixture(autouse=True)
def _small_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiperf.reports.page.load_bundle", lambda: gzip.compress(b"/* vega */"))


def test_plot_writes_the_charts_of_a_run_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "a")
    assert (
        main(["plot", str(run), "--chart", "latency_ecdf", "--chart", "request-timeline", "--format", "svg", "png"])
        == 0
    )
    out = capsys.readouterr().out.split()
    names = sorted(Path(p).name for p in out)
    assert names == ["latency_ecdf.png", "latency_ecdf.svg", "request_timeline.png", "request_timeline.svg"]
    assert all(Path(p).parent == run / "plots" for p in out)


def test_plot_of_several_runs_gives_the_table_and_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(write_run(tmp_path / f"pareto-c{c}", concurrency=c)) for c in (20, 5)]
    assert main(["plot", *runs, "--output", str(tmp_path / "out"), "--format", "html"]) == 0
    out = capsys.readouterr().out
    assert out.index("│           5 │") < out.index("│          20 │")  # by load, not as given
    assert "Best experience: concurrency 5" in out
    assert (tmp_path / "out" / "sweep_table.csv").is_file()
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "tiny · chat: concurrency 5 to concurrency 20" in html
    assert 'id="pareto"' in html


def test_plot_reads_aiperfs_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = []
    for level, ttft in ((1, 40.0), (8, 90.0)):
        folder = tmp_path / f"aiperf-c{level}"
        folder.mkdir()
        stats = {"unit": "ms", "avg": ttft, "p50": ttft, "p99": 2 * ttft}
        summary = {
            "aiperf_version": "0.13.0",
            "time_to_first_token": stats,
            "output_token_throughput": {"unit": "tokens/sec", "avg": 100.0 * level},
            "output_token_throughput_per_user": {"unit": "tokens/sec/user", "avg": 100.0 / level},
            "request_count": {"unit": "requests", "avg": 10},
            "input_config": {"loadgen": {"concurrency": level}},
        }
        (folder / "profile_export_aiperf.json").write_text(json.dumps(summary), encoding="utf-8")
        folders.append(str(folder))
    assert main(["plot", *folders, "-o", str(tmp_path / "out"), "--format", "html"]) == 0
    assert "│           8 │" in capsys.readouterr().out
    assert 'id="pareto"' in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plot"], "there is no folder `artifacts`"),
        (["plot", "nowhere"], "there is no folder `nowhere`"),
        (["plot", ".", "--chart", "paretto"], "did you mean `pareto`?"),
        (["view", "nowhere"], "there is no folder `nowhere`"),
    ],
)
def test_what_cannot_be_done_is_said(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "deep" / "b", concurrency=20)
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "run.json").write_text("{", encoding="utf-8")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "report.html").write_text("secret", encoding="utf-8")
    with serve(tmp_path / "runs") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def _get(port: int, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{port}"})
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, text


def test_view_lists_runs_at_any_depth_and_survives_broken_ones(port: int) -> None:
    status, text = _get(port, "/")
    assert status == 200
    for name in ("/run/a", "/run/deep/b", "/run/broken"):
        assert f'href="{name}"' in text
    assert "c 20" in text
    assert "3 runs" in text


def test_view_shows_a_run_and_compares_several(port: int) -> None:
    assert "tiny · chat · concurrency 10" in _get(port, "/run/a")[1]
    status, text = _get(port, "/compare?run=a&run=deep/b")
    assert status == 200
    assert ">deep/b</th>" in text or ">b</th>" in text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/run/..%2foutside", 422),
        ("/run/../outside", 422),
        ("/run/none", 422),
        ("/run/broken", 422),
        ("/compare?run=a", 422),
    ],
)
def test_view_refuses_what_is_not_below_the_folder(port: int, path: str, status: int) -> None:
    found, text = _get(port, path)
    assert found == status
    assert "secret" not in text


def test_view_answers_only_under_its_own_name(port: int) -> None:
    """Another site's name that resolves to 127.0.0.1 would let its scripts read the runs."""
    assert _get(port, "/", host="evil.example:80")[0] == 403


def test_runs_are_sorted_newest_first(tmp_path: Path) -> None:
    for name, created in (("old", "2026-01-01T00:00:00+00:00"), ("new", "2026-02-01T00:00:00+00:00")):
        run = write_run(tmp_path / name)
        facts = json.loads((run / "run.json").read_text(encoding="utf-8")) | {"created": created}
        (run / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    assert [e.path for e in find_runs(tmp_path)] == ["new", "old"]
