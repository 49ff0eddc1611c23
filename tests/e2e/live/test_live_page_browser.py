"""The live page in a browser: it updates by itself, survives a lost connection, becomes the report; light, dark, phone; its policy holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.e2e.command import arguments, started, wait_for
from tests.e2e.runs import Sim, simulate

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FRAMES = "Number(document.documentElement.dataset.frames ?? 0)"


@contextmanager
def live_run(sim: Sim, *flags: str) -> Iterator[str]:
    """The page's URL while the command runs."""
    words = [w for w in arguments(sim, *flags, "--serve", "0") if w != "--no-report"]
    with started(words) as process:
        assert process.stderr is not None
        found = None
        while found is None:
            found = re.search(r"live page: (\S+)", process.stderr.readline())
        yield found[1]
        process.wait(timeout=60)


@pytest.fixture
def said() -> list[str]:
    """What the page says on the console, and its errors."""
    return []


def until(page: Page, expression: str) -> None:
    """Asked again and again: the page's policy forbids to evaluate text within it."""
    wait_for(lambda: bool(page.evaluate(expression)), expression)


@pytest.fixture
def open_page(browser: Browser, said: list[str]) -> Iterator[Page]:
    """Afterwards: nothing was said on the console."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert said == []


def test_it_updates_and_becomes_the_report(open_page: Page, tmp_path: Path) -> None:
    page = open_page
    with (
        simulate(tmp_path, ttft_ms=25, itl_ms=2) as sim,
        live_run(sim, "--request-count", "700", "--concurrency", "4", "--assert", "error_rate < 1%") as url,
    ):
        page.goto(url)
        until(page, "document.querySelectorAll('#cards .card').length === 7")
        first = page.locator("#times").inner_text()
        until(page, f"document.getElementById('times').innerText !== {first!r}")
        assert "met" in page.locator("#goals-table").inner_text()
        until(page, "document.querySelectorAll('#charts svg path').length >= 4")
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": 375, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        # A lost connection: the browser asks again, and the page goes on.
        page.context.set_offline(offline=True)
        page.context.set_offline(offline=False)
        before = int(page.evaluate(FRAMES))
        until(page, f"{FRAMES} > {before}")
        page.wait_for_url("**/report", timeout=60_000)
        page.wait_for_selector("#certificate")
    assert (tmp_path / "run" / "report.html").exists()


def test_a_page_of_another_origin_reads_nothing(open_page: Page, said: list[str], tmp_path: Path) -> None:
    """By its own name (rebinding) it is refused; by ours the browser keeps the answer from it."""
    page = open_page
    with (
        simulate(tmp_path, ttft_ms=20) as sim,
        live_run(sim, "--request-count", "300", "--concurrency", "4") as url,
    ):
        page.goto(url)
        refused = page.request.get(url, headers={"Host": "attacker.example"})
        assert refused.status == 403
        assert page.request.get(f"{url}metrics", headers={"Origin": "http://attacker.example"}).status == 403
        policy = page.request.get(url).headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        blocked = page.evaluate(
            """async () => {
              const s = document.createElement("script"); s.textContent = "window.injected = true"; document.body.append(s);
              return window.injected === undefined;
            }"""
        )
        assert blocked
        assert all("Content Security Policy" in text for text in said)
        said.clear()
        page.goto("about:blank")
