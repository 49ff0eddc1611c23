"""The writer of indented JSON against the standard library's."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from aiperf.json_text import JsonValue, dump_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_the_bytes_are_the_standard_librarys(value: JsonValue) -> None:
    assert dump_json(value) == json.dumps(value, indent=2, ensure_ascii=False)
