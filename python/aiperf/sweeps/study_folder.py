"""The study directory: which runs belong to it, which are done, and whether a command goes on with it (`study.json`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

from aiperf.config.as_data import config_dict_for_run, fingerprint
from aiperf.config.model import Config
from aiperf.errors import ResultError
from aiperf.json_text import fingerprint_of
from aiperf.records.run_json import RUN_FILE
from aiperf.reports.writing import write_text
from aiperf.run.directory import claim

__all__ = ["STUDY_FILE", "StudyRecord", "StudyRun", "open_study", "read_study", "study_fingerprint", "write_study"]

STUDY_FILE: Final = "study.json"
_SCHEMA: Final = 1
Kind = Literal["sweep", "repeats", "search", "space", "ab", "cache", "kv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRun:
    """One run. `dir`: within the study. `values`: option path → value of its point; `trial`: repeat, from 0; `side`: of an A/B study."""

    dir: str
    values: Mapping[str, float]
    trial: int
    seed: int
    status: Literal["planned", "running", "done", "failed"] = "planned"
    exit_code: int | None = None
    requests: int | None = None
    side: str | None = None

    @property
    def is_done(self) -> bool:
        return self.status == "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """`study.json`. `id`: AIPerf's `sweep_id`. `fingerprint`: of everything that must be equal for a command to go on with this study. `seed`: its base seed.

    `finished`: it came to its end; false of one that was interrupted or killed.
    """

    kind: Kind
    fingerprint: str
    seed: int
    axes: tuple[Mapping[str, object], ...]
    runs: tuple[StudyRun, ...]
    command: tuple[str, ...] = ()
    finished: bool = False
    id: str = ""

    def with_run(self, run: StudyRun) -> StudyRecord:
        """A run added, or replaced if its directory is known."""
        known = [r.dir for r in self.runs]
        if run.dir in known:
            return replace(self, runs=tuple(run if r.dir == run.dir else r for r in self.runs))
        return replace(self, runs=(*self.runs, run))

    def run(self, directory: str) -> StudyRun | None:
        return next((r for r in self.runs if r.dir == directory), None)


def study_fingerprint(config: Config, kind: Kind, more: Mapping[str, object] | None = None) -> str:
    """Equal for commands that ask for the same study. The seed counts only if the user gave one: else the study keeps its own.

    `more`: options of the study that are not in the configuration.
    """
    fixed = config if config.is_set("input.random_seed") else config.replace({"input.random_seed": 0})
    parts: dict[str, object] = {
        "kind": kind,
        "workload": fingerprint(fixed),
        "axes": [a.model_dump() for a in config.sweep.axes],
        "scenarios": [s.model_dump(mode="json") for s in config.sweep.scenarios],
        "phases": [p.model_dump(mode="json") for p in config.load.phases],
    }
    everything = config_dict_for_run(fixed)
    for section in ("load", "warmup", "slo"):
        parts[section] = {name: entry["value"] for name, entry in everything[section].items()}
    for name in ("model_names", "urls", "custom_endpoint", "connection_reuse_strategy", "reset_kv_cache", "num_gpus"):
        parts[name] = everything["endpoint"][name]["value"]
    resumed = {
        "resume",
        "sweep_order",
        "parameter_sweep_cooldown_seconds",
        "profile_run_cooldown_seconds",
        "no_sweep_table",
        "num_profile_runs",
        "axes",
    }
    parts["sweep"] = {n: e["value"] for n, e in everything["sweep"].items() if n not in resumed}
    if more is not None:
        parts["study"] = dict(more)
    return fingerprint_of(parts)


def read_study(folder: Path) -> StudyRecord:
    """ResultError if it cannot be read."""
    path = folder / STUDY_FILE
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        runs = tuple(StudyRun(**r) for r in data["runs"])
        return StudyRecord(
            kind=data["kind"],
            fingerprint=data["fingerprint"],
            seed=int(data["seed"]),
            axes=tuple(data["axes"]),
            runs=runs,
            command=tuple(data.get("command", ())),
            finished=bool(data.get("finished", False)),
            id=str(data.get("id", "")),
        )
    except OSError as error:
        raise ResultError(f"cannot read `{path}`: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ResultError(f"cannot read `{path}`: {error}", "the folder's runs can be read one by one") from error


def write_study(folder: Path, record: StudyRecord) -> None:
    write_text(
        folder / STUDY_FILE, json.dumps({"schema": _SCHEMA, **asdict(record)}, indent=2, ensure_ascii=False) + "\n"
    )


@contextmanager
def open_study(
    config: Config, kind: Kind, more: Mapping[str, object] | None = None
) -> Iterator[tuple[Path, StudyRecord, str | None]]:
    """(directory, record, note), the directory's own while the context lasts.

    The same study that was interrupted goes on, unless --no-resume; a finished one goes on only if --resume is given (for more repeats).
    Anything else that is there is moved aside (`claim`). ConfigError if the directory cannot be written, ResultError if `study.json`
    cannot be read. `more`: as in `study_fingerprint`.
    """
    mark = study_fingerprint(config, kind, more)
    earlier: list[StudyRecord] = []

    def goes_on(folder: Path) -> bool:
        if not (folder / STUDY_FILE).is_file():
            return False
        known = read_study(folder)
        if (
            known.fingerprint != mark
            or not config.sweep.resume
            or (known.finished and not config.is_set("sweep.resume"))
        ):
            return False
        earlier.append(_checked(folder, known))
        return True

    with claim(config.output.artifact_dir or Path("artifacts") / "study", goes_on) as (folder, taken):
        if earlier:
            record = replace(earlier[-1], finished=False)
            done = sum(r.is_done for r in record.runs)
            note = (
                f"resuming the study in `{folder}`: {done} run{'s are' if done != 1 else ' is'} already done (`--no-resume` measures again)"
                if done
                else None
            )
        else:
            axes: tuple[Mapping[str, object], ...] = tuple(a.model_dump() for a in config.sweep.axes)
            record = StudyRecord(
                kind=kind,
                fingerprint=mark,
                seed=config.input.random_seed or 0,
                axes=axes,
                runs=(),
                command=config.command,
                id=str(uuid4()),
            )
            note = None
        write_study(folder, record)
        notes = [text for text in (None if taken is None else taken.text, note) if text is not None]
        yield folder, record, "; ".join(notes) or None


def _checked(folder: Path, record: StudyRecord) -> StudyRecord:
    """Runs that say they are done but are not, and runs that were killed, are to be run (again)."""
    runs = tuple(
        r if not r.is_done or is_complete(folder / r.dir) else replace(r, status="planned") for r in record.runs
    )
    runs = tuple(
        replace(r, status="done") if r.status == "running" and is_complete(folder / r.dir) else r for r in runs
    )
    return replace(record, runs=tuple(replace(r, status="planned") if r.status == "running" else r for r in runs))


def is_complete(run_dir: Path) -> bool:
    """`run.json` says that the run ended and was not interrupted."""
    try:
        facts = json.loads((run_dir / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    outcome = facts.get("outcome") if isinstance(facts, dict) else None
    return isinstance(outcome, dict) and facts.get("status") == "complete" and not outcome.get("interrupted")


def make_room(run_dir: Path) -> None:
    """What is left of a run that was killed is kept beside, so that the new one gets its name."""
    if not run_dir.exists():
        return
    number = 1
    while (aside := run_dir.with_name(f"{run_dir.name}-incomplete-{number}")).exists():
        number += 1
    run_dir.rename(aside)
