"""Each server family's names in our words: a page before and a page during the load, and what is made of them."""

from __future__ import annotations

import json

import pytest
from tests.conftest import Golden
from tests.unit.telemetry.pages import NS_PER_S, START, read_texts, texts_of

from aiperf import registry
from aiperf.telemetry import all_families, family_of_metrics
from aiperf.telemetry.prometheus.summary import summarise

WITH_METRICS = [name for name in registry.names("telemetry") if name != "sim"]


@pytest.mark.parametrize("name", WITH_METRICS)
def test_family_s_page_in_our_words(name: str, golden: Golden) -> None:
    """Counters: growth from the first page to the second; gauges: those of the second, and before it those of the first."""
    found = summarise([read_texts(texts_of(name))], START + NS_PER_S // 2, START + NS_PER_S)
    golden(f"telemetry/{name}.json", json.dumps(found.as_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("name", WITH_METRICS)
def test_family_is_known_by_its_page(name: str) -> None:
    names = {s.metric for s in read_texts(texts_of(name)).series}
    assert family_of_metrics(names).name == name


@pytest.mark.parametrize("name", registry.names("telemetry"))
def test_family_is_named_as_its_file(name: str) -> None:
    family = all_families()[name]
    assert family.name == name
    assert family.metrics


def test_one_name_has_one_unit() -> None:
    """Otherwise a figure of two families could not stand in one column."""
    units: dict[str, set[str]] = {}
    for family in all_families().values():
        for raw in family.metrics:
            for mapped in family.mapped(raw):
                units.setdefault(mapped.name, set()).add(mapped.unit)
    assert {name: found for name, found in units.items() if len(found) > 1} == {}


def test_unknown_names_are_no_family() -> None:
    assert family_of_metrics({"python_gc_objects_collected", "http_requests"}).name == "unknown"
