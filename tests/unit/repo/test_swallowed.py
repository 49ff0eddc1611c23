"""An error that is passed over says why: `suppress(…)`, and `except …: pass`, have a reason on their line or the one above."""

from __future__ import annotations

import ast

import pytest
from tests.unit.repo.test_house import ROOT, tracked


def _passes(handler: ast.ExceptHandler) -> bool:
    """Does nothing: `pass` or `...`."""
    body = handler.body[0]
    is_dots = isinstance(body, ast.Expr) and isinstance(body.value, ast.Constant) and body.value.value is ...
    return len(handler.body) == 1 and (isinstance(body, ast.Pass) or is_dots)


def _suppresses(node: ast.With | ast.AsyncWith) -> bool:
    called = [item.context_expr.func for item in node.items if isinstance(item.context_expr, ast.Call)]
    return any(ast.unparse(name).rpartition(".")[2] == "suppress" for name in called)


def unexplained(text: str) -> list[int]:
    """Lines, from 1."""
    lines = ["", *text.splitlines()]

    def says_why(first: int, last: int) -> bool:
        return any("# " in line for line in lines[first : last + 1]) or lines[first - 1].lstrip().startswith("# ")

    unsaid = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler) and _passes(node):
            last = node.body[0].lineno
        elif isinstance(node, ast.With | ast.AsyncWith) and _suppresses(node):
            last = node.body[0].lineno - 1
        else:
            continue
        if not says_why(node.lineno, last):
            unsaid.append(node.lineno)
    return sorted(unsaid)


def test_an_error_that_is_passed_over_says_why() -> None:
    assert not [
        f"{path.relative_to(ROOT)}:{line}"
        for path in tracked("python/aiperf/*.py", "benchmarks/*.py", "tests/*.py", "*.py")
        for line in unexplained(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("with suppress(OSError):\n    a()\n", [1]),
        ("with contextlib.suppress(OSError), b() as c:\n    a()\n", [1]),
        ("with suppress(OSError):  # it is gone\n    a()\n", []),
        ("# It is gone.\nwith suppress(OSError):\n    a()\n", []),
        ("with suppress(OSError):\n    a()  # no reason for the line above\n", [1]),
        ("try:\n    a()\nexcept OSError:\n    pass\n", [3]),
        ("try:\n    a()\nexcept OSError:\n    ...\n", [3]),
        ("try:\n    a()\nexcept OSError:\n    pass  # it is gone\n", []),
        ("try:\n    a()\nexcept OSError:  # it is gone\n    pass\n", []),
        ("try:\n    a()\nexcept OSError:\n    b()\n", []),
    ],
)
def test_what_counts_as_a_reason(text: str, expected: list[int]) -> None:
    assert unexplained(text) == expected
