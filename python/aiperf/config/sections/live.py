"""Section `live`: who else watches the run: a page, programs that ask for numbers, and services that they are sent to."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["LiveConfig"]

_LIVE = "Live view"
_SERVICES = "Export to services"


class LiveConfig(Section):
    """Live page, live numbers, sinks."""

    serve: Annotated[
        str | None,
        Flag(
            "--serve",
            help="Serve a live page, /metrics and /api/progress on [HOST:]PORT (default host 127.0.0.1; other hosts need the token in the URL)",
            group=_LIVE,
            metavar="[HOST:]PORT",
            sweep=False,
        ),
    ] = None
    serve_grace: Annotated[
        float | None,
        Field(ge=0),
        Flag(
            "--serve-grace",
            help="Keep serving this long after the run; default: until open live pages have the report, at most 10 s",
            group=_LIVE,
            unit="s",
            sweep=False,
        ),
    ] = None
    api_port: Annotated[
        int | None,
        Field(ge=0, le=65535),
        Flag(
            "--api-port",
            help="Port of AIPerf's live interface: /api/progress, /api/metrics, /metrics",
            group=_LIVE,
            sweep=False,
        ),
    ] = None
    api_host: Annotated[
        str | None,
        Flag("--api-host", help="Host that --api-port listens on; default 127.0.0.1", group=_LIVE, metavar="HOST"),
    ] = None
    otel_url: Annotated[
        str | None,
        Flag(
            "--otel-url",
            help="Send metrics to this OTLP/HTTP endpoint while the run goes on, for example `http://collector:4318`",
            group=_SERVICES,
            metavar="URL",
        ),
    ] = None
    stream: Annotated[
        tuple[str, ...],
        Flag(
            "--stream",
            help="Metrics sent to --otel-url: metrics (latencies, tokens), timing (counts, progress), or both (default)",
            group=_SERVICES,
            split=True,
            greedy=True,
        ),
    ] = ()
    otel_resource_attributes: Annotated[
        tuple[str, ...],
        Flag(
            "--otel-resource-attributes",
            help="Resource attributes of the OTLP metrics, as `key=value`",
            group=_SERVICES,
            split=True,
            greedy=True,
            metavar="K=V",
        ),
    ] = ()
    gen_ai_provider: Annotated[
        str | None,
        Flag(
            "--gen-ai-provider",
            help="Attribute `gen_ai.provider.name` of the OTLP metrics; default: the server that was recognised",
            group=_SERVICES,
            metavar="NAME",
        ),
    ] = None
    mlflow_tracking_uri: Annotated[
        str | None,
        Flag(
            "--mlflow-tracking-uri",
            help="Log the run to this MLflow tracking server: parameters, live metrics, results, files",
            group=_SERVICES,
            metavar="URI",
        ),
    ] = None
    mlflow_experiment: Annotated[
        str | None,
        Flag("--mlflow-experiment", help="MLflow experiment; default aiperf", group=_SERVICES, metavar="NAME"),
    ] = None
    mlflow_run_name: Annotated[
        str | None,
        Flag(
            "--mlflow-run-name",
            help="Name of the MLflow run; default: the benchmark id",
            group=_SERVICES,
            metavar="NAME",
        ),
    ] = None
    mlflow_tags: Annotated[
        tuple[str, ...],
        Flag(
            "--mlflow-tag",
            help="Tag of the MLflow run, as `key:value`; repeatable",
            group=_SERVICES,
            metavar="K:V",
            greedy=True,
        ),
    ] = ()
    mlflow_parent_run_id: Annotated[
        str | None,
        Flag("--mlflow-parent-run-id", help="MLflow run that this one is nested in", group=_SERVICES, metavar="ID"),
    ] = None
    mlflow_artifact_globs: Annotated[
        tuple[str, ...],
        Flag(
            "--mlflow-artifact-glob",
            help="Files of the run's folder that are uploaded; default: all but the journal and raw records",
            group=_SERVICES,
            split=True,
            metavar="GLOB",
        ),
    ] = ()
    wandb_project: Annotated[
        str | None,
        Flag("--wandb-project", help="Log the run to this Weights & Biases project", group=_SERVICES, metavar="NAME"),
    ] = None
    wandb_entity: Annotated[
        str | None,
        Flag(
            "--wandb-entity",
            help="Weights & Biases team or user; default: the API key's own",
            group=_SERVICES,
            metavar="NAME",
        ),
    ] = None
    wandb_run_name: Annotated[
        str | None,
        Flag(
            "--wandb-run-name",
            help="Name of the Weights & Biases run; default: the benchmark id",
            group=_SERVICES,
            metavar="NAME",
        ),
    ] = None
    wandb_tags: Annotated[
        tuple[str, ...],
        Flag(
            "--wandb-tag",
            help="Tag of the Weights & Biases run; repeatable, or separated by commas",
            group=_SERVICES,
            split=True,
            metavar="TAG",
        ),
    ] = ()
