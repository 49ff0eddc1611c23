"""Reports: one exporter per file, `render…(summary, …) -> str`; none of them opens a file or reads a clock."""

from __future__ import annotations
