"""The native pass over chunks finds what numpy finds, whatever the rows, kinds, clocks and batches."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.unit.metrics.chunk_reference import ContentPiece, content_pieces, flow_steps

from aiperf import _core
from aiperf.metrics import Floats
from aiperf.metrics.chunks import GapPool, scan, scan_rows
from aiperf.metrics.stats import compute_stats
from aiperf.records import ChunkBatch, Columns

KINDS = [1, 1, 1, 2, 3, 4, 5, 6, 0, 0x81, 0x82, 0x84]


@st.composite
def runs(draw: st.DrawFn) -> tuple[Columns, np.ndarray, Floats]:
    """Columns in one to three batches, the rows that count, their tokens (NaN: unknown). Timestamps may repeat, and go back."""
    counts = draw(st.lists(st.integers(0, 7), min_size=1, max_size=12))
    total = sum(counts)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    steps = draw(hnp.arrays(np.int64, total, elements=st.sampled_from([0, 0, 1, 500, 10**6, 3 * 10**9, 5 * 10**9, -7])))
    ns = np.cumsum(steps) + 10**6
    kind = draw(hnp.arrays(np.uint8, total, elements=st.sampled_from(KINDS)))
    text = draw(hnp.arrays(np.uint32, total, elements=st.sampled_from([0, 0, 1, 4, 1000])))
    lag = draw(hnp.arrays(np.int32, total, elements=st.integers(-10, 10**6)))
    cuts = [0, *sorted(draw(st.lists(st.integers(0, len(counts)), max_size=2))), len(counts)]
    batches = []
    for row, stop in itertools.pairwise(cuts):
        lo, hi = offsets[row], offsets[stop]
        own = offsets[row : stop + 1] - lo
        batches.append(ChunkBatch.of(row, (own, ns[lo:hi], lag[lo:hi], text[lo:hi], text[lo:hi], kind[lo:hi])))
    keep = draw(hnp.arrays(np.bool_, len(counts)))
    tokens = draw(hnp.arrays(np.float64, len(counts), elements=st.sampled_from([np.nan, 0.0, 1.0, 7.0, 500.0])))
    return Columns.from_arrays({"session": np.arange(len(counts))}, tuple(batches)), keep, tokens


def pieces_of(run: tuple[Columns, np.ndarray, Floats]) -> list[ContentPiece]:
    return list(content_pieces(*run))


def joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *arrays])


@settings(deadline=None)
@given(runs())
def test_facts_per_row_are_those_of_numpy(run: tuple[Columns, np.ndarray, Floats]) -> None:
    columns, keep, tokens = run
    facts = scan_rows(columns, keep, row_tokens=tokens).rows
    second, longest, share = (np.full(columns.num_rows, np.nan) for _ in range(3))
    worst: list[tuple[int, int, int]] = []
    for piece in pieces_of(run):
        for row, begin, end in zip(piece.rows, piece.offsets, piece.offsets[1:], strict=False):
            stamps, text = piece.stamps[begin:end], piece.text_bytes[begin:end]
            share[row] = text[0] / text.sum() if text.sum() else 1 / len(text)
            if len(stamps) > 1:
                gaps = np.diff(stamps)
                second[row], longest[row] = stamps[1], gaps.max()
                worst.append((int(gaps.max()), int(row), int(stamps[gaps.argmax()])))
    np.testing.assert_array_equal(facts.second_content, second)
    np.testing.assert_array_equal(facts.longest_gap, longest)
    np.testing.assert_array_equal(facts.first_share, share)
    found = facts.longest
    assert (None if found is None else (found.gap, found.row, found.begin)) == max(
        worst, key=lambda one: (one[0], -one[1]), default=None
    )
    assert facts.merged == sum(int(p.merged.sum()) for p in pieces_of(run))
    assert facts.chunks == sum(len(p.stamps) for p in pieces_of(run))


@settings(deadline=None)
@given(runs(), st.sampled_from([None, 3, 10**6]))
def test_gaps_are_those_of_numpy(run: tuple[Columns, np.ndarray, Floats], limit: int | None) -> None:
    columns, keep, _ = run
    gaps = joined([p.gaps for p in pieces_of(run)])
    pool = GapPool(exact_limit=10**6 if limit is None else limit, threshold_ns=1_000_000)
    lists = _core.GapLists(columns.num_rows, 1e6)
    scan(columns, keep, [pool.sink, lists])
    values, offsets = lists.take()
    np.testing.assert_array_equal(values, gaps / 1e6)
    counts = np.zeros(columns.num_rows, dtype=np.int64)
    for piece in pieces_of(run):
        counts[piece.rows] = piece.counts - 1
    np.testing.assert_array_equal(np.diff(offsets), counts)
    stats, expected = pool.stats(1.0), compute_stats(gaps)
    assert pool.over_threshold == (gaps > 1_000_000).sum()
    if expected is None or stats is None:
        assert stats is expected
        return
    assert (stats.count, stats.sum) == (expected.count, expected.sum)
    assert stats.min == expected.min
    assert stats.avg == pytest.approx(expected.avg, rel=1e-12)
    assert stats.max == max(expected.max or 0, 0)
    assert stats.std == pytest.approx(expected.std, rel=1e-9, abs=1e-3)
    edges = [0.0, 1.0, 2.0, 1e6, 4e9, 2.0**32, 1e10, np.inf]
    if pool.sink.is_exact:
        assert stats.percentiles == expected.percentiles
        between = [int(((gaps >= lo) & (gaps < hi)).sum()) for lo, hi in itertools.pairwise(edges)]
        assert pool.counts_between(edges) == between
    else:
        assert sum(pool.counts_between(edges)) == len(gaps)


@settings(deadline=None)
@given(runs())
def test_steps_of_the_rate_are_those_of_numpy_one_by_one_and_in_cells(run: tuple[Columns, np.ndarray, Floats]) -> None:
    columns, keep, tokens = run
    exact, cells = _core.Flow(0.0, 1e9), _core.Flow(0.0, 1e9, 64)
    scan(columns, keep, [exact, cells], tokens)
    times, rates, arrived = exact.take_steps()
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = [flow_steps(p) for p in pieces_of(run)]
    np.testing.assert_array_equal(times, joined([t for t, _, _ in expected]))
    # Shares of tokens are added up in another order there: equal but for the last bits.
    np.testing.assert_allclose(rates, joined([r for _, r, _ in expected]), rtol=1e-12)
    np.testing.assert_allclose(arrived, joined([a for _, _, a in expected]), rtol=1e-12)
    added = cells.cells()
    assert added is not None
    for (steps, rest), own in zip(added, (rates, arrived), strict=True):
        position = np.clip(times * (64 / 1e9), 0, 64)
        cell = np.minimum(position.astype(np.int64), 63)
        np.testing.assert_allclose(steps, np.bincount(cell, own, 64), rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(rest, np.bincount(cell, own * (cell + 1 - position), 64), rtol=1e-9, atol=1e-6)


@settings(deadline=None)
@given(runs(), st.integers(1, 10**9), st.integers(1, 5))
def test_windows_are_those_of_numpy(run: tuple[Columns, np.ndarray, Floats], width: int, num: int) -> None:
    columns, keep, tokens = run
    edges = 10**6 + width * np.arange(num + 1, dtype=np.int64)
    edges[-1] -= width // 3
    exact, binned = _core.WindowGaps(edges, True), _core.WindowGaps(edges, False)
    curve = _core.TokenCurve(edges.astype(np.float64))
    scan(columns, keep, [exact, binned, curve], tokens)
    by_window, by_curve = np.zeros(num), np.zeros(num)
    places: dict[str, list[np.ndarray]] = defaultdict(list)
    for piece in pieces_of(run):
        inside = (piece.stamps >= edges[0]) & (piece.stamps <= edges[-1])
        window = np.minimum((piece.stamps - edges[0]) // width, num - 1)
        by_window += np.bincount(window[inside], piece.tokens[inside], num)
        by_curve += np.bincount(np.searchsorted(edges[1:-1], piece.stamps, side="right"), piece.tokens, num)
        later = np.delete(inside, piece.offsets[:-1])
        places["window"].append(np.delete(window, piece.offsets[:-1])[later])
        places["gap"].append(piece.gaps[later])
    np.testing.assert_allclose(exact.tokens(), by_window, atol=1e-9)
    np.testing.assert_allclose(curve.tokens(), by_curve, atol=1e-9)
    index, gaps = exact.take_gaps()
    np.testing.assert_array_equal(index, joined(places["window"]))
    np.testing.assert_array_equal(gaps, joined(places["gap"]))
    bins = binned.take_bins().reshape(num, _core.WindowGaps.num_bins())
    np.testing.assert_array_equal(bins.sum(axis=1), np.bincount(index.astype(np.int64), minlength=num))


@settings(deadline=None)
@given(runs())
def test_pictures_are_those_of_numpy(run: tuple[Columns, np.ndarray, Floats]) -> None:
    columns, keep, _ = run
    rows = np.arange(0, columns.num_rows, 2)
    good = np.arange(columns.num_rows) % 3 != 0
    heat, stamps = _core.GapHeat((0.0, 1e10), good, (8, 16), 21, 558), _core.RowStamps(rows)
    scan(columns, keep, [heat, stamps])
    counts = np.zeros((8, 16), dtype=np.int64)
    expected: dict[int, list[int]] = {}
    for piece in pieces_of(run):
        for row, begin, end in zip(piece.rows.tolist(), piece.offsets, piece.offsets[1:], strict=False):
            own = piece.stamps[begin:end]
            if row in rows:
                expected[row] = own.tolist()
            for later, gap in zip(own[1:], np.diff(own), strict=True) if good[row] else ():
                bits = int(np.float32(max(gap, 1)).view(np.int32)) >> 21
                counts[np.clip(int(later * (8 / 1e10)), 0, 7), np.clip(bits - 558, 0, 15)] += 1
    np.testing.assert_array_equal(heat.counts().reshape(8, 16), counts)
    assert {row: ns.tolist() for row, ns in stamps.take()} == expected


def test_columns_that_do_not_fit_are_refused() -> None:
    """A wrong offset must not read beyond the column, nor a batch beyond the rows."""
    ns, text, kind = np.arange(3), np.ones(3, dtype=np.uint32), np.ones(3, dtype=np.uint8)
    lag = np.zeros(3, dtype=np.int32)
    for row0, offsets, rows in [(0, [0, 4], 1), (0, [2, 1], 1), (0, [-1, 2], 1), (1, [0, 3], 1), (0, [0, 1, 3], 1)]:
        with pytest.raises(ValueError, match="does not fit rows"):
            _core.scan_chunks(row0, np.array(offsets), ns, lag, text, kind, np.ones(rows, dtype=bool), None, [])
    sink = _core.LagPool()
    with pytest.raises(RuntimeError, match="takes chunks already"):
        _core.scan_chunks(0, np.array([0, 3]), ns, lag, text, kind, np.ones(1, dtype=bool), None, [sink, sink])
    with pytest.raises(TypeError, match="list takes no chunks"):
        _core.scan_chunks(0, np.array([0, 3]), ns, lag, text, kind, np.ones(1, dtype=bool), None, [[]])  # type: ignore[list-item]


@given(
    hnp.arrays(np.float64, st.integers(1, 5000), elements=st.floats(allow_nan=False, width=32)),
    st.lists(st.integers(0, 6000), max_size=8),
)
@settings(deadline=None, max_examples=50)
def test_order_statistics_are_those_of_the_sorted_array(values: Floats, ranks: list[int]) -> None:
    expected = np.sort(values)[np.minimum(ranks, len(values) - 1)] if ranks else np.zeros(0)
    np.testing.assert_array_equal(_core.order_statistics(values, ranks), expected)
