"""How the product speaks: a help text or message must be understood when it is the only line on the screen (CONTRIBUTING)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiperf.cli.profile import options

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "python" / "aiperf").rglob("*.py"))

BAD_START = re.compile(r"^(Its|The same|Largest|Least|Most|Longest|Short for|Of the|File with|Points between)\b")
BAD_WORD = re.compile(r"\b(figures?|told|sure|what is|by factor|the law|honestly)\b", re.IGNORECASE)
REPLACED = re.compile(
    r"adds up|kept from its core|sending thread|own error|is sure after|cannot hold any more|timing is blurred"
    r"|nothing listens|asks for a key|cannot be spoken to|belongs to no option|client at its limit|told from",
)
"""Phrases that a reader stumbled over; each has a plain form that stands in the product now."""


def _helps() -> Iterator[tuple[str, str]]:
    """(where, text) of each `Flag(…, help=…)` in the sources, commands' own options included."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Flag":
                for word in node.keywords:
                    if word.arg == "help" and isinstance(word.value, ast.Constant):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", str(word.value.value)


HELPS = list(_helps())


def test_the_lint_sees_every_option_of_profile() -> None:
    seen = {text for _, text in HELPS}
    assert {spec.flag.help for spec in options()} <= seen


@pytest.mark.parametrize(("where", "text"), HELPS, ids=[where for where, _ in HELPS])
def test_a_help_text_stands_alone(where: str, text: str) -> None:
    assert not BAD_START.search(text), f"{where}: starts with a reference to another line: {text}"
    assert not BAD_WORD.search(text), f"{where}: not the field's word: {text}"
    assert not text.endswith("."), f"{where}: one line of help has no full stop: {text}"


def _sentences(tree: ast.AST) -> Iterator[str]:
    """String constants of more than a word that are no docstrings."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docs
            and " " in node.value
        ):
            yield node.value


@pytest.mark.parametrize("path", SOURCES, ids=[str(p.relative_to(ROOT / "python")) for p in SOURCES])
def test_what_a_server_sends_back_is_a_response(path: Path) -> None:
    sentences = _sentences(ast.parse(path.read_text(encoding="utf-8")))
    assert not [s for s in sentences if re.search(r"\brepl(y|ies)\b", s, re.IGNORECASE)], path


@pytest.mark.parametrize("path", SOURCES, ids=[str(p.relative_to(ROOT / "python")) for p in SOURCES])
def test_no_message_has_a_replaced_phrase(path: Path) -> None:
    found = REPLACED.findall(path.read_text(encoding="utf-8"))
    assert not found, f"{path.relative_to(ROOT)}: {found}"
