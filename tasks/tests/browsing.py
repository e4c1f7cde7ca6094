"""Chromium against the served platform: one browser a run, one context a test.

Playwright's own loop must not run in the test's thread: Django would then refuse the database.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, sync_playwright

from accounts.models import User

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
"""Longer than anything takes in a browser beside other tests on few cores: a hang, not slowness."""
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-dev-shm-usage",
]  # fmt: skip
REPORT_BREACHES = "document.addEventListener('securitypolicyviolation', e => console.error('CSP ' + e.violatedDirective))"


class Chromium:
    """A browser in a thread of its own; ``run`` does something there and gives its result."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._playwright = self.run(lambda: sync_playwright().start())
        self._browser: Browser = self.run(
            lambda: self._playwright.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=ARGUMENTS,
                timeout=PATIENCE_SECONDS * 1000,
            )
        )

    def run(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result(2 * PATIENCE_SECONDS)

    def context(self, **options: Any) -> BrowserContext:
        return self.run(lambda: self._browser.new_context(**options))

    def close(self) -> None:
        self.run(self._browser.close)
        self.run(self._playwright.stop)
        self._thread.shutdown()


@dataclass
class Visit:
    """A page of one user, and everything that went wrong on it."""

    chromium: Chromium
    page: Page
    base: str
    folder: Path
    trouble: list[str] = field(default_factory=list)

    def run(self, work: Callable[[Page], T]) -> T:
        return self.chromium.run(lambda: work(self.page))

    def go(self, path: str) -> None:
        self.run(lambda page: page.goto(self.base + path, wait_until="load"))

    def text(self, selector: str = "body") -> str:
        return self.run(lambda page: page.locator(selector).inner_text())

    def see(self, text: str, *, selector: str = "body", seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until a text is seen."""

        def look(page: Page) -> None:
            found = page.locator(selector).filter(has_text=text).first
            found.wait_for(state="visible", timeout=seconds * 1000)

        self.run(look)

    def wait(self, condition: str, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until a JavaScript condition holds. (No eval: the page's policy forbids it.)"""
        end = f"{seconds * 1000:.0f}"
        script = (
            "() => new Promise((done, fail) => { const end = Date.now() + " + end + ";"
            f"const look = () => {{ if ({condition}) done(true);"
            "else if (Date.now() > end) fail(new Error('not in time')); else setTimeout(look, 20); };"
            "look(); })"
        )
        self.run(lambda page: page.evaluate(script))

    def evaluate(self, script: str) -> Any:
        return self.run(lambda page: page.evaluate(script))

    def picture(self, name: str) -> None:
        """Take a screenshot into the test's folder, for a person to look at."""
        path = self.folder / f"{name}.png"
        self.run(lambda page: page.screenshot(path=path))

    def assert_calm(self) -> None:
        """No error, no dialog, no breach of the policy, and nothing wider than the window."""
        assert self.trouble == []
        assert self.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            "scrolls sideways"
        )
        assert self.evaluate("window.__hit === undefined"), "hostile text was run"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    if shutil.which("chromium") is None:
        pytest.skip("there is no chromium on this machine")
    browser = Chromium()
    yield browser
    browser.close()


OpenVisit = Callable[..., Visit]


@pytest.fixture
def visit(chromium: Chromium, server_process: str, tmp_path: Path) -> Iterator[OpenVisit]:
    """Open a page of the served platform, signed in as a user; options are the context's."""
    contexts: list[BrowserContext] = []

    def opened(user: User | None = None, *, width: int = 1440, **options: Any) -> Visit:
        height = 900 if width > 500 else 780
        context = chromium.context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        chromium.run(lambda: context.set_default_timeout(PATIENCE_SECONDS * 1000))
        if user is not None:
            cookies = [_cookie_of(user, server_process)]
            chromium.run(lambda: context.add_cookies(cookies))
        page = chromium.run(context.new_page)
        found = Visit(chromium, page, server_process, tmp_path)
        chromium.run(lambda: _listen(page, found.trouble))
        return found

    yield opened
    for context in contexts:
        chromium.run(context.close)


def _listen(page: Page, trouble: list[str]) -> None:

    def refuse(dialog: Dialog) -> None:
        trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.add_init_script(REPORT_BREACHES)
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("dialog", refuse)
    page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)


def _cookie_of(user: User, base: str) -> Any:
    client = Client()
    client.force_login(user)
    value = client.cookies[settings.SESSION_COOKIE_NAME].value
    return {"name": settings.SESSION_COOKIE_NAME, "value": value, "url": base}
