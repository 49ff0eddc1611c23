"""The exposition format: right whatever the library allows, and equal with and without the shortcut."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.telemetry.pages import texts_of

from aiperf.telemetry.prometheus import Exposition

LABELS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
VALUES = st.floats(allow_nan=False) | st.integers(0, 10**12)


def shown(
    exposition: Exposition, text: str, *, is_openmetrics: bool = False
) -> dict[tuple[str, str, object, object], float]:
    row = exposition.read(text, is_openmetrics=is_openmetrics)
    found = zip(exposition.series, row.tolist(), strict=True)
    return {(s.metric, s.part, s.labels, s.le): v for s, v in found if not math.isnan(v)}


def escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@given(st.dictionaries(LABELS, st.tuples(VALUES, VALUES), min_size=1, max_size=6))
def test_second_reading_is_looked_up_and_right(series: dict[str, tuple[float, float]]) -> None:
    """Labels may hold anything, braces, spaces and quotes too: the shortcut must give what the parser gives."""

    def text(which: int) -> str:
        lines = [f'a:b{{l="{escape(label)}"}} {pair[which]!r}' for label, pair in series.items()]
        return "# TYPE a:b gauge\n" + "\n".join(lines) + "\n"

    remembering = Exposition()
    shown(remembering, text(0))
    assert shown(remembering, text(1)) == shown(Exposition(), text(1))


def test_known_lines_are_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Exposition()
    before, after = texts_of("tgi")
    page.read(before)
    monkeypatch.setattr(Exposition, "_parse", None)
    row = page.read(after)
    assert float(np.nansum(row)) == 45 + 7 + 4 + 4 + 45 + 22500 + 45 + 45 + 8143 + 45


def test_new_and_lost_series() -> None:
    page = Exposition()
    shown(page, '# TYPE c_total counter\nc_total{a="1"} 1\nc_total{a="2"} 2\n')
    assert shown(page, '# TYPE c_total counter\nc_total{a="2"} 5\nc_total{a="3"} 7\n') == {
        ("c", "value", (("a", "2"),), None): 5.0,
        ("c", "value", (("a", "3"),), None): 7.0,
    }


def test_time_stamps_and_special_values() -> None:
    page = Exposition()
    for when in (1000, 2000):
        found = shown(page, f"# TYPE g gauge\ng 1.5 {when}\n# TYPE h gauge\nh +Inf {when}\n")
        assert found == {("g", "value", (), None): 1.5, ("h", "value", (), None): math.inf}


def test_openmetrics_with_exemplars() -> None:
    text = (
        "# TYPE c counter\nc_total 5.0\nc_created 1.0\n# TYPE h histogram\n"
        'h_bucket{le="1.0"} 2 # {trace_id="x"} 0.5\nh_bucket{le="+Inf"} 3\nh_count 3\nh_sum 4.5\n# EOF\n'
    )
    page = Exposition()
    for _ in range(2):
        assert shown(page, text, is_openmetrics=True) == {
            ("c", "value", (), None): 5.0,
            ("h", "bucket", (), "1.0"): 2.0,
            ("h", "bucket", (), "+Inf"): 3.0,
            ("h", "count", (), None): 3.0,
            ("h", "sum", (), None): 4.5,
        }


def test_counter_is_named_without_total_however_it_is_written() -> None:
    page = Exposition()
    for _ in range(2):
        assert shown(page, "# TYPE a counter\na 1\n# TYPE b_total counter\nb_total 2\n") == {
            ("a", "value", (), None): 1.0,
            ("b", "value", (), None): 2.0,
        }


def test_what_is_no_exposition_is_an_error() -> None:
    with pytest.raises(ValueError):
        Exposition().read("<html>not found</html>\n")


def test_pages_that_change_a_little_are_read_as_if_each_were_the_first() -> None:
    """Only lines that differ are looked at: lines that come, go, move or change must give the same row all the same."""
    rng = np.random.default_rng(7)
    kept = Exposition()
    values = dict.fromkeys("abcdefgh", 0.0)
    names = list(values)
    for _ in range(200):
        match rng.integers(6):
            case 0:
                rng.shuffle(names)
            case 1:
                names = [n for n in values if rng.uniform() < 0.8]
            case _:
                for name in rng.choice(list(values), 2):
                    values[str(name)] = float(rng.integers(100))
        text = "".join(f'm{{x="{n}"}} {values[n]}\n' for n in names)
        row = kept.read(text)
        found = {dict(s.labels)["x"]: v for s, v in zip(kept.series, row.tolist(), strict=True) if v == v}  # noqa: PLR0124 - NaN
        assert found == {n: values[n] for n in names}
