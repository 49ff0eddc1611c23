"""The dashboard's pages as text."""

from __future__ import annotations

from aiperf.observer import StudyState
from aiperf.ui.dashboard.panels import study_page

SEARCH = StudyState(
    what="search",
    done=3,
    total=None,
    columns=(
        "Run",
        "Judgement",
        "Requests/s",
        "Tokens/s",
        "Tokens/s/user",
        "TTFT p50 (ms)",
        "TTFT p99 (ms)",
        "ITL p50 (ms)",
        "Errors",
    ),
    rows=(
        ("concurrency 8", "pass", "127.91", "2,047", "353.8", "14.0", "33.3", "2.20", "0"),
        ("concurrency 32", "unresolved", "137.82", "2,205", "310.2", "168.9", "201.4", "2.31", "0"),
        ("concurrency 28", "pass", "145.12", "2,322", "309.2", "121.0", "188.6", "2.30", "0"),
    ),
    front=(0, 2),
    best=2,
)


def test_no_column_of_a_search_is_cut_off_at_80_columns() -> None:
    page = [line.plain.rstrip() for line in study_page(SEARCH, 79)]
    assert page == [
        "search: 3 runs done",
        "",
        "                                            Tokens  TTFT  TTFT  ITL",
        "                            Requests Tokens     /s   p50   p99  p50",
        "  Run             Judgement       /s     /s  /user  (ms)  (ms) (ms) Errors",
        "▸ concurrency 8        pass   127.91  2,047  353.8  14.0  33.3 2.20      0",
        "  concurrency 32 unresolved   137.82  2,205  310.2 168.9 201.4 2.31      0",
        "▸ concurrency 28       pass   145.12  2,322  309.2 121.0 188.6 2.30      0",
        "",
        "▸ on the Pareto front of throughput and speed per user",
        "bold: the best so far, concurrency 28",
    ]


def test_titles_are_on_one_line_where_there_is_room() -> None:
    page = [line.plain for line in study_page(SEARCH, 150)]
    assert [title for title in SEARCH.columns if title not in page[2]] == []
