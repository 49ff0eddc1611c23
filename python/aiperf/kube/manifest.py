"""Options and a command → the objects that `kubectl apply` takes, and every problem that can be known before."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

from aiperf.config.secrets import is_secret_name
from aiperf.errors import ConfigError, Problem
from aiperf.kube.command import RESULTS, ClusterCommand
from aiperf.kube.kinds import job, jobset, rayjob
from aiperf.kube.names import (
    bad_image,
    bad_label,
    bad_name,
    bad_object_name,
    bad_quantity,
    bad_run_name,
    bad_schedule,
    bad_time_zone,
    bad_variable,
    key_values,
    run_name,
    secret_key,
    toleration,
)
from aiperf.kube.options import KubeOptions
from aiperf.kube.pod import RUN_LABEL, labels_of

__all__ = ["build_objects", "check", "name_of", "render"]

_KINDS: dict[str, Callable[[str, KubeOptions, ClusterCommand], list[dict[str, Any]]]] = {
    "job": job.build,
    "jobset": jobset.build,
    "rayjob": rayjob.build,
}


def name_of(options: KubeOptions, command: ClusterCommand | None = None) -> str:
    if options.name:
        return options.name
    models = command.config.endpoint.model_names if command is not None else ()
    return run_name(models[0] if models else "run")


def build_objects(options: KubeOptions, command: ClusterCommand) -> list[dict[str, Any]]:
    """The objects in the order of applying. ConfigError with every problem."""
    problems = tuple(check(options, name_of(options, command)))
    if problems:
        raise ConfigError(problems)
    name = name_of(options, command)
    objects: list[dict[str, Any]] = []
    if command.files:
        objects.append(_config_map(name, options, command))
    if options.network_policy:
        objects.append(_network_policy(name, options, command))
    objects += _KINDS[options.kind](name, options, command)
    for item in objects:
        if options.namespace:
            item["metadata"]["namespace"] = options.namespace
        if options.queue_name and item["kind"] in {"Job", "CronJob", "JobSet", "RayJob", "RayCronJob"}:
            _queue(item)["kueue.x-k8s.io/queue-name"] = options.queue_name
    return objects


def render(objects: list[dict[str, Any]]) -> str:
    """YAML documents, keys in the order in which people read them."""
    import yaml

    class Plain(yaml.SafeDumper):
        """Writes what stands twice twice: an alias is harder to read than a repeated line."""

        def ignore_aliases(self, data: object) -> bool:
            del data
            return True

    return "---\n".join(yaml.dump(o, Dumper=Plain, sort_keys=False, width=120, allow_unicode=True) for o in objects)


def _queue(item: dict[str, Any]) -> dict[str, str]:
    """Labels of what Kueue sees: of a CronJob, the Jobs it makes."""
    holder = item["spec"]["jobTemplate"] if item["kind"] == "CronJob" else item
    labels: dict[str, str] = holder["metadata"]["labels"]
    return labels


def check(options: KubeOptions, name: str) -> Iterator[Problem]:
    """What Kubernetes or a controller would refuse, or what could never give a result."""
    if options.image is None:
        yield Problem(
            "no container image is named",
            "--image",
            "deploy/Containerfile builds one: `--image REGISTRY/aiperf:VERSION`",
        )
    elif wrong := bad_image(options.image):
        yield Problem(wrong, "--image")
    if wrong := bad_run_name(name):
        yield Problem(wrong, "--name")
    yield from _names(options)
    for quantity, where in ((options.cpu, "--cpu"), (options.memory, "--memory")):
        if wrong := bad_quantity(quantity):
            yield Problem(wrong, where)
    yield from _pairs(options)
    yield from _schedule(options)
    if options.kind == "rayjob" and options.ray_version is None and rayjob.installed_ray() is None:
        yield Problem(
            "the version of Ray in the image is not known",
            "--ray-version",
            "KubeRay refuses a version that is not the image's; give it, for example `--ray-version 2.49.0`",
        )
    if options.port_range and options.port_range != "off" and not _is_port_range(options.port_range):
        yield Problem(
            f"`{options.port_range}` is not a range of ports", "--port-range", "for example `1024 65535`, or `off`"
        )


def _names(options: KubeOptions) -> Iterator[Problem]:
    if options.namespace and (wrong := bad_name(options.namespace)):
        yield Problem(wrong, "--namespace")
    named: tuple[tuple[str, str | None], ...] = (
        ("--service-account", options.service_account),
        ("--priority-class", options.priority_class),
        ("--queue-name", options.queue_name),
        ("--input-pvc", options.input_pvc),
        ("--results-pvc", options.results_pvc),
        *(("--image-pull-secrets", s) for s in options.image_pull_secrets),
    )
    for where, value in named:
        if value is not None and (wrong := bad_object_name(value)):
            yield Problem(wrong, where)


def _pairs(options: KubeOptions) -> Iterator[Problem]:
    for where, texts, has_values in (
        ("--labels", options.labels, True),
        ("--node-selector", options.node_selector, True),
        ("--annotations", options.annotations, False),
        ("--env-vars", options.env_vars, False),
        ("--env-from-secrets", options.env_from_secrets, False),
    ):
        try:
            pairs = key_values(texts)
        except ValueError as error:
            yield Problem(str(error), where)
            continue
        for key, value in pairs.items():
            if not where.startswith("--env") and (wrong := bad_label(key, value if has_values else None)):
                yield Problem(wrong, where)
            if where.startswith("--env") and (wrong := bad_variable(key)):
                yield Problem(wrong, where)
            if where == "--env-vars" and is_secret_name(key):
                yield Problem(
                    f"`{key}` looks like a secret, and a manifest is no place for one",
                    where,
                    f"`--env-from-secrets {key}=SECRET/KEY`",
                )
            if where == "--env-from-secrets":
                yield from _secret(value, where)
    for where, text in (
        ("--api-key-secret", options.api_key_secret),
        ("--hf-token-secret", options.hf_token_secret),
        ("--ca-bundle", options.ca_bundle),
    ):
        if text is not None:
            yield from _secret(text, where)
    for text in options.tolerations:
        try:
            toleration(text)
        except ValueError as error:
            yield Problem(str(error), "--tolerations", "KEY[=VALUE][:EFFECT], for example `dedicated=bench:NoSchedule`")


def _secret(text: str, where: str) -> Iterator[Problem]:
    try:
        secret_key(text)
    except ValueError as error:
        yield Problem(str(error), where)


def _schedule(options: KubeOptions) -> Iterator[Problem]:
    if options.schedule is None:
        if options.time_zone is not None:
            yield Problem("a time zone needs a schedule", "--time-zone", "add `--schedule '0 3 * * *'`")
        return
    if wrong := bad_schedule(options.schedule):
        yield Problem(wrong, "--schedule")
    if options.time_zone is not None and (wrong := bad_time_zone(options.time_zone)):
        yield Problem(wrong, "--time-zone")
    if options.kind == "jobset":
        yield Problem(
            "Kubernetes makes Jobs on a schedule, but no JobSets", "--schedule", "use `--kind job` or `--kind rayjob`"
        )
    if options.results_pvc is None:
        yield Problem(
            "nobody collects the results of a scheduled run, and they would end with the pod",
            "--schedule",
            f"name a volume for them: `--results-pvc CLAIM` (mounted at {RESULTS})",
        )


def _is_port_range(text: str) -> bool:
    parts = text.split()
    return len(parts) == 2 and all(p.isdigit() for p in parts) and 1 <= int(parts[0]) < int(parts[1]) <= 65535


def _config_map(name: str, options: KubeOptions, command: ClusterCommand) -> dict[str, Any]:
    config_map: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-files", "labels": labels_of(name, options)},
    }
    for file, content in command.files.items():
        try:
            config_map.setdefault("data", {})[file] = content.decode("utf-8")
        except UnicodeDecodeError:
            config_map.setdefault("binaryData", {})[file] = base64.b64encode(content).decode("ascii")
    return config_map


def _network_policy(name: str, options: KubeOptions, command: ClusterCommand) -> dict[str, Any]:
    own = {"podSelector": {"matchLabels": {RUN_LABEL: name}}}
    dns = [{"protocol": p, "port": 53} for p in ("UDP", "TCP")]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "labels": labels_of(name, options)},
        "spec": {
            "podSelector": {"matchLabels": {RUN_LABEL: name}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [own]}] if options.generators > 1 or options.kind == "rayjob" else [],
            "egress": [
                {"to": [own]},
                {"ports": dns},
                {"ports": [{"protocol": "TCP", "port": p} for p in command.ports]},
            ],
        },
    }
