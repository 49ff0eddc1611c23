"""The rule of `test_name_lifetimes.py` for Rust: a single letter, and `found`, live for at most five lines."""

from __future__ import annotations

import pytest
from tests.unit.repo.rust_names import lives
from tests.unit.repo.test_house import ROOT, tracked
from tests.unit.repo.test_name_lifetimes import MOST_LINES

# Parsers that were fuzzed for half an hour each as they are: their 20 names change with the next change of what they do.
_FUZZED = frozenset(
    {
        "crates/engine/src/event_frames.rs",
        "crates/engine/src/events.rs",
        "crates/engine/src/extract.rs",
        "crates/engine/src/extract/values.rs",
        "crates/engine/src/http.rs",
        "crates/engine/src/http2/frames.rs",
        "crates/engine/src/reply.rs",
        "crates/engine/src/usage.rs",
        "crates/records/src/recovery.rs",
    }
)


def offences(text: str) -> list[str]:
    return [f"{n.first}–{n.last} `{n.name}`" for n in lives(text) if n.last - n.first + 1 > MOST_LINES]


def test_a_letter_and_found_live_for_five_lines_at_most() -> None:
    files = [(str(path.relative_to(ROOT)), path) for path in tracked("crates/*.rs", "benchmarks/*.rs")]
    by_name = {name: offences(path.read_text(encoding="utf-8")) for name, path in files}
    assert {name: what for name, what in by_name.items() if what and name not in _FUZZED} == {}
    assert all(by_name[name] for name in _FUZZED), "an exception that is none any more"


def function(*lines: str, arguments: str = "") -> str:
    return f"fn f1({arguments}) {{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"


_GAP = ["call();"] * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (function("let x = 1;", *_GAP[:3], "call(x);"), []),
        (function("let x = 1;", *_GAP, "call(x);"), ["2–7 `x`"]),
        (function("let mut x = 1;", *_GAP, "x += 1;"), ["2–7 `x`"]),
        (function("let found = 1;", *_GAP, "call(found);"), ["2–7 `found`"]),
        (function("let (name, x): (u8, Vec<u8>) = y1();", *_GAP, "call(x);"), ["2–7 `x`"]),
        (function("let Some(x) = y1() else {", "    return;", "};", *_GAP[:2], "call(x);"), ["2–7 `x`"]),
        (function(*_GAP, "call(x)", arguments="x: u8"), ["1–6 `x`"]),
        (function("for i in 0..9 {", *_GAP, "call(i);", "}"), ["2–7 `i`"]),
        (function("if let Some(x) = y1 {", *_GAP, "call(x);", "}"), ["2–7 `x`"]),
        (function("while let Some(x) = y1() {", *_GAP, "call(x);", "}"), ["2–7 `x`"]),
        (function("match y1 {", "Some(x) => {", *_GAP, "call(x);", "}", "None => {}", "}"), ["3–8 `x`"]),
        (function("let y1 = |x: u8| {", *_GAP, "call(x);", "};"), ["2–7 `x`"]),
        (function("let y1 = |x| x + 1;", *_GAP, "let z1 = |x| x;"), []),
        # In a format string a name is used too; an escaped brace is none.
        (function("let x = 1;", *_GAP, 'call(format!("{x:?}"));'), ["2–7 `x`"]),
        (function("let x = 1;", *_GAP, 'call("{{x}}");'), []),
        # Fields, paths, keys and labels are no names; what is bound anew begins anew.
        (function("let x = 1;", *_GAP, "call(y1.x, y1::x, P { x: 1 });"), []),
        (function("let x = 1;", *_GAP[:2], "let x = 2;", *_GAP[:2], "call(x);"), []),
        (function("for x in y1 {}", *_GAP, "for x in y1 {}"), []),
        (function("match y1 {", "A(x) => call(x),", *["B(_) => call(),"] * 4, "C(x) => call(x),", "}"), []),
        ("struct A1 {\n    x: u8,\n" + "    y1: u8,\n" * 5 + "    z1: Vec<u8>,\n}\n", []),
        ("impl<'a> A1 for B1<'a> {\n" + function("call('x', b'x', \"x\")") * 3 + "}\n", []),
    ],
)
def test_how_long_a_rust_name_lives(text: str, expected: list[str]) -> None:
    assert offences(text) == expected
