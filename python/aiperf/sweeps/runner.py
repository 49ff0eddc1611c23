"""Runs of a study, one after the other: what is done is not run again; cool-down, cache reset, bookkeeping."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from aiperf.config.as_aiperf import aiperf_values
from aiperf.config.model import Config
from aiperf.config.resolve import at_point
from aiperf.errors import ExitCode
from aiperf.number_text import exact
from aiperf.observer import Observer, Once
from aiperf.records.run_json import StudyEntry
from aiperf.run.data import RunData
from aiperf.run.imported import load_data
from aiperf.sweeps.place import remember_place
from aiperf.sweeps.progress import StudyProgress
from aiperf.sweeps.study_folder import StudyRecord, StudyRun, make_room, write_study

__all__ = ["Interrupted", "Runner", "worst"]

_RANK = (ExitCode.OK, ExitCode.ERROR, ExitCode.THRESHOLD_MISSED, ExitCode.REQUESTS_FAILED, ExitCode.INTERRUPTED)
_STUDY_ONLY: Final[Mapping[str, object]] = {
    "sweep.search": None,
    "sweep.num_profile_runs": 1,
    "sweep.axes": (),
    "sweep.scenarios": (),
    "sweep.ab": (),
    "output.auto_plot": False,
}
"""What a run of a study has instead of what was asked of the study."""


class Interrupted(Exception):  # noqa: N818 - no error: the user wants to stop
    """The user stopped a run: the study ends with what it has."""


def worst(codes: list[ExitCode]) -> ExitCode:
    """Interrupted, then too many failed requests, then a goal missed (CONTRIBUTING.md, Errors and messages)."""
    return max(codes, key=_RANK.index, default=ExitCode.OK)


class Runner:
    """`record` is kept up to date in `study.json` before and after each run, so that a killed study knows where it was."""

    def __init__(self, config: Config, folder: Path, record: StudyRecord, observer: Observer, what: str) -> None:
        self.config = config
        self.folder = folder
        self.record = record
        self.codes: list[ExitCode] = []
        self.progress = StudyProgress(observer, what, folder)
        self._observer = observer
        self._of_runs = Once(observer, is_setup_only=True)
        self._has_run = False

    def run(
        self,
        directory: str,
        values: Mapping[str, float],
        *,
        trial: int,
        seed: int,
        cooldown_s: float = 0.0,
        extra: Mapping[str, object] | None = None,
        side: str | None = None,
        label: str = "",
        index: int | None = None,
        variation: str = "",
    ) -> RunData | None:
        """The finished run in `directory` (within the study); None if it holds no successful request.

        `values`: the point's; `extra`: other options of this run; `index`: the point's number, None for its place in the study; `variation`: what
        AIPerf calls the point, empty for what its values say.
        `Interrupted` after Ctrl-C.
        """
        known = self.record.run(directory)
        if known is not None and known.is_done:
            self.codes.append(ExitCode(known.exit_code or 0))
            found = self._usable(load_data(self.folder / directory))
            self.progress.done(directory, values, found)
            return found
        if self._has_run and cooldown_s > 0:
            self._observer.stage(f"cool-down, {exact(cooldown_s)} s")
            time.sleep(cooldown_s)
        self._has_run = True
        entry = StudyRun(dir=directory, values=dict(values), trial=trial, seed=seed, status="running", side=side)
        make_room(self.folder / directory)
        self._put(entry)
        config = self._config(directory, values, seed, extra or {})
        if label:
            self._observer.note(label)
        self.progress.begin()
        self._of_runs.next_run()
        from aiperf.run.profile import profile
        from aiperf.run.write import write

        place = self._place(entry, index, variation)
        run = remember_place(profile(config, observer=self._of_runs), place, self._of_runs)
        run = write(run, self._of_runs)
        requests = run.summary().counts.rows
        status: Literal["planned", "done"] = "planned" if run.exit_code == ExitCode.INTERRUPTED else "done"
        self._put(replace(entry, status=status, exit_code=int(run.exit_code), requests=requests))
        self.codes.append(run.exit_code)
        if run.exit_code == ExitCode.INTERRUPTED:
            raise Interrupted
        usable = self._usable(run.data)
        self.progress.done(directory, values, usable)
        return usable

    def _place(self, entry: StudyRun, index: int | None, variation: str) -> StudyEntry:
        """Where the run stands in the study, as AIPerf says it of each of its files."""
        if index is None:
            known = list(dict.fromkeys(tuple(r.values.items()) for r in self.record.runs))
            index = known.index(tuple(entry.values.items()))
        values = aiperf_values(entry.values, self.config.sweep.search_recipe)
        label = ", ".join(f"{k}={v}" for k, v in values.items())
        return StudyEntry(
            study_id=self.record.id,
            label=f"run_{entry.trial + 1:04d}",
            trial=entry.trial,
            variation=variation or label or "base",
            index=index,
            values=values,
        )

    @staticmethod
    def _usable(run: RunData) -> RunData | None:
        return run if run.num_ok else None

    def _config(self, directory: str, values: Mapping[str, float], seed: int, extra: Mapping[str, object]) -> Config:
        point: dict[str, object] = {p: int(v) if float(v).is_integer() else v for p, v in values.items()}
        given = {**point, **extra, "output.artifact_dir": self.folder / directory, "input.random_seed": seed}
        config = at_point(self.config, given)
        return config.replace(_STUDY_ONLY)

    def finish(self) -> None:
        """The study came to its end: the same command measures it anew."""
        self.record = replace(self.record, finished=True)
        write_study(self.folder, self.record)

    def _put(self, run: StudyRun) -> None:
        self.record = self.record.with_run(run)
        write_study(self.folder, self.record)
