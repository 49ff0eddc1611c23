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


def derive_aws(values: Values, notes: list[str]) -> None:
    """URL, signing and service from `--sagemaker-endpoint-name`; without a signature the server's other paths are not asked."""
    name, region = values["aws.sagemaker_endpoint_name"], values["aws.region"]
    if isinstance(name, str):
        values.default("endpoint.transport", "sagemaker", "--sagemaker-endpoint-name")
        values.default("aws.auth_type", "sigv4", "SageMaker's requests are signed")
        values.default("aws.service", "sagemaker", "SageMaker's signing name")
        if isinstance(region, str) and _REGION.fullmatch(region):
            suffix = next((s for start, s in _SUFFIXES if region.startswith(start)), "amazonaws.com")
            values.default(
                "endpoint.urls", (f"https://runtime.sagemaker.{region}.{suffix}",), "--sagemaker-endpoint-name"
            )
        urls = values["endpoint.urls"]
        if isinstance(urls, tuple):
            values.given["endpoint.urls"] = tuple(_OPERATION.sub("", str(url)) for url in urls)
    if values["aws.auth_type"]:
        values.default("endpoint.probe", False, "only requests of the load are signed")
        values.default("telemetry.no_server_metrics", True, "only requests of the load are signed")
        if values["endpoint.api_key"] is not None:
            notes.append("`--api-key` has no effect with `--auth-type sigv4`: the signature identifies the caller")


def aws_problems(asked: Asked, config: Config) -> Iterator[Problem]:
    aws, e = config.aws, config.endpoint
    is_sagemaker = aws.sagemaker_endpoint_name is not None
    if e.transport == "sagemaker" and not is_sagemaker:
        yield Problem("needs `--sagemaker-endpoint-name`", asked.at("endpoint.transport"))
    if e.transport == "http" and is_sagemaker:
        yield Problem("cannot be combined with `--transport http`", asked.at("aws.sagemaker_endpoint_name"))
    for name in _ROUTING:
        if asked.has(f"aws.{name}") and not is_sagemaker:
            yield Problem("needs `--sagemaker-endpoint-name`", asked.at(f"aws.{name}"))
    if aws.auth_type is None:
        for name in ("region", "profile", "service"):
            if asked.has(f"aws.{name}"):
                yield Problem("has no effect without `--auth-type sigv4`", asked.at(f"aws.{name}"))
        return
    where = asked.at("aws.sagemaker_endpoint_name" if is_sagemaker else "aws.auth_type")
    for name in ("region", "service"):
        if not getattr(aws, name):
            yield Problem(f"needs `{specs()[f'aws.{name}'].shown}`", where)
    if aws.region and not _REGION.fullmatch(aws.region):
        yield Problem(f"`{aws.region}` is not a region such as `us-west-2`", asked.at("aws.region"))
    yield from _unsigned(asked, config, where)


def _unsigned(asked: Asked, config: Config, where: str) -> Iterator[Problem]:
    """What would go out without a signature, or with another one."""
    endpoint = config.endpoint
    if endpoint.http_version == "2":
        yield Problem("requests over HTTP/2 are not signed", asked.at("endpoint.http_version"), "leave it out")
    if any(name.lower() == "authorization" for name, _ in endpoint.headers):
        yield Problem(
            "the signature is the `Authorization` header of each request: it cannot be given as well",
            asked.at("endpoint.headers"),
        )
    unsigned = {
        "endpoint.probe": endpoint.probe,
        "endpoint.wait_for_model_timeout": endpoint.wait_for_model_timeout > 0,
        "endpoint.reset_kv_cache": endpoint.reset_kv_cache,
        "endpoint.server_profiler": endpoint.server_profiler,
    }
    for path in (path for path, is_wanted in unsigned.items() if is_wanted):
        yield Problem(
            "cannot be combined with `--auth-type sigv4`: only requests of the load are signed", asked.at(path)
        )
    if config.tokenizer.name == "server":
        yield Problem("cannot be `server`: only requests of the load are signed", asked.at("tokenizer.name"))
    if config.distributed.generators is not None:
        yield Problem(
            "cannot be combined with `--generators`: credentials are not sent to other machines", where, "use `--part`"
        )
