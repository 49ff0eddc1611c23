"""Signed requests and SageMaker: what follows from their options, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aiperf.config.model import Config, specs
from aiperf.config.option_values import Values
from aiperf.config.rules import Asked
from aiperf.errors import Problem

__all__ = ["aws_problems", "derive_aws"]

_REGION = re.compile(r"[a-z]+(-[a-z]+)+-[0-9]+")
_OPERATION = re.compile(r"/endpoints/[^/]+/invocations(-response-stream)?/?$")
"""What a URL copied from the console ends in; which of the two is called follows from `--streaming`."""
_ROUTING = ("sagemaker_target_model", "sagemaker_inference_component_name", "sagemaker_target_variant")
_SUFFIXES = (("cn-", "amazonaws.com.cn"), ("eusc-", "amazonaws.eu"))
"""Ends of host names outside the `aws` partition, by the beginning of the region; the others end in `amazonaws.com`."""


def derive_aws(v: Values, notes: list[str]) -> None:
    """URL, signing and service from `--sagemaker-endpoint-name`; without a signature the server's other paths are not asked."""
    name, region = v["aws.sagemaker_endpoint_name"], v["aws.region"]
    if isinstance(name, str):
        v.default("endpoint.transport", "sagemaker", "--sagemaker-endpoint-name")
        v.default("aws.auth_type", "sigv4", "SageMaker's requests are signed")
        v.default("aws.service", "sagemaker", "SageMaker's signing name")
        if isinstance(region, str) and _REGION.fullmatch(region):
            suffix = next((s for start, s in _SUFFIXES if region.startswith(start)), "amazonaws.com")
            v.default("endpoint.urls", (f"https://runtime.sagemaker.{region}.{suffix}",), "--sagemaker-endpoint-name")
        urls = v["endpoint.urls"]
        if isinstance(urls, tuple):
            v.given["endpoint.urls"] = tuple(_OPERATION.sub("", str(url)) for url in urls)
    if v["aws.auth_type"]:
        v.default("endpoint.probe", False, "only requests of the load are signed")
        v.default("telemetry.no_server_metrics", True, "only requests of the load are signed")
        if v["endpoint.api_key"] is not None:
            notes.append("`--api-key` has no effect with `--auth-type sigv4`: the signature identifies the caller")


def aws_problems(f: Asked, c: Config) -> Iterator[Problem]:
    a, e = c.aws, c.endpoint
    is_sagemaker = a.sagemaker_endpoint_name is not None
    if e.transport == "sagemaker" and not is_sagemaker:
        yield Problem("needs `--sagemaker-endpoint-name`", f.at("endpoint.transport"))
    if e.transport == "http" and is_sagemaker:
        yield Problem("cannot be combined with `--transport http`", f.at("aws.sagemaker_endpoint_name"))
    for name in _ROUTING:
        if f.has(f"aws.{name}") and not is_sagemaker:
            yield Problem("needs `--sagemaker-endpoint-name`", f.at(f"aws.{name}"))
    if a.auth_type is None:
        for name in ("region", "profile", "service"):
            if f.has(f"aws.{name}"):
                yield Problem("has no effect without `--auth-type sigv4`", f.at(f"aws.{name}"))
        return
    where = f.at("aws.sagemaker_endpoint_name" if is_sagemaker else "aws.auth_type")
    for name in ("region", "service"):
        if not getattr(a, name):
            yield Problem(f"needs `{specs()[f'aws.{name}'].shown}`", where)
    if a.region and not _REGION.fullmatch(a.region):
        yield Problem(f"`{a.region}` is not a region such as `us-west-2`", f.at("aws.region"))
    yield from _unsigned(f, c, where)


def _unsigned(f: Asked, c: Config, where: str) -> Iterator[Problem]:
    """What would go out without a signature, or with another one."""
    e = c.endpoint
    if e.http_version == "2":
        yield Problem("requests over HTTP/2 are not signed", f.at("endpoint.http_version"), "leave it out")
    if any(name.lower() == "authorization" for name, _ in e.headers):
        yield Problem(
            "the signature is the `Authorization` header of each request: it cannot be given as well",
            f.at("endpoint.headers"),
        )
    asked = {
        "endpoint.probe": e.probe,
        "endpoint.wait_for_model_timeout": e.wait_for_model_timeout > 0,
        "endpoint.reset_kv_cache": e.reset_kv_cache,
        "endpoint.server_profiler": e.server_profiler,
    }
    for path in (path for path, is_wanted in asked.items() if is_wanted):
        yield Problem("cannot be combined with `--auth-type sigv4`: only requests of the load are signed", f.at(path))
    if c.tokenizer.name == "server":
        yield Problem("cannot be `server`: only requests of the load are signed", f.at("tokenizer.name"))
    if c.distributed.generators is not None:
        yield Problem(
            "cannot be combined with `--generators`: credentials are not sent to other machines", where, "use `--part`"
        )
