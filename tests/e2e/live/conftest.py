"""The browser of the page's own tests."""

from __future__ import annotations

from tests.e2e.page.conftest import browser

__all__ = ["browser"]
