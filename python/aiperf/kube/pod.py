"""The pod every kind of workload shares: one container, no privileges, secrets by reference, files from a ConfigMap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aiperf.kube.command import FILES, INPUTS, RESULTS, ClusterCommand
from aiperf.kube.names import key_values, secret_key, toleration
from aiperf.kube.options import KubeOptions

__all__ = ["APP_LABEL", "CONTAINER", "RAY_PORT", "RUN_LABEL", "Labels", "labels_of", "pod_template"]

Labels = dict[str, str]

CONTAINER: Final = "aiperf"
RUN_LABEL: Final = "aiperf.dev/run"
"""On every object and pod of a run: what `status`, `logs`, `collect` and `delete` look for."""
APP_LABEL: Final = "app.kubernetes.io/name"
RAY_PORT: Final = 6379
_CA: Final = "/etc/aiperf/ca"
_HOME: Final = "/tmp"  # noqa: S108 - an empty volume of the pod's own


def labels_of(name: str, options: KubeOptions) -> Labels:
    return {
        **key_values(options.labels),
        APP_LABEL: "aiperf",
        "app.kubernetes.io/managed-by": "aiperf",
        RUN_LABEL: name,
    }


def pod_template(
    name: str,
    options: KubeOptions,
    command: ClusterCommand,
    *,
    container: str,
    args: Sequence[str] | None,
    extra: Labels,
) -> dict[str, Any]:
    """`args` None: the container's command is the controller's (KubeRay's `ray start`). `extra`: more labels."""
    volumes, mounts = _volumes(name, options, command)
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": _pod_security(options),
        "terminationGracePeriodSeconds": int(
            command.grace_s if options.grace_seconds is None else options.grace_seconds
        ),
        "containers": [_container(options, mounts, container, args)],
        "volumes": volumes,
    }
    if options.service_account:
        spec["serviceAccountName"] = options.service_account
    if options.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": s} for s in options.image_pull_secrets]
    if options.node_selector:
        spec["nodeSelector"] = key_values(options.node_selector)
    if options.tolerations:
        spec["tolerations"] = [t for text in options.tolerations for t in toleration(text)]
    if options.priority_class:
        spec["priorityClassName"] = options.priority_class
    if options.one_per_node and options.generators > 1:
        term = {"labelSelector": {"matchLabels": {RUN_LABEL: name, **extra}}, "topologyKey": "kubernetes.io/hostname"}
        spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    metadata: dict[str, Any] = {"labels": {**labels_of(name, options), **extra}}
    if options.annotations:
        metadata["annotations"] = key_values(options.annotations)
    return {"metadata": metadata, "spec": spec}


def _pod_security(options: KubeOptions) -> dict[str, Any]:
    security: dict[str, Any] = {
        "runAsNonRoot": True,
        "runAsUser": options.run_as_user,
        "runAsGroup": options.run_as_user,
        "fsGroup": options.run_as_user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if options.port_range and options.port_range != "off":
        security["sysctls"] = [{"name": "net.ipv4.ip_local_port_range", "value": options.port_range}]
    return security


def _container(
    options: KubeOptions, mounts: list[dict[str, Any]], container: str, args: Sequence[str] | None
) -> dict[str, Any]:
    resources = {"cpu": options.cpu, "memory": options.memory}
    spec: dict[str, Any] = {
        "name": container,
        "image": options.image,
        "env": _environment(options),
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    if options.image_pull_policy:
        spec["imagePullPolicy"] = options.image_pull_policy
    if args is not None:
        spec["command"] = ["aiperf", "kube", "node"]
        spec["args"] = list(args)
    return spec


def _environment(options: KubeOptions) -> list[dict[str, Any]]:
    field = "fieldPath"
    variables: list[dict[str, Any]] = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {field: "status.podIP"}}},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {field: "metadata.name"}}},
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {field: "spec.nodeName"}}},
        {"name": "HOME", "value": _HOME},
        # Of generators, which Ray would run at 15; only root could raise it later.
        {"name": "RAY_worker_niceness", "value": "0"},
    ]
    variables += [{"name": k, "value": v} for k, v in key_values(options.env_vars).items()]
    secrets = [(k, secret_key(v)) for k, v in key_values(options.env_from_secrets).items()]
    if options.api_key_secret:
        secrets.append(("AIPERF_API_KEY", secret_key(options.api_key_secret)))
    if options.hf_token_secret:
        secrets.append(("HF_TOKEN", secret_key(options.hf_token_secret)))
    variables += [{"name": n, "valueFrom": {"secretKeyRef": {"name": s, "key": k}}} for n, (s, k) in secrets]
    if options.ca_bundle:
        variables.append({"name": "SSL_CERT_FILE", "value": f"{_CA}/{secret_key(options.ca_bundle)[1]}"})
    return variables


def _volumes(
    name: str, options: KubeOptions, command: ClusterCommand
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    claim = {"persistentVolumeClaim": {"claimName": options.results_pvc}} if options.results_pvc else {"emptyDir": {}}
    volumes: list[dict[str, Any]] = [{"name": "results", **claim}, {"name": "tmp", "emptyDir": {}}]
    mounts: list[dict[str, Any]] = [{"name": "results", "mountPath": RESULTS}, {"name": "tmp", "mountPath": _HOME}]
    if options.results_pvc:
        mounts[0]["subPath"] = name
    if options.generators > 1:
        # Ray's object store; a pod's own /dev/shm has 64 MB.
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory"}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108 - the pod's
    if command.files:
        volumes.append({"name": "files", "configMap": {"name": f"{name}-files"}})
        mounts.append({"name": "files", "mountPath": FILES, "readOnly": True})
    if options.ca_bundle:
        volumes.append({"name": "ca", "configMap": {"name": secret_key(options.ca_bundle)[0]}})
        mounts.append({"name": "ca", "mountPath": _CA, "readOnly": True})
    if options.input_pvc:
        volumes.append({"name": "inputs", "persistentVolumeClaim": {"claimName": options.input_pvc, "readOnly": True}})
        mounts.append({"name": "inputs", "mountPath": INPUTS, "readOnly": True})
    return volumes, mounts
