"""Every command of the guides and of the README, run against the simulated server."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from tests.docs.blocks import Block, find_blocks, run_block

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide"
PAGES = [ROOT / "README.md", *sorted(GUIDE.glob("*.md"))]
BLOCK_S = 100.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def environment(endpoint_url: str, tmp_path: Path) -> dict[str, str]:
    """A reader's shell: our commands first on the path, a home of its own, no colours, no hub."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    fixed = {"NO_COLOR": "1", "COLUMNS": "160", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    return os.environ | fixed | {"PATH": path, "ENDPOINT_URL": endpoint_url}


def blocks_of(page: Path) -> list[Block]:
    return [block for block in find_blocks(page.read_text(encoding="utf-8")) if block.is_runnable]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_command_of_the_page_runs(page: Path, environment: dict[str, str], tmp_path: Path) -> None:
    blocks = blocks_of(page)
    assert blocks
    for block in blocks:
        run_block(block, tmp_path, environment, BLOCK_S)


def test_every_guide_is_in_the_table_of_contents() -> None:
    contents = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in sorted(GUIDE.glob("*.md")) if f"guide/{page.name}" not in contents] == []


def test_percentile_script_prints_the_p75_of_the_summary(environment: dict[str, str], tmp_path: Path) -> None:
    """The script of AIPerf's 0.3.0 demo, unchanged but for the path."""
    profile, _, script, warm_profile, warm_script, *_ = blocks_of(GUIDE / "custom-percentiles.md")
    assert "P75 TTFT" in script.text
    for run, reader, folder in (
        (profile, script, "qwen3-0.6b-openai-chat-concurrency100"),
        (warm_profile, warm_script, "warm"),
    ):
        run_block(run, tmp_path, environment, BLOCK_S)
        printed = re.search(r"P75[^:]*: ([\d.]+) ms", run_block(reader, tmp_path, environment, BLOCK_S))
        summary = json.loads(
            (tmp_path / "artifacts" / folder / "profile_export_aiperf.json").read_text(encoding="utf-8")
        )
        assert printed is not None
        assert printed[1] == f"{summary['time_to_first_token']['p75']:.2f}"


def test_warm_up_lines_are_left_out_by_the_careful_script(environment: dict[str, str], tmp_path: Path) -> None:
    _, _, _, profile, script, *_ = blocks_of(GUIDE / "custom-percentiles.md")
    run_block(profile, tmp_path, environment, BLOCK_S)
    assert "Total requests analyzed: 1000\n" in run_block(script, tmp_path, environment, BLOCK_S)
    lines = (tmp_path / "artifacts" / "warm" / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1100


def profile_words(script: str) -> list[str]:
    """The words of the script's one `aiperf profile` command, without the server's address."""
    command = script.replace("\\\n", " ").split("aiperf profile ", 1)[1].splitlines()[0]
    words = shlex.split(command)
    at = words.index("--url")
    return [word for word in words[:at] + words[at + 2 :] if word != "$@"]


def test_demo_runs_the_first_command_of_the_guide() -> None:
    guide = blocks_of(GUIDE / "simple-profiling.md")[0].text
    assert profile_words((ROOT / "docs" / "demo.sh").read_text(encoding="utf-8")) == profile_words(guide)
