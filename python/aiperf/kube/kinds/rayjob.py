"""RayJob: KubeRay owns the cluster of pods and their lifecycle. The command runs on the head, a generator on each worker."""

from __future__ import annotations

import shlex
from typing import Any

from aiperf.kube.command import RESULTS, ClusterCommand
from aiperf.kube.options import KubeOptions
from aiperf.kube.pod import labels_of, pod_template

__all__ = ["HEAD", "build", "installed_ray"]

HEAD = "ray-head"
_ROLE = "aiperf.dev/role"
_JOIN_S = 300


def installed_ray() -> str | None:
    """Version of the Ray in this environment, None without one."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ray")
    except PackageNotFoundError:
        return None


def build(name: str, options: KubeOptions, command: ClusterCommand) -> list[dict[str, Any]]:
    spec = _spec(name, options, command)
    metadata = {"name": name, "labels": labels_of(name, options)}
    if options.schedule is None:
        return [{"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec}]
    cron: dict[str, Any] = {"schedule": options.schedule, "jobTemplate": spec}
    if options.time_zone:
        cron["timeZone"] = options.time_zone
    return [{"apiVersion": "ray.io/v1", "kind": "RayCronJob", "metadata": metadata, "spec": cron}]


def _spec(name: str, options: KubeOptions, command: ClusterCommand) -> dict[str, Any]:
    words = ["aiperf", "profile", *command.words, "--artifact-dir", RESULTS]
    # KubeRay runs the command when the head is up: the workers may still be on their way.
    words += ["--generators", str(options.generators), "--cluster", "auto", "--wait-for-nodes", str(_JOIN_S)]
    head = pod_template(name, options, command, container=HEAD, args=None, extra={_ROLE: "head"})
    worker = pod_template(name, options, command, container="ray-worker", args=None, extra={_ROLE: "generator"})
    for template in (head, worker):
        del template["spec"]["restartPolicy"]  # the operator's
    spec: dict[str, Any] = {
        "entrypoint": shlex.join(words),
        "submissionMode": "K8sJobMode",
        "backoffLimit": 0,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": int(options.ttl_seconds or 0),
        "rayClusterSpec": {
            "rayVersion": options.ray_version or installed_ray(),
            "headGroupSpec": {
                # No generator on the head: it collects, and asks the server for its metrics.
                "rayStartParams": {"num-cpus": "0", "disable-usage-stats": "true", "dashboard-host": "0.0.0.0"},  # noqa: S104 - the submitter is another pod
                "template": head,
            },
            "workerGroupSpecs": [
                {
                    "groupName": "generators",
                    "replicas": options.generators,
                    "minReplicas": options.generators,
                    "maxReplicas": options.generators,
                    "rayStartParams": {},
                    "template": worker,
                }
            ],
        },
    }
    if options.active_deadline is not None:
        spec["activeDeadlineSeconds"] = int(options.active_deadline)
    if options.queue_name:
        spec["suspend"] = True
    return spec
