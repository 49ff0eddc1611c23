"""Every metric again, in plain Python: one loop per metric over rows of literals, written from the contract, not from the code."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence

from tests.unit.metrics.metric_rows import REASONING, Row

Values = list[float | None]


def sure(value: float | None) -> float:
    """A time that the row has."""
    assert value is not None
    return value


def start(r: Row) -> float:
    if r.reused is False and r.started is not None:
        return r.started
    return sure(r.sent if r.sent is not None else r.started)


def finish(r: Row) -> float:
    return r.content[-1].at if r.kind == 0 and r.content else sure(r.end)


def ttft(r: Row) -> float | None:
    return r.content[0].at - start(r) if r.kind == 0 and r.content else None


def latency(r: Row) -> float | None:
    return finish(r) - start(r) if r.kind == 0 else None


def osl(r: Row) -> float | None:
    return None if r.kind or r.output is None else r.output + (r.reasoning or 0)


def itl(r: Row) -> float | None:
    n = osl(r)
    if n is None or n < 2 or ttft(r) is None:
        return None
    return (sure(latency(r)) - sure(ttft(r))) / (n - 1)


def first_tokens(r: Row) -> float | None:
    n = osl(r)
    if n is None or not r.content:
        return None
    return spread(r, n)[0]


def spread(row: Row, tokens: float) -> list[float]:
    """Tokens in each content chunk."""
    total = sum(c.text for c in row.content)
    if not total:
        return [tokens / len(row.content)] * len(row.content)
    if tokens == sum(c.text > 0 for c in row.content):
        return [float(c.text > 0) for c in row.content]
    return [tokens * c.text / total for c in row.content]


def minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def ratio(a: float | None, b: float | None, scale: float = 1.0) -> float | None:
    return None if a is None or not b else a / b * scale


def visible(r: Row) -> float | None:
    return next((c.at for c in r.content if c.kind & 0x7F != REASONING), None)


def gaps(r: Row) -> list[float]:
    return [b.at - a.at for a, b in zip(r.content, r.content[1:], strict=False)] if r.kind == 0 else []


def blocked(r: Row) -> float:
    if r.reused is not False:
        return 0.0
    return max(0.0, sure(r.sent) - sure(r.started) - (r.dns or 0) - (r.connect or 0) - (r.tls or 0))


def connecting(r: Row) -> float:
    return (r.connect or 0.0) + (r.tls or 0.0)


def first_byte(r: Row) -> float | None:
    return r.first_byte if r.first_byte is not None else r.content[0].at if r.content else None


def body_sent(r: Row) -> float | None:
    return r.sent if r.body_sent is None else r.body_sent


def ok(f: Callable[[Row], float | None]) -> Callable[[Row], float | None]:
    return lambda r: f(r) if r.kind == 0 else None


def due(r: Row) -> float | None:
    return r.sent if r.scheduled is None else r.scheduled


REQUEST: dict[str, Callable[[Row], float | None]] = {
    "time_to_first_token": ttft,
    "user_space_time_to_first_token": ok(
        lambda r: minus(r.content[0].at + r.content[0].lag if r.content else None, start(r))
    ),
    "time_to_second_token": lambda r: r.content[1].at - r.content[0].at if r.kind == 0 and len(r.content) > 1 else None,
    "time_to_first_output_token": ok(lambda r: minus(visible(r), start(r))),
    "request_latency": latency,
    "decode_duration": lambda r: minus(latency(r), ttft(r)),
    "inter_token_latency": itl,
    "full_response_inter_token_latency": lambda r: (
        None if itl(r) is None else (sure(r.end) - r.content[0].at) / (sure(osl(r)) - 1)
    ),
    "time_per_decoded_token": lambda r: (
        None
        if first_tokens(r) is None or sure(osl(r)) - sure(first_tokens(r)) < 0.5
        else (sure(latency(r)) - sure(ttft(r))) / (sure(osl(r)) - sure(first_tokens(r)))
    ),
    "output_token_throughput_per_user": lambda r: ratio(1000.0, itl(r)),
    "e2e_output_token_throughput": lambda r: ratio(osl(r), latency(r), 1000),
    "prefill_throughput_per_user": lambda r: ratio(r.isl if r.kind == 0 else None, ttft(r), 1000),
    "output_sequence_length": osl,
    "input_sequence_length": ok(lambda r: r.isl),
    "output_token_count": ok(lambda r: r.output),
    "reasoning_token_count": ok(lambda r: r.reasoning or None),
    "first_chunk_tokens": first_tokens,
    "tokens_per_chunk": lambda r: ratio(osl(r), len(r.content)),
    "osl_mismatch_diff_pct": lambda r: ratio(minus(osl(r), r.requested), r.requested, 100),
    "effective_latency": ok(lambda r: minus(finish(r), due(r))),
    "effective_time_to_first_token": ok(lambda r: minus(r.content[0].at if r.content else None, due(r))),
    "effective_time_to_first_output_token": ok(lambda r: minus(visible(r), due(r))),
    "credit_to_start_latency": lambda r: minus(start(r), due(r)),
    "longest_stall": lambda r: max(gaps(r), default=None),
    "error_isl": lambda r: r.isl if r.kind not in (0, 9, 15, 16) else None,
    "http_req_blocked": ok(blocked),
    "http_req_dns_lookup": ok(lambda r: r.dns or 0.0),
    "http_req_connecting": ok(connecting),
    "http_req_tls_handshaking": ok(lambda r: r.tls),
    "http_req_sending": ok(lambda r: minus(body_sent(r), r.sent)),
    "http_req_waiting": ok(lambda r: minus(first_byte(r), body_sent(r))),
    "http_req_receiving": ok(lambda r: minus(r.end, first_byte(r))),
    "http_req_duration": ok(lambda r: minus(r.end, r.sent)),
    "http_req_connection_overhead": ok(lambda r: blocked(r) + (r.dns or 0.0) + connecting(r)),
    "http_req_total": ok(lambda r: blocked(r) + (r.dns or 0.0) + connecting(r) + sure(r.end) - sure(r.sent)),
    "http_req_data_sent": ok(lambda r: r.bytes_out / 1024),
    "http_req_data_received": ok(lambda r: r.bytes_in / 1024),
    "http_req_chunks_sent": ok(lambda _: 1.0),
    "http_req_chunks_received": ok(lambda r: max(len(r.chunks), 1)),
    "http_req_connection_reused": ok(lambda r: float(bool(r.reused))),
    "usage_prompt_tokens": ok(lambda r: r.usage[0]),
    "usage_completion_tokens": ok(lambda r: r.usage[1]),
    "usage_total_tokens": ok(lambda r: None if None in r.usage[:2] else sure(r.usage[0]) + sure(r.usage[1])),
    "usage_reasoning_tokens": ok(lambda r: r.usage[2]),
    "usage_prompt_cache_read_tokens": ok(lambda r: r.usage[3]),
    "usage_prompt_tokens_diff_pct": ok(
        lambda r: ratio(None if r.usage[0] is None else abs(r.usage[0] - sure(r.isl)), r.isl, 100)
    ),
    "usage_completion_tokens_diff_pct": ok(
        lambda r: ratio(None if r.usage[1] is None or osl(r) is None else abs(r.usage[1] - sure(osl(r))), osl(r), 100)
    ),
    "usage_reasoning_tokens_diff_pct": ok(
        lambda r: ratio(None if r.usage[2] is None else abs(r.usage[2] - (r.reasoning or 0)), r.reasoning, 100)
    ),
}


NETWORK_RTT_MS = 0.15
"""What the latencies are adjusted by; given to a run by `--network-latency-mean`."""


def values(tag: str, rows: Sequence[Row]) -> list[float]:
    """The metric's values over the rows that have one."""
    if tag.startswith("network_adjusted_"):
        found = (REQUEST[tag.removeprefix("network_adjusted_")](r) for r in rows)
        return [max(0.0, v - NETWORK_RTT_MS) for v in found if v is not None]
    return [v for v in (REQUEST[tag](r) for r in rows) if v is not None]


