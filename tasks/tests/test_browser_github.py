"""Connecting GitHub in a real browser, with the content policy on; and asking before a project is lost."""

from __future__ import annotations

import pytest

from accounts.models import GithubAccount, User
from asynccoder.tests.github_server import TOKEN, FakeGithub
from repositories.tests.rows import make_repository
from tasks.tests.browsing import OpenVisit, chromium, visit

__all__ = ["chromium", "visit"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(600),
]


@pytest.fixture
def served_github(github: FakeGithub, monkeypatch: pytest.MonkeyPatch) -> FakeGithub:
    """The same GitHub for the servers that are started after this."""
    monkeypatch.setenv("GITHUB_URL", github.url)
    monkeypatch.setenv("GITHUB_API_URL", github.api)
    monkeypatch.setenv("GITHUB_CLIENT_ID", github.client_id)
    monkeypatch.setenv("GITHUB_CLIENT_SECRET", github.client_secret)
    return github


def test_the_button_leads_to_github_and_back(
    served_github: FakeGithub, alice: User, visit: OpenVisit
) -> None:
    served_github.add_user(TOKEN)
    page = visit(alice)
    page.go("/repositories/")
    page.run(lambda p: p.get_by_role("button", name="Connect GitHub").click())
    page.see("GitHub is connected as octo.")
    page.assert_calm()
    assert GithubAccount.objects.get().user == alice
    page.run(lambda p: p.get_by_role("button", name="Disconnect GitHub").click())
    page.see("revoked at GitHub")
    page.assert_calm()
    assert served_github.users == {}


def test_a_project_that_exists_only_here_is_asked_about(alice: User, visit: OpenVisit) -> None:
    project = make_repository(alice, kind="hosted", full_name="shop", url="", hosted_bundle="x")
    page = visit(alice, width=360)
    page.go("/repositories/")
    page.run(lambda p: p.get_by_role("link", name="Disconnect and delete shop").click())
    page.see("This project exists only here.")
    page.picture("remove")
    page.assert_calm()
    page.run(lambda p: p.get_by_role("button", name="Delete shop").click())
    page.see("shop is disconnected.")
    project.refresh_from_db()
    assert not project.is_active
