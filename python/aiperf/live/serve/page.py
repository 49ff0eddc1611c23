"""The live page: one document without anything from elsewhere, in the report page's look."""

from __future__ import annotations

from functools import cache
from pathlib import Path

__all__ = ["render_page"]

_HERE = Path(__file__).parent


@cache
def _parts() -> tuple[str, str, str]:
    names = ("live.html", "live.css", "live.js")
    html, css, js = ((_HERE / name).read_text(encoding="utf-8") for name in names)
    report = (_HERE.parents[1] / "reports" / "page" / "page.css").read_text(encoding="utf-8")
    return html, report + css, js


def render_page(nonce: str) -> bytes:
    """`nonce`: of this answer's content security policy."""
    html, css, js = _parts()
    return html.replace("{{nonce}}", nonce).replace("{{css}}", css).replace("{{js}}", js).encode()
