"""The templates in AIPerf 0.13's own wheel load as they are. `.ci/run` unpacks the wheel and names the folder in `UPSTREAM_TEMPLATES`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from aiperf.config.v2.reader import option
from aiperf.config.yaml_file import read_config_file

FOLDER = Path(os.environ.get("UPSTREAM_TEMPLATES", "nowhere"))
TEMPLATES = sorted(FOLDER.glob("*.yaml"))

pytestmark = pytest.mark.skipif(not TEMPLATES, reason="needs AIPerf's templates (UPSTREAM_TEMPLATES)")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_loads(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in it is unknown. Its values are checked by the dry runs of the same files."""
    needed = {"audio_multimodal": "--audio-length-mean", "multimodal_vision": "--image-width-mean"}.get(path.stem)
    if needed is not None and option(needed) is None:
        pytest.skip(f"waits for {needed}")
    monkeypatch.setenv("AIPERF_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "templates"
    shutil.copytree(path.parent, folder)
    found = read_config_file(folder / path.name)
    assert [p.message for p in found.problems] == []
    assert found.given
