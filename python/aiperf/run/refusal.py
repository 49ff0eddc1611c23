"""A server that refuses every request: which field it names, and which option put it there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from aiperf.config.model import Config
from aiperf.errors import AIPerfError, Note
from aiperf.outcome import Outcome

__all__ = ["blamed_field", "refusal_notes"]

_MOST_SHOWN = 160
_ANY = r"(?<![A-Za-z0-9_]){}(?![A-Za-z0-9_])"


def refusal_notes(config: Config, run_dir: Path, outcome: Outcome) -> tuple[Note, ...]:
    """Nothing if a request succeeded. What the server says of the commonest failure, and what to leave out, if it names it."""
    seen = outcome.seen
    if seen is None or seen.ok or not seen.failed:
        return ()
    from aiperf.records import open_run

    try:
        columns = open_run(run_dir)
        messages = Counter(m for m in columns.strings("error_message") if m)
    except (AIPerfError, OSError):
        return ()
    if not messages:
        return ()
    message, count = messages.most_common(1)[0]
    is_early = any(p.stop_reason == "all_refused" for p in outcome.phases)
    line = " ".join(message.split())
    shown = line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}…"
    notes = []
    if is_early:
        text = f"the run was ended early: the server refused all {seen.failed} requests in the same way: {shown}"
        notes.append(Note("all_refused", text, {"message": message, "count": count}))
    blamed = blamed_field(config, message)
    if blamed is not None:
        field, remedy = blamed
        notes.append(Note("field_refused", f"the server names the field `{field}`: {remedy}", {"field": field}))
    return tuple(notes)


def blamed_field(config: Config, message: str) -> tuple[str, str] | None:
    """(field, what to do) of the first field of ours or the user's that the message names; None if it names none."""
    for field, remedy in (*_own_extras(config), *_ours(config)):
        if all(re.search(_ANY.format(re.escape(part)), message) for part in field.split(".")):
            return field, remedy
    return None


def _own_extras(config: Config) -> Iterator[tuple[str, str]]:
    """The user's, the deepest first: `nvext.ignore_eos` before `nvext`."""
    for path in sorted(_paths(config.endpoint.extra_inputs), key=lambda p: -p.count(".")):
        yield path, "it comes from `--extra-inputs`: leave it out there"


def _paths(fields: Mapping[str, object], front: str = "") -> Iterator[str]:
    for name, value in fields.items():
        yield f"{front}{name}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{front}{name}.")


def _ours(config: Config) -> Iterator[tuple[str, str]]:
    e = config.endpoint
    if e.use_legacy_max_tokens:
        yield "max_tokens", "`--no-use-legacy-max-tokens` sends `max_completion_tokens` instead"
    else:
        yield "max_completion_tokens", "`--use-legacy-max-tokens` sends `max_tokens` instead"
    yield "ignore_eos", "`--ignore-eos off` leaves it out"
    yield "min_tokens", "leave out `--force-min-tokens`"
    yield "stream_options", "it asks for the token usage of a stream, and goes only with `--streaming`"
    yield "max_tokens", "leave out `--osl`, or name another field with `--extra-inputs`"
