"""JobSet: the indexed Job inside a set, for clusters whose queues and quotas know JobSets. The set names the pods."""

from __future__ import annotations

from typing import Any

from aiperf.kube.command import ClusterCommand
from aiperf.kube.kinds.job import job_spec
from aiperf.kube.options import KubeOptions
from aiperf.kube.pod import labels_of

__all__ = ["build"]

_GROUP = "generators"


def build(name: str, options: KubeOptions, command: ClusterCommand) -> list[dict[str, Any]]:
    job = job_spec(name, options, command, head=f"{name}-{_GROUP}-0-0.{name}")
    job["template"]["spec"].pop("subdomain", None)  # the set's
    for of_the_set in ("ttlSecondsAfterFinished", "suspend"):
        job.pop(of_the_set, None)
    spec: dict[str, Any] = {
        "network": {"enableDNSHostnames": True, "subdomain": name, "publishNotReadyAddresses": True},
        "failurePolicy": {"maxRestarts": 0},
        "replicatedJobs": [{"name": _GROUP, "replicas": 1, "template": {"spec": job}}],
    }
    if options.ttl_seconds is not None:
        spec["ttlSecondsAfterFinished"] = int(options.ttl_seconds)
    if options.queue_name:
        spec["suspend"] = True
    return [
        {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {"name": name, "labels": labels_of(name, options)},
            "spec": spec,
        }
    ]
