"""Vega, Vega-Lite and vega-embed as one script, for pages that draw their charts themselves, offline.

vl-convert makes the script, which takes seconds; so it is made here once and shipped (`data/`, with the licences of what is in it).
`python -m aiperf.plots.render.bundle` makes it again with the vl-convert installed; the name of the file says which that was.
"""

from __future__ import annotations

import gzip
from importlib.metadata import version
from pathlib import Path
from typing import Final

__all__ = ["load_bundle", "make_bundle", "shipped_bundle"]

_SNIPPET: Final = "window.vega = vega; window.vegaLite = vegaLite; window.vegaEmbed = vegaEmbed;"
_FOLDER: Final = Path(__file__).with_name("data")


def shipped_bundle() -> Path:
    """The file: `vega-` and the version of vl-convert that made it."""
    (path,) = _FOLDER.glob("vega-*.js.gz")
    return path


def load_bundle() -> bytes:
    """The script, gzip."""
    return shipped_bundle().read_bytes()


def make_bundle() -> str:
    """The script, made by the vl-convert installed."""
    import vl_convert

    script: str = vl_convert.javascript_bundle(_SNIPPET)
    return script


def _main() -> None:
    made = gzip.compress(make_bundle().encode(), 9, mtime=0)
    for old in _FOLDER.glob("vega-*.js.gz"):
        old.unlink()
    (_FOLDER / f"vega-{version('vl-convert-python')}.js.gz").write_bytes(made)


if __name__ == "__main__":
    _main()
