"""The house rules that no linter knows."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAX_LINES = 600
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}


def tracked(*patterns: str) -> list[Path]:
    git = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=False)
    if git.returncode:
        pytest.skip("not a git checkout")
    return [path for name in git.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def dependency_names() -> set[str]:
    """Every library named in Cargo.toml files and pyproject.toml, ours left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[<>=!\[; ]", requirement)[0] for requirement in wanted}
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    for manifest in [workspace["workspace"]] + [
        tomllib.loads((ROOT / member / "Cargo.toml").read_text(encoding="utf-8"))
        for member in workspace["workspace"]["members"]
    ]:
        for table in ("dependencies", "dev-dependencies", "build-dependencies"):
            names |= {name for name in manifest.get(table, {}) if not name.startswith("aiperf-")}
    return names


def count_lines(path: Path) -> int:
    """All of them, the tests at the end of a Rust file included."""
    return path.read_text(encoding="utf-8").count("\n")


def test_no_source_file_is_longer_than_600_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked("*.py", "*.rs")
        if (count := count_lines(path)) > MAX_LINES
    }
    assert not long


def count_body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of what a function does; its signature, which may be a command's options, and its docstring are not."""
    docstring = ast.get_docstring(function) is not None and len(function.body) > 1
    return (function.end_lineno or 0) - function.body[docstring].lineno + 1


def test_no_function_does_more_than_60_lines() -> None:
    """What does not fit on a screen is two things."""
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": count
        for path in tracked("python/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (count := count_body(node)) > 60
    }
    assert not long


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [path for path in tracked("*.py", "*.rs") if path.stem in VAGUE_NAMES or path.parent.name in VAGUE_NAMES]


def dataclass_call(node: ast.ClassDef) -> ast.expr | None:
    """The `@dataclass` or `@dataclass(…)` in front of a class."""
    return next((d for d in node.decorator_list if re.match(r"(dataclasses\.)?dataclass\b", ast.unparse(d))), None)


def test_dataclasses_of_more_than_four_fields_are_keyword_only() -> None:
    """Nobody reads, or checks, what the seventh of nine positions means. A class with its own `__init__` decides for itself."""
    positional = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in tracked("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and (call := dataclass_call(node)) is not None
        and "kw_only=True" not in ast.unparse(call)
        and not any(isinstance(part, ast.FunctionDef) and part.name == "__init__" for part in node.body)
        and sum(isinstance(part, ast.AnnAssign) and "ClassVar" not in ast.unparse(part) for part in node.body) > 4
    ]
    assert not positional


def test_each_dependency_has_its_reason_in_contributing() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    explained = {
        name for cell in re.findall(r"^\| (`[^|]*?) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", cell)
    }
    assert dependency_names() - explained == set()
    assert explained - dependency_names() == set(), "explained, but no longer used"


def test_makefile_has_the_promised_targets() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    assert targets >= {"build", "demo", "test", "check", "bench", "docs", "docs-check", "clean"}


@pytest.mark.parametrize("name", [".ci/run", "docs/demo.sh"])
def test_script_is_executable_and_strict(name: str) -> None:
    path = ROOT / name
    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")


def test_readme_says_whose_it_is() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "independent implementation" in text
    assert "not NVIDIA's package" in text


def test_relative_links_of_the_documents_lead_somewhere() -> None:
    dead = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in tracked("*.md")
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert not dead


def names_bound_in(path: Path) -> set[str]:
    """Functions, classes, constants and imports at the top level of a module."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {a.asname or a.name for a in node.names}
        elif isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    return names


def test_no_name_of_a_package_is_also_one_of_its_modules() -> None:
    """Importing the module would silently replace the function: `telemetry.families()` and `telemetry/families/`."""
    taken = [
        f"{init.parent.relative_to(ROOT)}: {name}"
        for init in tracked("python/**/__init__.py")
        for name in names_bound_in(init) & {p.stem if p.is_file() else p.name for p in init.parent.iterdir()}
    ]
    assert not taken


def test_documents_that_the_code_names_are_in_the_repository() -> None:
    """A comment that cites a page nobody has is a riddle."""
    known = {path.name for path in tracked("*.md")}
    made = {"summary.md", "README.md"}
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in tracked("python/*.py", "crates/*.rs", "docs/*.md", "*.md")
        for name in re.findall(r"(?<![\w/*<-])([a-z0-9][a-z0-9-]*\.md)\b", path.read_text(encoding="utf-8"))
        if name not in known | made
    }
    assert not missing


def test_the_map_names_every_folder() -> None:
    """A room that is not on the map is not found; a name on the map that is gone misleads."""
    text = (ROOT / "docs" / "dev" / "map.md").read_text(encoding="utf-8")
    folders = {p.parent.name for p in tracked("python/aiperf/*/__init__.py") if p.parent.parent.name == "aiperf"}
    crates = {p.parent.name for p in tracked("crates/*/Cargo.toml")}
    assert {name for name in folders | crates if f"`{name}/`" not in text} == set()
    for name in re.findall(r"`((?:crates|python|tests|docs)/[\w/.-]+|[a-z_]+/[\w/]+\.(?:py|rs))`", text):
        assert (ROOT / name).exists() or (ROOT / "python" / "aiperf" / name).exists(), name