def percentile(numbers: Sequence[float], p: float) -> float:
    """Linear interpolation between order statistics."""
    ordered = sorted(numbers)
    place = p / 100 * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def stats(numbers: Sequence[float]) -> dict[str, float]:
    out = {
        "avg": statistics.fmean(numbers),
        "min": min(numbers),
        "max": max(numbers),
        "std": statistics.pstdev(numbers),
        "sum": math.fsum(numbers),
        "count": float(len(numbers)),
    }
    return out | {f"p{p}": percentile(numbers, p) for p in (1, 5, 10, 25, 50, 75, 90, 95, 99)}


def scalars(rows: Sequence[Row]) -> dict[str, float | None]:
    """Scalars by tag; None where the metric is absent."""
    good = [r for r in rows if r.kind == 0]
    cancelled = [r for r in rows if r.kind in (9, 15, 16)]
    failed = [r for r in rows if r.kind not in (0, 9, 15, 16)]
    seconds = (max(finish(r) for r in good) - min(start(r) for r in good)) / 1000

    def total(tag: str) -> float | None:
        found = values(tag, rows)
        return math.fsum(found) if found else None

    out: dict[str, float | None] = {
        "benchmark_duration": seconds,
        "request_count": len(good),
        "request_throughput": len(good) / seconds,
        "completed_request_count": len(good) + len(failed),
        "request_error_rate": 100 * len(failed) / (len(good) + len(failed)),
        "error_request_count": len(failed) or None,
        "cancelled_request_count": len(cancelled) or None,
        "context_overflow_count": sum(r.kind == 17 for r in rows),
        "total_osl": total("output_sequence_length"),
        "total_isl": total("input_sequence_length"),
        "total_output_tokens": total("output_token_count"),
        "total_reasoning_tokens": total("reasoning_token_count"),
        "total_error_isl": total("error_isl"),
        "output_token_throughput": sure(total("output_sequence_length")) / seconds,
        "input_token_throughput": sure(total("input_sequence_length")) / seconds,
        "total_token_throughput": (sure(total("output_sequence_length")) + sure(total("input_sequence_length")))
        / seconds,
        "osl_mismatch_count": sum(
            abs(sure(osl(r)) - r.requested) > min(0.05 * r.requested, 50)
            for r in good
            if r.requested and osl(r) is not None
        ),
        "missed_length_count": sum(
            abs(made - r.requested) > min(0.05 * r.requested, 50)
            for r in good
            if r.requested and (made := osl(r) if r.usage[1] is None else r.usage[1]) is not None
        ),
        "usage_discrepancy_count": sum(
            any((REQUEST[f"usage_{n}_tokens_diff_pct"](r) or 0) > 10 for n in ("prompt", "completion", "reasoning"))
            for r in good
        ),
    }
    for name in ("prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens", "prompt_cache_read_tokens"):
        out[f"total_usage_{name}"] = total(f"usage_{name}")
    cached, prompt = total("usage_prompt_cache_read_tokens"), total("usage_prompt_tokens")
    out["overall_usage_prompt_cache_read_pct"] = None if cached is None or not prompt else 100 * cached / prompt
    per_token = sorted(sure(latency(r)) / 1000 / sure(osl(r)) for r in good if osl(r))
    for p in (75, 90):
        out[f"e2e_normalized_interactivity_p{p}"] = 1 / quantile(per_token, p / 100) if per_token else None
    return out


