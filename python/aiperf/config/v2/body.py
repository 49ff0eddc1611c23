"""The `benchmark:` block of AIPerf's YAML as options: model, endpoint, dataset, phases, artifacts and what is watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Final

from aiperf.config.folders import cache_dir, write_cached
from aiperf.config.sections.load import NamedPhase
from aiperf.config.v2 import tables
from aiperf.config.v2.phases import read_phases
from aiperf.config.v2.reader import Place, Reader, plain_number
from aiperf.config.v2.tables import Note, Table
from aiperf.json_text import json_text

__all__ = ["BODY_KEYS", "SWITCHES", "read_body"]

BODY_KEYS = frozenset(
    {
        "accuracy",
        "artifacts",
        "dataset",
        "datasets",
        "endpoint",
        "gpu_telemetry",
        "logging",
        "metrics",
        "mlflow",
        "model",
        "models",
        "network_latency",
        "otel",
        "phases",
        "profiling",
        "runtime",
        "scenario",
        "server_metrics",
        "slos",
        "tokenizer",
        "unsafe_override",
        "wandb",
        "warmup",
    }
)

SWITCHES: Final[Mapping[str, Table]] = {
    "reset_kv_cache": {
        "timeout_seconds": "--reset-kv-cache-timeout-seconds",
        "path": "--reset-kv-cache-path",
        "max_retry_seconds": Note("a reset that fails is repeated until its timeout"),
    },
    "server_profiler": {
        "timeout_seconds": "--server-profiler-timeout-seconds",
        "start_path": "--server-profiler-start-path",
        "stop_path": "--server-profiler-stop-path",
    },
}
_OTHER_SERVICES: Final = {"otel": "OpenTelemetry", "mlflow": "MLflow", "wandb": "Weights & Biases"}


def read_body(
    reader: Reader, body: Mapping[str, Any], place: Place, variables: Mapping[str, Any] | None = None
) -> tuple[NamedPhase, ...]:
    """Put all options of the block; the phases, where they are not one warm-up and one measured phase."""
    for key in body:
        if key not in BODY_KEYS:
            reader.take({key: body[key]}, {}, place, sorted(BODY_KEYS))
    for key in ("model", "models"):
        _models(reader, body.get(key), (*place, key))
    _endpoint(reader, body.get("endpoint"), (*place, "endpoint"))
    _datasets(reader, body, place)
    phases = read_phases(reader, body, place)
    _artifacts(reader, body.get("artifacts"), (*place, "artifacts"), variables or {})
    slos = body.get("slos")
    if isinstance(slos, Mapping) and slos:
        reader.put("--goodput", " ".join(f"{k}:{plain_number(v)}" for k, v in slos.items()), (*place, "slos"))
    reader.take(body.get("tokenizer"), tables.TOKENIZER, (*place, "tokenizer"))
    _watched(reader, body, place)
    reader.take(body.get("runtime"), tables.RUNTIME, (*place, "runtime"))
    logging = reader.take(body.get("logging"), {"level": "--log-level"}, (*place, "logging"), ["verbose"])
    reader.put("--verbose", logging.get("verbose"), (*place, "logging", "verbose"))
    for key, name in _OTHER_SERVICES.items():
        if isinstance(body.get(key), Mapping) and any(v not in (None, False, [], {}) for v in body[key].values()):
            reader.note((*place, key), f"results are not sent to {name}")
    reader.put("--scenario", body.get("scenario"), (*place, "scenario"))
    reader.put("--unsafe-override", body.get("unsafe_override"), (*place, "unsafe_override"))
    accuracy = body.get("accuracy")
    if isinstance(accuracy, Mapping):
        reader.put("--accuracy-benchmark", accuracy.get("benchmark"), (*place, "accuracy"))
    return phases


def _models(reader: Reader, models: object, place: Place) -> None:
    if isinstance(models, Mapping):
        left = reader.take(models, {"strategy": "--model-selection-strategy"}, place, ["items"])
        models = left.get("items")
        place = (*place, "items")
    if isinstance(models, Sequence) and not isinstance(models, str):
        names = [m.get("name") if isinstance(m, Mapping) else m for m in models]
        for at, model in enumerate(models):
            for key in ("weight", "lora", "tokenizer"):
                if isinstance(model, Mapping) and model.get(key) is not None:
                    reader.note((*place, at, key), "models are chosen in turn or at random, and share the tokenizer")
        reader.put("--model", [n for n in names if n], place)
    else:
        reader.put("--model", models, place)


def _endpoint(reader: Reader, endpoint: object, place: Place) -> None:
    left = reader.take(endpoint, tables.ENDPOINT, place, ["template", "reset_kv_cache", "server_profiler"])
    template = left.get("template")
    if isinstance(template, Mapping):
        fields = {"payload_template": template.get("body"), "response_field": template.get("response_field")}
        reader.put("--extra-inputs", {k: v for k, v in fields.items() if v is not None}, (*place, "template"))
    for name, table in SWITCHES.items():
        value = left.get(name)
        if isinstance(value, Mapping):
            reader.put(f"--{name.replace('_', '-')}", True, (*place, name))
            reader.take(value, table, (*place, name))
        else:
            reader.put(f"--{name.replace('_', '-')}", value, (*place, name))


# Datasets --------------------------------------------------------------------------------------------------------------


def _datasets(reader: Reader, body: Mapping[str, Any], place: Place) -> None:
    dataset = body.get("dataset")
    at: Place = (*place, "dataset")
    if dataset is None:
        listed = body.get("datasets")
        at = (*place, "datasets")
        if isinstance(listed, list) and listed:
            if len(listed) > 1:
                reader.note((*at, 1), "one dataset is sent: the first")
            dataset, at = listed[0], (*at, 0)
        elif isinstance(listed, Mapping) and listed:
            name, dataset = next(iter(listed.items()))
            at = (*at, name)
    if isinstance(dataset, Mapping):
        _dataset(reader, dataset, at)
    elif dataset is not None:
        reader.problem(at, "a dataset is a mapping, as `{type: synthetic, prompts: {isl: 512}}`")


def _dataset(reader: Reader, dataset: Mapping[str, Any], place: Place) -> None:
    kind = dataset.get("type", "file" if dataset.get("path") or dataset.get("records") else "synthetic")
    if kind not in {"synthetic", "file", "public"}:
        reader.problem((*place, "type"), f"`{kind}` is not a kind of dataset", "`synthetic`, `file` or `public`")
        return
    special = [
        "name",
        "type",
        "path",
        "records",
        "random_seed",
        "prompts",
        "prefix_prompts",
        "turns",
        "turn_delay",
        "images",
        "audio",
        "video",
        "rankings",
        "synthesis",
        "filters",
        "mooncake_trace_to_hf_mapping",
        "cache_bust",
        "isl",
        "osl",
    ]
    left = reader.take(dataset, tables.DATASET, place, special)
    if left.get("path") is not None:
        reader.put("--input-file", str(_near(Path(str(left["path"])), reader.file)), (*place, "path"))
    if left.get("records") is not None:
        _records(reader, left["records"], place)
    if left.get("random_seed") is not None:
        reader.put("--random-seed", left["random_seed"], (*place, "random_seed"))
    prompts = left.get("prompts")
    if isinstance(prompts, Mapping):
        at = (*place, "prompts")
        inner = reader.take(prompts, tables.PROMPTS, at, ["isl", "osl", "cache_bust", "sequence_distribution"])
        _lengths(reader, inner, at)
        if inner.get("sequence_distribution") is not None:
            _pairs(reader, inner["sequence_distribution"], (*at, "sequence_distribution"))
        _cache_bust(reader, inner.get("cache_bust"), (*at, "cache_bust"))
    _lengths(reader, left, place)
    _cache_bust(reader, left.get("cache_bust"), (*place, "cache_bust"))
    reader.take(left.get("prefix_prompts"), tables.PREFIXES, (*place, "prefix_prompts"))
    reader.take(left.get("synthesis"), tables.SYNTHESIS, (*place, "synthesis"))
    _spread(reader, left.get("turns"), "--session-turns-mean", "--session-turns-stddev", (*place, "turns"))
    _spread(
        reader,
        left.get("turn_delay"),
        "--session-turn-delay-mean",
        "--session-turn-delay-stddev",
        (*place, "turn_delay"),
    )
    for name, value in (left.get("filters") or {}).items():
        reader.put("--dataset-filter", f"{name}={value}", (*place, "filters", name))
    for name, value in (left.get("mooncake_trace_to_hf_mapping") or {}).items():
        reader.put("--mooncake-trace-to-hf-mapping", f"{name}={value}", (*place, "mooncake_trace_to_hf_mapping", name))
    _media(reader, left, place)


def _media(reader: Reader, left: Mapping[str, Any], place: Place) -> None:
    images = reader.take(left.get("images"), tables.IMAGES, (*place, "images"), ["width", "height"])
    for name, value in images.items():
        _spread(reader, value, f"--image-{name}-mean", f"--image-{name}-stddev", (*place, "images", name))
    audio = reader.take(left.get("audio"), tables.AUDIO, (*place, "audio"), ["length"])
    _spread(reader, audio.get("length"), "--audio-length-mean", "--audio-length-stddev", (*place, "audio", "length"))
    reader.take(left.get("video"), tables.VIDEO, (*place, "video"))
    rankings = reader.take(left.get("rankings"), {}, (*place, "rankings"), list(tables.RANKINGS))
    for name, value in rankings.items():
        _spread(reader, value, *tables.RANKINGS[name], (*place, "rankings", name))


def _near(path: Path, file: Path) -> Path:
    """As given from the working directory, else beside the configuration."""
    beside = file.parent / path
    return beside if not path.is_absolute() and not path.exists() and beside.exists() else path


def _records(reader: Reader, records: object, place: Place) -> None:
    """A dataset written into the configuration: as a file in the cache, named by its content."""
    rows: list[str] = []
    listed = records if isinstance(records, list) else [records]
    for row in listed:
        if not isinstance(row, Mapping):
            reader.problem((*place, "records"), "each record is a mapping, as `{text: …}`")
            return
        rows.append(json_text(row))
    content = ("\n".join(rows) + "\n").encode()
    path = cache_dir() / "inline" / f"{sha256(content).hexdigest()[:16]}.jsonl"
    if not path.exists():
        try:
            write_cached(path, content)
        except OSError as error:
            reader.problem((*place, "records"), f"cannot write `{path}`: {error.strerror or error}")
            return
    reader.put("--input-file", str(path), (*place, "records"))


def _lengths(reader: Reader, lengths: Mapping[str, Any], place: Place) -> None:
    for name in ("isl", "osl"):
        _spread(reader, lengths.get(name), f"--{name}", f"--{name}-stddev", (*place, name), f"--{name}-dist")


def _spread(
    reader: Reader, value: object, mean: str, stddev: str, place: Place, distribution: str | None = None
) -> None:
    """A number, or a distribution: normal by mean and deviation, others where there is an option that takes them."""
    if value is None or not isinstance(value, Mapping):
        reader.put(mean, value, place)
        return
    shape = {k: v for k, v in value.items() if k != "type" and v is not None}
    if not shape.keys() - {"mean", "stddev"} or not shape.keys() - {"value"}:
        reader.put(mean, shape.get("mean", shape.get("value")), place)
        if shape.get("stddev"):
            reader.put(stddev, shape["stddev"], place)
    elif distribution is not None:
        reader.put(distribution, shape, place)
    else:
        reader.problem(
            place, f"`{place[-1]}` is a number or `{{mean, stddev}}`", "only prompts take other distributions"
        )


def _pairs(reader: Reader, pairs: object, place: Place) -> None:
    rows = []
    for at, entry in enumerate(pairs if isinstance(pairs, list) else []):
        row: dict[str, object] = {"prob": entry.get("probability", 0)} if isinstance(entry, Mapping) else {}
        for name in ("isl", "osl"):
            length = entry.get(name) if isinstance(entry, Mapping) else None
            shape = length if isinstance(length, Mapping) else {"mean": length}
            if shape.keys() - {"mean", "stddev", "value", "type"} or shape.get("mean", shape.get("value")) is None:
                reader.problem(
                    (*place, at), "a pair is `{isl, osl, probability}`, lengths as numbers or `{mean, stddev}`"
                )
                return
            row[name] = plain_number(float(str(shape.get("mean", shape.get("value")))))
            row[f"{name}_stddev"] = shape.get("stddev", entry.get(f"{name}_stddev") or 0)
        rows.append(row)
    reader.put("--seq-dist", json_text({"pairs": rows}), place)


def _cache_bust(reader: Reader, value: object, place: Place) -> None:
    target = value.get("target") if isinstance(value, Mapping) else value
    if target not in (None, "none"):
        reader.put("--cache-bust", target, place)


# Around the load -------------------------------------------------------------------------------------------------------


def _artifacts(reader: Reader, artifacts: object, place: Place, variables: Mapping[str, Any]) -> None:
    left = reader.take(artifacts, tables.ARTIFACTS, place, ["summary", "records", "raw", "user_files"])
    if left.get("summary") is False:
        reader.note((*place, "summary"), "the summary's JSON and CSV are always written")
    if left.get("raw"):
        reader.put("--export-level", "raw", (*place, "raw"))
    elif left.get("records") is False or left.get("records") == []:
        reader.put("--export-level", "summary", (*place, "records"))
    files = left.get("user_files") or []
    for at, entry in enumerate(files):
        path = PurePosixPath(str(entry.get("path", "")) if isinstance(entry, Mapping) else "")
        if path.is_absolute() or ".." in path.parts or not path.name:
            reader.problem((*place, "user_files", at), f"`{path}` is not a path within the run's folder")
            return
    if files:
        content = json_text({"files": files, "variables": variables})
        reader.put("--user-files", content, (*place, "user_files"))


def _watched(reader: Reader, body: Mapping[str, Any], place: Place) -> None:
    for name, off, urls in (
        ("gpu_telemetry", "--no-gpu-telemetry", "--gpu-telemetry"),
        ("server_metrics", "--no-server-metrics", "--server-metrics"),
    ):
        value = body.get(name)
        at: Place = (*place, name)
        if isinstance(value, bool):
            value = {"enabled": value}
        elif isinstance(value, str | list):
            value = {"urls": value}
        elif isinstance(value, Mapping) and name == "server_metrics" and "discovery" in value:
            reader.note((*at, "discovery"), "name the endpoints in `urls`")
        special = ["enabled", "urls", "url", "collector", "mode", "formats", "discovery", "metrics_file", "interval"]
        left = reader.take(value, {}, at, special)
        if left.get("enabled") is False:
            reader.put(off, True, at)
            continue
        listed = left.get("urls") or left.get("url") or []
        words = [listed] if isinstance(listed, str) else [str(u) for u in listed]
        words += [str(left[k]) for k in ("metrics_file",) if left.get(k)]
        if left.get("collector") in {"pynvml", "amdsmi"}:
            words.insert(0, str(left["collector"]))
        reader.put(urls, words, (*at, "urls"))
        if name == "server_metrics":
            reader.put("--server-metrics-formats", left.get("formats"), (*at, "formats"))
            reader.put("--server-metrics-interval", left.get("interval"), (*at, "interval"))
    network = body.get("network_latency")
    if isinstance(network, Mapping) and network.get("enabled") is False:
        network = None
    if isinstance(network, Mapping) and network.get("mean_ms") is not None:
        network = {k: v for k, v in network.items() if k != "enabled"}
    reader.take(network, tables.NETWORK, (*place, "network_latency"))
