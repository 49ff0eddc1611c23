"""The options of `aiperf kube`: where and how the pods run. Checked by Kubernetes' own rules before anything is applied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from aiperf.config.flag import FieldSpec, Flag, Given, specs_of
from aiperf.config.parse import parse_list, parse_scalar
from aiperf.config.sections import Section
from aiperf.errors import ConfigError, Problem

__all__ = ["Cluster", "KubeOptions", "cluster_specs", "read_options", "specs"]

_CLUSTER = "Cluster"
_WORKLOAD = "Workload"
_PODS = "Pods"
_SECRETS = "Secrets and files"
_RESULTS = "Results"


class Cluster(Section):
    """Which cluster and namespace `kubectl` talks to."""

    namespace: Annotated[
        str | None, Flag("--namespace", "-n", help="Namespace of the run; default: kubectl's own", group=_CLUSTER)
    ] = None
    kube_context: Annotated[
        str | None, Flag("--kube-context", help="Context of the kubeconfig file", group=_CLUSTER)
    ] = None
    kubeconfig: Annotated[
        Path | None, Flag("--kubeconfig", help="Kubeconfig file; default: kubectl's own", group=_CLUSTER)
    ] = None


class KubeOptions(Cluster):
    """What is applied. Values are those of the options, unparsed where Kubernetes has a grammar of its own."""

    name: Annotated[
        str | None, Flag("--name", help="Name of the run in the cluster; default aiperf-<model>", group=_WORKLOAD)
    ] = None
    kind: Annotated[
        Literal["job", "jobset", "rayjob"],
        Flag("--kind", help="Workload: indexed Job, JobSet, or RayJob for KubeRay", group=_WORKLOAD),
    ] = "job"
    generators: Annotated[
        int,
        Flag(
            "--generators", help="Load generators, one pod each; more than one need Ray in the image", group=_WORKLOAD
        ),
        Field(ge=1, le=1000),
    ] = 1
    image: Annotated[
        str | None, Flag("--image", help="Container image with aiperf (deploy/Containerfile)", group=_WORKLOAD)
    ] = None
    image_pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"] | None,
        Flag(
            "--image-pull-policy",
            help="When the image is pulled; default: Kubernetes' rule",
            group=_WORKLOAD,
            synonyms={"always": "Always", "if-not-present": "IfNotPresent", "never": "Never"},
        ),
    ] = None
    image_pull_secrets: Annotated[
        tuple[str, ...],
        Flag("--image-pull-secrets", help="Secrets to pull the image with", group=_WORKLOAD, split=True),
    ] = ()
    ray_version: Annotated[
        str | None,
        Flag(
            "--ray-version",
            help="Ray version in the image, for a RayJob; default: the version installed here",
            group=_WORKLOAD,
        ),
    ] = None
    queue_name: Annotated[
        str | None, Flag("--queue-name", help="Kueue LocalQueue that admits the run", group=_WORKLOAD)
    ] = None
    priority_class: Annotated[
        str | None, Flag("--priority-class", help="PriorityClass of the pods", group=_WORKLOAD)
    ] = None
    schedule: Annotated[
        str | None,
        Flag(
            "--schedule",
            help="Cron schedule of a repeated run, for example '0 3 * * *'",
            group=_WORKLOAD,
            metavar="CRON",
        ),
    ] = None
    time_zone: Annotated[
        str | None, Flag("--time-zone", help="Time zone of the schedule, for example Europe/Berlin", group=_WORKLOAD)
    ] = None
    ttl_seconds: Annotated[
        float | None,
        Flag(
            "--ttl-seconds",
            help="Time after which a finished run is deleted from the cluster",
            group=_WORKLOAD,
            unit="s",
        ),
        Field(ge=0),
    ] = 3600
    active_deadline: Annotated[
        float | None,
        Flag(
            "--active-deadline",
            help="Time after which Kubernetes ends the run, in whole seconds",
            group=_WORKLOAD,
            unit="s",
        ),
        Field(ge=1),
    ] = None

    service_account: Annotated[
        str | None, Flag("--service-account", help="ServiceAccount of the pods", group=_PODS)
    ] = None
    node_selector: Annotated[
        tuple[str, ...], Flag("--node-selector", help="Node labels the pods need, KEY=VALUE", group=_PODS, split=True)
    ] = ()
    tolerations: Annotated[
        tuple[str, ...],
        Flag("--tolerations", help="Taints the pods tolerate: KEY[=VALUE][:EFFECT], or JSON", group=_PODS, greedy=True),
    ] = ()
    one_per_node: Annotated[
        bool, Flag("--one-per-node", help="Put each generator on a node of its own", group=_PODS)
    ] = True
    cpu: Annotated[str, Flag("--cpu", help="CPU request and limit of a pod", group=_PODS, metavar="QUANTITY")] = "2"
    memory: Annotated[
        str, Flag("--memory", help="Memory request and limit of a pod", group=_PODS, metavar="QUANTITY")
    ] = "4Gi"
    labels: Annotated[
        tuple[str, ...], Flag("--labels", help="Labels of all objects, KEY=VALUE", group=_PODS, split=True)
    ] = ()
    annotations: Annotated[
        tuple[str, ...], Flag("--annotations", help="Annotations of the pods, KEY=VALUE", group=_PODS, greedy=True)
    ] = ()
    env_vars: Annotated[
        tuple[str, ...],
        Flag("--env-vars", "--env", help="Environment of the pods, NAME=VALUE; no secrets", group=_PODS, greedy=True),
    ] = ()
    port_range: Annotated[
        str | None,
        Flag("--port-range", help="Local ports of a pod (a safe sysctl); `off` keeps the node's", group=_PODS),
    ] = "1024 65535"
    run_as_user: Annotated[
        int, Flag("--run-as-user", help="User id of the processes", group=_PODS), Field(ge=1, le=2**31 - 1)
    ] = 10001
    network_policy: Annotated[
        bool,
        Flag(
            "--network-policy", help="Add a NetworkPolicy: DNS, the target's port and the generators only", group=_PODS
        ),
    ] = False

    api_key_secret: Annotated[
        str | None, Flag("--api-key-secret", help="Secret with the API key, NAME/KEY", group=_SECRETS)
    ] = None
    hf_token_secret: Annotated[
        str | None, Flag("--hf-token-secret", help="Secret with the Hugging Face token, NAME/KEY", group=_SECRETS)
    ] = None
    env_from_secrets: Annotated[
        tuple[str, ...],
        Flag(
            "--env-from-secrets",
            help="Environment variables from Secrets, ENV_NAME=SECRET/KEY",
            group=_SECRETS,
            split=True,
        ),
    ] = ()
    ca_bundle: Annotated[
        str | None,
        Flag("--ca-bundle", help="ConfigMap with the certificate authorities to trust, NAME/KEY", group=_SECRETS),
    ] = None
    input_pvc: Annotated[
        str | None,
        Flag(
            "--input-pvc", help="PersistentVolumeClaim with large inputs, mounted read-only at /inputs", group=_SECRETS
        ),
    ] = None

    results_pvc: Annotated[
        str | None,
        Flag(
            "--results-pvc",
            help="PersistentVolumeClaim the results are written to; default: the pod's own disk",
            group=_RESULTS,
        ),
    ] = None
    keep_for: Annotated[
        float,
        Flag(
            "--keep-for", help="Time the finished pod waits until its results are collected", group=_RESULTS, unit="s"
        ),
        Field(ge=0),
    ] = 600
    grace_seconds: Annotated[
        float | None,
        Flag(
            "--termination-grace", help="Time a pod has to write its results when it is ended", group=_RESULTS, unit="s"
        ),
        Field(ge=0),
    ] = None


def cluster_specs() -> tuple[FieldSpec, ...]:
    """Options of the commands that only look: status, logs, collect, delete."""
    return specs_of("", Cluster)


def specs() -> tuple[FieldSpec, ...]:
    """Options of `manifest` and `run`."""
    return specs_of("", KubeOptions)


def read_options(given: Sequence[Given], problems: Sequence[Problem] = ()) -> KubeOptions:
    """The options from what was given; ConfigError with these problems and all that are found."""
    faults = list(problems)
    values: dict[str, object] = {}
    where: dict[str, str] = {}
    for item in given:
        texts = [t for g in given if g.spec is item.spec for t in g.texts]
        where[item.spec.name] = item.where
        try:
            values[item.spec.name] = (
                parse_list(texts, item.spec) if item.spec.is_list else parse_scalar(item.texts[-1], item.spec)
            )
        except ValueError as error:
            faults.append(Problem(str(error), item.where))
    try:
        options = KubeOptions.model_validate(values)
    except ValidationError as error:
        for wrong in error.errors():
            name = str(wrong["loc"][0])
            faults.append(
                Problem(f"`{wrong['input']}`: {wrong['msg'][:1].lower()}{wrong['msg'][1:]}", where.get(name, name))
            )
        raise ConfigError(tuple(faults)) from error
    if faults:
        raise ConfigError(tuple(faults))
    return options
