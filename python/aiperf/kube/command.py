"""The command line of `aiperf profile` that runs in the cluster: checked here first, its secrets refused, its files lifted."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from aiperf.config.as_data import shown
from aiperf.config.flag import FieldSpec, Given
from aiperf.config.model import Config, specs
from aiperf.config.proxy import ENVIRONMENT
from aiperf.config.resolve import configure
from aiperf.config.secrets import MASK, mask_argv
from aiperf.errors import ConfigError, Problem

__all__ = ["FILES", "INPUTS", "RESULTS", "ClusterCommand", "cluster_command"]

FILES = "/etc/aiperf/files"
INPUTS = "/inputs"
RESULTS = "/results"
_MOST_BYTES = 900_000
"""Of all files of a ConfigMap, whose limit is 1 MiB, encoding and names included."""
_OUTPUT = "artifact_dir"
_USUAL_PORTS = {"http": 80, "https": 443, "proxy": 1080, "s3": 443, "gs": 443, "az": 443}
_HINT_OF_KEYS = (
    "put it into a Secret and name it: `--api-key-secret NAME/KEY`, or `--env-from-secrets AIPERF_HEADER=NAME/KEY`"
)


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
    given: Sequence[Given], *, config_file: Path | None = None, generators: int = 1, problems: Sequence[Problem] = ()
) -> ClusterCommand:
    """ConfigError with everything that is wrong: options, secrets on the command line or in the file, files that are absent or too large.

    `generators`: pods that share the load; options of several machines are checked as with `aiperf profile --generators`.
    """
    faults = list(problems)
    words, files = _lift(given, config_file, faults)
    if mask_argv(words) != tuple(words):
        text = "the command line holds a key or password, and a manifest is no place for one"
        faults.append(Problem(text, None, _HINT_OF_KEYS))
    own = Given(specs()["distributed.generators"], (str(generators),), "--generators")
    try:
        config = _checked([*given, own] if generators > 1 else given, config_file)
    except ConfigError as error:
        raise ConfigError((*faults, *error.problems)) from error
    if config_file is not None:
        faults += _secrets_in(config_file, config)
        words += _lift_from(given, config, files, faults)
    faults += _too_large(files)
    if faults:
        raise ConfigError(tuple(faults))
    grace = config.load.benchmark_grace_period
    return ClusterCommand(
        words=tuple(words),
        files=files,
        config=config,
        ports=_ports(config),
        grace_s=60 + (30 if grace is None else grace),
    )


def _checked(given: Sequence[Given], config_file: Path | None) -> Config:
    """As in the pod, whose files are not here: an empty one stands for each that an option names."""
    with tempfile.TemporaryDirectory(prefix="aiperf-kube-") as folder:
        visible = [replace(g, texts=tuple(_stand_in(t, folder) for t in g.texts)) for g in given]
        try:
            return configure(visible, env={}, config_file=config_file)
        except ConfigError as error:
            problems = [_of_the_pod(replace(p, message=p.message.replace(folder, ""))) for p in error.problems]
            raise ConfigError(problems) from error


def _stand_in(text: str, folder: str) -> str:
    if not _is_in_pod((text,)):
        return text
    path = Path(folder) / text.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return str(path)


def _of_the_pod(problem: Problem) -> Problem:
    """A configuration that names a path of the pod is read here, where there is no such file."""
    if not any(f"`{place}/" in problem.message for place in (INPUTS, RESULTS)):
        return problem
    return replace(problem, hint="name a path of the pod on the command line, not in the configuration")


def _secrets_in(config_file: Path, config: Config) -> Iterator[Problem]:
    """The file travels in a ConfigMap, which everybody reads who may read the pods. A value that comes from a variable (`${KEY}`) does not
    stand in it.
    """
    content = config_file.read_text(encoding="utf-8")
    for path, spec in specs().items():
        origin = config.origins.get(path)
        if origin is None or origin.kind != "file" or MASK not in (visible := shown(config, path)):
            continue
        if any(text and text not in visible and text in content for text in _texts(config.value(path))):
            text = f"`{spec.shown}` is a key or password, and a ConfigMap is no place for one"
            yield Problem(text, str(origin), f"take it out of `{config_file}`; {_HINT_OF_KEYS}")


def _texts(value: object) -> Iterator[str]:
    """All texts in a value of the configuration, secrets unmasked."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _texts(item)


def _lift_from(given: Sequence[Given], config: Config, files: dict[str, bytes], problems: list[Problem]) -> list[str]:
    """Files that the configuration file names are sent along too: the words that say where they are in the pod."""
    named = {g.spec.path for g in given}
    words: list[str] = []
    for path, spec in specs().items():
        origin = config.origins.get(path)
        if spec.kind not in {"path", "paths"} or origin is None or origin.kind != "file" or path in named:
            continue
        if spec.name == _OUTPUT:
            continue  # the pod's own folder comes behind it on the command line
        value = config.value(path)
        paths = value if isinstance(value, tuple) else (value,)
        words += [spec.shown, *(_take(Path(str(p)), str(origin), files, problems) for p in paths)]
    return words


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
        elif item.spec.path == "distributed.cluster":
            problems.append(
                Problem("the pods of the run are the Ray cluster", item.where, "`--generators` says how many there are")
            )
        elif item.spec.kind in {"path", "paths"}:
            words += [item.spec.shown, *(_take(Path(t), item.where, files, problems) for t in item.texts)]
        else:
            words += _words(item.spec, item)
    return words, files


def _too_large(files: dict[str, bytes]) -> Iterator[Problem]:
    if (size := sum(map(len, files.values()))) > _MOST_BYTES:
        yield Problem(
            f"the files of the command have {size / 1e6:.1f} MB, a ConfigMap holds at most {_MOST_BYTES / 1e6:.1f}",
            ", ".join(sorted(files)),
            "copy them to a volume, and give `--input-pvc CLAIM` and their path below /inputs",
        )


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
    # What keys of a ConfigMap may hold; the end is kept, as it may say what kind of file it is.
    plain = re.sub(r"[^-._A-Za-z0-9]+", "-", path.name)[-200:]
    name, number = plain, 1
    while files.get(name, content) != content or name in {".", ".."}:
        number += 1
        name = f"{number}-{plain}"
    files[name] = content
    return f"{FILES}/{name}"


def _ports(config: Config) -> tuple[int, ...]:
    """Of everything that the command connects to by a URL of the options: the target or its proxy, metrics, sinks, buckets."""
    endpoint, live = config.endpoint, config.live
    texts: list[str] = [*endpoint.urls, *config.telemetry.server_metrics]
    texts += [
        t for t in config.telemetry.gpu_telemetry if "/" in t or ":" in t
    ]  # the others are words for GPUs of the pod
    texts += [t for t in (live.otel_url, live.mlflow_tracking_uri, config.distributed.record_store) if t]
    if endpoint.proxy and endpoint.proxy != ENVIRONMENT:
        texts.append(f"proxy://{endpoint.proxy.rpartition('://')[2]}")
    if live.wandb_project:
        texts.append("https://api.wandb.ai")
    ports = {_port_of(t) for t in texts}
    return tuple(sorted(p for p in ports if p is not None))


def _port_of(text: str) -> int | None:
    """None for what is no URL of the network: words of an option, folders, unix sockets."""
    parts = urlsplit(text if "://" in text or text.startswith("unix:") else f"http://{text}")
    try:
        port = parts.port
    except ValueError:
        return None
    return port or _USUAL_PORTS.get(parts.scheme)
