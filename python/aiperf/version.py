"""The version of this installation; a file of its own, so that what only needs it imports nothing else."""

from __future__ import annotations

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("aiperf")
