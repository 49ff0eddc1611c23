"""Argument vector → what was given for each option, and every problem in it, not only the first.

`--option-name`, `--option_name`, `--option=value`; a word that starts with `-` and a digit is a value; `--` ends the options, unless
more options are expected behind it.
Not argparse or a larger library: none reports all problems, knows where a value came from, or builds the help of 260 options in
time (docs/dev/2026-11-24-cli.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aiperf.config.aiperf_options import Foreign
from aiperf.config.flag import FieldSpec, Given
from aiperf.errors import Problem, did_you_mean

__all__ = ["Parsed", "parse"]

_NEGATIVE_NUMBER = re.compile(r"^-\d")


@dataclass(slots=True)
class Parsed:
    given: list[Given] = field(default_factory=list)
    positionals: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _canonical(flag: str) -> str:
    """Long flags: underscores are dashes, case does not count. Short ones as they are."""
    return "--" + flag[2:].replace("_", "-").lower() if flag.startswith("--") else flag


def _is_flag(word: str) -> bool:
    return len(word) > 1 and word.startswith("-") and not _NEGATIVE_NUMBER.match(word)


def parse(
    argv: Sequence[str], specs: Iterable[FieldSpec], foreign: Sequence[Foreign] = (), *, rest_is_options: bool = False
) -> Parsed:
    """Never raises: problems are in the result. List options keep the order of all their occurrences.

    `rest_is_options`: what stands behind `--` is read like the rest; GenAI-Perf passed it to perf_analyzer.
    """
    table, negatives = _tables(specs, foreign)
    result = Parsed()
    words = list(argv)
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "--" and rest_is_options:
            result.notes.append("`--` has no meaning here: the words behind it are options like the others")
            continue
        if word == "--":
            result.positionals += words[at:]
            break
        if not _is_flag(word):
            result.positionals.append(word)
            continue
        typed, equals, inline = word.partition("=")
        flag = _canonical(typed)
        option = table.get(flag)
        if option is None and flag in negatives:
            if equals:
                result.problems.append(Problem("does not take a value", typed))
            else:
                result.given.append(Given(negatives[flag], ("false",), typed))
            continue
        if option is None and not flag.startswith("--") and len(flag) > 2 and flag[:2] in table:
            option, typed, flag, inline, equals = table[flag[:2]], flag[:2], flag[:2], word[2:], "="
        if option is None:
            flags = [n for n in (*table, *negatives) if n.startswith("--")]
            hint = did_you_mean(flag, flags, "`--help` lists all options")
            result.problems.append(Problem("no such option", typed, hint))
            if at < len(words) and not _is_flag(words[at]) and not equals:
                at += 1  # its value, most likely: not a problem of its own
            continue
        if isinstance(option, Foreign):
            at = _skip_foreign(option, words, at, typed, equals, result)
            continue
        if option.kind == "bool":
            behind = [] if equals else [w for w in words[at : at + 1] if w.lower() in _SWITCHED]
            at += len(behind)
            result.given.append(Given(option, (*behind, inline if equals else "true")[:1], typed))
            continue
        if equals:
            texts = [inline]
        elif at < len(words) and not _is_flag(words[at]):
            texts = [words[at]]
            at += 1
        elif option.is_list and option.flag.greedy:
            texts = []
        else:
            result.problems.append(Problem("requires a value", typed))
            continue
        while option.is_list and option.flag.greedy and at < len(words) and not _is_flag(words[at]):
            texts.append(words[at])
            at += 1
        result.given.append(Given(option, tuple(texts), typed))
    return result


def _tables(
    specs: Iterable[FieldSpec], foreign: Sequence[Foreign]
) -> tuple[dict[str, FieldSpec | Foreign], dict[str, FieldSpec]]:
    """By canonical name: what takes a value or is switched on, and what is switched off."""
    table: dict[str, FieldSpec | Foreign] = {}
    negatives: dict[str, FieldSpec] = {}
    for spec in specs:
        table |= {_canonical(n): spec for n in spec.flag.names}
        negatives |= {_canonical(n): spec for n in spec.negatives if _canonical(n) not in table and spec.name != "help"}
    for other in foreign:
        table |= {_canonical(n): other for n in other.names}
    return table, negatives


_SWITCHED = frozenset({"true", "false"})
"""What may stand behind a switch, as AIPerf's guides write it."""


def _skip_foreign(option: Foreign, words: Sequence[str], at: int, typed: str, equals: str, result: Parsed) -> int:
    if not equals and option.values != "none":
        limit = 1 if option.values == "one" else len(words)
        start = at
        while at < len(words) and at - start < limit and not _is_flag(words[at]):
            at += 1
    if option.state == "refused":
        result.problems.append(Problem(f"this option of {option.tool} is not supported", typed, option.reason))
    else:
        result.notes.append(f"`{typed}` has no meaning here: {option.reason}")
    return at
