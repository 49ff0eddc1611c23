"""What is wrong with the options of a run from several machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from aiperf.config.model import Config, specs
from aiperf.config.part import MAX_PARTS, parse_part, parse_start
from aiperf.config.rules import Asked
from aiperf.errors import Problem

__all__ = ["CLUSTER_HINT", "bad_cluster", "bad_store", "distributed_problems", "machines"]

_BUCKETS: Final = ("s3", "gs", "az")


def distributed_problems(asked: Asked, config: Config) -> Iterator[Problem]:
    distributed = config.distributed
    for path, parse in (("distributed.part", parse_part), ("distributed.start_at", parse_start)):
        if (text := config.value(path)) is not None:
            try:
                parse(str(text))
            except ValueError as error:
                yield Problem(str(error), asked.at(path))
    if distributed.part is not None and distributed.start_at is None:
        yield Problem(
            "needs `--start-at`: all parts of a run start at one time",
            asked.at("distributed.part"),
            "for example `--start-at $(date -d '+30 seconds' +%s)`, the same on every machine",
        )
    if distributed.part is None and distributed.generators is None:
        return
    where = "distributed.part" if distributed.part is not None else "distributed.generators"
    if distributed.part is not None and config.is_study:
        yield Problem(
            "cannot be combined with a sweep, search, `--ab` or repeats: their runs depend on each other",
            asked.at(where),
            "run each point by itself, or use `--generators`",
        )
    if distributed.part is not None and (config.load.until or config.slo.abort_on_fail):
        what = "load.until" if config.load.until else "slo.abort_on_fail"
        yield Problem(
            f"cannot be combined with `{specs()[what].shown}`: no part knows the metrics of the whole run",
            asked.at(where),
        )
    if config.endpoint.server_profiler:
        yield Problem(
            f"cannot be combined with `{specs()[where].shown}`: several machines would start and stop it",
            asked.at("endpoint.server_profiler"),
            "post to its `/start_profile` and `/stop_profile` around the run",
        )
    if config.output.export_http_trace:
        yield Problem(
            f"cannot be combined with `{specs()[where].shown}`: traces of several machines are not merged",
            asked.at("output.export_http_trace"),
        )
    if config.output.export_level == "raw":
        yield Problem(
            f"`raw` cannot be combined with `{specs()[where].shown}`: raw requests of several machines are not merged",
            asked.at("output.export_level"),
            "use `--export-level records`",
        )
    if distributed.generators is not None and distributed.generators > MAX_PARTS:
        yield Problem(f"`{distributed.generators:,}` is more than the maximum, {MAX_PARTS:,}", asked.at(where))
    if asked.has("distributed.cluster") and (wrong := bad_cluster(distributed.cluster)):
        yield Problem(wrong, asked.at("distributed.cluster"), CLUSTER_HINT)
    if distributed.record_store is not None and (wrong := bad_store(distributed.record_store)):
        hint = "a folder that all nodes share, `/mnt/shared/records`, or a bucket, `s3://BUCKET/PREFIX`"
        yield Problem(wrong, asked.at("distributed.record_store"), hint)


CLUSTER_HINT: Final = "`local`, `auto`, `HOST:6379` on a node of the cluster, or `ray://HOST:10001` from outside"


def bad_cluster(where: str) -> str | None:
    """What is wrong with the address of `--cluster` or `RAY_ADDRESS`, as far as it can be known without connecting."""
    if where in {"local", "auto"}:
        return None
    host, _, port = where.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        return f"`{where}` is not the address of a Ray cluster"
    return None if 0 < int(port) < 65536 else f"`{where}`: ports are numbers from 1 to 65535"


def bad_store(where: str) -> str | None:
    """What is wrong with the place of `--record-store`, as far as it can be known without looking there."""
    parts = urlsplit(where)
    if parts.scheme in {"", "file"}:
        is_absolute = parts.path.startswith("/") and not parts.netloc
        return None if is_absolute else f"`{where}` is not an absolute path: it would be another folder on each node"
    if parts.scheme not in _BUCKETS:
        return f"`{where}` is neither a folder nor a bucket of {', '.join(f'{b}://' for b in _BUCKETS)}"
    return None if parts.netloc else f"`{where}` names no bucket"


def machines(config: Config) -> int:
    """Machines that share the load."""
    if config.distributed.part is not None:
        with suppress(ValueError):  # told by `check`
            return parse_part(config.distributed.part).of
    return (
        1
        if config.distributed.generators is None
        else -(-config.distributed.generators // config.distributed.generators_per_node)
    )
