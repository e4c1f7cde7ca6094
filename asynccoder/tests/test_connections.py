"""Connections to the database under a server that gives every request a thread of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from django.db import connection

from accounts import tokens
from accounts.models import User
from asynccoder.tests.processes import wait_for

OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def others() -> int:
    """Return how many connections the other processes have to this database."""
    with connection.cursor() as cursor:
        cursor.execute(OTHERS)
        return int(cursor.fetchone()[0])


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_no_request_leaves_its_connection_open(server_process: str, alice: User) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("a connection to SQLite is a file that nobody waits for")
    headers = {"Authorization": f"Bearer {tokens.begin(alice).access}"}

    def ask(_: int) -> int:
        url = f"{server_process}/api/v1/users/me"
        return requests.get(url, headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(80))) == {200}
    # One may be that of a thread which stays.
    wait_for(lambda: others() <= 1, what="the connections are closed")
