"""Measure generative-AI inference: `aiperf profile`, or `aiperf.profile(config)` from Python."""

from __future__ import annotations

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("aiperf")
