"""The errors of a run, grouped: code, type and message as AIPerf writes them, and words a person reads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

import numpy as np

from aiperf.errors import ErrorKind
from aiperf.metrics import Bools
from aiperf.metrics.blocks import blocks
from aiperf.number_text import exact
from aiperf.records import Columns

__all__ = [
    "ERROR_TYPES",
    "ERROR_WORDS",
    "ErrorGroup",
    "error_code",
    "error_type",
    "group_errors",
    "merge_similar",
    "success_text",
]

_LONGEST_MESSAGE: Final = 2000
_NUMBER: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}|\d+)")
"""What differs between two cases of one error: counts, and ids of requests."""

ERROR_TYPES: Final[dict[ErrorKind, tuple[int | None, str]]] = {
    ErrorKind.CONNECT: (None, "ClientConnectorError"),
    ErrorKind.TLS: (None, "ClientConnectorSSLError"),
    ErrorKind.TIMEOUT: (None, "TimeoutError"),
    ErrorKind.CUT: (None, "ClientPayloadError"),
    ErrorKind.MALFORMED: (None, "InvalidResponseError"),
    ErrorKind.ERROR_IN_REPLY: (502, "SSEResponseError"),
    ErrorKind.EMPTY_REPLY: (None, "InvalidInferenceResultError"),
    ErrorKind.CANCELLED: (499, "RequestCancellationError"),
    ErrorKind.DNS: (None, "ClientConnectorDNSError"),
    ErrorKind.FD_LIMIT: (None, "TooManyOpenFilesError"),
    ErrorKind.PORT_EXHAUSTED: (None, "PortsExhaustedError"),
    ErrorKind.SEND: (0, "RequestSendError"),
    ErrorKind.CONNECT_TIMEOUT: (0, "RequestSendTimeout"),
    ErrorKind.GRACE: (499, "RequestCancellationError"),
    ErrorKind.INTERRUPTED: (499, "RequestCancellationError"),
    ErrorKind.CONTEXT_OVERFLOW: (400, "ContextOverflowError"),
    ErrorKind.DEPENDENCY: (None, "DependencyError"),
    ErrorKind.TOO_LONG: (None, "ResponseTooLongError"),
}
"""Code and type of the `error` object where the HTTP status does not give them; AIPerf's names where it has one."""

