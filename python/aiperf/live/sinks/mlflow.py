"""MLflow (`--mlflow-tracking-uri`): a run with parameters, live metrics, results and files. https://mlflow.org/docs/latest/ml/tracking/"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiperf.config.sections.live import LiveConfig
from aiperf.errors import ConfigError, Problem
from aiperf.live.board import Board
from aiperf.live.sinks import now_ms, results_of
from aiperf.live.sinks.figures import live_figures, parameters

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Mlflow"]

_LEFT_OUT: Final = ("journal/*", "raw/*", "*_raw.jsonl", "live.json")
_BATCH: Final = 500
_VALUE_CHARS: Final = 500
_KEEP: Final = str.maketrans(dict.fromkeys("<>[]{}()=,;:'\"`|\\?*&^%$#@!+~±", "_"))


def _key(name: str) -> str:
    """MLflow takes letters, digits, `_-. /`."""
    return name.translate(_KEEP)


class Mlflow:
    name = "MLflow"
    interval_s = 10.0

    def __init__(self, options: LiveConfig) -> None:
        """ConfigError if the client is not installed or a tag makes no sense."""
        import os

        # A server that is away is tried again at the next interval, not for minutes within one call.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise ConfigError(
                [
                    Problem(
                        "`--mlflow-tracking-uri` needs MLflow's client",
                        "--mlflow-tracking-uri",
                        "pip install 'aiperf[mlflow]'",
                    )
                ]
            ) from error
        self._options = options
        self._tags = tags_of(options.mlflow_tags)
        self._client: MlflowClient = MlflowClient(tracking_uri=options.mlflow_tracking_uri)
        self._run_id = ""

    def connect(self, board: Board) -> None:
        facts = board.facts
        if facts is None:
            raise ConnectionError("the run ended before its first request")
        name = self._options.mlflow_experiment or "aiperf"
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        tags = {"aiperf.benchmark_id": facts.benchmark_id} | self._tags
        if self._options.mlflow_parent_run_id:
            tags["mlflow.parentRunId"] = self._options.mlflow_parent_run_id
        run = self._client.create_run(
            experiment, tags=tags, run_name=self._options.mlflow_run_name or f"aiperf-{facts.benchmark_id}"
        )
        self._run_id = run.info.run_id
        from mlflow.entities import Param

        params = [Param(_key(k), v[:_VALUE_CHARS]) for k, v in parameters(board).items()]
        for start in range(0, len(params), 100):
            self._client.log_batch(self._run_id, params=params[start : start + 100])

    def live(self, board: Board) -> None:
        step = 0 if board.view is None else board.view.snapshot.now_ns // 1_000_000_000
        self._log(live_figures(board), step)

    def results(self, board: Board) -> None:
        self._log(results_of(board), 0)
        if board.directory is not None:
            for file in _files(board.directory, self._options.mlflow_artifact_globs):
                folder = file.parent.relative_to(board.directory).as_posix()
                self._client.log_artifact(self._run_id, str(file), None if folder == "." else folder)
        self._client.set_terminated(self._run_id, "FINISHED" if board.directory is not None else "FAILED")

    def close(self) -> None:
        """Nothing is held."""

    def _log(self, values: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        at = now_ms()
        metrics = [Metric(_key(k), v, at, step) for k, v in values.items()]
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _BATCH])


def tags_of(texts: tuple[str, ...]) -> dict[str, str]:
    """`key:value`, or a JSON object."""
    import json

    out: dict[str, str] = {}
    for text in texts:
        if text.lstrip().startswith("{"):
            try:
                out |= {str(k): str(v) for k, v in json.loads(text).items()}
            except ValueError as error:
                raise ConfigError(
                    [Problem(f"`{text}` is not JSON: {error}", "--mlflow-tag", '`{"team": "inference"}`')]
                ) from error
            continue
        key, colon, value = text.partition(":")
        if not colon or not key.strip():
            raise ConfigError([Problem(f"`{text}` is not key:value", "--mlflow-tag", "`team:inference`")])
        out[key.strip()] = value.strip()
    return out


def _files(folder: Path, globs: tuple[str, ...]) -> list[Path]:
    files = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = file.relative_to(folder).as_posix()
        wanted = any(fnmatch(name, g) for g in globs) if globs else not any(fnmatch(name, g) for g in _LEFT_OUT)
        if wanted:
            files.append(file)
    return files
