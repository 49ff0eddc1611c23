"""A rule of the Rust crates that no lint knows: `unsafe` has one home. Circles of modules: `test_circles.py`."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_unsafe_has_one_home() -> None:
    """System calls without a safe wrapper are in `crates/sys`; every other crate is free of `unsafe`."""
    unsafe = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "crates").glob("*/src/**/*.rs")
        if re.search(r"\bunsafe\b(?!_code)", re.sub(r"//.*", "", path.read_text(encoding="utf-8")))
    }
    assert {Path(name).parts[1] for name in unsafe} == {"sys"}


def test_each_unsafe_block_says_why_it_is_sound() -> None:
    for path in (ROOT / "crates" / "sys" / "src").glob("*.rs"):
        text = path.read_text(encoding="utf-8")
        assert len(re.findall(r"\bunsafe \{", text)) == len(re.findall(r"// SAFETY:", text)), path.name
