"""Signed requests and SageMaker: a peer that checks signatures with botocore's own code, and answers in AWS's frames."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.e2e.peer import Answer, Asked, answering
from tests.e2e.runs import kinds

from aiperf import Run, profile
from aiperf.config.resolve import config_from
from aiperf.errors import ConfigError, ErrorKind

pytest.importorskip("botocore", reason="the package `botocore` is not installed")

KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "a/token=="
TEXTS = ("one", " two", " three")


def frame(payload: bytes, **names: str) -> bytes:
    """A message of `application/vnd.amazon.eventstream`, by its description."""
    head = b""
    for name, value in names.items():
        key = f":{name.replace('_', '-')}".encode()
        head += bytes([len(key)]) + key + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack(">I", zlib.crc32(message))


def part(payload: bytes) -> bytes:
    return frame(payload, message_type="event", event_type="PayloadPart")


def events(prefix: str) -> bytes:
    rows: list[dict[str, Any]] = [{"choices": [{"delta": {"content": text}}]} for text in TEXTS]
    rows.append(
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}
    )
    return b"".join(f"{prefix}{json.dumps(row)}\n{prefix and chr(10)}".encode() for row in rows)


def framed(text: bytes, size: int) -> bytes:
    """Cut without regard to lines, as the runtime does."""
    return b"".join(part(text[at : at + size]) for at in range(0, len(text), size))


def expected_signature(method: str, url: str, headers: dict[str, str], body: bytes) -> str:
    """What botocore signs with these headers, at their time."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    scope = headers["authorization"].partition("Credential=")[2].partition(",")[0].split("/")
    names = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert scope[0] == KEY
    assert {"host", "content-type", "x-amz-date", "x-amz-security-token"} <= set(names)
    signer = SigV4Auth(Credentials(KEY, SECRET, TOKEN), scope[3], scope[2])
    request = AWSRequest(method=method, url=url, data=body, headers={n: headers[n] for n in names})
    request.context["timestamp"] = headers["x-amz-date"]
    canonical = signer.canonical_request(request)
    return str(signer.signature(signer.string_to_sign(request, canonical), request))


@contextmanager
def peer(replies: Sequence[tuple[str, bytes]]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """(URL, headers of each request with `path`). Request i gets `replies[i % n]`; one that is not signed as botocore does gets 403."""
    seen: list[dict[str, str]] = []

    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            return Answer(status=501, body=b"")
        url = f"http://{asked.headers['host']}{asked.path}"
        signature = expected_signature("POST", url, asked.headers, asked.body)
        is_good = asked.headers.get("authorization", "").endswith(f"Signature={signature}")
        kind, body = replies[len(seen) % len(replies)] if is_good else ("application/json", b'{"message":"no"}')
        seen.append({**asked.headers, "path": urlsplit(asked.path).path})
        return Answer(status=200 if is_good else 403, kind=kind, body=body)

    with answering(answer) as url:
        yield url, seen


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


def run(url: str, folder: Path, **flags: object) -> Run:
    asked: dict[str, object] = {
        "model": "m",
        "url": url,
        "tokenizer": "builtin",
        "isl": 10,
        "osl": 4,
        "request_count": 6,
        "concurrency": 2,
        "artifact_dir": folder / "run",
        "aws_region": "eu-central-1",
        "calibrate": False,
        "report": False,
        **flags,
    }
    return profile(config_from(asked))


STREAM = "application/vnd.amazon.eventstream"


@pytest.mark.parametrize("prefix", ["data: ", ""])
def test_a_stream_of_sagemaker_is_signed_and_read(tmp_path: Path, prefix: str) -> None:
    with peer([(STREAM, framed(events(prefix), 37))]) as (url, seen):
        signed = run(
            f"{url}/endpoints/my%20model/invocations",
            tmp_path,
            streaming=True,
            sagemaker_endpoint_name="my model",
            sagemaker_inference_component_name="part",
            sagemaker_target_variant="blue",
            export_http_trace=True,
            export_level="raw",
        )
    assert signed.exit_code == 0, kinds(signed)
    assert len(seen) == 6
    assert {h["path"] for h in seen} == {"/endpoints/my%20model/invocations-response-stream"}
    assert {h["x-amzn-sagemaker-inference-component"] for h in seen} == {"part"}
    assert {h["x-amzn-sagemaker-target-variant"] for h in seen} == {"blue"}
    assert {h["x-amzn-sagemaker-inference-id"] == h["x-request-id"] for h in seen} == {True}
    assert all("/eu-central-1/sagemaker/aws4_request" in h["authorization"] for h in seen)
    summary = signed.summary()
    assert summary["output_sequence_length"].avg == 3
    assert summary["usage_completion_tokens"].avg == 3
    assert summary["time_to_first_token"].count == 6
    for path in signed.dir.rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            assert TOKEN.encode() not in text, path
            assert SECRET.encode() not in text, path


def test_whole_responses_carry_the_target_model(tmp_path: Path) -> None:
    whole = json.dumps({"choices": [{"message": {"content": "one two three"}, "finish_reason": "stop"}]}).encode()
    with peer([("application/json", whole)]) as (url, seen):
        found = run(url, tmp_path, sagemaker_endpoint_name="e", sagemaker_target_model="a/b.tar.gz")
    assert found.exit_code == 0, kinds(found)
    assert {(h["path"], h["x-amzn-sagemaker-target-model"]) for h in seen} == {
        ("/endpoints/e/invocations", "a/b.tar.gz")
    }


def test_what_the_stream_says_has_failed_is_a_failed_request(tmp_path: Path) -> None:
    begun = framed(events("data: ")[:40], 20)
    failed = frame(b'{"Message":"out of memory"}', message_type="exception", exception_type="ModelStreamError")
    whole = framed(events("data: "), 50)
    replies = [(STREAM, begun + failed), (STREAM, whole[:-9]), (STREAM, whole[:30] + b"x" + whole[31:])]
    with peer(replies) as (url, _):
        signed = run(url, tmp_path, streaming=True, sagemaker_endpoint_name="e", concurrency=1)
    # The second has its end in the frames before the cut; its last frame lacks bytes all the same.
    assert kinds(signed)[ErrorKind.ERROR_IN_REPLY] == 2
    assert kinds(signed)[ErrorKind.MALFORMED] == 2
    assert kinds(signed)[ErrorKind.CUT] == 2
    text = (signed.dir / "profile_export.jsonl").read_text(encoding="utf-8")
    assert "ModelStreamError: " in text
    assert "the checksum of a frame is wrong" in text


def test_another_service_is_signed_by_its_name(tmp_path: Path) -> None:
    whole = json.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}).encode()
    with peer([("application/json", whole)]) as (url, seen):
        found = run(f"{url}/prod", tmp_path, auth_type="sigv4", aws_service="execute-api", endpoint="/chat?b=2&a=1")
    assert found.exit_code == 0, kinds(found)
    assert {h["path"] for h in seen} == {"/prod/chat"}
    assert all("/eu-central-1/execute-api/aws4_request" in h["authorization"] for h in seen)


