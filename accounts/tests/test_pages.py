from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from accounts.models import User

SIGN_IN = {"identity": "alice@example.com", "password": "correct horse battery"}
SIGN_UP = {"email": "ann@example.com", "name": "Ann", "password": "correct horse battery"}


def is_signed_in(client: Client) -> bool:
    return client.get("/api/v1/users/me").status_code == 200


def test_signing_in_leads_on(client: Client, alice: User) -> None:
    response = client.post("/sign-in/", SIGN_IN)
    assert (response.status_code, response["Location"]) == (302, "/")
    assert is_signed_in(client)
    again = client.get("/sign-in/?next=/tasks/")
    assert (again.status_code, again["Location"]) == (302, "/tasks/")


def test_a_wrong_password_is_told_and_the_name_kept(client: Client, alice: User) -> None:
    response = client.post("/sign-in/", SIGN_IN | {"password": "wrong"})
    assert response.status_code == 401
    page = response.content.decode()
    assert "is wrong" in page
    assert "alice@example.com" in page
    assert 'value="wrong"' not in page
    assert not is_signed_in(client)


def test_the_page_does_not_tell_which_accounts_there_are(client: Client, alice: User) -> None:
    User.objects.create_user("sleeper", "s@example.com", SIGN_IN["password"], is_active=False)
    pages = set()
    for identity, password in (
        ("alice", "wrong"),
        ("nobody", "wrong"),
        ("sleeper", SIGN_IN["password"]),
    ):
        response = client.post("/sign-in/", {"identity": identity, "password": password})
        page = response.content.decode().replace(identity, "NAME")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        pages.add((response.status_code, page.replace(token[1] if token else "", "")))
    assert len(pages) == 1
    assert pages.pop()[0] == 401


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/sign-in/", "/sign-up/"])
def test_an_empty_form_says_what_is_missing(client: Client, path: str) -> None:
    response = client.post(path, {})
    assert response.status_code == 422
    assert "This field is required" in response.content.decode()


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("/tasks/", "/tasks/"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("http:evil.example", "/"),
        ("", "/"),
    ],
)
def test_the_way_on_stays_on_this_site(
    client: Client, alice: User, target: str, leads_to: str
) -> None:
    response = client.post("/sign-in/", SIGN_IN | {"next": target})
    assert response["Location"] == leads_to


def test_the_session_is_a_new_one_after_signing_in(client: Client, alice: User) -> None:
    session = client.session
    session["planted"] = True
    session.save()
    before = session.session_key
    client.post("/sign-in/", SIGN_IN)
    assert client.session.session_key != before


def test_signing_up_opens_an_account_and_signs_in(client: Client, db: None) -> None:
    response = client.post("/sign-up/", SIGN_UP | {"role": "admin", "is_staff": "1"})
    assert response.status_code == 302
    assert is_signed_in(client)
    user = User.objects.get()
    assert (user.email, user.name, user.role, user.is_staff) == (
        "ann@example.com",
        "Ann",
        "user",
        False,
    )


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"email": "alice@example.com"}, 409, "already an account"),
        ({"password": "short"}, 400, "too short"),
        ({"email": "x"}, 422, "valid email"),
    ],
)
def test_a_bad_sign_up_is_explained(
    client: Client, alice: User, change: dict[str, str], status: int, text: str
) -> None:
    response = client.post("/sign-up/", SIGN_UP | change)
    assert response.status_code == status
    assert text in response.content.decode()
    assert User.objects.count() == 1


def test_signing_out_needs_a_post_and_ends_the_session(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert client.get("/sign-out/").status_code == 405
    assert is_signed_in(client)
    assert client.post("/sign-out/").status_code == 302
    assert not is_signed_in(client)


@pytest.mark.parametrize("path", ["/sign-in/", "/sign-up/", "/sign-out/"])
def test_the_forms_need_the_csrf_token(alice: User, path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post(path, SIGN_IN | SIGN_UP).status_code == 403


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/sign-in/?next=/tasks/", "/sign-up/"])
def test_the_pages_hold_nothing_inline(client: Client, path: str) -> None:
    page = client.get(path).content.decode()
    assert "<h1>" in page
    assert " style=" not in page
    assert "onclick" not in page
    if "next" in path:
        assert 'name="next" value="/tasks/"' in page


def test_too_many_tries_are_told(client: Client, alice: User, settings: Any) -> None:
    settings.RATELIMIT_ENABLE = True
    settings.RATE_LIMITS = settings.RATE_LIMITS | {"authentication": "1/15m"}
    address = {"REMOTE_ADDR": "198.51.100.7"}
    wrong = SIGN_IN | {"password": "wrong"}
    assert client.post("/sign-in/", wrong, **address).status_code == 401  # type: ignore[arg-type] # the stubs miss extra
    assert client.post("/sign-in/", SIGN_IN, **address).status_code == 429  # type: ignore[arg-type] # the stubs miss extra
    assert not is_signed_in(client)


def test_the_admin_is_entered_through_the_page_that_counts_tries(
    client: Client, staff: User, alice: User
) -> None:
    address = client.get("/admin/", follow=True).redirect_chain[-1][0]
    assert address == "/sign-in/?next=/admin/"
    form = {"identity": "staff", "password": "correct horse battery"}
    assert client.post("/admin/login/", form | {"username": "staff"}).status_code == 302
    assert "_auth_user_id" not in client.session
    assert client.post(address, form).headers["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200
    client.force_login(alice)
    assert client.get("/admin/", follow=True).status_code == 403
