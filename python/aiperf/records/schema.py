"""Record schema v1: the columns of `records.parquet` and of the journal (`docs/dev/2026-11-24-border.md`).

One row per request. Times are int64 ns since run start on a monotonic clock; `start_wall_ns` in the file's metadata (key `aiperf`,
JSON) is the wall clock at run time 0. Null means it did not happen or is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["COLUMNS", "JOURNAL_DIR", "PARTS_DIR", "PARTS_FILE", "RECORDS_FILE", "SCHEMA_VERSION", "RecordColumn"]

SCHEMA_VERSION: Final = 1
JOURNAL_DIR: Final = "journal"
RECORDS_FILE: Final = "records.parquet"
PARTS_FILE: Final = "parts.json"
"""Names the records of the parts of a run, until they are one file (`crates/records/src/parts.rs`)."""
PARTS_DIR: Final = "parts"
"""Records of generators, as they come in."""

Where = Literal["", "end", "raw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordColumn:
    """`kept`: "" in journal and Parquet; "end" filled after the load, Parquet only; "raw" in Parquet only with `--export-level raw`."""

    name: str
    dtype: str
    meaning: str
    is_nullable: bool = False
    kept: Where = ""


def _null(name: str, dtype: str, meaning: str, kept: Where = "") -> RecordColumn:
    return RecordColumn(name=name, dtype=dtype, meaning=meaning, is_nullable=True, kept=kept)


def _time(name: str, meaning: str) -> RecordColumn:
    return _null(name, "int64", meaning)


COLUMNS: Final = (
    RecordColumn(name="phase", dtype="uint8", meaning="index of the phase"),
    RecordColumn(name="worker", dtype="uint16", meaning="worker thread that ran it"),
    RecordColumn(name="connection", dtype="uint32", meaning="connection, numbered per worker"),
    RecordColumn(name="url", dtype="uint16", meaning="index of the URL"),
    RecordColumn(name="model", dtype="uint16", meaning="index of the model"),
    RecordColumn(name="session", dtype="uint32", meaning="row of the session in the plan"),
    RecordColumn(name="session_num", dtype="uint64", meaning="order of issue, unique per run and phase"),
    RecordColumn(name="turn", dtype="uint16", meaning="turn within the session, from 0"),
    RecordColumn(name="request", dtype="uint64", meaning="order of sending within the run"),
    RecordColumn(name="request_id", dtype="uuid", meaning="sent as X-Request-ID"),
    RecordColumn(
        name="correlation_id", dtype="uuid", meaning="sent as X-Correlation-ID, the same for all turns of a session"
    ),
    _time("scheduled", "when it should have been sent"),
    _time("started", "work on it began: connect or send"),
    _time("sent", "first byte written"),
    _time("body_sent", "last byte written"),
    _time("headers", "response's headers complete"),
    _time("first_byte", "first byte of the response"),
    _time("first_content", "first text, reasoning or tool data: kernel stamp where there is one"),
    _time("first_content_user", "the same, user-space stamp"),
    _time("first_output", "first content that is not reasoning"),
    _time("last_content", "last text, reasoning or tool data"),
    _time("end", "response complete, or given up"),
    _time("cancelled_at", "cancelled on purpose"),
    RecordColumn(name="chunk_ns", dtype="list<int64>", meaning="arrival of each event"),
    RecordColumn(
        name="chunk_lag_ns", dtype="list<int32>", meaning="user-space minus kernel stamp, ns; 0 without kernel stamp"
    ),
    RecordColumn(name="chunk_bytes", dtype="list<uint32>", meaning="bytes of each event"),
    RecordColumn(name="chunk_text_bytes", dtype="list<uint32>", meaning="UTF-8 bytes of text in each event"),
    RecordColumn(
        name="chunk_kind",
        dtype="list<uint8>",
        meaning="1 content, 2 reasoning, 3 tool, 4 role or empty, 5 usage, 6 other; bit 7: merged, its stamp is an upper bound",
    ),
    RecordColumn(name="stamp_source", dtype="uint8", meaning="0 user space, 1 kernel"),
    RecordColumn(name="merged", dtype="uint32", meaning="merged chunks"),
    RecordColumn(name="num_chunks", dtype="uint32", meaning="chunks"),
    RecordColumn(name="num_content_chunks", dtype="uint32", meaning="chunks of kinds 1 to 3"),
    _time("dns_ns", "duration of the name lookup; null when reused"),
    _time("connect_ns", "duration of the TCP connect; null when reused"),
    _time("tls_ns", "duration of the TLS handshake; null when reused or plain"),
    RecordColumn(name="reused", dtype="bool", meaning="the connection was open already"),
    RecordColumn(
        name="capped", dtype="bool", meaning="it had to wait at the user's own cap (concurrency, prefill concurrency)"
    ),
    RecordColumn(
        name="resent",
        dtype="bool",
        meaning="sent a second time, on a new connection: the server had closed the kept one",
    ),
    _null("status", "uint16", "HTTP status"),
    RecordColumn(name="error_kind", dtype="uint8", meaning="0 ok, else `aiperf.errors.ErrorKind`"),
    _null("error_message", "utf8", "what the server or the system said"),
    RecordColumn(name="cancelled", dtype="bool", meaning="cancelled on purpose"),
    RecordColumn(name="bytes_out", dtype="uint64", meaning="bytes written, headers included"),
    RecordColumn(name="bytes_in", dtype="uint64", meaning="bytes read, headers included"),
    _null("isl", "uint32", "planned input tokens"),
    _null("requested_osl", "uint32", "output tokens asked for"),
    _null("usage_prompt", "uint32", "the server's count of prompt tokens"),
    _null("usage_completion", "uint32", "the server's count of completion tokens"),
    _null("usage_reasoning", "uint32", "the server's count of reasoning tokens"),
    _null("usage_cached", "uint32", "the server's count of cached prompt tokens"),
    _null("counted_output", "uint32", "tokens counted in text and tool calls", "end"),
    _null("counted_reasoning", "uint32", "tokens counted in reasoning", "end"),
    _null("finish_reason", "utf8", "as sent"),
    _null("text", "large_utf8", "text of the response", "raw"),
    _null("reasoning", "large_utf8", "reasoning of the response", "raw"),
    _null("tool", "large_utf8", "names and arguments of tool calls", "raw"),
    _time("rtt_ns", "the smallest round trip the kernel saw on the connection, a duration"),
    _null("usage_json", "utf8", "the usage object as sent"),
    _null("first_chunk_usage", "uint32", "completion tokens by the usage that the first content chunk itself carried"),
    RecordColumn(
        name="is_whole",
        dtype="bool",
        meaning="a stream was asked for, a whole response came: its first token has no timestamp",
    ),
    _null("http_chunks", "uint32", "chunks of HTTP's chunked transfer coding; null if the body was not chunked"),
    _null(
        "content_type", "utf8", "content type of a response to a request for a stream, if it is not text/event-stream"
    ),
    _null("content_encoding", "utf8", "how the body was compressed although `identity` was asked for"),
    _null("intermediary", "utf8", "headers that servers in between leave: via, server, x-cache, …"),
    _null("http_trace", "large_utf8", "what went over the wire, and when (--export-http-trace), as a JSON object"),
    _time("server_queue_ns", "how long the server says it let the request wait, a duration"),
    _time("server_prefill_ns", "how long the server says it computed the prompt, a duration"),
    _time("server_decode_ns", "how long the server says it made tokens, a duration"),
    _time("server_total_ns", "how long the server says all of it took, a duration"),
    _time("server_arrival", "when the request arrived by the server's clock, from its span"),
    RecordColumn(
        name="server_source", dtype="uint8", meaning="where these are from: 0 nowhere, 1 response, 2 headers, 3 spans"
    ),
    _null("generator", "uint16", "index of the generator that sent it, if several shared the load"),
    _null("speculation_json", "utf8", "what the server says of its speculative decoding, as sent"),
)
