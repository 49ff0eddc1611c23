"""nginx in front of the simulated server: the report names what it does to the responses, and is quiet where it does nothing.

`Server: nginx` is there in any case: the control is quiet but for that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.e2e.runs import Sim, kinds
from tests.plugins.gateways import Gateways

from aiperf import Run
from aiperf.errors import ErrorKind

pytestmark = pytest.mark.gateways

Serve = Callable[..., Sim]
SHAPING = {"whole_responses", "buffered", "joined_chunks", "compressed", "stream_type"}


def buffering(more: str) -> str:
    """What nginx does if nobody tells it otherwise: HTTP/1.0 to the server, so that it cannot see the chunks, and buffers. The
    simulated server asks gateways not to buffer, as real ones do; that is ignored here.
    """
    return (
        "location /v1/ { proxy_pass http://behind; proxy_http_version 1.0; proxy_buffering on; "
        f"proxy_ignore_headers X-Accel-Buffering; {more} }}"
    )


def notices(run: Run) -> dict[str, str]:
    return {n.kind: n.text for n in run.summary().notices}


def ttft_errors_ms(sim: Sim, run: Run) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Measured TTFT minus that of the server's ledger."""
    rows = sim.by_id()
    told = [rows[str(name)] for name in run.columns.strings("request_id")]
    measured = run.columns.scalar("first_content") - run.columns.scalar("sent")
    return np.asarray((measured - np.array([r["first_ns"] - r["received_ns"] for r in told])) / 1e6)


def test_without_buffering_the_gateway_is_named_and_nothing_else(serve: Serve, gateways: Gateways) -> None:
    sim = serve(ttft_ms=40, itl_ms=8)
    front = gateways.nginx(sim.url, location="proxy_buffering off;")
    run = sim.run(url=f"http://{front.address}", request_count=24, osl=16)
    assert kinds(run) == {ErrorKind.OK: 24}
    assert not notices(run).keys() & SHAPING
    assert "server: nginx" in notices(run)["intermediary"]
    assert np.median(np.abs(ttft_errors_ms(sim, run))) < 3


def test_straight_to_the_server_nothing_is_remarked_upon(serve: Serve) -> None:
    sim = serve(ttft_ms=40, itl_ms=8)
    run = sim.run(request_count=24, osl=16)
    assert not notices(run).keys() & (SHAPING | {"intermediary"})


def test_buffering_is_found(serve: Serve, gateways: Gateways) -> None:
    """A response of 3 KB fits nginx's buffers: it is held back to its end, and TTFT is off by the whole decode."""
    sim = serve(ttft_ms=40, itl_ms=8)
    front = gateways.nginx(sim.url, server=buffering("proxy_buffers 8 64k; proxy_buffer_size 64k;"))
    run = sim.run(url=f"http://{front.address}", request_count=24, osl=16)
    assert kinds(run) == {ErrorKind.OK: 24}
    assert "24 of 24 streams arrived in one burst" in notices(run)["buffered"]
    error = ttft_errors_ms(sim, run)
    assert np.median(error) == pytest.approx(15 * 8, abs=30)


def test_small_buffers_make_batches(serve: Serve, gateways: Gateways) -> None:
    sim = serve(ttft_ms=40, itl_ms=4)
    front = gateways.nginx(
        sim.url, server=buffering("proxy_buffers 4 2k; proxy_buffer_size 2k; proxy_busy_buffers_size 4k;")
    )
    run = sim.run(url=f"http://{front.address}", request_count=16, osl=100)
    assert kinds(run) == {ErrorKind.OK: 16}
    assert notices(run).keys() & {"joined_chunks", "buffered"}


def test_compression_is_found_and_undone(serve: Serve, gateways: Gateways) -> None:
    """A gateway that compresses whatever was asked for: `Accept-Encoding` is overwritten with nginx's `gunzip` off."""
    sim = serve(ttft_ms=20, itl_ms=4)
    front = gateways.nginx(
        sim.url,
        location="proxy_buffering off; gzip on; gzip_types text/event-stream; gzip_min_length 1; gzip_proxied any;",
    )
    run = sim.run(url=f"http://{front.address}", request_count=8, osl=8)
    assert kinds(run) == {ErrorKind.OK: 8}
    assert "compressed" not in notices(run), "nginx compresses only for those who accept it: `identity` was asked for"
    forced = sim.run(
        url=f"http://{front.address}",
        request_count=8,
        osl=8,
        header=["Accept-Encoding: gzip"],
        artifact_dir=sim.dir / "forced",
    )
    assert kinds(forced) == {ErrorKind.OK: 8}
    assert "gzip (8)" in notices(forced)["compressed"]
    assert forced.summary().stat("output_sequence_length") == run.summary().stat("output_sequence_length")


def test_a_body_that_is_too_large_is_the_gateways_error(serve: Serve, gateways: Gateways) -> None:
    sim = serve()
    front = gateways.nginx(sim.url, server="client_max_body_size 1k;")
    run = sim.run(url=f"http://{front.address}", request_count=6, isl=2000)
    assert kinds(run) == {ErrorKind.HTTP_STATUS: 6}
    assert set(run.columns.scalar("status")) == {413.0}
    assert "413" in str(run.columns.strings("error_message")[0])


def test_short_keep_alive_costs_no_request(serve: Serve, gateways: Gateways) -> None:
    sim = serve(ttft_ms=5, itl_ms=1)
    front = gateways.nginx(sim.url, server="keepalive_timeout 1s; keepalive_requests 3;")
    run = sim.run(url=f"http://{front.address}", request_count=60, concurrency=4, osl=4)
    assert kinds(run) == {ErrorKind.OK: 60}
