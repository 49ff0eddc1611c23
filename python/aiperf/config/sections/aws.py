"""Section `aws`: requests that AWS authenticates, and models behind SageMaker."""

from __future__ import annotations

from typing import Annotated, Literal

from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["AwsConfig"]

_GROUP = "AWS"


class AwsConfig(Section):
    """Signed requests (Signature Version 4). Credentials are botocore's: environment, profiles, roles. None is an option."""

    auth_type: Annotated[
        Literal["sigv4"] | None,
        Flag(
            "--auth-type",
            help="Sign each request with AWS Signature Version 4 (needs `aiperf[aws]`) instead of sending an API key",
            group=_GROUP,
        ),
    ] = None
    region: Annotated[
        str | None, Flag("--aws-region", help="AWS region of signed requests, for example us-east-1", group=_GROUP)
    ] = None
    profile: Annotated[
        str | None,
        Flag("--aws-profile", help="Profile of the AWS credentials; default: botocore's own search", group=_GROUP),
    ] = None
    service: Annotated[
        str | None,
        Flag(
            "--aws-service",
            help="Signing name of the AWS service: bedrock, execute-api, …; default for SageMaker endpoints: sagemaker",
            group=_GROUP,
        ),
    ] = None
    sagemaker_endpoint_name: Annotated[
        str | None,
        Flag(
            "--sagemaker-endpoint-name",
            help="SageMaker endpoint to invoke: sets URL and path, and signs the requests",
            group=_GROUP,
            metavar="NAME",
        ),
    ] = None
    sagemaker_target_model: Annotated[
        str | None,
        Flag(
            "--sagemaker-target-model",
            help="Model of a multi-model SageMaker endpoint; not sent with --streaming",
            group=_GROUP,
        ),
    ] = None
    sagemaker_inference_component_name: Annotated[
        str | None,
        Flag(
            "--sagemaker-inference-component-name", help="Inference component of the SageMaker endpoint", group=_GROUP
        ),
    ] = None
    sagemaker_target_variant: Annotated[
        str | None,
        Flag(
            "--sagemaker-target-variant",
            help="Production variant of the SageMaker endpoint that all requests go to",
            group=_GROUP,
        ),
    ] = None
