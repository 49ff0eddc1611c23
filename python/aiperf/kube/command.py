"""The command line of `aiperf profile` that runs in the cluster: checked here first, its secrets refused, its files lifted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aiperf.config.flag import FieldSpec, Given
from aiperf.config.model import Config
from aiperf.config.resolve import configure
from aiperf.config.secrets import mask_argv
from aiperf.errors import ConfigError, Problem

__all__ = ["FILES", "INPUTS", "RESULTS", "ClusterCommand", "cluster_command"]

FILES = "/etc/aiperf/files"
INPUTS = "/inputs"
RESULTS = "/results"
_MOST_BYTES = 900_000
"""Of all files of a ConfigMap, whose limit is 1 MiB, encoding and names included."""
_OUTPUT = "artifact_dir"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterCommand:
    """`words`: the options as they stand in the pod. `files`: content by name, for a ConfigMap. `ports`: of the targets.
    `grace_s`: how long the load and the files need after a first signal.
    """

    words: tuple[str, ...]
    files: dict[str, bytes]
    config: Config
    ports: tuple[int, ...]
    grace_s: float


def cluster_command(
    given: Sequence[Given], *, config_file: Path | None = None, problems: Sequence[Problem] = ()
) -> ClusterCommand:
    """ConfigError with everything that is wrong: options, secrets on the command line, files that are absent or too large."""
    found = list(problems)
    words, files = _lift(given, config_file, found)
    if mask_argv(words) != tuple(words):
        found.append(
            Problem(
                "the command line holds a key or password, and a manifest is no place for one",
                None,
                "put it into a Secret and name it: `--api-key-secret NAME/KEY`, or `--env-from-secrets AIPERF_HEADER=NAME/KEY`",
            )
        )
    visible = [g for g in given if not (g.spec.kind in {"path", "paths"} and _is_in_pod(g.texts))]
    try:
        config = configure(visible, env={}, config_file=config_file)
    except ConfigError as error:
        raise ConfigError((*found, *error.problems)) from error
    if found:
        raise ConfigError(tuple(found))
    grace = config.load.benchmark_grace_period
    return ClusterCommand(
        words=tuple(words),
        files=files,
        config=config,
        ports=_ports(config),
        grace_s=60 + (30 if grace is None else grace),
    )


def _lift(
    given: Sequence[Given], config_file: Path | None, problems: list[Problem]
) -> tuple[list[str], dict[str, bytes]]:
    words: list[str] = []
    files: dict[str, bytes] = {}
    if config_file is not None:
        words += ["--config", _take(config_file, "--config", files, problems)]
    for item in given:
        if item.spec.name == _OUTPUT:
            problems.append(
                Problem(
                    "the results of a run in the cluster are written to /results",
                    item.where,
                    "`collect --to DIR` brings them here",
                )
            )
        elif item.spec.kind in {"path", "paths"}:
            words += [item.spec.shown, *(_take(Path(t), item.where, files, problems) for t in item.texts)]
        else:
            words += _words(item.spec, item)
    if (size := sum(map(len, files.values()))) > _MOST_BYTES:
        problems.append(
            Problem(
                f"the files of the command have {size / 1e6:.1f} MB, a ConfigMap holds at most {_MOST_BYTES / 1e6:.1f}",
                ", ".join(sorted(files)),
                "copy them to a volume, and give `--input-pvc CLAIM` and their path below /inputs",
            )
        )
    return words, files


def _words(spec: FieldSpec, item: Given) -> list[str]:
    if spec.kind == "bool":
        return [spec.shown] if item.texts[-1].lower() in {"true", "1", "yes", "on"} else [spec.negatives[0]]
    if spec.is_list and spec.flag.greedy:
        return [spec.shown, *item.texts]
    return [word for text in item.texts for word in (spec.shown, text)]


def _is_in_pod(texts: Sequence[str]) -> bool:
    return any(t.startswith((f"{INPUTS}/", f"{RESULTS}/")) for t in texts)


def _take(path: Path, where: str, files: dict[str, bytes], problems: list[Problem]) -> str:
    """The path in the pod of a file here; one below /inputs is there already."""
    if _is_in_pod((str(path),)):
        return str(path)
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        problems.append(
            Problem(
                f"`{path}` is a folder: only files are sent along",
                where,
                "use a volume: `--input-pvc CLAIM`, path below /inputs",
            )
        )
        return str(path)
    except OSError as error:
        problems.append(
            Problem(
                f"`{path}`: {error.strerror}",
                where,
                "a file in the cluster is named by its path below /inputs (`--input-pvc`)",
            )
        )
        return str(path)
    name = path.name
    if files.get(name, content) != content:
        name = f"{len(files)}-{name}"
    files[name] = content
    return f"{FILES}/{name}"


def _ports(config: Config) -> tuple[int, ...]:
    ports = set()
    for url in config.endpoint.urls:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        ports.add(parts.port or (443 if parts.scheme == "https" else 80))
    return tuple(sorted(ports))
