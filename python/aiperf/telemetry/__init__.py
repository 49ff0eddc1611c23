"""Telemetry: what the server, its GPUs and the network say of themselves, next to what the client measured.

A server family is one file, `families/<name>.py` with its `FAMILY` (third parties: an entry point in the
group `aiperf.telemetry`): how it is recognised, what it accepts, and its Prometheus names in our words. `probe` asks a
server before the run, `prometheus` reads its metrics while it runs, `gpu` those of its GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, TypeGuard

__all__ = ["UNKNOWN", "Family", "Kind", "Mapped", "all_families", "family_named", "family_of_metrics"]

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A raw Prometheus name in our words.

    `unit`: of the scaled value: requests, tokens, ratio, s, W, …. `scale`: raw × scale is in that unit. `where`: only
    series with these labels; `without`: none with these. `combine`: how the series of one server (ranks, replicas, models) are one number.
    `part`: of a histogram: its `sum` (a count of tokens, say) or `count` as a counter.
    """

    name: str
    kind: Kind
    unit: str
    scale: float = 1.0
    where: Mapping[str, str] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)
    combine: Literal["sum", "mean", "max"] = "sum"
    part: Literal["sum", "count"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of server.

    `metrics`: by the name prometheus-client gives a family of samples (counters without `_total`); of several raw names for
    one of ours, the first that is there counts. `prefixes`: of its metrics' names. `owners`: `owned_by` in `/v1/models`.
    `servers`: words in its `Server` header. `any_model`: it answers under any model name, whatever `/v1/models` lists.
    `identity`: a path only this family has, and a key of the JSON object found there.
    """

    name: str
    title: str
    metrics: Mapping[str, Mapped | tuple[Mapped, ...]] = field(default_factory=dict, repr=False)
    prefixes: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    identity: tuple[str, str] | None = None
    accepts_ignore_eos: bool = False
    any_model: bool = False
    has_tokenize: bool = False

    def mapped(self, raw: str) -> tuple[Mapped, ...]:
        found = self.metrics.get(raw, ())
        return (found,) if isinstance(found, Mapped) else found


UNKNOWN = Family(name="unknown", title="unknown server")


@cache
def all_families() -> dict[str, Family]:
    """All by name; imports every file of the group."""
    from aiperf import registry

    return {name: registry.load("telemetry", name, "FAMILY", _is_family) for name in registry.names("telemetry")}


def _is_family(found: object) -> TypeGuard[Family]:
    return isinstance(found, Family)


def family_named(name: str) -> Family:
    return all_families().get(name, UNKNOWN)


def family_of_metrics(names: set[str]) -> Family:
    """By the prefixes of the metrics' names; a family that stands in front of others (Dynamo) wins over them."""
    found = [f for f in all_families().values() if any(n.startswith(p) for p in f.prefixes for n in names)]
    return max(found, key=lambda f: max(len(p) for p in f.prefixes), default=UNKNOWN)
