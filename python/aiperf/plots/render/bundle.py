"""Vega, Vega-Lite and vega-embed as one script: taken from vl-convert, compressed, kept in the user's cache.

Making it takes seconds, so it is made once per version of vl-convert. Nothing is downloaded and nothing shipped by us: the
libraries (BSD-3-Clause) are inside the vl-convert package.
"""

from __future__ import annotations

import gzip
from importlib.metadata import version
from typing import Final

from aiperf.workload.cache import cached_bytes

__all__ = ["load_bundle"]

_SNIPPET: Final = "window.vega = vega; window.vegaLite = vegaLite; window.vegaEmbed = vegaEmbed;"


def load_bundle() -> bytes:
    """The script, gzip."""
    import vl_convert

    def make() -> bytes:
        return gzip.compress(vl_convert.javascript_bundle(_SNIPPET).encode(), 9, mtime=0)

    return cached_bytes(f"vega-{version('vl-convert-python')}.js.gz", make)
