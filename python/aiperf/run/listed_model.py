"""The model's name where the user gives none: the one that the server lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiperf.config.flag import Given
from aiperf.config.model import Config, specs
from aiperf.config.resolve import resolve
from aiperf.config.url import UrlError
from aiperf.endpoints import access_to, targets_of
from aiperf.errors import ConfigError, Problem
from aiperf.web import Server

__all__ = ["ListedModel", "listed_model"]

_PATH = "endpoint.model_names"
_LIMIT_S = 3.0
_MAX_NAMED = 8


@dataclass(frozen=True, slots=True)
class ListedModel:
    """What the server's list gives for the missing name: the option with a note, or a problem; all empty if it was not asked."""

    given: tuple[Given, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def listed_model(given: Sequence[Given], config_file: Path | None) -> ListedModel:
    """Asks the first URL for its models if no option, variable or file names one, and the options are otherwise readable."""
    if any(g.spec.path == _PATH for g in given):
        return ListedModel()
    config, problems = resolve(given, config_file=config_file)
    if problems or config.endpoint.model_names or not config.endpoint.probe or not config.endpoint.urls:
        return ListedModel()
    try:
        place, listed = _ask(config)
    except (ConfigError, UrlError):
        return ListedModel()  # said with the other problems of the configuration
    if isinstance(listed, Problem):
        return ListedModel(problems=(Problem(f"no model is named, and {listed.message}", "--model", listed.hint),))
    if len(listed) == 1 and "," not in listed[0]:
        note = f"`{place}` lists one model: `{listed[0]}` is measured (`--model` names another)"
        return ListedModel(given=(Given(specs()[_PATH], listed, f"the list of `{place}`"),), notes=(note,))
    more = f" and {len(listed) - _MAX_NAMED} more" if len(listed) > _MAX_NAMED else ""
    names = ", ".join(f"`{name}`" for name in listed[:_MAX_NAMED])
    hint = f"`{place}` lists {names}{more}: give one with `--model`" if listed else f"`{place}` lists no models"
    return ListedModel(problems=(Problem("no model is named", "--model", hint),))


def _ask(config: Config) -> tuple[str, tuple[str, ...] | Problem]:
    """(where, the names listed, or why there is no list)."""
    from aiperf.telemetry.probe.checks import error_text, explain, listed_ids

    target = targets_of(config)[0]
    place = target.base.at(target.models_path)
    server = Server(target.base, access_to(config))
    try:
        reply = server.ask("GET", target.models_path, timeout_s=_LIMIT_S)
    except OSError as error:
        return place, explain(error, server.url)
    finally:
        server.close()
    if not reply.is_ok:
        hint = "give the key with `--api-key`" if reply.status in {401, 403} else "give its name with `--model`"
        return place, Problem(f"`{place}` answers {error_text(reply)}", hint=hint)
    return place, listed_ids(reply)
