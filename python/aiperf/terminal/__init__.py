"""What a terminal shows: lines in colour, framed tables, and a region that is redrawn in place.

Own code, for a plain installation: a library for it brings 14 MB, most of it colours for program text, and takes 12 ms more to import.
"""

from __future__ import annotations

from aiperf.terminal.console import Console, Part
from aiperf.terminal.region import Region
from aiperf.terminal.table import ScreenTable
from aiperf.terminal.text import Justify, Text

__all__ = ["Console", "Justify", "Part", "Region", "ScreenTable", "Text"]
