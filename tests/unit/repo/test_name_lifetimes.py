"""A name lives as long as it reaches: a single letter, and `found`, for at most five lines.

Counted from the first to the last line of a function on which the name stands. Comprehensions, lambdas and functions within the
function are scopes of their own: what they bind is theirs, what they only use belongs to the scope that binds it. Fields of a class
stand behind their owner's name (`difference.a`), and are not counted.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

import pytest
from tests.unit.repo.test_house import ROOT, tracked

MOST_LINES = 5
_SHORT = re.compile(r"_?[A-Za-z]")
_SAYS_NOTHING = "found"
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class _Scope:
    """`lines`: by name, where it is bound or used in this scope; `bound`: the names that are this scope's own; `others`: those that
    it declares to be another's (`nonlocal`, `global`).
    """

    def __init__(self, node: ast.AST, outer: _Scope | None) -> None:
        self.node, self.outer = node, outer
        self.lines: dict[str, list[int]] = {}
        self.bound: set[str] = set()
        self.imported: set[str] = set()
        self.others: set[str] = set()

    @property
    def is_class(self) -> bool:
        return isinstance(self.node, ast.ClassDef)

    @property
    def is_module(self) -> bool:
        return self.outer is None

    def owner_of(self, name: str) -> _Scope | None:
        """Where the name is bound; what a class binds is not seen by the functions in it. None: a builtin."""
        scope: _Scope | None = self
        while scope is not None and (name not in scope.bound or (scope.is_class and scope is not self)):
            scope = scope.outer
        return scope


class _Reader(ast.NodeVisitor):
    """Every scope of a file with its names."""

    def __init__(self, tree: ast.Module) -> None:
        self._scope = _Scope(tree, None)
        self.scopes = [self._scope]
        self.generic_visit(tree)

    def visit_Name(self, node: ast.Name) -> None:
        self._note(node.id, node.lineno, is_bound=not isinstance(node.ctx, ast.Load))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        """`:=` in a comprehension binds around it."""
        scope = self._scope
        while isinstance(scope.node, _Comprehension) and scope.outer is not None:
            scope = scope.outer
        scope.bound.add(node.target.id)
        scope.lines.setdefault(node.target.id, []).append(node.target.lineno)
        self.visit(node.value)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self._scope.others.update(node.names)

    def visit_Global(self, node: ast.Global) -> None:
        self._scope.others.update(node.names)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._bind_if_named(node.name, node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self._bind_if_named(node.name, node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self._bind_if_named(node.name, node)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self._bind_if_named(node.rest, node)

    def visit_Import(self, node: ast.Import) -> None:
        self._import(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._import(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._note(node.name, node.lineno, is_bound=True)
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(part)
        self._enter(node, node.body)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._enter(node, [*self._arguments(node.args), node.body])

    def visit_arg(self, node: ast.arg) -> None:
        self._note(node.arg, node.lineno, is_bound=True)
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._comprehension(node, node.elt)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._comprehension(node, node.elt)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._comprehension(node, node.elt)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node, node.key, node.value)

    def _note(self, name: str, line: int, *, is_bound: bool) -> None:
        self._scope.lines.setdefault(name, []).append(line)
        if is_bound and name not in self._scope.others:
            self._scope.bound.add(name)

    def _bind_if_named(self, name: str | None, node: ast.excepthandler | ast.pattern) -> None:
        if name is not None:
            self._note(name, node.lineno, is_bound=True)
        self.generic_visit(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self._note(name, node.lineno, is_bound=True)
            if alias.asname is None:
                self._scope.imported.add(name)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._note(node.name, node.lineno, is_bound=True)
        for part in node.decorator_list:
            self.visit(part)
        self._enter(node, [*self._arguments(node.args), *([] if node.returns is None else [node.returns]), *node.body])

    def _arguments(self, given: ast.arguments) -> list[ast.arg]:
        """What is bound; defaults are computed around the function."""
        for default in (*given.defaults, *given.kw_defaults):
            if default is not None:
                self.visit(default)
        all_of_them = (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg)
        return [argument for argument in all_of_them if argument is not None]

    def _comprehension(self, node: _Comprehension, *made: ast.expr) -> None:
        """The first iterable is looked up around it."""
        first, *others = node.generators
        self.visit(first.iter)
        self._enter(node, [first.target, *first.ifs, *others, *made])

    def _enter(self, node: ast.AST, parts: Sequence[ast.AST]) -> None:
        around = self._scope
        self._scope = _Scope(node, around)
        self.scopes.append(self._scope)
        for part in parts:
            self.visit(part)
        self._scope = around


def lives(text: str) -> Iterator[tuple[_Scope, str, int, int]]:
    """(scope, name, first line, last line) of every name that a scope binds."""
    reader = _Reader(ast.parse(text))
    lines: dict[tuple[int, str], list[int]] = {}
    for scope in reader.scopes:
        for name, places in scope.lines.items():
            owner = scope.owner_of(name)
            if owner is not None:
                lines.setdefault((id(owner), name), []).extend(places)
    by_id = {id(scope): scope for scope in reader.scopes}
    for (owner_id, name), places in lines.items():
        yield by_id[owner_id], name, min(places), max(places)


def is_too_long(scope: _Scope, name: str, lines: int) -> bool:
    """At the top of a file even a single line is too much for a letter: everything below sees it, and every file that imports it."""
    if scope.is_class or name in scope.imported:
        return False
    if _SHORT.fullmatch(name):
        return scope.is_module or lines > MOST_LINES
    return name == _SAYS_NOTHING and lines > MOST_LINES


def offences(text: str) -> list[str]:
    return [
        f"{first}–{last} `{name}`"
        for scope, name, first, last in lives(text)
        if is_too_long(scope, name, last - first + 1)
    ]


def test_a_letter_and_found_live_for_five_lines_at_most() -> None:
    """Who reads the sixth line has forgotten what the letter stood for; and `found` never says what was found."""
    assert not [
        f"{path.relative_to(ROOT)}:{what}"
        for path in tracked("python/aiperf/*.py", "benchmarks/*.py", "tests/*.py", "*.py")
        for what in offences(path.read_text(encoding="utf-8"))
    ]


def function(*lines: str, arguments: str = "") -> str:
    return f"def f1({arguments}):\n" + "".join(f"    {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (function("x = 1", *["pass"] * 3, "return x"), []),
        (function("x = 1", *["pass"] * 4, "return x"), ["2–7 `x`"]),
        (function("found = 1", *["pass"] * 4, "return found"), ["2–7 `found`"]),
        (function(*["pass"] * 4, "return r", arguments="r"), ["1–6 `r`"]),
        (function(*["pass"] * 5, "return 1", arguments="*, _"), []),
        (function("for i in y1:", *["    pass"] * 4, "    print(i)"), ["2–7 `i`"]),
        (function("with a1 as f:", *["    pass"] * 4, "    f.close()"), ["2–7 `f`"]),
        (function("try:", "    pass", "except OSError as e:", *["    pass"] * 4, "    raise e"), ["4–9 `e`"]),
        (function("match a1:", "    case {'k': v}:", *["        pass"] * 4, "        return v"), ["3–8 `v`"]),
        # Comprehensions and lambdas bind names of their own; what they use is their function's.
        (function("a1 = [x for x in y1]", *["pass"] * 4, "return [x for x in a1]"), []),
        (function("a1 = lambda x: x", *["pass"] * 4, "return lambda x: x"), []),
        (function("x = 1", *["pass"] * 4, "return [y for y in z1 if x]"), ["2–7 `x`"]),
        (function("x = 1", *["pass"] * 4, "return lambda: x"), ["2–7 `x`"]),
        (
            function("return [", "    (", "        x,", *["        1,"] * 3, "    )", "    for x in y1", "]"),
            ["4–9 `x`"],
        ),
        (function("if any((x := y) for y in z1):", *["    pass"] * 4, "    return x"), ["2–7 `x`"]),
        # A function within the function has its own `x`, or its function's.
        (function("x = 1", "def f2(x):", *["    pass"] * 3, "    return 2"), []),
        (function("x = 1", "def f2():", *["    pass"] * 3, "    return x"), ["2–7 `x`"]),
        (function("x = 1", "def f2():", "    nonlocal x", *["    pass"] * 2, "    x = 2"), ["2–7 `x`"]),
        (function("x = 1", *["pass"] * 4, "return lambda y=x: y"), ["2–7 `x`"]),
        ("class A1:\n    x: int\n" + "    y1: int\n" * 5 + "    x = 2\n", []),
        ("S = 1\n", ["1–1 `S`"]),
        ("_S = 1\n", ["1–1 `_S`"]),
        ("from a1 import S\n", []),
        ("from a1 import numbers as S\n", ["1–1 `S`"]),
    ],
)
def test_how_long_a_name_lives(text: str, expected: list[str]) -> None:
    assert offences(text) == expected
