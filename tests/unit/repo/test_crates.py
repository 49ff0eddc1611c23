"""Rules of the Rust crates that no lint knows: modules import downwards only, and `unsafe` has one home."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CRATES = sorted(path.parent.name for path in (ROOT / "crates").glob("*/Cargo.toml"))


def module_of(path: Path, src: Path) -> str:
    """The top-level module that a source file belongs to."""
    return path.relative_to(src).parts[0].removesuffix(".rs")


def imports(crate: str) -> dict[str, set[str]]:
    """Which modules of a crate each of its modules names by `crate::…`; tests left out, and `lib.rs`, which names all."""
    src = ROOT / "crates" / crate / "src"
    modules = {module_of(path, src) for path in src.rglob("*.rs")} - {"lib"}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for path in src.rglob("*.rs"):
        module = module_of(path, src)
        if module == "lib":
            continue
        text = path.read_text(encoding="utf-8").split("#[cfg(test)]", 1)[0]
        code = re.sub(r"//.*", "", text)
        names = set(re.findall(r"\bcrate::(?:\{)?([a-z_]+)", code))
        graph[module] |= (names & modules) - {module}
    return graph


@pytest.mark.parametrize("crate", CRATES)
def test_the_modules_of_a_crate_import_downwards_only(crate: str) -> None:
    """Two modules that need each other cannot be tested, read or moved alone."""
    try:
        list(TopologicalSorter(imports(crate)).static_order())
    except CycleError as error:
        pytest.fail(f"crates/{crate}: {' -> '.join(error.args[1])}")


def test_unsafe_has_one_home() -> None:
    """System calls without a safe wrapper are in `crates/sys`; every other crate is free of `unsafe`."""
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "crates").glob("*/src/**/*.rs")
        if re.search(r"\bunsafe\b(?!_code)", re.sub(r"//.*", "", path.read_text(encoding="utf-8")))
    }
    assert {Path(name).parts[1] for name in found} == {"sys"}


def test_each_unsafe_block_says_why_it_is_sound() -> None:
    for path in (ROOT / "crates" / "sys" / "src").glob("*.rs"):
        text = path.read_text(encoding="utf-8")
        assert len(re.findall(r"\bunsafe \{", text)) == len(re.findall(r"// SAFETY:", text)), path.name
