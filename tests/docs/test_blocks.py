from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.blocks import find_blocks, run_block

PAGE = """# A page

```bash
echo "one"
echo $WHO
```

<!-- not run: needs the moon -->
```bash
exit 3
```
```text
not code
```
```python
print(6 * 7)
```
"""


def test_blocks_are_found_with_line_language_and_reason() -> None:
    found = [(b.language, b.line, b.reason, b.is_runnable) for b in find_blocks(PAGE)]
    assert found == [
        ("bash", 3, None, True),
        ("bash", 9, "needs the moon", False),
        ("text", 12, None, False),
        ("python", 15, None, True),
    ]


def test_block_runs_with_its_environment_and_folder(tmp_path: Path) -> None:
    first, *_, last = find_blocks(PAGE)
    assert run_block(first, tmp_path, {"WHO": "two", "PATH": "/usr/bin:/bin"}, 10) == "one\ntwo\n"
    assert run_block(last, tmp_path, {}, 10) == "42\n"


def test_failing_block_names_its_line_and_shows_what_it_wrote(tmp_path: Path) -> None:
    """A command that fails in front of a pipe must not pass either."""
    (block,) = find_blocks("```bash\necho seen; false | cat\n```\n")
    with pytest.raises(AssertionError, match=r"line 1, exit code 1(.|\n)*seen"):
        run_block(block, tmp_path, {"PATH": "/usr/bin:/bin"}, 10)