def test_credentials_that_are_renewed_sign_the_next_requests(tmp_path: Path) -> None:
    from aiperf.run.aws_keys import AwsKeys

    class Source:
        token = "first"

        def get_frozen_credentials(self) -> Any:
            from botocore.credentials import ReadOnlyCredentials

            return ReadOnlyCredentials(KEY, SECRET, self.token)

    source = Source()
    keys = AwsKeys(source)
    assert keys.news() is None
    source.token = "second"
    keys.look()
    renewed = keys.news()
    assert renewed is not None
    assert (renewed.session_token, keys.news()) == ("second", None)
    assert "second" not in repr(renewed)


def test_the_url_follows_from_region_and_name() -> None:
    def urls(**flags: object) -> tuple[str, ...]:
        return config_from({"model": "m", "sagemaker_endpoint_name": "e", **flags}).endpoint.urls

    assert urls(aws_region="us-west-2") == ("https://runtime.sagemaker.us-west-2.amazonaws.com",)
    assert urls(aws_region="cn-north-1") == ("https://runtime.sagemaker.cn-north-1.amazonaws.com.cn",)
    assert urls(aws_region="us-west-2", url="https://h/endpoints/e/invocations") == ("https://h",)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"sagemaker_endpoint_name": "e"}, "needs `--aws-region`"),
        ({"sagemaker_endpoint_name": "e", "aws_region": "h.example#"}, "is not a region"),
        ({"auth_type": "sigv4", "aws_region": "us-west-2"}, "needs `--aws-service`"),
        ({"aws_region": "us-west-2"}, "has no effect without `--auth-type sigv4`"),
        ({"transport": "sagemaker"}, "needs `--sagemaker-endpoint-name`"),
        ({"sagemaker_target_variant": "v"}, "needs `--sagemaker-endpoint-name`"),
        (
            {"sagemaker_endpoint_name": "e", "aws_region": "us-west-2", "http_version": "2"},
            "over HTTP/2 are not signed",
        ),
        ({"sagemaker_endpoint_name": "e", "aws_region": "us-west-2", "probe": True}, "only requests of the load"),
        ({"sagemaker_endpoint_name": "e", "aws_region": "us-west-2", "tokenizer": "server"}, "cannot be `server`"),
        (
            {"sagemaker_endpoint_name": "e", "aws_region": "us-west-2", "header": "Authorization: x"},
            "the signature is the `Authorization` header",
        ),
    ],
)
def test_what_cannot_be_signed_is_said_before_the_load(flags: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        config_from({"model": "m", "tokenizer": "builtin", **flags})


def test_no_credentials_is_said_before_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with peer([("application/json", b"{}")]) as (url, seen), pytest.raises(ConfigError, match="no AWS credentials"):
        run(url, tmp_path, sagemaker_endpoint_name="e")
    assert not seen
