"""Nothing imports itself by way of others: a newcomer can read a file and what is below it, and be done.

Python: every import counts, inside functions and for types too. Rust: modules of one crate, by `use crate::`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
Graph = Mapping[str, set[str]]


def python_graph() -> dict[str, set[str]]:
    """Module → the modules of ours that it imports, wherever in the file."""
    source = ROOT / "python"
    files: dict[str, Path] = {}
    for path in source.glob("aiperf/**/*.py"):
        parts = path.relative_to(source).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{a.name}" for a in node.names}
                imported |= {i if i in files else node.module for i in inner}
        graph[name] = (imported & files.keys()) - {name}
    return graph


def rust_graph(crate: Path) -> dict[str, set[str]]:
    """Top module of a crate → the others it uses, tests left out."""
    files = {p: p.relative_to(crate / "src").with_suffix("").parts[0] for p in crate.glob("src/**/*.rs")}
    modules = set(files.values()) - {"lib", "main"}
    graph: dict[str, set[str]] = {m: set() for m in modules}
    for path, module in files.items():
        if module not in modules or "bin" in path.parts:
            continue
        text = re.split(
            r"#\[cfg\(test\)\]\s*(?:#\[[^\n]*\]\s*)*(?:pub\(crate\) )?mod ",
            re.sub(r"//.*", "", path.read_text(encoding="utf-8")),
            maxsplit=1,
        )[0]
        graph[module] |= set(re.findall(r"crate::(?:\{\s*)?([a-z_0-9]+)", text)) & modules - {module}
    return graph


def circles(graph: Graph) -> set[frozenset[str]]:
    """Strongly connected parts of more than one node."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            for node in graph[ahead.pop()] - seen:
                seen.add(node)
                ahead.append(node)
        return seen

    reached = {node: reach(node) for node in graph}
    parts = (frozenset(n for n in reached[node] if node in reached[n]) for node in graph if node in reached[node])
    return {p for p in parts if len(p) > 1}


def test_no_circle_of_imports_in_python() -> None:
    assert circles(python_graph()) == set()


@pytest.mark.parametrize("crate", sorted(p.parent.name for p in (ROOT / "crates").glob("*/Cargo.toml")))
def test_no_circle_of_modules_in_a_crate(crate: str) -> None:
    assert circles(rust_graph(ROOT / "crates" / crate)) == set()


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {frozenset("bc")}