ERROR_WORDS: Final[dict[ErrorKind, str]] = {
    ErrorKind.OK: "ok",
    ErrorKind.CONNECT: "connection failed",
    ErrorKind.TLS: "TLS failed",
    ErrorKind.TIMEOUT: "timed out",
    ErrorKind.HTTP_STATUS: "HTTP error",
    ErrorKind.CUT: "response cut off",
    ErrorKind.MALFORMED: "malformed response",
    ErrorKind.ERROR_IN_REPLY: "error in response",
    ErrorKind.EMPTY_REPLY: "empty response",
    ErrorKind.CANCELLED: "cancelled",
    ErrorKind.DNS: "name not resolved",
    ErrorKind.FD_LIMIT: "too many open files",
    ErrorKind.PORT_EXHAUSTED: "no free port",
    ErrorKind.SEND: "sending failed",
    ErrorKind.CONNECT_TIMEOUT: "connecting timed out",
    ErrorKind.GRACE: "cut off by the grace period",
    ErrorKind.INTERRUPTED: "interrupted",
    ErrorKind.CONTEXT_OVERFLOW: "context length exceeded",
    ErrorKind.DEPENDENCY: "earlier turn failed",
    ErrorKind.TOO_LONG: "response too long",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorGroup:
    """Failed requests with one kind, code and message. `words`: the kind, or `HTTP 503` for plain status errors."""

    kind: ErrorKind
    code: int | None
    type: str
    message: str
    count: int

    @property
    def words(self) -> str:
        return f"HTTP {self.code}" if self.kind is ErrorKind.HTTP_STATUS and self.code else ERROR_WORDS[self.kind]


def _failing(kind: ErrorKind, status: int | None) -> int | None:
    """The status, if it is what failed the request: as a redirect that is not followed. A 2xx with an error inside it is none."""
    if not status or kind not in (ErrorKind.HTTP_STATUS, ErrorKind.CONTEXT_OVERFLOW):
        return None
    return None if 200 <= status < 300 else status


def error_code(kind: ErrorKind, status: int | None) -> int | None:
    """The HTTP status of a refused request, else the kind's code."""
    return _failing(kind, status) or ERROR_TYPES.get(kind, (None, ""))[0]


def error_type(kind: ErrorKind, status: int | None) -> str:
    """The reason phrase of a refused request, else the kind's type."""
    failing = _failing(kind, status)
    if failing is not None:
        try:
            return HTTPStatus(failing).phrase
        except ValueError:
            return f"HTTP {failing}"
    return ERROR_TYPES.get(kind, (None, "HTTPError"))[1]


def group_errors(columns: Columns, mask: Bools) -> tuple[ErrorGroup, ...]:
    """Rows of `mask` grouped by kind, code and message, largest group first."""
    index = np.flatnonzero(mask)
    if not len(index):
        return ()
    kinds, statuses = columns.scalar("error_kind"), columns.scalar("status")
    texts = columns.strings("error_message")
    counted = Counter[tuple[int, int, str]]()
    # A loop over failed requests only: messages are Python strings in any case.
    for part in blocks(len(index)):
        rows = index[part]
        counted.update(
            (int(kind), int(status) if status == status else 0, (texts[row] or "")[:_LONGEST_MESSAGE])  # noqa: PLR0124
            for row, kind, status in zip(rows.tolist(), kinds[rows].tolist(), statuses[rows].tolist(), strict=True)
        )
    groups = [
        ErrorGroup(
            kind=ErrorKind(kind),
            code=error_code(ErrorKind(kind), status),
            type=error_type(ErrorKind(kind), status),
            message=message or ERROR_WORDS[ErrorKind(kind)],
            count=count,
        )
        for (kind, status, message), count in counted.items()
    ]
    return tuple(sorted(groups, key=lambda g: (-g.count, g.kind, g.message)))


def merge_similar(groups: Sequence[ErrorGroup]) -> tuple[ErrorGroup, ...]:
    """Groups whose messages differ in numbers or ids only as one, with `…` where they differ, largest first. For people: files
    keep each message.
    """
    similar: dict[tuple[ErrorKind, int | None, tuple[str, ...]], list[ErrorGroup]] = {}
    for g in groups:
        similar.setdefault((g.kind, g.code, tuple(_NUMBER.split(g.message)[::2])), []).append(g)
    merged = []
    for same in similar.values():
        places = zip(*(_NUMBER.split(g.message) for g in same), strict=True)
        message = "".join(found[0] if len(set(found)) == 1 else "…" for found in places)
        merged.append(replace(same[0], message=message, count=sum(g.count for g in same)))
    return tuple(sorted(merged, key=lambda g: (-g.count, g.kind, g.message)))


def success_text(ok: int, groups: Sequence[ErrorGroup]) -> str:
    """`Success Rate: 95.8% (75 errors: 75 context length exceeded)`; `–` if no request came to an end."""
    failed = sum(g.count for g in groups)
    if ok + failed == 0:
        return "Success Rate: –"
    share = 100 * ok / (ok + failed)
    digits = 1
    # 99.96 % is not 100.0 %: more digits until it no longer looks perfect.
    while failed and ok and digits < 9 and float(f"{share:.{digits}f}") in (0.0, 100.0):
        digits += 1
    text = exact(share) if share in (0.0, 100.0) else f"{share:.{digits}f}"
    words = Counter[str]()
    for group in groups:
        words[group.words] += group.count
    parts = ", ".join(f"{count:,} {word}" for word, count in words.most_common())
    noun = "error" if failed == 1 else "errors"
    return f"Success Rate: {text}% ({failed:,} {noun}{': ' + parts if parts else ''})"
