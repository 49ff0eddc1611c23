"""Kubernetes' grammars, row by row: what is accepted, what is refused, and with which words."""

from __future__ import annotations

import pytest

from aiperf.kube import names

GOOD_IMAGES = (
    "aiperf",
    "aiperf:1.2",
    "ghcr.io/team/aiperf:v1.2.3-rc.1",
    "localhost:5000/aiperf",
    "r.io/a/b/c@sha256:" + "0" * 64,
)
BAD_IMAGES = ("", "Upper/Case:1", "a b", "r.io/a:tag with blank", "http://r.io/a", "a:", "a@sha256:1")


@pytest.mark.parametrize("image", GOOD_IMAGES)
def test_an_image_reference(image: str) -> None:
    assert names.bad_image(image) is None


@pytest.mark.parametrize("image", BAD_IMAGES)
def test_what_is_no_image_reference(image: str) -> None:
    assert "not an image reference" in str(names.bad_image(image))


@pytest.mark.parametrize(
    ("quantity", "is_good"), [("2", True), ("500m", True), ("1.5", True), ("4Gi", True), ("1e3", True)]
)
def test_a_quantity(quantity: str, is_good: bool) -> None:
    assert (names.bad_quantity(quantity) is None) is is_good


@pytest.mark.parametrize("quantity", ["", "4 Gi", "4gb", "-1", "many", "Gi", "0", "0Gi", "1.", "１"])
def test_what_is_no_quantity(quantity: str) -> None:
    assert names.bad_quantity(quantity) is not None


@pytest.mark.parametrize("schedule", ["0 3 * * *", "*/5 * * * *", "0 3 1-15 1,6 MON-FRI", "@daily", "0 0 * * 7"])
def test_a_schedule(schedule: str) -> None:
    assert names.bad_schedule(schedule) is None


@pytest.mark.parametrize(
    "schedule", ["", "daily", "* * * *", "60 3 * * *", "0 24 * * *", "0 3 0 * *", "0 3 * 13 *", "0 3 * * 8", "@often"]
)
def test_what_is_no_schedule(schedule: str) -> None:
    assert names.bad_schedule(schedule) is not None


@pytest.mark.parametrize("name", ["a", "a-1", "0a", "x" * 63])
def test_a_name(name: str) -> None:
    assert names.bad_name(name) is None


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "x" * 64, "ä"])
def test_what_is_no_name(name: str) -> None:
    assert names.bad_name(name) is not None


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("meta-llama/Llama-3.1-8B", "aiperf-meta-llama-llama-3-1-8b"),
        ("模型", "aiperf"),
        ("x" * 80, "aiperf-" + "x" * 33),
        ("--", "aiperf"),
    ],
)
def test_a_name_made_of_a_model(model: str, name: str) -> None:
    found = names.run_name(model)
    assert found == name
    assert names.bad_name(found, names.MAX_NAME) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("app", "x"), ("nvidia.com/gpu.product", "H100"), ("a", ""), ("kubernetes.io/arch", "amd64")],
)
def test_a_label(key: str, value: str) -> None:
    assert names.bad_label(key, value) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("", "x"), ("/a", "x"), ("a", "-x"), ("a", "x y"), ("A/b", "x"), ("a" * 64, "x"), ("a", "x" * 64)],
)
def test_what_is_no_label(key: str, value: str) -> None:
    assert names.bad_label(key, value) is not None


def test_pairs_come_as_words_or_as_json() -> None:
    assert names.key_values(("a=1", "b=x=y", '{"c": 2}')) == {"a": "1", "b": "x=y", "c": "2"}
    for text in ("a", "=1", "{", "[1]"):
        with pytest.raises(ValueError, match=r"KEY=VALUE|JSON"):
            names.key_values((text,))
    with pytest.raises(ValueError, match="JSON"):
        names.key_values(("{]",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu", [{"operator": "Exists", "key": "gpu"}]),
        ("gpu:NoSchedule", [{"operator": "Exists", "key": "gpu", "effect": "NoSchedule"}]),
        ("team=bench:NoExecute", [{"operator": "Equal", "value": "bench", "key": "team", "effect": "NoExecute"}]),
        ('{"key": "a", "operator": "Exists"}', [{"key": "a", "operator": "Exists"}]),
        ('[{"key": "a"}, {"operator": "Exists"}]', [{"key": "a"}, {"operator": "Exists"}]),
        (
            '{"key": "a", "effect": "NoExecute", "tolerationSeconds": 60}',
            [{"key": "a", "effect": "NoExecute", "tolerationSeconds": 60}],
        ),
    ],
)
def test_a_toleration(text: str, expected: list[dict[str, str]]) -> None:
    assert names.toleration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "gpu:Never",
        "a b=c",
        "{]",
        "[1]",
        '{"key": 1}',
        '{"key": "a", "operator": "Bad"}',
        '{"key": "a", "effect": "Never"}',
        '{"kye": "a"}',
        '{"value": "x"}',
        '{"key": "a", "tolerationSeconds": true}',
    ],
)
def test_what_is_no_toleration(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        names.toleration(text)


@pytest.mark.parametrize("text", ["", "name", "name/", "/key", "Name/key", "a/b/c"])
def test_what_names_no_key_of_a_secret(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        names.secret_key(text)