def quantile(ordered: Sequence[float], share: float) -> float:
    """By linear interpolation between the two nearest ranks."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def levels(rows: Sequence[Row]) -> list[tuple[float, dict[str, float]]]:
    """(width ms, levels) of each interval between events: every request asked in every interval."""
    sent = list(rows)
    begin, end = min(start(r) for r in sent), max(finish(r) for r in sent)
    times = {begin, end}
    for row in sent:
        times |= {start(row), finish(row)} | ({c.at for c in row.content} if row.kind == 0 else set())
    edges = sorted(t for t in times if begin <= t <= end)
    out: list[tuple[float, dict[str, float]]] = []
    for left, right in itertools.pairwise(edges):
        middle = (left + right) / 2
        level = dict.fromkeys(("concurrency", "prefill", "decode", "prefill_rate", "decode_rate", "tokens"), 0.0)
        for row in sent:
            if not start(row) <= middle < finish(row):
                continue
            level["concurrency"] += 1
            if row.kind:
                continue
            share = spread(row, osl(row) or 0)
            level["tokens"] += sure(row.isl) + sum(s for c, s in zip(row.content, share, strict=True) if c.at <= middle)
            if middle < row.content[0].at:
                level["prefill"] += 1
                level["prefill_rate"] += sure(row.isl) / sure(ttft(row)) * 1000
                continue
            level["decode"] += 1
            stamps = sorted({c.at for c in row.content})
            for low, high in itertools.pairwise(stamps):
                if low <= middle < high:
                    arrived = sum(s for c, s in zip(row.content, share, strict=True) if c.at == high)
                    level["decode_rate"] += arrived / (high - low) * 1000
        out.append((right - left, level))
    return out


def _per(rate: float, users: float) -> float:
    return rate / users if users else 0.0


WEIGHTED: dict[str, Callable[[dict[str, float]], float | None]] = {
    "effective_concurrency": lambda s: s["concurrency"],
    "effective_decode_concurrency": lambda s: s["decode"],
    "effective_prefill_concurrency": lambda s: s["prefill"],
    "effective_decode_throughput": lambda s: s["decode_rate"],
    "effective_prefill_throughput": lambda s: s["prefill_rate"],
    "effective_total_throughput": lambda s: s["prefill_rate"] + s["decode_rate"],
    "effective_decode_throughput_per_user": lambda s: _per(s["decode_rate"], s["decode"]),
    "effective_prefill_throughput_per_user": lambda s: _per(s["prefill_rate"], s["prefill"]),
    "tokens_in_flight": lambda s: s["tokens"],
    "active_decode_throughput": lambda s: s["decode_rate"] if s["decode"] else None,
    "active_prefill_throughput": lambda s: s["prefill_rate"] if s["prefill"] else None,
    "active_decode_throughput_per_user": lambda s: _per(s["decode_rate"], s["decode"]) if s["decode"] else None,
    "active_prefill_throughput_per_user": lambda s: _per(s["prefill_rate"], s["prefill"]) if s["prefill"] else None,
    "active_total_throughput": lambda s: s["prefill_rate"] + s["decode_rate"] if s["prefill"] + s["decode"] else None,
}


def weighted(tag: str, rows: Sequence[Row]) -> dict[str, float]:
    pairs = [(WEIGHTED[tag](level), width) for width, level in levels(rows)]
    used = sorted((v, w) for v, w in pairs if v is not None)
    total = math.fsum(w for _, w in used)
    mean = math.fsum(v * w for v, w in used) / total
    out = {
        "avg": mean,
        "min": used[0][0],
        "max": used[-1][0],
        "std": math.sqrt(math.fsum((v - mean) ** 2 * w for v, w in used) / total),
    }
    for percent in (50, 90, 95, 99):
        passed = 0.0
        for v, w in used:
            passed += w
            if passed / total >= percent / 100 - 1e-12:
                out[f"p{percent}"] = v
                break
    return out
