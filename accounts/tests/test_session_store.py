"""A session cookie may hold anything."""

from __future__ import annotations

import pytest
from django.test import Client

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]


@pytest.mark.parametrize("cookie", ['"abcdefghijkl\\000"', "short", "x" * 300, '"abcdefgh\\"\'--"'])
@pytest.mark.parametrize(("path", "status"), [("/tasks/", 302), ("/api/users/me", 401)])
def test_a_cookie_that_is_no_key_is_nobody(
    client: Client, cookie: str, path: str, status: int
) -> None:
    assert client.get(path, HTTP_COOKIE=f"async_coder_session={cookie}").status_code == status
