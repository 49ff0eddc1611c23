"""Indexed Job and headless Service: nothing to install in the cluster. Index 0 is the head and runs the command, the others join it."""

from __future__ import annotations

from typing import Any

from aiperf.kube.command import ClusterCommand
from aiperf.kube.options import KubeOptions
from aiperf.kube.pod import CONTAINER, RAY_PORT, RUN_LABEL, labels_of, pod_template

__all__ = ["build", "job_spec", "node_args"]


def build(name: str, options: KubeOptions, command: ClusterCommand) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = []
    if options.generators > 1:
        objects.append(_service(name, options))
    spec = job_spec(name, options, command, head=f"$(JOB_NAME)-0.{name}")
    metadata = {"name": name, "labels": labels_of(name, options)}
    if options.schedule is None:
        return [*objects, {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}]
    cron: dict[str, Any] = {
        "schedule": options.schedule,
        "concurrencyPolicy": "Forbid",
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {"metadata": {"labels": labels_of(name, options)}, "spec": spec},
    }
    if options.time_zone:
        cron["timeZone"] = options.time_zone
    return [*objects, {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": cron}]


def job_spec(name: str, options: KubeOptions, command: ClusterCommand, *, head: str) -> dict[str, Any]:
    """`head`: host name of index 0. A pod is never tried again: the load of a second try is another load."""
    template = pod_template(
        name, options, command, container=CONTAINER, args=node_args(options, command, head), extra={}
    )
    if options.generators > 1:
        template["spec"]["subdomain"] = name
        template["spec"]["containers"][0]["ports"] = [{"name": "ray", "containerPort": RAY_PORT}]
    template["spec"]["containers"][0]["env"].insert(
        0,
        {
            "name": "JOB_NAME",
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}},
        },
    )
    spec: dict[str, Any] = {
        "completionMode": "Indexed",
        "completions": options.generators,
        "parallelism": options.generators,
        "backoffLimit": 0,
        "template": template,
    }
    if options.generators > 1:
        # Done when the command is; from Kubernetes 1.33 on by rule, before because the others end with the head.
        spec["successPolicy"] = {"rules": [{"succeededIndexes": "0"}]}
    if options.ttl_seconds is not None:
        spec["ttlSecondsAfterFinished"] = int(options.ttl_seconds)
    if options.active_deadline is not None:
        spec["activeDeadlineSeconds"] = int(options.active_deadline)
    if options.queue_name:
        spec["suspend"] = True  # Kueue admits it
    return spec


def node_args(options: KubeOptions, command: ClusterCommand, head: str) -> list[str]:
    """Arguments of `aiperf kube node`."""
    keep = 0 if options.results_pvc else int(options.keep_for)
    words = ["--keep-for", str(keep)]
    if options.generators > 1:
        words += ["--head", head, "--generators", str(options.generators)]
    return [*words, "--", *command.words]


def _service(name: str, options: KubeOptions) -> dict[str, Any]:
    """Gives the pods names; not-ready ones too, as the head is looked for while it starts."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels_of(name, options)},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {RUN_LABEL: name},
            "ports": [{"name": "ray", "port": RAY_PORT}],
        },
    }
