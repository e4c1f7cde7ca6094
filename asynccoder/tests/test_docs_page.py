"""``/docs`` in a real browser: Swagger UI with nothing but what we serve, under our policy."""

from __future__ import annotations

import pytest

from accounts.models import User
from tasks.tests.browsing import OpenVisit, chromium, visit

__all__ = ["chromium", "visit"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(600),
]


def test_the_pages_of_the_api_work_offline_and_under_the_policy(
    alice: User, visit: OpenVisit
) -> None:
    page = visit(alice)
    asked: list[str] = []
    page.run(lambda it: it.on("request", lambda request: asked.append(request.url)))
    page.go("/docs")
    page.see("Async Coder", selector=".info")
    page.see("List tasks")
    page.picture("docs")
    page.run(lambda it: it.locator("#operations-users-get_api_v1_users_me").click())
    page.run(lambda it: it.locator("button.try-out__btn").click())
    page.run(lambda it: it.locator("button.execute").click())
    page.see("alice@example.com", selector=".live-responses-table")
    page.picture("docs-tried")
    assert page.trouble == []
    assert [url for url in asked if not url.startswith((page.base, "data:"))] == []
    assert any(url.endswith("/openapi.json") for url in asked)
