"""Weights & Biases (`--wandb-project`): a run with its options, live metrics, results and files. `WANDB_MODE=offline` keeps it on disk.

https://docs.wandb.ai/ref/python/
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from aiperf.config.sections.live import LiveConfig
from aiperf.errors import ConfigError, Problem
from aiperf.live.board import Board
from aiperf.live.sinks import results_of
from aiperf.live.sinks.figures import live_figures, parameters

__all__ = ["WeightsAndBiases"]

_FILES = ("report.html", "run.json", "profile_export_aiperf.json", "profile_export_aiperf.csv")


class WeightsAndBiases:
    name = "Weights & Biases"
    interval_s = 10.0

    def __init__(self, options: LiveConfig) -> None:
        """ConfigError if the client is not installed."""
        import os

        # Lines of its own, of the login for example, are not for the screen.
        os.environ.setdefault("WANDB_SILENT", "true")
        try:
            self._wandb: Any = importlib.import_module("wandb")
        except ImportError as error:
            raise ConfigError(
                [Problem("`--wandb-project` needs the wandb package", "--wandb-project", "pip install 'aiperf[wandb]'")]
            ) from error
        self._options = options
        self._run: Any = None

    def connect(self, board: Board) -> None:
        facts = board.facts
        if facts is None:
            raise ConnectionError("the run ended before its first request")
        options = self._options
        folder = facts.directory / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        self._run = self._wandb.init(
            project=options.wandb_project,
            entity=options.wandb_entity,
            name=options.wandb_run_name or f"aiperf-{facts.benchmark_id}",
            tags=list(options.wandb_tags) or None,
            config=parameters(board),
            dir=str(folder),
            settings=self._wandb.Settings(console="off", silent=True, init_timeout=30.0),
        )

    def live(self, board: Board) -> None:
        values = live_figures(board)
        if values:
            self._run.log(values)

    def results(self, board: Board) -> None:
        for name, value in results_of(board).items():
            self._run.summary[name] = value
        if board.directory is not None:
            for name in _FILES:
                file: Path = board.directory / name
                if file.is_file():
                    self._run.save(str(file), base_path=str(board.directory), policy="now")

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
