"""What a server of HTTP/2 may do to a request besides answering it, frame by frame."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.frame_server import HEADERS, Link, frame, frame_server, goaway, reset, respond
from tests.e2e.runs import MODEL, kinds

from aiperf import Run, profile
from aiperf._core import SimServer
from aiperf.config.resolve import config_from
from aiperf.errors import ErrorKind
from aiperf.web import Access, NotHttpError, Server


def run(url: str, folder: Path, **flags: object) -> Run:
    asked: dict[str, object] = {
        "model": MODEL,
        "url": url,
        "streaming": True,
        "concurrency": 4,
        "isl": 20,
        "osl": 2,
        "tokenizer": "builtin",
        "random_seed": 1,
        "artifact_dir": folder / "run",
        "no_server_metrics": True,
        "calibrate": False,
        "report": False,
        "probe": False,
        "request_count": 12,
        "http_version": "2",
    }
    return profile(config_from(asked | flags))


def test_a_server_of_http2_alone_is_probed_waited_for_and_measured(tmp_path: Path) -> None:
    with frame_server(lambda link, stream: link.send(respond(stream))) as server:
        done = run(server.url, tmp_path, probe=True, wait_for_model_timeout=5)
        asked = sum(len(link.requests) for link in server.links)
    assert kinds(done) == {ErrorKind.OK: 12}
    assert asked > 12
    found = {note.kind for note in done.notes}
    assert "models_unknown" in found
    assert "not_probed" not in found
    assert (done.columns.scalar("bytes_in") > 200).all()


def test_a_question_over_http2_has_an_answer_in_any_pieces_and_a_reason_otherwise() -> None:
    def reply(link: Link, stream: int) -> None:
        if stream > 3:
            link.send(goaway(stream - 2, 11))
            return
        for byte in respond(stream):
            link.send(bytes([byte]))

    with frame_server(reply) as http2:
        server = Server(http2.url, Access(is_http2=True))
        first = server.ask("GET", "/v1/models", timeout_s=5)
        cut = server.ask("POST", "/x", b"{}", timeout_s=5, max_bytes=10)
        assert (first.status, first.headers["content-type"], first.body[:6]) == (200, "text/event-stream", b"data: ")
        assert cut.body == first.body[:10]
        server.close()
    with pytest.raises(OSError, match="refused"):
        server.ask("GET", "/", timeout_s=5)
    with SimServer() as http1, pytest.raises(NotHttpError, match="HTTP/2"):
        Server(http1.url, Access(is_http2=True)).ask("GET", "/", timeout_s=5)


def test_what_a_goaway_leaves_out_is_sent_again_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Four requests on the first connection: the first two are answered, the last two were never processed."""

    def on_request(link: Link, stream: int) -> None:
        if link.number > 0:
            link.send(respond(stream))
        elif len(link.requests) == 4:
            first, second, *_ = link.requests
            link.send(respond(first), goaway(second), respond(second))

    with frame_server(on_request) as server:
        done = run(server.url, tmp_path)
        assert kinds(done) == {ErrorKind.OK: 12}
        assert [len(link.requests) for link in server.links] == [4, 10]
    assert len(np.unique(done.columns.scalar("connection"))) == 2
    facts = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert facts["outcome"]["reconnects"] == 2


def test_a_refused_stream_is_sent_again_and_not_for_ever(tmp_path: Path) -> None:
    seen: dict[int, int] = {}

    def refuse_once(link: Link, stream: int) -> None:
        seen[stream] = 1
        link.send(reset(stream, 7) if len(seen) <= 3 else respond(stream))

    with frame_server(refuse_once) as server:
        assert kinds(run(server.url, tmp_path)) == {ErrorKind.OK: 12}
    with frame_server(lambda link, stream: link.send(reset(stream, 7))) as server:
        done = run(server.url, tmp_path, request_count=2, concurrency=1)
        assert kinds(done) == {ErrorKind.CUT: 2}
        assert sum(len(link.requests) for link in server.links) == 2 * 6
    assert all("REFUSED_STREAM" in str(text) for text in done.columns.strings("error_message"))


@pytest.mark.parametrize(("code", "name"), [(2, "INTERNAL_ERROR"), (8, "CANCEL"), (11, "ENHANCE_YOUR_CALM")])
def test_a_reset_fails_one_request_and_names_the_code(tmp_path: Path, code: int, name: str) -> None:
    def on_request(link: Link, stream: int) -> None:
        if len(link.requests) % 3 == 0:
            link.send(frame(HEADERS, 4, stream, b"\x88"), reset(stream, code))
        else:
            link.send(respond(stream))

    with frame_server(on_request) as server:
        done = run(server.url, tmp_path)
        assert len(server.links) == 1
    assert kinds(done) == {ErrorKind.OK: 8, ErrorKind.CUT: 4}
    messages = [text for text in done.columns.strings("error_message") if text]
    assert len(messages) == 4
    assert all(name in text for text in messages)


def test_a_connection_that_breaks_fails_what_is_on_it_and_the_run_goes_on(tmp_path: Path) -> None:
    def on_request(link: Link, stream: int) -> None:
        if link.number == 0 and len(link.requests) == 4:
            link.send(*(frame(HEADERS, 4, s, b"\x88") for s in link.requests))
            link.socket.close()
        elif link.number > 0:
            link.send(respond(stream))

    with frame_server(on_request) as server:
        done = run(server.url, tmp_path)
    assert kinds(done) == {ErrorKind.OK: 8, ErrorKind.CUT: 4}


def test_nonsense_instead_of_frames_fails_the_requests(tmp_path: Path) -> None:
    with frame_server(lambda link, _: link.send(b"\xff" * 40)) as server:
        done = run(server.url, tmp_path, request_count=4)
    assert set(kinds(done)) <= {ErrorKind.MALFORMED, ErrorKind.CUT}
    assert all("HTTP/2" in str(text) for text in done.columns.strings("error_message"))


def test_the_servers_number_of_streams_opens_more_connections(tmp_path: Path) -> None:
    with frame_server(lambda link, stream: link.send(respond(stream)), settings={3: 2}) as server:
        done = run(server.url, tmp_path, concurrency=6)
        assert kinds(done) == {ErrorKind.OK: 12}
        assert len(server.links) >= 3
    assert (done.columns.scalar("body_sent") >= done.columns.scalar("sent")).all()
