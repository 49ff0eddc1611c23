"""`aiperf profile --url U` without a model: the one the server lists, or which there are; never a guess."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.telemetry.fake_server import Say, error, fake_server, models

from aiperf.config.flag import Given
from aiperf.config.model import specs
from aiperf.run.listed_model import ListedModel, listed_model

LIST = ("GET", "/v1/models")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIPERF_MODEL", raising=False)


def given(**values: str) -> list[Given]:
    return [Given(specs()[f"endpoint.{name}"], (text,), name) for name, text in values.items()]


def names(found: ListedModel) -> list[str]:
    return [text for g in found.given for text in g.texts]


def test_the_only_model_is_taken_and_named() -> None:
    aliased = {"data": [{"id": "m", "object": "model", "aliases": ["m", "short"]}]}
    for reply, path in ((models("m"), ""), (models("m", "m"), "/v1/"), (Say(body=aliased), "")):
        with fake_server({LIST: reply}) as server:
            found = listed_model(given(urls=server.url + path), None)
        assert names(found) == ["m"]
        assert found.notes == (f"`{server.url}/v1/models` lists one model: `m` is measured (`--model` names another)",)
        assert found.problems == ()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (models("a", "b"), ["lists `a`, `b`: give one with `--model`"]),
        (models(*"abcdefghij"), ["`h` and 2 more: give one"]),
        (models(), ["lists no models"]),
        (models("a,b"), ["lists `a,b`"]),
        (Say(body=b"<html>"), ["lists no models"]),
        (error(401, "who are you"), ["no model is named, and", "/v1/models` answers HTTP 401", "`--api-key`"]),
        (Say(404), ["/v1/models` answers HTTP 404", "`--model`"]),
    ],
)
def test_any_other_list_is_a_problem_that_says_what_there_is(reply: Say, words: list[str]) -> None:
    with fake_server({LIST: reply}) as server:
        found = listed_model(given(urls=server.url), None)
    assert (found.given, found.notes) == ((), ())
    (problem,) = found.problems
    text = f"{problem.message} {problem.hint}"
    assert problem.where == "--model"
    assert all(word in text for word in ["no model is named", *words]), text


def test_a_server_that_is_not_there_is_named_with_what_to_do() -> None:
    with fake_server({}) as server:
        pass
    (problem,) = listed_model(given(urls=server.url), None).problems
    assert f"`{server.url}`" in problem.message
    assert "is it running?" in (problem.hint or "")


def test_who_names_a_model_or_wants_no_questions_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text("model: m\n", encoding="utf-8")
    with fake_server({LIST: models("m")}) as server:
        url = given(urls=server.url)
        assert listed_model([*url, *given(model_names="x")], None) == ListedModel()
        assert listed_model([*url, *given(probe="false")], None) == ListedModel()
        assert listed_model(given(urls="ftp://x"), None) == ListedModel()
        assert listed_model(url, file) == ListedModel()
        monkeypatch.setenv("AIPERF_MODEL", "y")
        assert listed_model(url, None) == ListedModel()
        assert server.seen == []
