"""The whole way from the socket: a stream gives the same record however its bytes are cut, plain and under TLS."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.e2e.pieces import Script, cut, serve_pieces

from aiperf import Run, profile
from aiperf.config.resolve import config_from

BODY = b"".join(
    [
        b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n',
        b": keep-alive\n\n",
        b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"Hm. "}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"Gr\\u00fc\\u00dfe"}}]}\n\n',
        'data: {"choices":[{"index":0,"delta":{"content":", 世界"}}]}\r\n\r\n'.encode(),
        b'data: {"choices":[{"index":0,"delta":{"content":"!\\n"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":9}}\n\n',
        b"data: [DONE]\n\n",
    ]
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
REPLIES = [
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
]


def measure(url: str, directory: Path, count: int, **flags: Any) -> Run:
    return profile(
        config_from(
            model="m",
            url=url,
            streaming=True,
            concurrency=1,
            request_count=count,
            isl=20,
            tokenizer="builtin",
            artifact_dir=directory / "run",
            probe=False,
            export_level="raw",
            no_server_metrics=True,
            report=False,
            calibrate=False,
            **flags,
        )
    )


def check(run: Run, count: int) -> None:
    columns = run.columns
    assert columns.num_rows == count
    assert not columns.scalar("error_kind").any(), columns.strings("error_message")
    assert set(columns.strings("text")) == {"Grüße, 世界!\n"}
    assert set(columns.strings("reasoning")) == {"Hm. "}
    assert set(columns.strings("finish_reason")) == {"stop"}
    assert set(columns.scalar("usage_completion")) == {9.0}
    assert set(columns.scalar("num_content_chunks")) == {4.0}
    for batch in columns.batches():
        kinds = (batch.chunk_kind & 0x7F).reshape(count, -1)
        assert kinds.tolist() == [[4, 2, 1, 1, 1, 4, 5]] * count
        for column in (batch.chunk_bytes, batch.chunk_text_bytes):
            assert np.unique(column.reshape(count, -1), axis=0).shape[0] == 1
        stamps = batch.chunk_ns.reshape(count, -1)
        assert (np.diff(stamps, axis=1) >= 0).all()


CUTS = st.lists(st.lists(st.integers(0, len(REPLIES[0])), max_size=40), min_size=12, max_size=12)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=CUTS, framing=st.sampled_from(REPLIES))
def test_cuts_do_not_matter(tmp_path: Path, cuts: list[list[int]], framing: bytes) -> None:
    script = Script(replies=[cut(framing, at) for at in cuts])
    with serve_pieces(script):
        check(measure(f"http://127.0.0.1:{script.port}", tmp_path, len(cuts)), len(cuts))
    assert script.served == len(cuts)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=CUTS, framing=st.sampled_from(REPLIES))
def test_cuts_do_not_matter_under_tls(
    tmp_path: Path, certificate: tuple[Path, Path, Path], cuts: list[list[int]], framing: bytes
) -> None:
    authority, cert, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    script = Script(replies=[cut(framing, at) for at in cuts])
    with serve_pieces(script, context):
        run = measure(f"https://127.0.0.1:{script.port}", tmp_path, len(cuts), ca_file=authority)
        check(run, len(cuts))


@pytest.mark.parametrize("framing", REPLIES)
def test_byte_by_byte(tmp_path: Path, framing: bytes) -> None:
    script = Script(replies=[[framing[i : i + 1] for i in range(len(framing))]])
    with serve_pieces(script):
        check(measure(f"http://127.0.0.1:{script.port}", tmp_path, 3), 3)
