"""Plug-ins for aiperf: one file each, found by the entry points in pyproject.toml."""
