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


def _exponents(tree: ast.AST) -> Iterator[int]:
    """Lines where a number may be shown as `4.41e+08`: the format `g`, unless `float(f"{x:.5g}")` rounds a value by it."""
    rounding = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float"
        for argument in node.args
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in rounding:
            specs = (part.format_spec for part in node.values if isinstance(part, ast.FormattedValue))
            if any(re.search(r"[gGe]$", ast.unparse(spec).rstrip("'\"")) for spec in specs if spec is not None):
                yield node.lineno
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.search(r"\{:[,.\d]*[ge]\}", node.value)
        ):
            yield node.lineno


def test_no_number_is_shown_with_an_exponent() -> None:
    """`aiperf.number_text` writes numbers for people: a seed is typed again, a throughput is read at a glance."""
    own = ROOT / "python" / "aiperf" / "number_text.py"
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES if path != own}
    found = [f"{path.relative_to(ROOT)}:{line}" for path, tree in trees.items() for line in _exponents(tree)]
    assert not found, "write the number with `exact` or `significant`"
    assert set(_exponents(ast.parse('f"{x:,.4g} ms"\n"{:g}".format(x)\nfloat(f"{x:.5g}")'))) == {1, 2}
