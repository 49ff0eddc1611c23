"""A run whose load comes from the generators of a cluster: what `profile` does otherwise for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aiperf.config.engine_settings import EngineSettings
from aiperf.config.model import Config
from aiperf.config.part import salt_of
from aiperf.config.proxy import proxy_rule
from aiperf.config.url import parse_url
from aiperf.observer import Observer
from aiperf.records.run_json import GeneratorEntry
from aiperf.records.store import open_journal
from aiperf.run.prepare import Prepared
from aiperf.run.run import Run

if TYPE_CHECKING:
    from aiperf.distributed.cluster import Cluster
    from aiperf.distributed.generators import Generators

__all__ = ["begin", "certified", "expect", "ready"]


def expect(config: Config) -> None:
    """A run on a cluster is being prepared."""
    if config.distributed.generators is not None:
        from aiperf.distributed.cluster import load_ray_early

        load_ray_early()


def ready(prepared: Prepared, observer: Observer) -> Cluster | None:
    """The cluster, checked for this run; None if the load comes from this process. ConfigError with all that is wrong."""
    config = prepared.config
    if config.distributed.generators is None:
        return None
    from aiperf.distributed.cluster import check_nodes, cluster_of, low_priorities

    cluster = cluster_of(config.distributed, observer.stage)
    observer.stage("checking the nodes")
    load = config.load
    slots = max(load.concurrency or 0, load.num_users or 0, config.warmup.concurrency or 0)
    check_nodes(cluster, config, slots, _targets(prepared))
    for text in low_priorities(cluster):
        observer.note(text)
    return cluster


def _targets(prepared: Prepared) -> list[tuple[str, int]]:
    """What each node must be able to connect to: the servers, or their proxies."""
    import os

    rule = proxy_rule(prepared.config.endpoint.proxy, os.environ)
    addresses: dict[tuple[str, int], None] = {}
    for text in prepared.config.endpoint.urls:
        url = parse_url(text)
        if url.socket is not None:
            continue
        proxy = rule.of(url)
        if proxy is None:
            addresses[url.host, url.port] = None
        else:
            host, _, port = proxy.shown.rpartition(":")
            addresses[host.strip("[]"), int(port)] = None
    return list(addresses)


def begin(cluster: Cluster, run: Run, prepared: Prepared, settings: EngineSettings, observer: Observer) -> Generators:
    """The load; it begins when all generators are ready."""
    import secrets

    from aiperf.distributed.generators import Generators, Work

    vocabulary = prepared.workload.vocabulary
    observer.stage("preparing the generators")
    work = Work(
        config=run.config,
        settings=settings,
        plan=prepared.workload.plan,
        vocabulary=None if vocabulary is None else vocabulary.to_bytes(),
        told=run.json,
        salt=salt_of(prepared.workload.seed, secrets.randbits(62)),
    )
    return Generators(cluster, work, observer.note)


def certified(run: Run, generators: Generators) -> list[GeneratorEntry]:
    """The generators with a certificate each, from their own records."""
    from aiperf.metrics.summarise import summarise
    from aiperf.run.options import certificate_entry, engine_facts

    out = []
    count = len(generators.shares)
    for share in generators.shares:
        config = run.config.replace(
            {"distributed.part": f"{share.entry.index + 1}/{count}", "distributed.generators": None}
        )
        options = replace(
            run.options, facts=engine_facts(share.outcome, config), server=None, slice_ns=None, confidence=False
        )
        columns = open_journal(generators.journal(share.entry.index))
        summary = summarise(columns, options) if columns.num_rows else None
        entry = certificate_entry(None if summary is None else summary.certificate)
        out.append(share.entry.model_copy(update={"certificate": entry}))
    return out
