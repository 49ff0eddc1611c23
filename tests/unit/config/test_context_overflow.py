"""AIPerf's variables about prompts that do not fit: read, or refused before any load."""

from __future__ import annotations

import pytest

from aiperf.config.context_overflow import PHRASES, RATE_LIMIT, overflow_limit, overflow_phrases
from aiperf.config.resolve import config_from
from aiperf.errors import ConfigError

ASKED: dict[str, object] = {"model": "m", "url": "http://127.0.0.1:1"}


@pytest.mark.parametrize("text", ["prompt is too long", '"one"', "[1]", '[""]', "{}", ""])
def test_phrases_that_are_no_list_of_texts_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(PHRASES, text)
    with pytest.raises(ConfigError, match="is not a JSON list of texts"):
        config_from(ASKED)


@pytest.mark.parametrize("text", ["1%", "-0.1", "1.5", "nan", "", "many"])
def test_a_limit_that_is_no_share_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(RATE_LIMIT, text)
    with pytest.raises(ConfigError, match="is not a share between 0 and 1"):
        config_from(ASKED)


def test_what_they_say_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (overflow_phrases(), overflow_limit()) == (None, 0.01)
    monkeypatch.setenv(PHRASES, '["a", "B c"]')
    monkeypatch.setenv(RATE_LIMIT, "0.25")
    config_from(ASKED)
    assert (overflow_phrases(), overflow_limit()) == (("a", "B c"), 0.25)
